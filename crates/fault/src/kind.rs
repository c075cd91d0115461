//! The catalogue: every kind of failure, with the data it carries, its stable code and its advice.

use crate::problem::Problem;
use std::time::Duration;
use strum::{EnumDiscriminants, EnumIter};

/// Every failure that a client can see. Grouped by who has to act.
#[derive(Clone, Debug, PartialEq, EnumDiscriminants)]
#[strum_discriminants(name(Code), derive(EnumIter, Hash, PartialOrd, Ord))]
pub enum Kind {
    // The request as a whole.
    UnknownRoute,
    MethodNotAllowed {
        allowed: Vec<String>,
    },
    MediaTypeUnsupported {
        expected: &'static [&'static str],
    },
    ContentEncodingUnsupported {
        allowed: &'static [&'static str],
    },
    /// Not JSON (or NDJSON, or a form) at all; line and column count from 1, in bytes.
    BodyMalformed {
        reason: String,
        line: u64,
        column: u64,
    },
    /// After inflating, if the body was compressed.
    BodyTooLarge {
        limit_bytes: u64,
    },
    HeadersTooLarge {
        limit_bytes: u64,
    },
    UriTooLong {
        limit_bytes: u64,
    },
    /// The client sent its body too slowly.
    BodyTimeout {
        limit: Duration,
    },

    // What the request says.
    Invalid {
        problems: Vec<Problem>,
    },
    PeriodTooLong {
        longest: Period,
    },
    MeasurementConflict {
        id: String,
    },
    CalculationFailed {
        field: String,
        reason: String,
    },
    /// A code that nearly matches an existing one, so that it can neither be used nor created.
    CodeAmbiguous {
        resource: Resource,
        code: String,
        similar: String,
    },

    // Who asks.
    CredentialsMissing,
    /// A header is there but no usable credential in it.
    CredentialsMalformed,
    CredentialsUnknown,
    CredentialsDisabled,
    CredentialsRevoked,
    CredentialsExpired,
    TokenInvalid,
    TokenExpired,
    AddressNotAllowed {
        address: String,
    },
    FeatureNotIncluded {
        feature: String,
    },
    PermissionMissing {
        permission: String,
        /// The caller holds another permission on the same kind of resource.
        holds_related: bool,
    },
    OrganizationNotAccessible {
        organization: String,
    },
    /// An administrator's credentials where only an organization's can act.
    OrganizationRequired,
    /// An organization's credentials where only an administrator's can act.
    AdministratorRequired,
    ResourceForbidden {
        resource: Resource,
        id: String,
        action: &'static str,
    },
    // OAuth token endpoint (RFC 6749, 5.2).
    OauthClientInvalid,
    OauthRequestInvalid {
        parameter: &'static str,
    },
    OauthGrantUnsupported,
    OauthScopeInvalid {
        scopes: String,
    },

    // What it asks for.
    ResourceNotFound {
        resource: Resource,
        id: String,
    },
    ResourceExists {
        resource: Resource,
        field: &'static str,
        value: String,
    },
    VersionMismatch {
        resource: Resource,
        stored: u64,
        given: u64,
    },
    ResourceInUse {
        resource: Resource,
        id: String,
        used_by: Resource,
        user: String,
    },
    /// A change would take away what something else refers to.
    ReferenceBroken {
        resource: Resource,
        field: String,
        used_by: Resource,
        user: String,
    },
    TransitionNotAllowed {
        resource: Resource,
        from: String,
        to: String,
    },
    ActionNotSupported {
        resource: Resource,
        action: String,
    },
    /// The asset exists, the named meter on it does not.
    MeterNotConfigured {
        asset: String,
    },
    CapabilityMissing {
        resource: Resource,
        id: String,
        capability: &'static str,
    },
    IdempotencyKeyReused,
    IdempotencyInProgress {
        retry_after: Duration,
    },

    // How much it asks for.
    RateLimited(LimitHit),
    QuotaExhausted(QuotaHit),
    TooManyRunning {
        resource: Resource,
        limit: u64,
    },
    ResponseTooLarge {
        limit_bytes: u64,
    },
    QueryTooExpensive {
        limit_rows: u64,
    },

    // Our side.
    Overloaded {
        retry_after: Duration,
    },
    ShuttingDown {
        retry_after: Duration,
    },
    StorageFull {
        retry_after: Duration,
    },
    StorageUnavailable {
        retry_after: Duration,
    },
    TimedOut {
        limit: Duration,
    },
    Internal,

    // Services behind us.
    DependencyUnavailable {
        dependency: String,
    },
    DependencyTimeout {
        dependency: String,
    },
    PlatformUnreachable(Platform),
    PlatformTimeout {
        platform: Platform,
        after: Duration,
        /// The call was a write, so that it may have been carried out.
        write: bool,
    },
    PlatformCredentials(Platform),
    PlatformForbidden(Platform),
    PlatformBadResponse(Platform),
    PlatformMisconfigured(Platform),
    /// A value the client sent.
    PlatformRejectedValue {
        platform: Platform,
        message: String,
    },
    /// A request that meterd built.
    PlatformRejectedRequest(Platform),
    PlatformRefusedTransition {
        platform: Platform,
        from: String,
        to: String,
    },
    PlatformThrottled {
        platform: Platform,
        retry_after: Duration,
    },
    PlatformFailed(Platform),
    PlatformSuspended {
        platform: Platform,
        retry_after: Duration,
    },

    // Web pages.
    PageNotAllowed {
        url: String,
    },
    PageNotAccessible {
        reason: String,
    },
    PageTimeout,
    NothingExtractable,
}

/// What the catalogue says of one code, whatever its data.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Stable public code, `snake_case`.
    pub code: &'static str,
    /// Short name, the same for every occurrence.
    pub title: &'static str,
    pub advice: Advice,
    pub stored: Stored,
    /// What to do, in one or two sentences for a person.
    pub remedy: &'static str,
}

/// What the caller should do: the six classes of the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Advice {
    FixRequest,
    AuthenticateAgain,
    AskForPermission,
    WaitThenRetry,
    RetryWithBackOff,
    CallOperator,
}

impl Advice {
    pub fn code(self) -> &'static str {
        match self {
            Self::FixRequest => "fix_request",
            Self::AuthenticateAgain => "authenticate_again",
            Self::AskForPermission => "ask_for_permission",
            Self::WaitThenRetry => "wait_then_retry",
            Self::RetryWithBackOff => "retry_with_back_off",
            Self::CallOperator => "call_operator",
        }
    }

    /// Whether sending the same request again can succeed without anybody changing it.
    pub fn retry_can_help(self) -> bool {
        matches!(self, Self::WaitThenRetry | Self::RetryWithBackOff)
    }
}

/// Whether the failed request may have changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stored {
    None,
    Unknown,
}

impl Stored {
    pub fn code(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Unknown => "unknown",
        }
    }
}

/// A limit that was exceeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitHit {
    /// Name of the policy, e.g. `ingest`.
    pub policy: String,
    pub scope: LimitScope,
    pub limit: u64,
    pub window: Duration,
    /// After this long one more request passes.
    pub retry_after: Duration,
    /// When the window ends, seconds since 1970.
    pub reset_epoch_seconds: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitScope {
    Credential,
    Organization,
    Address,
    Server,
}

impl LimitScope {
    pub fn noun(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Organization => "organization",
            Self::Address => "source address",
            Self::Server => "server",
        }
    }
}

/// A quota on things rather than requests, such as strategies in 30 days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaHit {
    pub quota: String,
    pub used: u64,
    pub limit: u64,
    pub window_days: u64,
    pub tier: String,
    /// RFC 3339.
    pub reset: Option<String>,
}

/// A calendar length, kept in the unit that the limit was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    Hours(u32),
    Days(u32),
    Years(u32),
}

impl std::fmt::Display for Period {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (number, unit) = match *self {
            Self::Hours(n) => (n, "hour"),
            Self::Days(n) => (n, "day"),
            Self::Years(n) => (n, "year"),
        };
        write!(f, "{number} {unit}{}", if number == 1 { "" } else { "s" })
    }
}

/// A SIM platform behind the server, and what it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Kind of platform, e.g. `JASPER`.
    pub system: String,
    /// The account on it, as the operator configured it.
    pub account: String,
    /// Its HTTP status, if it answered at all.
    pub status: Option<u16>,
    /// Its own error code, if it gave one.
    pub code: Option<String>,
}

/// The kinds of thing that a fault can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter)]
pub enum Resource {
    Account,
    Aggregation,
    Asset,
    Batch,
    BillJob,
    CompoundAggregation,
    Counter,
    CounterAdjustment,
    Credential,
    Customer,
    CustomField,
    DataExport,
    Device,
    Discovery,
    Event,
    ExportDestination,
    ExportJob,
    ExportSchedule,
    File,
    GroupMember,
    InventoryItem,
    Invitation,
    Job,
    Location,
    Measurement,
    Meter,
    Monitor,
    Notification,
    Organization,
    PermissionGrant,
    PermissionPolicy,
    Product,
    Resource,
    ResourceGroup,
    SavedQuery,
    Schedule,
    ScheduledEvent,
    ServiceUser,
    SimProduct,
    Strategy,
    StrategyGroup,
    Task,
    Technician,
    UploadJob,
    User,
    Workflow,
    WorkflowRun,
}

impl Resource {
    /// Lower-case English noun.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Aggregation => "aggregation",
            Self::Asset => "asset",
            Self::Batch => "batch",
            Self::BillJob => "bill job",
            Self::CompoundAggregation => "compound aggregation",
            Self::Counter => "counter",
            Self::CounterAdjustment => "counter adjustment",
            Self::Credential => "credential",
            Self::Customer => "customer",
            Self::CustomField => "custom field",
            Self::DataExport => "data export",
            Self::Device => "device",
            Self::Discovery => "discovery",
            Self::Event => "event",
            Self::ExportDestination => "export destination",
            Self::ExportJob => "export job",
            Self::ExportSchedule => "export schedule",
            Self::File => "file",
            Self::GroupMember => "group member",
            Self::InventoryItem => "inventory item",
            Self::Invitation => "invitation",
            Self::Job => "job",
            Self::Location => "location",
            Self::Measurement => "measurement",
            Self::Meter => "meter",
            Self::Monitor => "monitor",
            Self::Notification => "notification",
            Self::Organization => "organization",
            Self::PermissionGrant => "permission grant",
            Self::PermissionPolicy => "permission policy",
            Self::Product => "product",
            Self::Resource => "resource",
            Self::ResourceGroup => "resource group",
            Self::SavedQuery => "saved query",
            Self::Schedule => "schedule",
            Self::ScheduledEvent => "scheduled event",
            Self::ServiceUser => "service user",
            Self::SimProduct => "SIM product",
            Self::Strategy => "strategy",
            Self::StrategyGroup => "strategy group",
            Self::Task => "task",
            Self::Technician => "technician",
            Self::UploadJob => "upload job",
            Self::User => "user",
            Self::Workflow => "workflow",
            Self::WorkflowRun => "workflow run",
        }
    }

    /// The noun at the start of a sentence.
    pub fn capitalized(self) -> String {
        let mut letters = self.noun().chars();
        letters.next().map_or_else(String::new, |first| {
            first.to_uppercase().chain(letters).collect()
        })
    }
}

impl Kind {
    pub fn entry(&self) -> &'static Entry {
        Code::from(self).entry()
    }

    /// How long to wait before the request can succeed, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::IdempotencyInProgress { retry_after }
            | Self::Overloaded { retry_after }
            | Self::ShuttingDown { retry_after }
            | Self::StorageFull { retry_after }
            | Self::StorageUnavailable { retry_after }
            | Self::PlatformThrottled { retry_after, .. }
            | Self::PlatformSuspended { retry_after, .. } => Some(*retry_after),
            Self::RateLimited(hit) => Some(hit.retry_after),
            _ => None,
        }
    }

    /// [`Kind::retry_after`] as a `Retry-After` header wants it: whole seconds, rounded up, at least 1.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after().map(whole_seconds)
    }
}

fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}
