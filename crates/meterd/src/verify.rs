//! `meterd verify`: reads everything, changes nothing.

use crate::cli::DataOptions;
use crate::server::{control_path, control_settings, engine_path, ensure_restored};
use crate::terminal::{Unit, grouped, progress_bar};
use anyhow::Context as _;
use meterd_control::Control;
use meterd_engine::SystemDisk;

/// Returns whether everything is in order.
pub(crate) fn run(options: &DataOptions) -> anyhow::Result<bool> {
    let data = &options.data;
    ensure_restored(data)?;
    if !engine_path(data).is_dir() || !control_path(data).is_file() {
        anyhow::bail!("{} is no data directory of meterd", data.display());
    }
    let bar = progress_bar(0, "measurements", Unit::Bytes);
    let report = meterd_engine::verify(&engine_path(data), &SystemDisk, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })
    .context("verify the measurements")?;
    bar.finish_and_clear();
    println!(
        "measurements: {} current, {} versions, {} ids, {} bytes in {} files",
        grouped(report.measurements),
        grouped(report.versions),
        grouped(report.ids),
        grouped(report.bytes),
        report.files + report.segments + report.runs
    );
    if report.torn_bytes > 0 {
        println!(
            "an interrupted write left {} bytes, which the next start cuts (and keeps beside the log)",
            report.torn_bytes
        );
    }
    for problem in &report.problems {
        println!("problem: {problem}");
    }
    let verification = Control::verify_file(control_path(data), &control_settings())
        .context("verify the control database")?;
    println!("control: {} resources", grouped(verification.resources));
    for problem in &verification.problems {
        println!("problem: {problem}");
    }
    let sound = report.is_sound() && verification.is_sound();
    println!(
        "{}",
        if sound {
            "everything is in order"
        } else {
            "PROBLEMS WERE FOUND"
        }
    );
    Ok(sound)
}
