//! The configuration file. Every member has its default beside what it configures; unknown members are errors.

use anyhow::Context as _;
use ipnet::IpNet;
use meterd_engine::{Durability, Settings};
use meterd_fault::LimitScope;
use meterd_surface_fsm_navigator::FsmNavigatorSettings;
use meterd_surface_m3ter::M3terSettings;
use meterd_surface_wattwatchers::WattwatchersSettings;
use serde::{Deserialize, Deserializer};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) data: PathBuf,
    pub(crate) listen: Vec<Listen>,
    /// What links in answers begin with, where the `Host` header should not be believed.
    pub(crate) public_url: Option<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    #[serde(deserialize_with = "canonical_blocks")]
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) engine: EngineConfig,
    pub(crate) bounds: BoundsConfig,
    pub(crate) retention: RetentionConfig,
    /// Limits on the native surface, beside those of each key.
    pub(crate) limit: Vec<LimitConfig>,
    pub(crate) fsm_navigator: FsmNavigatorSettings,
    pub(crate) m3ter: M3terSettings,
    pub(crate) wattwatchers: WattwatchersSettings,
    pub(crate) log: LogConfig,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    pub(crate) address: SocketAddr,
    /// Serves this surface alone, without its prefix.
    pub(crate) surface: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EngineConfig {
    pub(crate) durability: DurabilityConfig,
    /// Most bytes of batches that share one sync.
    pub(crate) group_max_bytes: usize,
    /// How long a batch waits for others to share its sync with.
    pub(crate) group_max_wait_ms: u64,
    /// Measurements in memory from which on they are written to segments.
    pub(crate) seal_rows: u64,
    /// Most in memory beside those; past it the answer is 503 until they are written.
    pub(crate) memory_rows_max: u64,
    /// The same in bytes.
    pub(crate) seal_bytes: u64,
    pub(crate) memory_bytes_max: u64,
    /// How long measurements are in memory at most before they are written to segments, however few; 0 for no such bound.
    pub(crate) seal_after_seconds: u32,
    /// Most threads that one query keeps busy.
    pub(crate) query_threads: usize,
    /// Kept of what segments answered, for queries that ask the same; 0 for nothing.
    pub(crate) query_cache_bytes: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            durability: DurabilityConfig::Sync,
            group_max_bytes: settings.group_max_bytes,
            group_max_wait_ms: 0,
            seal_rows: settings.seal_rows,
            memory_rows_max: settings.memory_rows_max,
            seal_bytes: settings.seal_bytes,
            memory_bytes_max: settings.memory_bytes_max,
            seal_after_seconds: 3_600,
            query_threads: settings.query_threads,
            query_cache_bytes: settings.query_cache_bytes,
        }
    }
}

impl EngineConfig {
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            durability: self.durability.into(),
            group_max_bytes: self.group_max_bytes,
            group_max_wait: Duration::from_millis(self.group_max_wait_ms),
            seal_rows: self.seal_rows.max(1),
            memory_rows_max: self.memory_rows_max,
            seal_bytes: self.seal_bytes.max(1),
            memory_bytes_max: self.memory_bytes_max,
            query_threads: self.query_threads,
            query_cache_bytes: self.query_cache_bytes,
            ..Settings::default()
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DurabilityConfig {
    #[default]
    Sync,
    Os,
}

impl From<DurabilityConfig> for Durability {
    fn from(config: DurabilityConfig) -> Self {
        match config {
            DurabilityConfig::Sync => Self::Sync,
            DurabilityConfig::Os => Self::Os,
        }
    }
}

/// Bounds that an operator may want to move; the others are constants.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BoundsConfig {
    pub(crate) connections_max: usize,
    pub(crate) in_flight_max: usize,
    pub(crate) body_memory_max_bytes: usize,
    pub(crate) request_seconds_max: f64,
    /// Longest pause within a request body.
    pub(crate) body_pause_seconds_max: f64,
    pub(crate) drain_seconds_max: f64,
    /// Of all that an organization has configured, as JSON; it is held in memory.
    pub(crate) resource_bytes_max: usize,
}

impl Default for BoundsConfig {
    fn default() -> Self {
        let bounds = meterd_http::Bounds::default();
        let connections = meterd_http::listen::ConnectionBounds::default();
        Self {
            connections_max: connections.connections_max,
            in_flight_max: bounds.in_flight_max,
            body_memory_max_bytes: bounds.body_memory_max_bytes,
            request_seconds_max: bounds.time_limit.as_secs_f64(),
            body_pause_seconds_max: bounds.body_pause_max.as_secs_f64(),
            drain_seconds_max: connections.drain_max.as_secs_f64(),
            resource_bytes_max: meterd_control::Settings::default().resource_bytes_max,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetentionConfig {
    /// From the start to the first pass: time for a clock to be set right.
    pub(crate) first_after_seconds: u32,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            first_after_seconds: 300,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitConfig {
    pub(crate) name: String,
    pub(crate) scope: ScopeConfig,
    /// All routes without it.
    pub(crate) class: Option<ClassConfig>,
    pub(crate) limit: u64,
    pub(crate) window_seconds: u64,
}

/// The classes that the native surface's routes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ClassConfig {
    Ingest,
    Query,
    Control,
}

impl ClassConfig {
    fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Query => "query",
            Self::Control => "control",
        }
    }
}

/// Blocks with IPv4 ones spelled as such: clients' addresses are compared that way.
fn canonical_blocks<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<IpNet>, D::Error> {
    let blocks = Vec::<IpNet>::deserialize(source)?;
    Ok(blocks
        .into_iter()
        .map(meterd_control::canonical_block)
        .collect())
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ScopeConfig {
    Credential,
    Organization,
    Address,
    Server,
}

impl From<ScopeConfig> for LimitScope {
    fn from(scope: ScopeConfig) -> Self {
        match scope {
            ScopeConfig::Credential => Self::Credential,
            ScopeConfig::Organization => Self::Organization,
            ScopeConfig::Address => Self::Address,
            ScopeConfig::Server => Self::Server,
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogConfig {
    pub(crate) format: LogFormat,
    /// Filter directives of the tracing library, e.g. `info,access=warn`.
    pub(crate) filter: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: crate::cli::DATA_DEFAULT.into(),
            listen: Vec::new(),
            public_url: None,
            trusted_proxies: Vec::new(),
            engine: EngineConfig::default(),
            bounds: BoundsConfig::default(),
            retention: RetentionConfig::default(),
            limit: Vec::new(),
            fsm_navigator: FsmNavigatorSettings::default(),
            m3ter: M3terSettings::default(),
            wattwatchers: WattwatchersSettings::default(),
            log: LogConfig::default(),
        }
    }
}

impl Config {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let config: Self =
            toml::from_str(&text).with_context(|| format!("read {}", path.display()))?;
        config
            .check()
            .with_context(|| format!("read {}", path.display()))?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        let seconds = [
            ("request_seconds_max", self.bounds.request_seconds_max),
            ("body_pause_seconds_max", self.bounds.body_pause_seconds_max),
            ("drain_seconds_max", self.bounds.drain_seconds_max),
        ];
        for (name, value) in seconds {
            if Duration::try_from_secs_f64(value).is_err() || value > 86_400.0 {
                anyhow::bail!("bounds.{name} must be between 0 and 86400");
            }
        }
        if self.bounds.connections_max == 0 || self.bounds.in_flight_max == 0 {
            anyhow::bail!("bounds.connections_max and bounds.in_flight_max must be at least 1");
        }
        for (index, limit) in self.policies().iter().enumerate() {
            if let Some(problem) = limit.problem(&format!("/limit/{index}")) {
                anyhow::bail!("{}", problem.message());
            }
            let mut before = self.limit.iter().take(index);
            if before.any(|other| other.name == limit.name) {
                // A name is what the count is kept under, so that two of them would count into one.
                anyhow::bail!("limit: the name {:?} stands there twice", limit.name);
            }
        }
        if let Some(problem) = self.fsm_navigator.problem() {
            anyhow::bail!("fsm_navigator.{problem}");
        }
        if let Some(problem) = self.m3ter.problem() {
            anyhow::bail!("m3ter.{problem}");
        }
        if let Some(problem) = self.wattwatchers.problem() {
            anyhow::bail!("wattwatchers.{problem}");
        }
        if let Some(url) = &self.public_url
            && !(url.starts_with("http://") || url.starts_with("https://"))
        {
            anyhow::bail!("public_url must begin with http:// or https://");
        }
        Ok(())
    }

    pub(crate) fn policies(&self) -> Vec<meterd_control::LimitPolicy> {
        self.limit
            .iter()
            .map(|limit| {
                let window = Duration::from_secs(limit.window_seconds);
                let policy = meterd_control::LimitPolicy::fixed(
                    limit.name.clone(),
                    limit.scope.into(),
                    limit.limit,
                    window,
                );
                match limit.class {
                    Some(class) => policy.for_class(class.name()),
                    None => policy,
                }
            })
            .collect()
    }

    /// The addresses to listen on: those of the file, or the default one.
    pub(crate) fn listeners(&self) -> anyhow::Result<Vec<Listen>> {
        if !self.listen.is_empty() {
            return Ok(self.listen.clone());
        }
        Ok(vec![Listen {
            address: crate::cli::LISTEN_DEFAULT.parse()?,
            surface: None,
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        let config: Config = toml::from_str("").unwrap();
        config.check().unwrap();
        assert_eq!(config.listeners().unwrap()[0].address.port(), 8181);
    }

    #[test]
    fn a_full_file_is_understood_and_a_typing_error_is_named() {
        let config: Config = toml::from_str(
            r#"
            data = "/var/lib/meterd"
            public_url = "https://meter.example"
            trusted_proxies = ["10.0.0.0/8"]
            [[listen]]
            address = "0.0.0.0:8181"
            [[listen]]
            address = "127.0.0.1:8301"
            surface = "wattwatchers"
            [engine]
            durability = "os"
            [bounds]
            in_flight_max = 64
            [retention]
            first_after_seconds = 60
            [[limit]]
            name = "ingest"
            scope = "credential"
            class = "ingest"
            limit = 100
            window_seconds = 1
            [log]
            format = "json"
            "#,
        )
        .unwrap();
        config.check().unwrap();
        assert_eq!(config.policies().len(), 1);
        let error = toml::from_str::<Config>("datta = 1").unwrap_err();
        assert!(error.to_string().contains("datta"), "{error}");
        let bad: Config = toml::from_str("public_url = \"meter.example\"").unwrap();
        assert!(bad.check().is_err());
    }

    #[test]
    fn limits_have_a_class_that_exists_and_a_name_of_their_own() {
        let limit = |name: &str, class: &str| {
            format!(
                "[[limit]]\nname = {name:?}\nscope = \"server\"\nclass = {class:?}\nlimit = 1\nwindow_seconds = 1\n"
            )
        };
        let read = |text: &str| {
            let config: Config = toml::from_str(text)?;
            config.check()?;
            anyhow::Ok(config)
        };
        for class in ["ingest", "query", "control"] {
            let config = read(&limit("a", class)).unwrap();
            assert_eq!(config.policies()[0].class.as_deref(), Some(class));
        }
        let error = read(&limit("a", "ingests")).unwrap_err().to_string();
        assert!(
            error.contains("ingests") && error.contains("`ingest`"),
            "{error}"
        );
        let twice = format!("{}{}", limit("a", "ingest"), limit("a", "query"));
        let error = read(&twice).unwrap_err().to_string();
        assert!(error.contains("\"a\" stands there twice"), "{error}");
        let both = format!("{}{}", limit("a", "ingest"), limit("b", "ingest"));
        assert_eq!(read(&both).unwrap().limit.len(), 2);
    }

    #[test]
    fn the_m3ter_api_is_set_within_bounds() {
        let read = |text: &str| {
            let config: Config = toml::from_str(text)?;
            config.check()?;
            anyhow::Ok(config)
        };
        let config = read(
            "[m3ter]\ntoken_endpoint_status = 401\n[m3ter.limits]\nconfig_organization = 500\n",
        );
        assert_eq!(config.unwrap().m3ter.limits.config_organization, 500);
        for (text, named) in [
            ("token_endpoint_status = 404", "403 or 401"),
            ("token_lifetime_seconds = 0", "m3ter.token_lifetime_seconds"),
            ("uid_window_days = 0", "m3ter.uid_window_days"),
            ("limits.explorer = 0", "m3ter.limits: m3ter-explorer"),
            ("limits.config_address = 100001", "m3ter-config-address"),
            ("limts = 1", "limts"),
        ] {
            let error = read(&format!("[m3ter]\n{text}\n")).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn the_wattwatchers_api_is_set_within_bounds() {
        let read = |text: &str| {
            let config: Config = toml::from_str(text)?;
            config.check()?;
            anyhow::Ok(config)
        };
        let config = read(
            "[wattwatchers]\nmask_foreign_devices = true\n[wattwatchers.limits]\nday = \"first_request_24h\"\n",
        );
        assert!(config.unwrap().wattwatchers.mask_foreign_devices);
        for (text, named) in [
            ("short_energy_retention_days = 0", "from 1 to 36500"),
            ("future_tolerance_seconds = 86401", "at most 86400"),
            ("limits.per_second = 0", "limits: wattwatchers-tps"),
            ("limits.day = \"month\"", "utc_day"),
            ("limts = 1", "limts"),
        ] {
            let error = read(&format!("[wattwatchers]\n{text}\n"))
                .unwrap_err()
                .to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn trusted_proxies_may_be_spelled_as_mapped_addresses() {
        let config: Config =
            toml::from_str("trusted_proxies = [\"::ffff:10.0.0.0/104\", \"2001:db8::/32\"]")
                .unwrap();
        let shown: Vec<_> = config
            .trusted_proxies
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(shown, ["10.0.0.0/8", "2001:db8::/32"]);
    }
}
