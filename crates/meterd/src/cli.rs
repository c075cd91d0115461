//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a server listens unless told otherwise.
pub(crate) const LISTEN_DEFAULT: &str = "127.0.0.1:8181";
/// Where data lives unless told otherwise.
pub(crate) const DATA_DEFAULT: &str = "./meterd-data";

const OVERLAP_SECONDS_MAX: u64 = meterd_control::OVERLAP_MAX.as_secs();

/// A self-hosted metering server: measurements in, exact answers out.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    #[command(after_help = "Example:\n  meterd serve --data /var/lib/meterd --listen 0.0.0.0:8181")]
    Serve(ServeOptions),
    /// Serve ready-made organizations with real sample data
    #[command(
        after_help = "Example:\n  meterd demo --data /tmp/meterd-demo --listen 127.0.0.1:8181"
    )]
    Demo(DemoOptions),
    /// Create, list, revoke and rotate credentials
    #[command(
        subcommand,
        after_help = "Example:\n  meterd key list --organization acme --data /var/lib/meterd"
    )]
    Key(KeyCommand),
    /// Create or update organizations, meters and keys from a TOML file
    #[command(
        after_help = "Example:\n  meterd apply meters.toml --data /var/lib/meterd\n\nThe file:\n  [[organization]]\n  name = \"acme\"\n\n  [[organization.meter]]\n  name = \"api_calls\"\n  kind = \"delta\"\n  values = { requests = { unit = \"1\" } }\n  attributes = [\"region\"]\n\n  [[organization.key]]\n  name = \"backend\"\n  permissions = [\"measurements:*\"]"
    )]
    Apply(ApplyOptions),
    /// Print the catalogue of errors as a surface words them
    #[command(after_help = "Example:\n  meterd errors --surface m3ter --format md")]
    Errors(ErrorsOptions),
    /// Import measurements from CSV or NDJSON files
    #[command(
        after_help = "Examples:\n  meterd import usage.ndjson --server http://127.0.0.1:8181 --key mtr_…\n  meterd import house.csv --data ./meterd-data --organization acme --meter electricity \\\n      --subject house-1 --time-column start --value-column energy=value\n\nA CSV file has a header. Columns named id, meter, subject, time, end_time, values.FIELD and attributes.FIELD are\ntaken as such; others need --value-column or --attribute-column, or are left out. Without an id column, ids are\nmade of meter, subject and time, so that importing a file twice changes nothing."
    )]
    Import(ImportOptions),
    /// Load this build on this machine and print the figures
    #[command(
        subcommand,
        after_help = "Example:\n  meterd bench ingest --rows 1000000"
    )]
    Bench(BenchCommand),
    /// Check every checksum and every document of a data directory that no server has open
    #[command(after_help = "Example:\n  meterd verify --data /var/lib/meterd")]
    Verify(DataOptions),
}

#[derive(Debug, Args)]
pub(crate) struct DataOptions {
    /// Data directory
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT)]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data directory; replaces the configuration's [default: ./meterd-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Address to listen on; replaces the configuration's [default: 127.0.0.1:8181]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Write the address listened on to this file, once requests are accepted
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// Data directory
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT)]
    pub(crate) data: PathBuf,
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = LISTEN_DEFAULT)]
    pub(crate) listen: SocketAddr,
    /// Where to write addresses and keys as JSON [default: DATA/demo.json]
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Create a key and print its secret, once
    #[command(
        after_help = "Example:\n  meterd key create --organization acme --name backend --permission 'measurements:*'"
    )]
    Create {
        /// Organization the key belongs to; without it, the key administers the server
        #[arg(long, value_name = "NAME")]
        organization: Option<String>,
        /// What the key is for
        #[arg(long)]
        name: String,
        /// Permission, such as measurements:write, meters:* or *; may be repeated
        #[arg(long = "permission", value_name = "PERMISSION", required = true)]
        permissions: Vec<String>,
        /// Address or block the key may be used from; may be repeated
        #[arg(long = "address", value_name = "CIDR")]
        addresses: Vec<String>,
        /// When the key expires (RFC 3339), in the future
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// List keys, without their secrets
    #[command(after_help = "Example:\n  meterd key list --organization acme")]
    List {
        /// Organization whose keys to list; without it, the administrators' keys
        #[arg(long, value_name = "NAME")]
        organization: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// End a key for good
    #[command(after_help = "Example:\n  meterd key revoke 0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11")]
    Revoke {
        /// Id of the key
        id: uuid::Uuid,
        #[command(flatten)]
        target: Target,
    },
    /// Give a key a new secret and print it, once
    #[command(
        after_help = "Example:\n  meterd key rotate 0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11 --overlap-seconds 3600"
    )]
    Rotate {
        /// Id of the key
        id: uuid::Uuid,
        /// How long the old secret goes on working, 30 days at the most
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=OVERLAP_SECONDS_MAX))]
        overlap_seconds: u64,
        #[command(flatten)]
        target: Target,
    },
}

/// What a command works on: a running server, or the data directory of a stopped one.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// Running server, e.g. `http://127.0.0.1:8181`; without it, the data directory is opened
    #[arg(long, value_name = "URL", requires = "admin_key")]
    pub(crate) server: Option<String>,
    /// Administrator's key for the running server
    #[arg(
        long,
        value_name = "KEY",
        env = "METERD_ADMIN_KEY",
        hide_env_values = true
    )]
    pub(crate) admin_key: Option<String>,
    /// Data directory
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT)]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyOptions {
    /// The TOML file
    pub(crate) file: PathBuf,
    /// Data directory of a stopped server
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT)]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ErrorsOptions {
    /// Only this surface
    #[arg(long, value_name = "NAME")]
    pub(crate) surface: Option<String>,
    #[arg(long, value_enum, default_value_t = ErrorsFormat::Table)]
    pub(crate) format: ErrorsFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ErrorsFormat {
    Table,
    Json,
    Md,
}

#[derive(Debug, Args)]
pub(crate) struct ImportOptions {
    /// Files ending in .csv, .csv.gz, .ndjson or .ndjson.gz
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Running server; without it, the data directory is opened
    #[arg(long, value_name = "URL", requires = "key")]
    pub(crate) server: Option<String>,
    /// Key with measurements:write for the running server
    #[arg(long, value_name = "KEY", env = "METERD_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// Data directory
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT)]
    pub(crate) data: PathBuf,
    /// Organization to import into, with a data directory
    #[arg(long, value_name = "NAME", required_unless_present = "server")]
    pub(crate) organization: Option<String>,
    /// Meter of all rows, where the file names none
    #[arg(long, value_name = "NAME")]
    pub(crate) meter: Option<String>,
    /// Subject of all rows, where the file names none
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Option<String>,
    /// CSV column with the time
    #[arg(long, value_name = "COLUMN", default_value = "time")]
    pub(crate) time_column: String,
    /// Which CSV column is which value field, as FIELD=COLUMN; may be repeated
    #[arg(long = "value-column", value_name = "FIELD=COLUMN")]
    pub(crate) value_columns: Vec<String>,
    /// Which CSV column is which attribute, as FIELD=COLUMN; may be repeated
    #[arg(long = "attribute-column", value_name = "FIELD=COLUMN")]
    pub(crate) attribute_columns: Vec<String>,
    /// Store the good rows of a batch that has bad ones
    #[arg(long)]
    pub(crate) skip_errors: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Batches of measurements
    #[command(
        after_help = "Example:\n  meterd bench ingest --rows 1000000 --batch 1000 --connections 4"
    )]
    Ingest(BenchIngest),
    /// One measurement per request
    #[command(after_help = "Example:\n  meterd bench http --rows 200000 --connections 64")]
    Http(BenchIngest),
    /// Questions over stored measurements
    #[command(after_help = "Example:\n  meterd bench query --rows 1000000 --runs 20")]
    Query(BenchQuery),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BenchIngest {
    /// Measurements to send
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) rows: u32,
    /// Measurements in a request
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) batch: u32,
    /// Connections at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) connections: u32,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BenchQuery {
    /// Measurements to store first
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) rows: u32,
    /// Times each question is asked
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) runs: u32,
}
