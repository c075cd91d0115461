//! The command line.

use crate::bench::BenchCommand;
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
        after_help = "Example:\n  meterd apply meters.toml --data /var/lib/meterd\n\nThe file:\n  [[organization]]\n  name = \"acme\"\n\n  [[organization.meter]]\n  name = \"api_calls\"\n  kind = \"delta\"\n  values = { requests = { unit = \"1\" } }\n  attributes = [\"region\"]\n\n  [[organization.key]]\n  name = \"backend\"\n  permissions = [\"measurements:*\"]\n\n  [[organization.m3ter.service_user]]\n  name = \"billing\"\n  policies = [\"Administrator\"]\n\n  [[organization.m3ter.user]]\n  email = \"jane@example.com\"\n  first_name = \"Jane\"\n  last_name = \"Doe\"\n\n  [[organization.wattwatchers.device]]\n  id = \"D123456789012\"\n  model = \"6M\"\n\n  [[organization.wattwatchers.key]]\n  name = \"dashboard\"\n  levels = [\"metadata\"]"
    )]
    Apply(ApplyOptions),
    /// Print the catalogue of errors as a surface words them
    #[command(after_help = "Example:\n  meterd errors --surface m3ter --format md")]
    Errors(ErrorsOptions),
    /// Import measurements from CSV, NDJSON or Parquet files
    #[command(
        after_help = "Examples:\n  meterd import usage.ndjson --server http://127.0.0.1:8181 --key mtr_…\n  meterd import house.csv --data ./meterd-data --organization acme --meter electricity \\\n      --subject house-1 --time-column start --value-column energy=value\n  meterd import fleet.csv.gz --layout wattwatchers --organization acme\n\nA CSV file has a header. Columns named id, meter, subject, time, end_time, values.FIELD and attributes.FIELD are\ntaken as such; others need --value-column or --attribute-column, or are left out. Without an id column, ids are\nmade of meter, subject and time, so that importing a file twice changes nothing. An attribute in quotes of its own is\ntaken without them; so an empty one can be told from none. In a Parquet file the columns of fields are value_FIELD and\nattribute_FIELD, as meterd export writes them."
    )]
    Import(ImportOptions),
    /// Write all measurements of a meter to a file that import reads back
    #[command(
        after_help = "Examples:\n  meterd export --meter electricity --format parquet --output electricity.parquet --key mtr_…\n  meterd export --meter api_calls --from 2026-10-01T00:00:00Z --to 2026-11-01T00:00:00Z --output october.ndjson --key mtr_…\n\nThe file appears once it is whole. Behind --output - a pipe needs the shell's pipefail, to tell that the export failed. Only measurements that count are in it, none that was replaced or withdrawn."
    )]
    Export(ExportOptions),
    /// Copy everything to a new directory, from a running server or a stopped one
    #[command(
        after_help = "Examples:\n  meterd backup /var/backups/meterd/monday --server http://127.0.0.1:8181 --admin-key mtr_…\n  meterd backup /var/backups/meterd/monday --data /var/lib/meterd\n\nA running server writes the directory itself, on its own machine."
    )]
    Backup(BackupOptions),
    /// Make a data directory of a backup, checking every file
    #[command(
        after_help = "Example:\n  meterd restore /var/backups/meterd/monday --data /var/lib/meterd\n  meterd serve --data /var/lib/meterd"
    )]
    Restore(RestoreOptions),
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
    /// Days of Long Energy that the Wattwatchers devices have at the most, on the first start
    #[arg(long, value_name = "DAYS", default_value_t = 400, value_parser = clap::value_parser!(u16).range(1..=400))]
    pub(crate) history_days: u16,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Create a key and print its secret, once
    #[command(
        after_help = "Examples:\n  meterd key create --organization acme --name backend --permission 'measurements:*'\n  meterd key create --surface m3ter --organization acme --name billing\n  meterd key create --surface wattwatchers --organization acme --name dashboard --level metadata"
    )]
    Create {
        /// Organization the key belongs to; without it, the key administers the server
        #[arg(long, value_name = "NAME")]
        organization: Option<String>,
        /// What the key is for
        #[arg(long)]
        name: String,
        /// API that the key is for
        #[arg(long, value_enum, default_value_t = KeySurface::Native)]
        surface: KeySurface,
        /// Permission or scope, such as measurements:write, meters:* or *; may be repeated
        #[arg(
            long = "permission",
            value_name = "PERMISSION",
            required_if_eq_any([("surface", "native"), ("surface", "fsm-navigator")])
        )]
        permissions: Vec<String>,
        /// Data set that the key works on, where its API knows two
        #[arg(long, value_enum, default_value_t = KeyEnvironment::Live)]
        environment: KeyEnvironment,
        /// Number in place of one of the API's limits, such as fsm-list=5; may be repeated
        #[arg(long = "limit", value_name = "NAME=NUMBER", value_parser = parse_limit)]
        limits: Vec<(String, u64)>,
        /// Policy that the service user gets, with --surface m3ter; may be repeated
        #[arg(
            long = "policy",
            value_name = "NAME",
            default_value = "Administrator",
            conflicts_with = "no_policy"
        )]
        policies: Vec<String>,
        /// No policy: the key may fetch tokens and nothing else, until its service user gets one
        #[arg(long)]
        no_policy: bool,
        /// Address or block the key may be used from; may be repeated
        #[arg(long = "address", value_name = "CIDR")]
        addresses: Vec<String>,
        /// When the key expires (RFC 3339), in the future
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
        #[command(flatten)]
        wattwatchers: Box<WattwatchersKey>,
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
    /// Edit a key, which keeps its secret; what is not named stays
    #[command(
        after_help = "Example:\n  meterd key change 0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11 --permission jobs:read --permission jobs:write"
    )]
    Change {
        /// Id of the key
        id: uuid::Uuid,
        /// What the key is for
        #[arg(long)]
        name: Option<String>,
        /// All permissions that it holds from now on; may be repeated
        #[arg(long = "permission", value_name = "PERMISSION")]
        permissions: Vec<String>,
        /// All addresses and blocks that it may be used from; may be repeated
        #[arg(long = "address", value_name = "CIDR", conflicts_with = "any_address")]
        addresses: Vec<String>,
        /// It may be used from anywhere
        #[arg(long)]
        any_address: bool,
        /// All numbers in place of the API's limits; may be repeated
        #[arg(long = "limit", value_name = "NAME=NUMBER", value_parser = parse_limit)]
        limits: Vec<(String, u64)>,
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

/// For which API a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeySurface {
    Native,
    FsmNavigator,
    /// A key pair of a service user
    M3ter,
    /// A key of an energy dashboard, or of the devices
    Wattwatchers,
}

/// What a key of the Wattwatchers API is for.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options with --surface wattwatchers")]
pub(crate) struct WattwatchersKey {
    /// What the key may change beside reading: metadata, configuration or switching; may be repeated
    #[arg(long = "level", value_name = "LEVEL")]
    pub(crate) levels: Vec<String>,
    /// Device that the key sees; may be repeated. Without it, the key sees all of the organization
    #[arg(long = "device", value_name = "SERIAL")]
    pub(crate) devices: Vec<String>,
    /// Requests per second, instead of the server's default
    #[arg(long, value_name = "NUMBER", requires = "per_day")]
    pub(crate) per_second: Option<u64>,
    /// Requests per day, instead of the server's default
    #[arg(long, value_name = "NUMBER", requires = "per_second")]
    pub(crate) per_day: Option<u64>,
    /// Let the limits follow the number of devices
    #[arg(long, conflicts_with = "per_second")]
    pub(crate) auto_limits: bool,
    /// For devices: to register them and send what they measure, and nothing else
    #[arg(long, conflicts_with_all = ["levels", "devices", "per_second", "auto_limits"])]
    pub(crate) ingest: bool,
}

/// Which of an organization's data sets a key works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyEnvironment {
    Live,
    Test,
}

fn parse_limit(text: &str) -> Result<(String, u64), String> {
    let (name, number) = text.split_once('=').ok_or("must be NAME=NUMBER")?;
    let number = number.parse().map_err(|_| "must end in a number")?;
    Ok((name.to_owned(), number))
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
pub(crate) struct ExportOptions {
    /// Running server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8181")]
    pub(crate) server: String,
    /// Key with measurements:read
    #[arg(long, value_name = "KEY", env = "METERD_KEY", hide_env_values = true)]
    pub(crate) key: String,
    /// Meter to export
    #[arg(long, value_name = "NAME")]
    pub(crate) meter: String,
    /// First time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// First time that is left out
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
    #[arg(long, value_enum, default_value_t = ExportFormat::Ndjson)]
    pub(crate) format: ExportFormat,
    /// File to write, or - for standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ExportFormat {
    Ndjson,
    Csv,
    Parquet,
}

#[derive(Debug, Args)]
pub(crate) struct BackupOptions {
    /// Directory to make, or an empty one
    pub(crate) directory: PathBuf,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreOptions {
    /// Directory of the backup
    pub(crate) backup: PathBuf,
    /// Data directory to make, or an empty one
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT)]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ImportOptions {
    /// Files ending in .csv, .csv.gz, .ndjson, .ndjson.gz or .parquet
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
    /// Column with the time
    #[arg(long, value_name = "COLUMN", default_value = "time")]
    pub(crate) time_column: String,
    /// Which column is which value field, as FIELD=COLUMN; may be repeated
    #[arg(long = "value-column", value_name = "FIELD=COLUMN")]
    pub(crate) value_columns: Vec<String>,
    /// Which column is which attribute, as FIELD=COLUMN; may be repeated
    #[arg(long = "attribute-column", value_name = "FIELD=COLUMN")]
    pub(crate) attribute_columns: Vec<String>,
    /// Store the good rows of a batch that has bad ones
    #[arg(long)]
    pub(crate) skip_errors: bool,
    /// Take CSV files for tables of energy records, whose header tells which of the layouts they have. The key for a
    /// server is then one for ingest. Bad rows are told and left out
    #[arg(long, value_enum, conflicts_with_all = ["meter", "subject", "value_columns", "attribute_columns"])]
    pub(crate) layout: Option<ImportLayout>,
    /// Store the records of a table also where others of the same stamps are stored, which count no longer; without it,
    /// what is stored stays
    #[arg(long, requires = "layout")]
    pub(crate) replace: bool,
}

/// Whose tables they are.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ImportLayout {
    Wattwatchers,
}
