//! `meterd bench`: load on this build, on this machine, with the figures printed.
//!
//! The server runs as a process of its own on loopback with a fresh data directory, so that its processor time and
//! memory can be told from the generator's. Requests are built before the clock starts. Every run is bounded by its
//! options and stops by itself. The same generator can load another program (`--url`), for comparison.

mod client;
mod figures;
mod mix;
mod options;
mod process;
mod rows;
mod server;

pub(crate) use options::BenchCommand;

use client::{Run, Target, send_all};
use figures::Figures;
use options::{Format, HttpOptions, IngestOptions, PostOptions, QueryOptions, Shape, Surface};
use serde_json::{Value, json};
use server::Server;
use std::ops::Range;

pub(crate) fn run(command: &BenchCommand) -> anyhow::Result<()> {
    let (figures, output) = match command {
        BenchCommand::Ingest(options) => (ingest(options)?, options.output),
        BenchCommand::Http(options) => (http(options)?, options.output),
        BenchCommand::Query(options) => (query(options)?, options.output),
        BenchCommand::Mix(options) => (mix::mix(options)?, options.output),
        BenchCommand::Post(options) => (post(options)?, options.output),
    };
    figures.print(output);
    Ok(())
}

fn ingest(options: &IngestOptions) -> anyhow::Result<Figures> {
    let shape = &options.shape;
    let mut load = Load {
        shape,
        format: options.format,
        batch: options.batch,
        connections: options.connections,
        pace: None,
    };
    let mut figures = figures_of(shape);
    figures.add("batch", options.batch);
    figures.add("connections", options.connections);
    if let (Some(url), Some(process)) = (&options.url, options.server_pid) {
        let measured = load.measure(&Target::parse(url)?, process, 0..shape.rows.into())?;
        measured.describe(&mut figures, "", shape.rows);
        return Ok(figures);
    }
    let mut server = Server::start(shape, None)?;
    let target = server.target("/v1/measurements");
    let measured = load.measure(&target, server.id(), 0..shape.rows.into())?;
    if options.surface == Surface::M3ter {
        measured.describe(&mut figures, "native_", shape.rows);
        load.format = Format::M3ter;
        // A server of its own, so that neither has what the other stored to keep in order.
        drop(server);
        let server = Server::start(shape, None)?;
        let target = server.m3ter_target(shape)?;
        let measured = load.measure(&target, server.id(), 0..shape.rows.into())?;
        measured.describe(&mut figures, "m3ter_", shape.rows);
        figures.add("m3ter_token_cpu_micros", server.token_cpu_micros()?);
        return Ok(figures);
    }
    measured.describe(&mut figures, "", shape.rows);
    describe_storage(&mut figures, &mut server, shape)?;
    Ok(figures)
}

fn http(options: &HttpOptions) -> anyhow::Result<Figures> {
    let shape = &options.shape;
    let rows = u64::from(shape.rows);
    let server = Server::start(shape, None)?;
    let target = server.target("/v1/measurements");
    let mut load = Load {
        shape,
        format: Format::Native,
        batch: 1,
        connections: options.connections,
        pace: None,
    };
    let mut figures = figures_of(shape);
    figures.add("connections", options.connections);
    let full = load.measure(&target, server.id(), 0..rows)?;
    full.describe(&mut figures, "full_", shape.rows);
    load.pace = Some(f64::from(shape.rows) / full.run.elapsed.as_secs_f64() / 2.0);
    let half = load.measure(&target, server.id(), rows..rows + rows / 2)?;
    half.describe(&mut figures, "half_", shape.rows / 2);
    Ok(figures)
}

fn query(options: &QueryOptions) -> anyhow::Result<Figures> {
    let shape = &options.shape;
    let mut server = Server::start(shape, options.data.as_deref())?;
    let load = Load {
        shape,
        format: Format::Native,
        batch: 10_000,
        connections: 2,
        pace: None,
    };
    let target = server.target("/v1/measurements");
    load.measure(&target, server.id(), 0..shape.rows.into())?;
    let mut figures = figures_of(shape);
    figures.add("runs", options.runs);
    if options.settled {
        figures.add("settling_seconds", server.settle()?.as_secs_f64());
    }
    let target = server.target("/v1/query");
    let runs: Vec<_> = (0..options.runs).map(|run| questions(shape, run)).collect();
    for (place, (name, _)) in questions(shape, 0).into_iter().enumerate() {
        let questions = runs.iter().filter_map(|questions| questions.get(place));
        let requests: Vec<_> = questions
            .map(|(_, question)| target.request(question.to_string().as_bytes()))
            .collect();
        let run = send_all(target.address, &requests, 1, None)?;
        describe_latency(&mut figures, &format!("{name}_"), &run);
    }
    describe_storage(&mut figures, &mut server, shape)?;
    server.reopen_with_cache()?;
    let target = server.target("/v1/query");
    let request = target.request(months_of_one_subject(shape).to_string().as_bytes());
    let first = send_all(target.address, std::slice::from_ref(&request), 1, None)?;
    figures.add("months_of_one_subject_first_ms", first.latency_ms(0));
    let again = vec![request; usize::try_from(options.runs)?];
    let again = send_all(target.address, &again, 1, None)?;
    describe_latency(&mut figures, "months_of_one_subject_again_", &again);
    Ok(figures)
}

fn post(options: &PostOptions) -> anyhow::Result<Figures> {
    let target = Target::parse(&options.url)?;
    let request = target.request(&std::fs::read(&options.body)?);
    let requests = vec![request; usize::try_from(options.runs)?];
    let run = send_all(target.address, &requests, 1, None)?;
    let mut figures = Figures::default();
    figures.add("runs", options.runs);
    describe_latency(&mut figures, "", &run);
    Ok(figures)
}

/// What is asked about the first meter while no answers are kept. About one subject at a time: of another one in each
/// run.
fn questions(shape: &Shape, run: u32) -> [(&'static str, Value); 4] {
    let about = |question| about(shape, question);
    [
        (
            "one_subject_one_month_by_day",
            one_subject_one_month_by_day(shape, run),
        ),
        (
            "sum_by_subject_top_100",
            about(json!({
                "group_by": ["subject"], "aggregations": [{"function": "sum", "field": "bytes"}],
                "order_by": [{"value": "sum(bytes)", "descending": true}], "limit": 100,
            })),
        ),
        (
            "sum_by_attribute_and_hour",
            about(json!({
                "window": "hour", "group_by": ["region"],
                "aggregations": [{"function": "sum", "field": "bytes"}], "limit": 10_000,
            })),
        ),
        (
            "one_sum_over_everything",
            about(json!({"aggregations": [{"function": "sum", "field": "bytes"}]})),
        ),
    ]
}

/// The question of a customer's page.
fn one_subject_one_month_by_day(shape: &Shape, run: u32) -> Value {
    const MONTH_DAYS: u32 = 31;
    // Prime, so that all come before one comes again.
    const STEP: u64 = 7919;
    let subject = (7 + u64::from(run) * STEP) % u64::from(shape.subjects);
    let question = json!({
        "to": rows::day(MONTH_DAYS).to_string(), "timezone": "Europe/Berlin", "window": "day",
        "filter": {"subject": [format!("subject-{subject}")]},
        "aggregations": [{"function": "sum", "field": "requests"}],
    });
    about(shape, question)
}

/// What a dashboard asks again and again.
fn months_of_one_subject(shape: &Shape) -> Value {
    let question = json!({
        "timezone": "Europe/Berlin", "window": "month", "filter": {"subject": ["subject-0"]},
        "aggregations": [{"function": "sum", "field": "requests"}],
    });
    about(shape, question)
}

/// A question about all measurements of the first meter, where it says nothing else.
fn about(shape: &Shape, question: Value) -> Value {
    let mut body = json!({
        "meter": rows::meter(shape, 0), "from": rows::day(0).to_string(), "to": rows::day(shape.days).to_string(),
    });
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), question) {
        body.extend(more);
    }
    body
}

/// How rows are sent.
struct Load<'a> {
    shape: &'a Shape,
    format: Format,
    batch: u32,
    connections: u32,
    pace: Option<f64>,
}

/// What sending rows took.
struct Measured {
    run: Run,
    server_cpu_seconds: f64,
    generator_cpu_seconds: f64,
    /// What everything else on the machine took meanwhile: large figures say that it was not quiet.
    other_cpu_seconds: f64,
    memory: process::Memory,
}

/// Processor time used so far, in seconds.
struct Clocks {
    server: f64,
    generator: f64,
    machine: f64,
}

impl Clocks {
    fn read(server: u32) -> anyhow::Result<Self> {
        Ok(Self {
            server: process::cpu_seconds(server)?,
            generator: process::own_cpu_seconds()?,
            machine: process::machine_cpu_seconds()?,
        })
    }
}

impl Load<'_> {
    /// Sends the rows and waits until the server has settled. More rows than fit well into memory as requests are sent
    /// in rounds, and the clock stands still between them.
    fn measure(&self, target: &Target, server: u32, rows: Range<u64>) -> anyhow::Result<Measured> {
        const ROUND_ROWS: u64 = 2_000_000;
        let mut run = Run::default();
        let (mut generator_cpu_seconds, mut other_cpu_seconds) = (0.0, 0.0);
        let server_before = process::cpu_seconds(server)?;
        let mut round_start = rows.start;
        while round_start < rows.end {
            let round_end = rows.end.min(round_start + ROUND_ROWS);
            let requests = self.requests(target, round_start..round_end)?;
            let before = Clocks::read(server)?;
            let (pace, connections) = (self.pace, self.connections);
            run.append(send_all(target.address, &requests, connections, pace)?);
            let after = Clocks::read(server)?;
            let generator = after.generator - before.generator;
            let all = after.machine - before.machine;
            generator_cpu_seconds += generator;
            other_cpu_seconds += (all - generator - (after.server - before.server)).max(0.0);
            round_start = round_end;
        }
        process::settle(server)?;
        Ok(Measured {
            run,
            server_cpu_seconds: process::cpu_seconds(server)? - server_before,
            generator_cpu_seconds,
            other_cpu_seconds,
            memory: process::memory(server)?,
        })
    }

    fn requests(&self, target: &Target, rows: Range<u64>) -> anyhow::Result<Vec<Vec<u8>>> {
        let end = rows.end;
        let requests = rows.step_by(usize::try_from(self.batch)?).map(|start| {
            let rows = start..end.min(start + u64::from(self.batch));
            target.request(&rows::body(self.shape, self.format, rows))
        });
        Ok(requests.collect())
    }
}

impl Measured {
    fn describe(&self, figures: &mut Figures, prefix: &str, rows: u32) {
        let seconds = self.run.elapsed.as_secs_f64();
        let rows = f64::from(rows);
        let requests = u32::try_from(self.run.requests()).unwrap_or(u32::MAX);
        let mut add = |name: &str, value: f64| figures.add(&format!("{prefix}{name}"), value);
        add("rows_per_second", rows / seconds);
        add("requests_per_second", f64::from(requests) / seconds);
        add(
            "server_cpu_seconds_per_million",
            self.server_cpu_seconds / rows * 1e6,
        );
        add(
            "generator_cpu_seconds_per_million",
            self.generator_cpu_seconds / rows * 1e6,
        );
        add("other_cores_busy", self.other_cpu_seconds / seconds);
        add("server_memory_mib", self.memory.resident_mib);
        add("server_memory_mib_max", self.memory.high_water_mib);
        describe_latency(figures, prefix, &self.run);
    }
}

fn figures_of(shape: &Shape) -> Figures {
    let mut figures = Figures::default();
    figures.add("rows", shape.rows);
    figures.add("subjects", shape.subjects);
    figures.add("meters", shape.meters);
    figures.add("days", shape.days);
    figures
}

fn describe_latency(figures: &mut Figures, prefix: &str, run: &Run) {
    for (name, percent) in [("best", 0), ("p50", 50), ("p99", 99), ("max", 100)] {
        figures.add(&format!("{prefix}{name}_ms"), run.latency_ms(percent));
    }
}

/// What is on disk, that all of it is there again after the server was killed, and how soon.
fn describe_storage(
    figures: &mut Figures,
    server: &mut Server,
    shape: &Shape,
) -> anyhow::Result<()> {
    server.check_count(shape, shape.rows.into())?;
    let rows = f64::from(shape.rows);
    let per_row = |bytes: u64| {
        let kib = f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX));
        kib * 1024.0 / rows
    };
    figures.add("log_bytes_per_row", per_row(server.log_bytes()));
    figures.add("disk_bytes_per_row", per_row(server.disk_bytes()));
    let memory = process::memory(server.id())?;
    figures.add("server_memory_mib", memory.resident_mib);
    figures.add("server_memory_mib_max", memory.high_water_mib);
    figures.add("reopening_seconds", server.reopen()?.as_secs_f64());
    server.check_count(shape, shape.rows.into())?;
    let memory = process::memory(server.id())?;
    figures.add("reopened_memory_mib", memory.resident_mib);
    Ok(())
}
