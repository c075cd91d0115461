//! An engine's life on a disk, and what is known of what it stored.

use super::script::{Act, METERS, ORGANIZATIONS};
use crate::fixtures::*;
use crate::oracle::Oracle;
use meterd_engine::testing::SimulatedDisk;
use meterd_engine::{
    Aggregation, Cancel, Disk, Engine, Function, GroupKey, Listing, MaintenanceError, OpenError,
    Query, Sealing, Settings, SubmitError, Ticket, verify,
};
use meterd_model::{OrganizationId, Window};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(super) fn settings() -> Settings {
    Settings {
        // Some acts to a file.
        log_file_max_bytes: 500,
        sealing: Sealing::OnDemand,
        merge_fan_in: 2,
        hash_key: Some([7; 32]),
        // Nothing happens by itself.
        repair_interval: Duration::from_hours(1),
        query_threads: 1,
        ..Settings::default()
    }
}

/// What may be stored. The running engine holds the first; a restart may find any.
#[derive(Clone, Default)]
pub(super) struct Possible(Vec<Possibility>);

#[derive(Clone, Default)]
struct Possibility {
    oracle: Oracle,
    /// With a batch or a void whose answer left it open.
    logged: bool,
    /// With months dropped by a call that failed.
    expired: bool,
}

impl Possible {
    pub(super) fn new() -> Self {
        Self(vec![Possibility::default()])
    }

    /// A write to the log that was answered settles what one before it had left open; one that was not leaves open
    /// whether it happened.
    fn log<T: Debug + PartialEq>(
        &mut self,
        answer: Result<T, SubmitError>,
        act: impl Fn(&mut Oracle) -> T,
    ) -> Result<(), String> {
        match answer {
            Ok(answer) => {
                self.0.retain(|possibility| !possibility.logged);
                for possibility in &mut self.0 {
                    same("verdicts", &answer, &act(&mut possibility.oracle))?;
                }
            }
            Err(SubmitError::Unavailable) => {
                let mut with: Vec<_> = self
                    .0
                    .iter()
                    .filter(|possibility| !possibility.logged)
                    .cloned()
                    .collect();
                for possibility in &mut with {
                    possibility.logged = true;
                    act(&mut possibility.oracle);
                }
                self.0.append(&mut with);
            }
            Err(SubmitError::Full) => {}
            Err(other) => return Err(format!("an answer that nothing explains: {other}")),
        }
        Ok(())
    }

    fn expire(
        &mut self,
        answer: &Result<u64, MaintenanceError>,
        act: impl Fn(&mut Oracle) -> u64,
    ) -> Result<(), String> {
        match answer {
            Ok(count) => {
                if *count > 0 {
                    self.committed();
                }
                for possibility in &mut self.0 {
                    same(
                        "rows that were dropped",
                        count,
                        &act(&mut possibility.oracle),
                    )?;
                }
            }
            Err(_) => {
                let mut with = self.0.clone();
                for possibility in &mut with {
                    possibility.expired = true;
                    act(&mut possibility.oracle);
                }
                self.0.append(&mut with);
            }
        }
        Ok(())
    }

    /// A manifest was written, by an engine that holds what it held.
    fn committed(&mut self) {
        self.0.retain(|possibility| !possibility.expired);
    }

    /// Whether a restart may find this.
    pub(super) fn has(&self, oracle: &Oracle) -> Result<(), String> {
        let found = self
            .0
            .iter()
            .any(|possibility| possibility.oracle == *oracle);
        found
            .then_some(())
            .ok_or_else(|| "what a start finds is none of what it may find".to_owned())
    }

    /// What the running engine holds.
    pub(super) fn known(&self) -> Option<&Oracle> {
        self.0.first().map(|possibility| &possibility.oracle)
    }

    /// Finds which of them a restart has found.
    pub(super) fn settle(&mut self, engine: &Engine) -> Result<(), String> {
        let mut differences = Vec::new();
        for possibility in &self.0 {
            match compare(engine, &possibility.oracle) {
                Ok(()) => {
                    self.0 = vec![Possibility {
                        oracle: possibility.oracle.clone(),
                        ..Possibility::default()
                    }];
                    return Ok(());
                }
                Err(difference) => differences.push(difference),
            }
        }
        Err(format!(
            "what a start finds is none of what it may find:\n{}",
            differences.join("\n")
        ))
    }
}

pub(super) struct Life {
    disk: Arc<dyn Disk>,
    simulated: SimulatedDisk,
    engine: Option<Engine>,
    pub(super) possible: Possible,
    /// Whether every act must succeed.
    is_healthy: bool,
}

impl Life {
    /// On a disk that may fail. Without an engine until the first act.
    pub(super) fn risky(
        disk: Arc<dyn Disk>,
        simulated: &SimulatedDisk,
        possible: Possible,
    ) -> Self {
        Self {
            disk,
            simulated: simulated.clone(),
            engine: None,
            possible,
            is_healthy: false,
        }
    }

    pub(super) fn healthy(disk: &SimulatedDisk, possible: Possible) -> Self {
        Self {
            is_healthy: true,
            ..Self::risky(Arc::new(disk.clone()), disk, possible)
        }
    }

    pub(super) fn healed(self) -> Self {
        Self {
            is_healthy: true,
            ..self
        }
    }

    /// Opens an engine if there is none.
    pub(super) fn open(&mut self) -> Result<Option<&Engine>, String> {
        if self.engine.is_none() {
            match open_on(&self.disk) {
                Ok(engine) => {
                    self.engine = Some(engine);
                    if self.is_healthy || self.possible.0.len() > 1 {
                        self.settle_if_readable()?;
                    }
                }
                Err(OpenError::Io { .. }) if !self.is_healthy => {}
                Err(OpenError::Sealed { fault, .. }) if !self.is_healthy && is_of_disk(&fault) => {}
                Err(error) => return Err(format!("it does not open: {error}")),
            }
        }
        Ok(self.engine.as_ref())
    }

    /// A disk that fails to read tells nothing; what is possible stays so.
    fn settle_if_readable(&mut self) -> Result<(), String> {
        let Some(engine) = &self.engine else {
            return Ok(());
        };
        match self.possible.settle(engine) {
            Err(error) if !self.is_healthy && is_of_disk(&error) => Ok(()),
            other => other,
        }
    }

    pub(super) fn act(&mut self, act: &Act) -> Result<(), String> {
        self.try_act(act).map_err(|error| format!("{act}: {error}"))
    }

    fn try_act(&mut self, act: &Act) -> Result<(), String> {
        if matches!(act, Act::Reopen) {
            self.shut();
        }
        if self.open()?.is_none() {
            return Ok(());
        }
        let Some(engine) = &self.engine else {
            return Ok(());
        };
        let steps = self.simulated.steps();
        match act {
            Act::Submit(batch) => {
                let answer = engine.submit(batch.clone()).and_then(Ticket::wait);
                let answer = self.demand("a batch", answer)?;
                let answer = answer.map(|receipt| receipt.verdicts);
                self.possible.log(answer, |oracle| oracle.submit(batch))?;
            }
            Act::Void(organization, ids) => {
                let ticket = engine.void(*organization, ids.clone(), at(1_790_000_000));
                let answer = self.demand("a void", ticket.and_then(Ticket::wait))?;
                let answer = answer.map(|receipt| receipt.outcomes);
                self.possible
                    .log(answer, |oracle| oracle.void(*organization, ids))?;
            }
            Act::Seal => {
                let sealed = self.demand("a seal", engine.seal())?;
                note_commit(
                    &mut self.possible,
                    sealed.is_ok() && self.simulated.steps() > steps,
                );
            }
            Act::Merge => loop {
                let merged = self.demand("a merge", engine.merge())?;
                note_commit(&mut self.possible, matches!(merged, Ok(true)));
                if !matches!(merged, Ok(true)) {
                    break;
                }
            },
            Act::Expire(organization, meter, before) => {
                let sealed = self.demand("a seal", engine.seal())?;
                note_commit(
                    &mut self.possible,
                    sealed.is_ok() && self.simulated.steps() > steps,
                );
                // What is dropped is only known if what is sealed is.
                if sealed.is_ok() && self.possible.0.len() == 1 {
                    let dropped = engine.expire(*organization, *meter, *before);
                    let dropped = self.demand("an expiry", dropped)?;
                    let act = |oracle: &mut Oracle| oracle.expire(*organization, *meter, *before);
                    self.possible.expire(&dropped, act)?;
                }
            }
            Act::Reopen => {}
        }
        Ok(())
    }

    fn demand<T, E: std::fmt::Display>(
        &self,
        what: &str,
        answer: Result<T, E>,
    ) -> Result<Result<T, E>, String> {
        match answer {
            Err(error) if self.is_healthy => Err(format!("{what} failed: {error}")),
            other => Ok(other),
        }
    }

    /// The running engine holds what it answered, whatever failed since.
    pub(super) fn compare(&mut self) -> Result<(), String> {
        self.open()?;
        match (&self.engine, self.possible.known()) {
            (Some(engine), Some(oracle)) => compare(engine, oracle),
            _ => Err("there is no engine".to_owned()),
        }
    }

    pub(super) fn shut(&mut self) {
        self.engine = None;
    }

    pub(super) fn close(mut self) -> Possible {
        self.shut();
        self.possible
    }

    /// Every file is one that the engine counts.
    pub(super) fn check_files(&mut self) -> Result<(), String> {
        let stats = self.open()?.ok_or("there is no engine")?.stats();
        let mut logs = 0;
        let mut segments = (0, 0);
        let mut id_bytes = 0;
        for path in files(&self.simulated, Path::new(DIRECTORY)) {
            let bytes = self
                .simulated
                .length(&path)
                .map_err(|error| error.to_string())?;
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("log") => logs += 1,
                Some("parquet") => segments = (segments.0 + 1, segments.1 + bytes),
                Some("ids") => id_bytes += bytes,
                // Kept for an operator, replaced by the next, and the manifest itself.
                Some("torn" | "tmp") | None => {}
                Some(_) => return Err(format!("a stray file: {}", path.display())),
            }
        }
        same("log files", &logs, &stats.log_files)?;
        same(
            "segments and their bytes",
            &segments,
            &(stats.segments, stats.segment_bytes),
        )?;
        same("bytes of ids", &id_bytes, &stats.id_bytes)
    }
}

fn note_commit(possible: &mut Possible, is_committed: bool) {
    if is_committed {
        possible.committed();
    }
}

pub(super) fn check_sound(disk: &SimulatedDisk) -> Result<(), String> {
    let report =
        verify(Path::new(DIRECTORY), disk, &mut |_, _| {}).map_err(|error| error.to_string())?;
    if report.is_sound() {
        return Ok(());
    }
    let problems: Vec<_> = report.problems.iter().map(ToString::to_string).collect();
    Err(format!("verify: {}", problems.join("; ")))
}

pub(super) fn open_on(disk: &Arc<dyn Disk>) -> Result<Engine, OpenError> {
    Engine::open(Path::new(DIRECTORY), settings(), Arc::clone(disk))
}

/// Damage is never an excuse; a disk that was told to fail is.
fn is_of_disk(fault: &str) -> bool {
    ["the disk was told to fail", "the power is off"]
        .iter()
        .any(|excuse| fault.contains(excuse))
}

/// Of all that can be read, so that equal disks have equal digests.
pub(super) fn digest(disk: &SimulatedDisk) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for path in files(disk, Path::new(DIRECTORY)) {
        let bytes = disk.bytes(&path).unwrap_or_default();
        hasher.update(path.as_os_str().as_encoded_bytes());
        hasher.update(&bytes.len().to_le_bytes());
        hasher.update(&bytes);
    }
    hasher.finalize()
}

fn files(disk: &SimulatedDisk, directory: &Path) -> Vec<PathBuf> {
    let names = disk.list(directory).unwrap_or_default();
    let paths = names.iter().map(|name| directory.join(name));
    let below = |path: PathBuf| match disk.length(&path) {
        Ok(_) => vec![path],
        Err(_) => files(disk, &path),
    };
    paths.flat_map(below).collect()
}

/// Everything that the engine answers.
fn compare(engine: &Engine, oracle: &Oracle) -> Result<(), String> {
    let (mut measurements, mut versions) = (0, 0);
    for organization in ORGANIZATIONS.map(organization) {
        let found = compare_organization(engine, oracle, organization)?;
        (measurements, versions) = (measurements + found.0, versions + found.1);
    }
    let stats = engine.stats();
    let ids = u64::try_from(oracle.histories().count()).unwrap();
    same("measurements", &stats.measurements, &measurements)?;
    // What was dropped is taken off at the next start.
    same(
        "whether versions are missing",
        &(stats.versions < versions),
        &false,
    )?;
    same("ids", &stats.ids, &ids)?;
    for (index, (organization, id, events)) in oracle.histories().enumerate() {
        // A trace reads whole pages for one row; most of those that are like each other are left out.
        if events.len() == 1 && index % 4 > 0 {
            continue;
        }
        let trace = engine
            .trace(organization, id, 100, &Cancel::new())
            .map_err(|error| error.to_string())?
            .ok_or_else(|| format!("{id:?} is not known"))?;
        let versions = trace.versions.into_iter();
        let versions: Vec<_> = versions
            .map(|v| (v.sequence, v.action, v.measurement))
            .collect();
        same(&format!("the trace of {id:?}"), versions.as_slice(), events)?;
    }
    Ok(())
}

fn compare_organization(
    engine: &Engine,
    oracle: &Oracle,
    organization: OrganizationId,
) -> Result<(u64, u64), String> {
    let listing = Listing {
        limit: 1000,
        ..Listing::default()
    };
    let page = engine
        .list(organization, &listing, &Cancel::new())
        .map_err(|error| error.to_string())?;
    let listed = page
        .measurements
        .into_iter()
        .map(|m| (m.sequence, m.measurement));
    same(
        "the listing",
        &listed.collect::<Vec<_>>(),
        &oracle.listing_of(organization),
    )?;
    let (mut measurements, mut versions) = (0, 0);
    for meter in METERS.map(meter) {
        for query in queries() {
            let query = Query { meter, ..query };
            let answer = engine
                .query(organization, &query, &Cancel::new())
                .map_err(|error| error.to_string())?;
            same(
                "the answer",
                &answer,
                &oracle.query_of(organization, &query),
            )?;
        }
        let (stats, held) = (
            engine.meter_stats(organization, meter),
            oracle.held(organization, meter),
        );
        same(
            "measurements of a meter",
            &stats.measurements,
            &held.measurements,
        )?;
        same("versions of a meter", &stats.versions, &held.versions)?;
        same(
            "values of a meter",
            &stats.values.into_iter().collect::<BTreeSet<_>>(),
            &held.values,
        )?;
        let attributes: BTreeSet<_> = stats.attributes.into_iter().collect();
        same("attributes of a meter", &attributes, &held.attributes)?;
        measurements += held.measurements;
        versions += held.versions;
    }
    Ok((measurements, versions))
}

fn queries() -> [Query; 2] {
    let of = |function, name| Aggregation {
        function,
        field: Some(field(name)),
    };
    let all = whole_range(vec![
        count(),
        sum_of("amount"),
        of(Function::Latest, "amount"),
    ]);
    let by_month = Query {
        window: Some(Window::Month),
        group_by: vec![GroupKey::Subject, GroupKey::Attribute(field("region"))],
        aggregations: vec![count(), sum_of("energy"), of(Function::Unique, "tier")],
        ..whole_range(Vec::new())
    };
    [all, by_month]
}

fn same<T: PartialEq + Debug + ?Sized>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: found {found:?}, expected {expected:?}"))
}
