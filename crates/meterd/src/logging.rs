//! Log lines, on standard error.

use crate::config::{LogConfig, LogFormat};
use std::io::IsTerminal;
use tracing::error;
use tracing_subscriber::EnvFilter;

/// Sets up logging for the process. `METERD_LOG` replaces the filter.
pub(crate) fn start(config: &LogConfig, default_filter: &str) {
    let filter = std::env::var("METERD_LOG")
        .ok()
        .or_else(|| config.filter.clone())
        .unwrap_or_else(|| default_filter.to_owned());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match config.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // Only a second call in one process fails, and then the first one's settings hold.
    drop(started);
    log_panics();
}

/// A panic is a bug: where it happened belongs in the log, what it said too, and neither in an answer.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let said = panic
            .payload_as_str()
            .unwrap_or("a panic without a message");
        let place = panic.location().map(ToString::to_string);
        error!(
            place = place.as_deref().unwrap_or("unknown"),
            "panicked: {said}"
        );
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const WORDS: &str = "what was wrong";

    /// The hook is the process's, so it gets one of its own.
    #[test]
    #[ignore = "the other test runs it"]
    fn child_that_panics() {
        start(&LogConfig::default(), "info");
        let _ = std::thread::spawn(|| panic!("{WORDS}")).join();
    }

    #[test]
    fn a_panic_is_one_line_of_the_log_with_its_place() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "logging::tests::child_that_panics"])
            .args(["--ignored", "--nocapture"])
            .env_remove("METERD_LOG")
            .output()
            .unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<_> = log.lines().filter(|line| line.contains(WORDS)).collect();
        assert_eq!(lines.len(), 1, "{log}");
        for word in ["ERROR", "panicked: ", "logging.rs:"] {
            assert!(lines[0].contains(word), "{log}");
        }
    }
}
