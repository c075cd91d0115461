//! The command line of `meterd bench`.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Batches of measurements
    #[command(
        after_help = "Examples:\n  meterd bench ingest --rows 1000000 --batch 1000 --connections 4\n  meterd bench ingest --format clickhouse --batch 10000 --server-pid 4711 \\\n      --url 'http://127.0.0.1:8123/?query=INSERT%20INTO%20bench%20FORMAT%20JSONEachRow'"
    )]
    Ingest(IngestOptions),
    /// One measurement per request, at full load and then at half of it
    #[command(after_help = "Example:\n  meterd bench http --rows 200000 --connections 64")]
    Http(HttpOptions),
    /// Questions over stored measurements
    #[command(after_help = "Example:\n  meterd bench query --rows 1000000 --runs 20 --settled")]
    Query(QueryOptions),
    /// A bounded piece of a day: a steady rate of measurements, changes and questions
    #[command(
        after_help = "Example:\n  meterd bench mix --rows 60000000 --rate 100000   # ten minutes"
    )]
    Mix(MixOptions),
    /// One request to any server, again and again
    #[command(
        after_help = "Example:\n  meterd bench post --url http://127.0.0.1:8123/ --body question.sql --runs 20"
    )]
    Post(PostOptions),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct IngestOptions {
    #[command(flatten)]
    pub(crate) shape: Shape,
    /// Measurements in a request
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) batch: u32,
    /// Surface to load; another than the native one after it, so that both figures are of one run
    #[arg(long, value_enum, default_value_t = Surface::Native, conflicts_with = "url")]
    pub(crate) surface: Surface,
    /// Connections at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) connections: u32,
    /// A running server to load instead of one of our own, with path and query
    #[arg(long, value_name = "URL", requires = "server_pid")]
    pub(crate) url: Option<String>,
    /// How that server wants its rows
    #[arg(long, value_enum, default_value_t = Format::Native, requires = "url")]
    pub(crate) format: Format,
    /// Process of that server, whose processor time and memory are counted with its children's
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct HttpOptions {
    #[command(flatten)]
    pub(crate) shape: Shape,
    /// Connections at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) connections: u32,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct QueryOptions {
    #[command(flatten)]
    pub(crate) shape: Shape,
    /// Times each question is asked
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) runs: u32,
    /// Ask only once nothing is left to merge, instead of once the server is idle: a minute later, and longer with many
    /// measurements
    #[arg(long)]
    pub(crate) settled: bool,
    /// Directory to put the data into, and to leave it in [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct MixOptions {
    #[command(flatten)]
    pub(crate) shape: Shape,
    /// Measurements a second
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PostOptions {
    /// Where to, with path and query
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,
    /// File with the body
    #[arg(long, value_name = "FILE")]
    pub(crate) body: PathBuf,
    /// Times the request is sent
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) runs: u32,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What the generated measurements are like.
#[derive(Clone, Debug, Args)]
pub(crate) struct Shape {
    /// Measurements to send
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) rows: u32,
    /// Subjects that the measurements are spread over
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) subjects: u32,
    /// Meters that the measurements are spread over; questions are asked about the first
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) meters: u32,
    /// Days from 2026-01-01 on that the measurements are spread over
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    pub(crate) days: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Surface {
    Native,
    /// At most 1000 measurements a request
    M3ter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// meterd's own `POST /v1/measurements`
    Native,
    /// m3ter's `POST /organizations/{orgId}/measurements`
    M3ter,
    /// `ClickHouse`: `JSONEachRow`
    Clickhouse,
    /// `VictoriaMetrics`: line protocol, one sample per value
    Victoria,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Output {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
