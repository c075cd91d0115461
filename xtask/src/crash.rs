//! `cargo xtask crash`: the engine's crash points, as many as one has time for.

use anyhow::bail;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many points to try; the tests try ten thousand
    #[arg(long, default_value_t = 1_000_000)]
    points: u64,
    /// The first history to try them in; a failure names its own
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the same test as `cargo test`, built as the server is, which takes a fraction of the time.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let status = crate::cargo()
        .args([
            "test",
            "--locked",
            "--release",
            "--package",
            "meterd-engine",
            "--test",
            "engine",
        ])
        .args(["--", "--exact", "--nocapture"])
        .arg("crash_points::every_crash_point_leaves_what_was_acknowledged")
        .env("METERD_CRASH_POINTS", options.points.to_string())
        .env("METERD_CRASH_SEED", options.seed.to_string())
        .status()?;
    if !status.success() {
        bail!("a crash point failed");
    }
    Ok(())
}
