//! Any bytes, read as m3ter's measurements are.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| meterd_surface_m3ter::fuzzing::rows(input));
