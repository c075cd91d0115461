//! Any text, read as measurements are and as all other bodies are; what both see must be the same.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| meterd_http::scan::compare::compare(input));
