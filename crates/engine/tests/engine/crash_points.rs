//! Crash points: short random histories of everything an engine does, on a disk whose power goes, whose operations
//! fail or whose space ends at one step. Whatever it leaves must open, hold all that was acknowledged and nothing that
//! was not sent, and go on.
//!
//! A crash point is one history, one step, one mishap, and what the next start finds. `METERD_CRASH_POINTS` says how
//! many are tried and `METERD_CRASH_SEED` from which history on; a failure names its own.

mod life;
mod mishap;
mod script;

use self::life::{Life, Possible, check_sound, digest, open_on};
use self::mishap::{Mishap, Watched};
use self::script::{Act, Random, aftermath, script};
use crate::oracle::Oracle;
use meterd_engine::Disk;
use meterd_engine::testing::{Operation, PowerCut, SimulatedDisk};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[test]
fn every_crash_point_leaves_what_was_acknowledged() {
    let of_environment =
        |name, default| std::env::var(name).map_or(default, |text: String| text.parse().unwrap());
    let wanted = of_environment("METERD_CRASH_POINTS", 10_000);
    let done = points(of_environment("METERD_CRASH_SEED", 1), wanted);
    assert!(done >= wanted);
    println!("{done} crash points");
}

/// Tries so many crash points, and up to a history's worth more, in histories from a seed on. Answers how many.
fn points(first_seed: u64, wanted: u64) -> u64 {
    const PROGRESS: Duration = Duration::from_secs(10);
    let (next_seed, done) = (AtomicU64::new(first_seed), AtomicU64::new(0));
    let failed = AtomicU64::new(u64::MAX);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let begin = Instant::now();
    let failures: Vec<String> = std::thread::scope(|scope| {
        let work = || {
            let mut told = Instant::now();
            while done.load(Ordering::Relaxed) < wanted
                && failed.load(Ordering::Relaxed) == u64::MAX
            {
                let seed = next_seed.fetch_add(1, Ordering::Relaxed);
                if let Err(failure) = History::new(seed).try_points(&done) {
                    failed.fetch_min(seed, Ordering::Relaxed);
                    return Some(failure);
                }
                if told.elapsed() > PROGRESS {
                    told = Instant::now();
                    let done = done.load(Ordering::Relaxed);
                    eprintln!("{done} crash points, seed {seed}, {:.0?}", begin.elapsed());
                }
            }
            None
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().unwrap())
            .collect()
    });
    let done = done.into_inner();
    assert!(
        failures.is_empty(),
        "after {done} crash points:\n{}",
        failures.join("\n\n")
    );
    done
}

struct History {
    seed: u64,
    random: Random,
    acts: Vec<Act>,
    /// Disks that a start was tried on, by what can be read of them and, after a kill, what is durable; with what was
    /// found there.
    survived: HashMap<(blake3::Hash, Option<blake3::Hash>), Oracle>,
}

/// Where a history goes wrong.
#[derive(Clone, Copy, Debug)]
struct Point {
    step: u64,
    mishap: Mishap,
}

/// What the next start finds.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The process was killed, and the power goes after the next start.
    Killed(PowerCut),
    Cut(PowerCut),
    /// And the power goes again, at a step of the next start.
    CutTwice(PowerCut, u64, PowerCut),
}

/// Points of one history: of steps, how many are tried.
const CUTS: u64 = 20;
const FAILURES: u64 = 12;
const FULL_DISKS: u64 = 6;

impl History {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        Self {
            seed,
            acts: script(&mut random),
            random,
            survived: HashMap::new(),
        }
    }

    fn try_points(mut self, done: &AtomicU64) -> Result<(), String> {
        let steps = self
            .steps()
            .map_err(|error| self.failure(&"without a mishap", &error))?;
        for _ in 0..CUTS {
            let point = Point {
                step: self.random.next() % steps,
                mishap: Mishap::PowerCut,
            };
            let ends = [
                End::Killed(PowerCut::Drop),
                End::Killed(self.tear()),
                End::Cut(PowerCut::Keep),
                End::Cut(PowerCut::Drop),
                End::Cut(self.tear()),
                End::Cut(self.tear()),
                End::CutTwice(self.tear(), self.random.next() % 12, self.tear()),
            ];
            self.try_point(point, &ends, done)?;
        }
        for _ in 0..FAILURES {
            let count = 1 + self.random.next() % 3;
            let mishap = match self.random.below(2) {
                0 => Mishap::StepFails(count),
                _ => Mishap::Fails(OPERATIONS[self.random.below(OPERATIONS.len())], count),
            };
            self.try_going_on(steps, mishap, done)?;
        }
        for _ in 0..FULL_DISKS {
            let bytes = [0, 30, 300, 3000][self.random.below(4)];
            self.try_going_on(steps, Mishap::NoSpace(bytes), done)?;
        }
        Ok(())
    }

    fn try_going_on(&mut self, steps: u64, mishap: Mishap, done: &AtomicU64) -> Result<(), String> {
        let point = Point {
            step: self.random.next() % steps,
            mishap,
        };
        let ends = [
            End::Killed(self.tear()),
            End::Cut(PowerCut::Drop),
            End::Cut(self.tear()),
        ];
        self.try_point(point, &ends, done)
    }

    fn tear(&mut self) -> PowerCut {
        PowerCut::Tear {
            seed: self.random.next(),
        }
    }

    /// How many steps it takes when nothing goes wrong.
    fn steps(&self) -> Result<u64, String> {
        let disk = SimulatedDisk::new();
        let mut life = Life::healthy(&disk, Possible::new());
        for act in &self.acts {
            life.act(act)?;
            life.compare()?;
        }
        life.close();
        let steps = disk.steps();
        check_sound(&disk)?;
        Ok(steps)
    }

    fn try_point(&mut self, point: Point, ends: &[End], done: &AtomicU64) -> Result<(), String> {
        let (disk, life) = self
            .live(point)
            .map_err(|error| self.failure(&point, &error))?;
        for end in ends {
            let survived = self.end(&disk, *end, &life.possible);
            survived.map_err(|error| self.failure(&(point, end), &error))?;
            done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The life up to the mishap and, if it goes on, after it. The engine is left open: what it would write at its end
    /// is for the power to lose.
    fn live(&self, point: Point) -> Result<(SimulatedDisk, Life), String> {
        const ACTS_WITHOUT_SPACE: usize = 4;
        let disk = SimulatedDisk::new();
        let watched: Arc<dyn Disk> = Arc::new(Watched::new(&disk, point.step, point.mishap));
        let mut life = Life::risky(watched, &disk, Possible::new());
        let mut acts_after = 0;
        for act in &self.acts {
            life.act(act)?;
            if disk.steps() <= point.step {
                continue;
            }
            acts_after += 1;
            match point.mishap {
                Mishap::PowerCut => return Ok((disk, life)),
                Mishap::NoSpace(_) if acts_after >= ACTS_WITHOUT_SPACE => disk.set_space(None),
                Mishap::NoSpace(_) | Mishap::Fails(..) | Mishap::StepFails(_) => {}
            }
        }
        if disk.steps() <= point.step {
            life.shut();
        }
        if matches!(point.mishap, Mishap::PowerCut) {
            return Ok((disk, life));
        }
        disk.set_space(None);
        for operation in OPERATIONS {
            disk.fail(operation, 0);
        }
        // The engine that met the mishap holds what it said, before anything else is done.
        let mut life = life.healed();
        life.compare()?;
        // Half of them go on before the end, whatever it is.
        let mut random = Random(point.step);
        if random.below(2) == 0 {
            for act in aftermath(&mut random) {
                life.act(&act)?;
            }
        }
        Ok((disk, life))
    }

    fn end(&mut self, disk: &SimulatedDisk, end: End, possible: &Possible) -> Result<(), String> {
        let (found, cut) = match end {
            End::Killed(cut) => (disk.kill(), Some(cut)),
            End::Cut(cut) => (disk.restart(cut), None),
            End::CutTwice(cut, step, again) => {
                let found = disk.restart(cut);
                found.cut_power_at(step);
                let disk: Arc<dyn Disk> = Arc::new(found.clone());
                drop(open_on(&disk));
                (found.restart(again), None)
            }
        };
        // Many steps leave the same disk, and what follows from there is known. Whether it may be so is not.
        let digests = (digest(&found), cut.map(|cut| digest(&found.restart(cut))));
        if let Some(known) = self.survived.get(&digests) {
            return possible.has(known);
        }
        let mut life = Life::healthy(&found, possible.clone());
        life.open()?;
        if let Some(cut) = cut {
            // What a start has found, it made durable.
            Life::healthy(&found.restart(cut), life.possible.clone()).open()?;
        }
        let known = life.possible.known().cloned().unwrap_or_default();
        self.go_on(&found, life)?;
        self.survived.insert(digests, known);
        Ok(())
    }

    fn go_on(&self, disk: &SimulatedDisk, mut life: Life) -> Result<(), String> {
        let mut random = Random(self.seed);
        for act in aftermath(&mut random) {
            life.act(&act)?;
        }
        let possible = life.close();
        check_sound(disk)?;
        // What was made on top of a directory that a crash left must not hang in the air.
        let mut life = Life::healthy(&disk.restart(PowerCut::Drop), possible);
        life.open()?;
        life.check_files()
    }

    fn failure(&self, point: &dyn std::fmt::Debug, error: &str) -> String {
        let Self { seed, acts, .. } = self;
        let acts: Vec<_> = acts.iter().map(|act| format!("    {act}")).collect();
        format!(
            "METERD_CRASH_SEED={seed} {point:?}\n{error}\nof:\n{}",
            acts.join("\n")
        )
    }
}

const OPERATIONS: [Operation; 11] = [
    Operation::Create,
    Operation::CreateDirectory,
    Operation::Append,
    Operation::Sync,
    Operation::Cut,
    Operation::Overwrite,
    Operation::Rename,
    Operation::Remove,
    Operation::RemoveDirectory,
    Operation::SyncDirectory,
    Operation::Read,
];
