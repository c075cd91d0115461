//! Any bytes, read as what Wattwatchers devices send.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| meterd_surface_wattwatchers::fuzzing::records(input));
