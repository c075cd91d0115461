//! Whole data directories as earlier builds wrote them. They must keep opening, with all that they hold.
//!
//! `formats/N` is the directory that was written when format N was fixed, with `expected.txt`, what it holds. When a
//! format changes, the new one gets a directory of its own (`WRITE_FORMAT=N cargo test -p meterd-engine --test engine
//! formats` writes it), and those of the old ones stay as they are.

use crate::fixtures::*;
use meterd_engine::{
    Batch, Cancel, Engine, ListCursor, Listed, Listing, Sealing, Settings, SystemDisk, verify,
};
use meterd_model::{Measurement, Timestamp};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn formats() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine/formats")
}

fn open_directory(directory: &Path) -> Engine {
    let settings = Settings {
        sealing: Sealing::OnDemand,
        merge_fan_in: 2,
        hash_key: Some([7; 32]),
        ..Settings::default()
    };
    Engine::open(directory, settings, Arc::new(SystemDisk)).unwrap()
}

/// Something of everything: sealed and not, merged and not, replaced and voided in each, two organizations, meters and
/// months, every kind of cell.
fn write(directory: &Path) {
    let engine = open_directory(directory);
    let mut rich = measured("ärich", 86_400, "-1.25");
    rich.end_time = Some(Timestamp::MAX);
    rich.values
        .push((field("most"), meterd_model::Decimal::MAX));
    rich.attributes = vec![(field("region"), text("eu")), (field("tier"), text(""))];
    let month = 32 * 86_400;
    for round in 0..3 {
        let many = (0..40).map(|n| {
            let mut row = measured(&format!("{round}-{n}"), n * month / 20, &n.to_string());
            row.subject = subject(&format!("s{}", n % 3));
            row
        });
        store(&engine, batch(many.collect()));
        if round == 0 {
            store(&engine, batch(vec![rich.clone()]));
        }
        store(
            &engine,
            Batch {
                organization: organization(2),
                ..batch(vec![measured(&format!("{round}"), 5, "7")])
            },
        );
        engine.seal().unwrap();
    }
    while engine.merge().unwrap() {}
    rich.meter = meter(2);
    store(&engine, replacing(vec![rich, measured("1-7", 6, "8")]));
    void(&engine, &["0-3", "1-7"]);
    store(
        &engine,
        batch(vec![measured("new", 1, "0.000000000000000001")]),
    );
    engine.seal().unwrap();
    store(&engine, replacing(vec![measured("2-9", 6, "9")]));
    void(&engine, &["new"]);
    engine.close();
}

fn void(engine: &Engine, ids: &[&str]) {
    let ids = ids.iter().map(|name| id(name)).collect();
    let ticket = engine.void(organization(1), ids, at(9)).unwrap();
    ticket.wait().unwrap();
}

/// All that counts and all that ever was, in words that no change of a type changes.
fn told(engine: &Engine) -> String {
    let mut told = String::new();
    let stats = engine.stats();
    writeln!(
        told,
        "{} measurements, {} ids",
        stats.measurements, stats.ids
    )
    .unwrap();
    for number in [1, 2] {
        let mut ids: Vec<_> = (0..3)
            .flat_map(|round| (0..40).map(move |n| format!("{round}-{n}")))
            .chain(["ärich", "new", "0", "1", "2"].map(str::to_owned))
            .collect();
        ids.sort();
        for listed in all(engine, number) {
            writeln!(told, "{number} lists {}", words(&listed.measurement)).unwrap();
        }
        for name in ids {
            let trace = engine.trace(organization(number), &id(&name), 10, &Cancel::new());
            let versions = trace
                .unwrap()
                .map(|trace| trace.versions)
                .unwrap_or_default();
            for version in versions {
                let measured = version
                    .measurement
                    .as_ref()
                    .map_or("void".to_owned(), words);
                let (sequence, received) = (version.sequence, version.received);
                writeln!(
                    told,
                    "{number} traces {name} {sequence} {received} {measured}"
                )
                .unwrap();
            }
        }
    }
    told
}

fn all(engine: &Engine, number: u128) -> Vec<Listed> {
    let mut found = Vec::new();
    let mut listing = Listing {
        limit: 7,
        ..Listing::default()
    };
    loop {
        let page = engine
            .list(organization(number), &listing, &Cancel::new())
            .unwrap();
        found.extend(page.measurements);
        let next: Option<ListCursor> = page.next;
        match next {
            Some(next) => listing.after = Some(next),
            None => return found,
        }
    }
}

fn words(measurement: &Measurement) -> String {
    let values = measurement
        .values
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let texts = measurement
        .attributes
        .iter()
        .map(|(name, text)| format!("{name}={text}"));
    format!(
        "{} {} {} {} {} {}",
        measurement.id,
        measurement.meter,
        measurement.subject,
        measurement.time,
        measurement
            .end_time
            .map_or("-".to_owned(), |end| end.to_string()),
        values.chain(texts).collect::<Vec<_>>().join(",")
    )
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn directories_of_earlier_formats_keep_opening() {
    if let Ok(number) = std::env::var("WRITE_FORMAT") {
        let directory = formats().join(number);
        write(&directory.join("data"));
        let engine = open_directory(&directory.join("data"));
        fs::write(directory.join("expected.txt"), told(&engine)).unwrap();
        engine.close();
    }
    let mut opened = 0;
    for format in fs::read_dir(formats()).unwrap() {
        let format = format.unwrap().path();
        let scratch = tempfile::tempdir().unwrap();
        let data = scratch.path().join("data");
        copy(&format.join("data"), &data);
        let expected = fs::read_to_string(format.join("expected.txt")).unwrap();
        let report = verify(&data, &SystemDisk, &mut |_, _| {}).unwrap();
        assert!(report.is_sound(), "{}: {report:?}", format.display());
        let engine = open_directory(&data);
        assert_eq!(told(&engine), expected, "{}", format.display());
        // Written anew in the present format, it holds the same.
        engine.seal().unwrap();
        while engine.merge().unwrap() {}
        assert_eq!(told(&engine), expected, "{} merged", format.display());
        opened += 1;
    }
    assert!(opened >= 1);
}
