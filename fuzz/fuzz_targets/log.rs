//! Any bytes, read as [`Target::Log`].

#![no_main]

use meterd_engine::fuzzing::Target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| Target::Log.read(input));
