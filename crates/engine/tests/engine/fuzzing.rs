//! Readers of bytes from the disk, on the stored corpus and on random changes of well-formed files: a short run of what
//! the targets below `fuzz/` do for as long as one likes.

use meterd_engine::fuzzing::Target;
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(2);
/// Far beyond what any input takes, and far below what a loop without a bound would.
const INPUT_MAX: Duration = Duration::from_secs(5);

fn read(target: Target, input: &[u8]) {
    let begin = Instant::now();
    target.read(input);
    assert!(
        begin.elapsed() < INPUT_MAX,
        "{target:?} took {:?}: {input:?}",
        begin.elapsed()
    );
}

/// Changes a few bytes, or cuts, or repeats a piece.
fn change(input: &mut Vec<u8>, random: &mut TestRng) {
    let mut below = |bound: usize| random.next_u32() as usize % bound.max(1);
    for _ in 0..=below(3) {
        let place = below(input.len());
        match below(6) {
            0 => input.truncate(place),
            1 => {
                let end = (place + below(64)).min(input.len());
                let piece = input[place..end].to_vec();
                let to = below(input.len());
                input.splice(to..to, piece);
            }
            2 => drop(input.drain(place..(place + below(16)).min(input.len()))),
            3 => {
                let bytes = [[0; 8], [0xff; 8], [0x7f; 8], [0x80; 8]][below(4)];
                let end = (place + 1 + below(8)).min(input.len());
                input[place..end].copy_from_slice(&bytes[..end - place]);
            }
            _ => {
                if let Some(byte) = input.get_mut(place) {
                    *byte ^= 1 << below(8);
                }
            }
        }
    }
}

fn try_for_a_while(target: Target) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target.name());
    let mut inputs = target.samples();
    for entry in std::fs::read_dir(corpus).into_iter().flatten() {
        inputs.push(std::fs::read(entry.unwrap().path()).unwrap());
    }
    for input in &inputs {
        read(target, input);
    }
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let place = random.next_u32() as usize % inputs.len();
        let mut input = inputs[place].clone();
        change(&mut input, &mut random);
        read(target, &input);
    }
}

#[test]
fn no_log_breaks_its_reader() {
    try_for_a_while(Target::Log);
}

#[test]
fn no_manifest_breaks_its_reader() {
    try_for_a_while(Target::Manifest);
}

#[test]
fn no_run_breaks_its_reader() {
    try_for_a_while(Target::Run);
}

#[test]
fn no_segment_breaks_its_reader() {
    try_for_a_while(Target::Segment);
}
