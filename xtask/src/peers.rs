//! `cargo xtask peers`: the same work for meterd and for its peers, in one run (see `compat/peers/README.md`).

mod clickhouse;
mod duckdb;
mod victoria;

use crate::child::{self, Figures, Folder};
use clap::Args;
use clickhouse::ClickHouse;
use duckdb::DuckDb;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use victoria::VictoriaMetrics;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Measurements that each is loaded with
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    rows: u32,
    /// Times the loading is repeated; the best counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Times each question is asked
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    questions: u32,
    /// Python with the module `duckdb` [default: python3]
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// A meterd that is built already [default: a release build of this tree]
    #[arg(long, value_name = "FILE")]
    pub(crate) meterd: Option<PathBuf>,
}

/// Longest time that one piece of work may take.
const WORK_MAX: Duration = Duration::from_mins(30);
/// The month that all rows are in.
const DAYS: u32 = 30;
const FROM: &str = "2026-01-01T00:00:00Z";
const TO: &str = "2026-01-31T00:00:00Z";
const QUESTIONS: [(&str, &str); 2] = [
    ("sum_by_subject_top_100", "sum by subject, top 100"),
    ("sum_by_attribute_and_hour", "sum by attribute and hour"),
];

pub(crate) fn run(meterd: PathBuf, options: &Options) -> anyhow::Result<()> {
    let bench = Bench {
        meterd,
        rows: options.rows,
        questions: options.questions,
    };
    let clickhouse = ClickHouse::find();
    let victoria = VictoriaMetrics::find();
    let duckdb = DuckDb::find(options.python.as_deref());
    for (name, found) in [
        ("ClickHouse", clickhouse.as_ref().map(ClickHouse::version)),
        (
            "VictoriaMetrics",
            victoria.as_ref().map(VictoriaMetrics::version),
        ),
        ("DuckDB", duckdb.as_ref().map(DuckDb::version)),
    ] {
        println!(
            "- {name}: {}",
            found.as_deref().unwrap_or("not found, left out")
        );
    }

    let mut ours = Best::default();
    let mut clickhouse_best = Best::default();
    let mut victoria_best = Best::default();
    let mut single = Best::default();
    // In turns, so that a change of the machine's mood meets all of them.
    for run in 1..=options.runs {
        eprintln!("loading, {run} of {}", options.runs);
        ours.add(bench.figures(&["ingest"])?);
        if let Some(clickhouse) = &clickhouse {
            clickhouse_best.add(clickhouse.ingest(&bench)?);
        }
        if let Some(victoria) = &victoria {
            victoria_best.add(victoria.ingest(&bench)?);
        }
        single.add(bench.single_rows()?);
    }
    eprintln!("asking");
    let folder = Folder::create("peers-query")?;
    let our_answers = bench.query(folder.path())?;
    let clickhouse_answers = clickhouse.map(|it| it.query(&bench)).transpose()?;
    let duckdb_answers = match duckdb {
        Some(duckdb) => duckdb.query(folder.path(), &bench)?,
        None => None,
    };

    print_ingest(&[
        ("meterd", ours),
        ("ClickHouse", clickhouse_best),
        ("VictoriaMetrics", victoria_best),
    ])?;
    print_single_rows(&single.0.unwrap_or_default())?;
    print_questions(
        &our_answers,
        &[
            ("DuckDB", duckdb_answers),
            ("ClickHouse", clickhouse_answers),
        ],
        options.rows,
    )
}

/// The generator that loads all of them: `meterd bench`.
struct Bench {
    meterd: PathBuf,
    rows: u32,
    questions: u32,
}

/// A server that the generator is to load.
struct Loaded<'a> {
    url: String,
    format: &'static str,
    process: &'a child::Running,
}

impl Bench {
    fn figures(&self, arguments: &[&str]) -> anyhow::Result<Figures> {
        self.run(arguments, self.rows)
    }

    fn run(&self, arguments: &[&str], rows: u32) -> anyhow::Result<Figures> {
        let mut command = self.command(arguments);
        command.args(["--days", &DAYS.to_string(), "--rows", &rows.to_string()]);
        child::read_figures(&mut command, WORK_MAX)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = child::command(&self.meterd);
        command.arg("bench").args(arguments).arg("--json");
        command
    }

    /// One measurement per request: fewer of them, since each waits for a disk.
    fn single_rows(&self) -> anyhow::Result<Figures> {
        self.run(&["http", "--connections", "64"], (self.rows / 5).max(1))
    }

    fn load(&self, server: &Loaded<'_>) -> anyhow::Result<Figures> {
        let process = server.process.id().to_string();
        self.figures(&[
            "ingest",
            "--batch",
            "10000",
            "--url",
            &server.url,
            "--format",
            server.format,
            "--server-pid",
            &process,
        ])
    }

    fn set_disk_bytes(&self, figures: &mut Figures, bytes: u64) {
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        let per_row = f64::from(kib) * 1024.0 / f64::from(self.rows);
        figures.set("disk_bytes_per_row", per_row);
    }

    fn query(&self, folder: &Path) -> anyhow::Result<Figures> {
        let folder = folder.to_string_lossy();
        let runs = self.questions.to_string();
        self.figures(&["query", "--runs", &runs, "--data", &folder])
    }

    /// Posts a question to any server, as often as questions are asked.
    fn post(&self, url: &str, body: &Path) -> anyhow::Result<Figures> {
        let body = body.to_string_lossy();
        let runs = self.questions.to_string();
        let mut command = self.command(&["post", "--url", url, "--body", &body, "--runs", &runs]);
        child::read_figures(&mut command, WORK_MAX)
    }
}

/// The best of several runs; nothing of one that was not found.
#[derive(Default)]
struct Best(Option<Figures>);

impl Best {
    fn add(&mut self, figures: Figures) {
        self.0 = Some(match self.0.take() {
            Some(best) => best.best(&figures),
            None => figures,
        });
    }
}

fn print_ingest(servers: &[(&str, Best)]) -> anyhow::Result<()> {
    let measured = || {
        servers
            .iter()
            .filter_map(|(name, best)| Some((name, best.0.as_ref()?)))
    };
    let mut rates = Vec::new();
    println!(
        "\n| ingest | rows/s | meterd ÷ it | server CPU s/million | meterd ÷ it | generator CPU s/million | other cores busy | memory MiB, most | disk bytes/row |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (name, figures) in measured() {
        let rate = figures.get("rows_per_second")?;
        let cpu = figures.get("server_cpu_seconds_per_million")?;
        rates.push((rate, cpu));
        let (our_rate, our_cpu) = rates.first().copied().unwrap_or((rate, cpu));
        println!(
            "| {name} | {rate:.0} | {:.2} | {cpu:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.1} |",
            our_rate / rate,
            our_cpu / cpu,
            figures.get("generator_cpu_seconds_per_million")?,
            figures.get("other_cores_busy")?,
            figures.get("server_memory_mib_max")?,
            figures.get("disk_bytes_per_row")?,
        );
    }
    Ok(())
}

fn print_single_rows(figures: &Figures) -> anyhow::Result<()> {
    println!(
        "\n| one measurement per request, 64 connections | requests/s | p50 ms | p99 ms | server CPU s/million | generator CPU s/million | other cores busy |"
    );
    println!("|---|---|---|---|---|---|---|");
    for load in ["full", "half"] {
        let get = |name: &str| figures.get(&format!("{load}_{name}"));
        println!(
            "| {load} load | {:.0} | {:.2} | {:.2} | {:.1} | {:.1} | {:.2} |",
            get("requests_per_second")?,
            get("p50_ms")?,
            get("p99_ms")?,
            get("server_cpu_seconds_per_million")?,
            get("generator_cpu_seconds_per_million")?,
            get("other_cores_busy")?,
        );
    }
    Ok(())
}

fn print_questions(
    ours: &Figures,
    others: &[(&str, Option<Figures>)],
    rows: u32,
) -> anyhow::Result<()> {
    println!("\n| question over {rows} rows | who | best ms | median ms | meterd ÷ it, median |");
    println!("|---|---|---|---|---|");
    for (name, title) in QUESTIONS {
        let of = |figures: &Figures, which: &str| figures.get(&format!("{name}_{which}_ms"));
        let our_median = of(ours, "p50")?;
        println!(
            "| {title} | meterd | {:.1} | {our_median:.1} | 1 |",
            of(ours, "best")?
        );
        for (other, figures) in others {
            let Some(figures) = figures else { continue };
            let median = of(figures, "p50")?;
            println!(
                "| {title} | {other} | {:.1} | {median:.1} | {:.2} |",
                of(figures, "best")?,
                our_median / median,
            );
        }
    }
    for (other, figures) in others {
        let Some(figures) = figures else { continue };
        let found = figures.get("rows")?;
        if (found - f64::from(rows)).abs() > 0.5 {
            println!("\n{other} had only {found} rows: its times say little.");
        }
    }
    Ok(())
}

/// The first of these programs that is there.
fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push("/usr/sbin".into());
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|file| file.is_file())
}

/// An address on loopback that nobody listened on a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// One request, outside the measurements; the answer's body.
fn ask(address: SocketAddr, path: &str, body: &str) -> anyhow::Result<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    let method = if body.is_empty() { "GET" } else { "POST" };
    // HTTP/1.0: the answer comes unchunked and ends with the connection.
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1).is_some_and(|s| s.starts_with('2')) => {
            Ok(body.to_owned())
        }
        _ => anyhow::bail!("the server answered: {answer}"),
    }
}
