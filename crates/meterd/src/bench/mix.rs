//! A bounded piece of an ordinary day: measurements at a steady rate, some of them sent again, replaced or withdrawn,
//! and questions all the while. What it shows is whether memory and latency stay level while the data grows.

use super::client::{Run, send_all};
use super::figures::Figures;
use super::options::{Format, MixOptions, Shape};
use super::server::Server;
use super::{describe_latency, figures_of, one_subject_one_month_by_day, process, rows};
use anyhow::bail;
use serde_json::json;
use std::ops::Range;

/// Pieces of a run, each of which has figures of its own.
const PARTS: u32 = 10;
const BATCH_ROWS: u32 = 1_000;
const CONNECTIONS: u32 = 4;
/// One of so many batches is sent again in part, replaced in part and withdrawn in part.
const BATCHES_PER_CHANGE: u32 = 100;
/// Measurements of each such part.
const CHANGED_ROWS: u64 = 100;
const QUESTIONS_PER_SECOND: u32 = 10;

pub(crate) fn mix(options: &MixOptions) -> anyhow::Result<Figures> {
    let shape = &options.shape;
    let part_rows = shape.rows / PARTS;
    let server = Server::start(shape, None)?;
    let mut figures = figures_of(shape);
    let mut withdrawn = 0;
    for part in 0..PARTS {
        let first = u64::from(part * part_rows);
        let requests = Part::plan(&server, options, first..first + u64::from(part_rows))?;
        let lived = requests.live(&server)?;
        withdrawn += requests.withdrawn;
        let prefix = format!("part_{}_", part + 1);
        let mut add = |name: &str, value: f64| figures.add(&format!("{prefix}{name}"), value);
        let seconds = lived.batches.elapsed.as_secs_f64();
        add("rows_per_second", f64::from(part_rows) / seconds);
        add("server_cores_busy", lived.server_cpu_seconds / seconds);
        let memory = process::memory(server.id())?;
        add("server_memory_mib", memory.resident_mib);
        add("server_memory_mib_max", memory.high_water_mib);
        describe_latency(&mut figures, &format!("{prefix}batch_"), &lived.batches);
        describe_latency(
            &mut figures,
            &format!("{prefix}question_"),
            &lived.questions,
        );
    }
    server.check_count(shape, u64::from(PARTS * part_rows) - withdrawn)?;
    Ok(figures)
}

/// The requests of one part, built before its clock starts.
struct Part {
    seconds: f64,
    batches: Vec<Vec<u8>>,
    changes: Vec<Vec<u8>>,
    questions: Vec<Vec<u8>>,
    /// Measurements that the changes withdraw.
    withdrawn: u64,
}

/// What one part took.
struct Lived {
    batches: Run,
    questions: Run,
    server_cpu_seconds: f64,
}

impl Part {
    fn plan(server: &Server, options: &MixOptions, of: Range<u64>) -> anyhow::Result<Self> {
        let shape = &options.shape;
        // The same ids, of other subjects.
        let moved = Shape {
            subjects: shape.subjects + 1,
            ..shape.clone()
        };
        let ingest = server.target("/v1/measurements");
        let replace = server.target("/v1/measurements?on_conflict=replace");
        let void = server.target("/v1/voids");
        let query = server.target("/v1/query");

        let length = of.end - of.start;
        let mut part = Self {
            seconds: f64::from(shape.rows / PARTS) / f64::from(options.rate),
            batches: Vec::new(),
            changes: Vec::new(),
            questions: Vec::new(),
            withdrawn: 0,
        };
        for start in of.clone().step_by(usize::try_from(BATCH_ROWS)?) {
            let rows = start..of.end.min(start + u64::from(BATCH_ROWS));
            part.batches
                .push(ingest.request(&rows::body(shape, Format::Native, rows)));
        }
        // What changes came with the part before: by now it is in memory, in a new segment or in an older one.
        let earlier = of.start.saturating_sub(length)..of.start;
        for start in earlier.step_by(usize::try_from(BATCH_ROWS * BATCHES_PER_CHANGE)?) {
            let [repeated, replaced, withdrawn] = [0, 1, 2].map(|place| {
                let start = start + place * CHANGED_ROWS;
                start..start + CHANGED_ROWS
            });
            let repeated = rows::body(shape, Format::Native, repeated);
            let replaced = rows::body(&moved, Format::Native, replaced);
            let ids: Vec<String> = withdrawn.map(rows::id).collect();
            part.changes.push(ingest.request(&repeated));
            part.changes.push(replace.request(&replaced));
            part.changes
                .push(void.request(json!({"ids": ids}).to_string().as_bytes()));
            part.withdrawn += CHANGED_ROWS;
        }
        let mut subject = 0;
        while f64::from(subject) < part.seconds * f64::from(QUESTIONS_PER_SECOND) {
            let question = one_subject_one_month_by_day(shape, subject);
            part.questions
                .push(query.request(question.to_string().as_bytes()));
            subject += 1;
        }
        Ok(part)
    }

    fn live(&self, server: &Server) -> anyhow::Result<Lived> {
        let address = server.target("").address;
        let send = |requests: &[Vec<u8>], connections| {
            let count = f64::from(u32::try_from(requests.len())?);
            send_all(address, requests, connections, Some(count / self.seconds))
        };
        let before = process::cpu_seconds(server.id())?;
        let (batches, changes, questions) = std::thread::scope(|scope| {
            let changes = scope.spawn(|| send(&self.changes, 1));
            let questions = scope.spawn(|| send(&self.questions, 1));
            let batches = send(&self.batches, CONNECTIONS);
            (batches, changes.join(), questions.join())
        });
        let (Ok(changes), Ok(questions)) = (changes, questions) else {
            bail!("a generator panicked");
        };
        changes?;
        Ok(Lived {
            batches: batches?,
            questions: questions?,
            server_cpu_seconds: process::cpu_seconds(server.id())? - before,
        })
    }
}
