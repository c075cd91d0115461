//! Any text, read as tables of energy records are.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| meterd_surface_wattwatchers::fuzzing::table(input));
