//! Any bytes, read as [`Target::Manifest`].

#![no_main]

use meterd_engine::fuzzing::Target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| Target::Manifest.read(input));
