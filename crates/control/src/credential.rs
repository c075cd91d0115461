//! Credentials: who may call, from where, with which permissions and limits.
//!
//! A credential is a document of the resource store (so it has versions, audit and listing) plus a lookup table from
//! the hashes of its secrets. Authentication reads memory only. The state is read at each request, so that
//! revoking, disabling and changing permissions act on the very next one.

use crate::Cursor;
use crate::author::{Actor, Author};
use crate::document::{Changed, Document, Stored};
use crate::limit::LimitPolicy;
use crate::secret::{SECRET_BYTES_MAX, Secret, SecretForm, SecretHash};
use crate::store::{List, Page, SERVER, Store, Writes};
use ipnet::{IpNet, Ipv4Net};
use meterd_fault::{Fault, Format, Kind, Problem, Resource, Rule};
use meterd_model::{Alphabet, OrganizationId, TextError, TextRule, Timestamp, check_text};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// Longest name of a credential, in characters.
pub const CREDENTIAL_NAME_MAX: usize = 200;
pub const PERMISSIONS_MAX: usize = 64;
/// Longest permission, in bytes.
pub const PERMISSION_BYTES_MAX: usize = 128;
pub const ADDRESSES_MAX: usize = 64;
pub const LIMITS_MAX: usize = 16;
/// Longest client id, in bytes.
pub const CLIENT_ID_BYTES_MAX: usize = 128;
/// Longest time that a replaced secret may go on working: 30 days.
pub const OVERLAP_MAX: Duration = Duration::from_hours(30 * 24);
const NAME: TextRule = TextRule {
    min_chars: 1,
    max_chars: CREDENTIAL_NAME_MAX,
    alphabet: Alphabet::Text,
};
/// Secrets that a credential remembers: the newest and those it replaced. Older ones become unknown.
pub const SECRETS_MAX: usize = 8;

/// What a caller is known by. Holds no secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Credential {
    pub id: Uuid,
    /// None for a server administrator.
    pub organization: Option<OrganizationId>,
    /// The surface it is for, e.g. `native`; it is unknown to all others.
    pub surface: String,
    pub name: String,
    pub kind: CredentialKind,
    /// `resource:action`, `resource:*` or `*`.
    pub permissions: Vec<String>,
    /// Where it may be used from; empty for anywhere.
    pub addresses: Vec<IpNet>,
    pub expires_at: Option<Timestamp>,
    pub state: CredentialState,
    pub environment: Environment,
    /// The resource on whose behalf it acts, where a surface has such; several credentials may share one.
    pub principal: Option<Uuid>,
    /// Limits of its own, in place of the surface's defaults of the same name.
    pub limits: Vec<LimitPolicy>,
    /// First characters of the secret, to tell keys apart.
    pub hint: String,
    /// OAuth clients only.
    pub client_id: Option<String>,
    pub version: u64,
    pub created_at: Timestamp,
    pub created_by: Actor,
    pub modified_at: Timestamp,
    pub modified_by: Actor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    ApiKey,
    OauthClient,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialState {
    Active,
    /// Can be made active again.
    Disabled,
    /// For ever.
    Revoked,
}

impl CredentialState {
    /// As it is shown, stored and filtered by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
        }
    }
}

/// Which of an organization's data sets a credential works on, where a surface knows two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    #[default]
    Live,
    Test,
}

impl Environment {
    /// As it is shown and asked for.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }
}

/// A credential to create.
#[derive(Clone, Debug)]
pub struct NewCredential {
    /// None for a server administrator.
    pub organization: Option<OrganizationId>,
    pub surface: String,
    pub name: String,
    pub kind: NewKind,
    pub secret: NewSecret,
    pub permissions: Vec<String>,
    pub addresses: Vec<IpNet>,
    pub expires_at: Option<Timestamp>,
    pub environment: Environment,
    /// The resource on whose behalf it acts, where a surface has such.
    pub principal: Option<Uuid>,
    pub limits: Vec<LimitPolicy>,
}

#[derive(Clone, Debug)]
pub enum NewKind {
    ApiKey,
    /// With a given client id, or a random one.
    OauthClient {
        client_id: Option<String>,
    },
}

#[derive(Clone, Debug)]
pub enum NewSecret {
    Generate(SecretForm),
    /// Made elsewhere; [`Secret::import`] has checked it.
    Given(Secret),
}

impl NewCredential {
    /// An API key without permissions, limits or expiry, to be filled in.
    pub fn api_key(
        organization: Option<OrganizationId>,
        surface: impl Into<String>,
        name: impl Into<String>,
        form: SecretForm,
    ) -> Self {
        Self {
            organization,
            surface: surface.into(),
            name: name.into(),
            kind: NewKind::ApiKey,
            secret: NewSecret::Generate(form),
            permissions: Vec::new(),
            addresses: Vec::new(),
            expires_at: None,
            environment: Environment::Live,
            principal: None,
            limits: Vec::new(),
        }
    }

    /// An OAuth client with random id and secret, without permissions, limits or expiry.
    pub fn oauth_client(
        organization: Option<OrganizationId>,
        surface: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self {
            kind: NewKind::OauthClient { client_id: None },
            ..Self::api_key(organization, surface, name, SecretForm::OAUTH_CLIENT_SECRET)
        }
    }

    #[must_use]
    pub fn with_permissions<P: Into<String>>(
        mut self,
        permissions: impl IntoIterator<Item = P>,
    ) -> Self {
        self.permissions = permissions.into_iter().map(Into::into).collect();
        self
    }
}

impl NewCredential {
    /// Every broken rule, by member; `now` is when it would be created. Which permissions there are is for its
    /// surface to say.
    pub fn problems(&self, now: Timestamp) -> Vec<Problem> {
        let mut problems = Vec::new();
        check_members(
            &Members {
                name: &self.name,
                permissions: &self.permissions,
                addresses: &self.addresses,
                limits: &self.limits,
            },
            &mut problems,
        );
        problems.extend(expiry_problem(self.expires_at, now));
        if let NewKind::OauthClient {
            client_id: Some(client_id),
        } = &self.kind
        {
            problems.extend(client_id_problem(client_id));
        }
        problems
    }
}

/// The block with an IPv4 one spelled as such, since clients are compared as IPv4 addresses even where a dual-stack
/// socket reports them as `::ffff:…`.
pub fn canonical_block(block: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    let IpNet::V6(mapped) = block else {
        return block;
    };
    let address = mapped.addr().to_ipv4_mapped();
    let bits = mapped.prefix_len().checked_sub(MAPPED_BITS);
    address
        .zip(bits)
        .and_then(|(address, bits)| Ipv4Net::new(address, bits).ok())
        .map_or(block, IpNet::V4)
}

/// What API keys of a surface may be, for whoever makes or changes them.
#[derive(Clone, Copy, Debug)]
pub struct KeyRules {
    pub surface: &'static str,
    /// Whether server administrators have such keys too.
    pub serves_administrators: bool,
    /// The data sets that a key may be for.
    pub environments: &'static [Environment],
    /// Whether a key may hold the permission.
    pub is_permission: fn(&str) -> bool,
    /// What a permission that no key may hold breaks.
    pub permission_rule: fn() -> Rule,
    /// The surface's limits that a key may have with another number.
    pub limits: fn() -> Vec<LimitPolicy>,
}

impl KeyRules {
    /// A key without permissions, limits or expiry, to be filled in.
    pub fn api_key(
        &self,
        organization: Option<OrganizationId>,
        environment: Environment,
        name: impl Into<String>,
    ) -> NewCredential {
        let form = SecretForm::of_key(self.surface, environment);
        NewCredential {
            environment,
            ..NewCredential::api_key(organization, self.surface, name, form)
        }
    }

    /// Every rule that a new key breaks; `now` is when it would be made.
    pub fn check(&self, key: &NewCredential, now: Timestamp) -> Result<(), Fault> {
        let mut problems = key.problems(now);
        let unknown = self.permission_problems(&key.permissions);
        // What is no permission at all is named once.
        problems.retain(|problem| unknown.iter().all(|own| own.location != problem.location));
        problems.extend(unknown);
        if !self.environments.contains(&key.environment) {
            let words = self.environments.iter().map(|known| known.as_str().into());
            let allowed = words.collect();
            let problem = Problem::body("/environment", Rule::OneOf { allowed });
            problems.push(problem.with_value(key.environment.as_str()));
        }
        refuse(problems)
    }

    /// That a key may belong to this organization, or to the server.
    pub fn check_home(&self, organization: Option<OrganizationId>) -> Result<(), Fault> {
        if organization.is_some() || self.serves_administrators {
            return Ok(());
        }
        Err(Fault::invalid(Problem::body(
            "/organization",
            Rule::Required,
        )))
    }

    /// The permissions that no key of the surface may hold.
    pub fn permission_problems(&self, permissions: &[String]) -> Vec<Problem> {
        let given = permissions.iter().take(PERMISSIONS_MAX).enumerate();
        let unknown = given.filter(|(_, permission)| !(self.is_permission)(permission));
        let problems = unknown.map(|(index, permission)| {
            let place = format!("/permissions/{index}");
            Problem::body(place, (self.permission_rule)()).with_value(permission)
        });
        problems.collect()
    }

    /// The surface's limit of this name with another number.
    pub fn limit(&self, name: &str, limit: u64) -> Option<LimitPolicy> {
        let known = (self.limits)().into_iter().find(|known| known.name == name);
        known.map(|known| LimitPolicy { limit, ..known })
    }
}

/// A credential with its secret, which nobody can read again.
#[derive(Clone, Debug)]
pub struct Issued {
    pub credential: Arc<Credential>,
    pub secret: Secret,
}

/// What may be changed of a credential; members that are none stay.
#[derive(Clone, Debug, Default)]
pub struct CredentialChange {
    pub name: Option<String>,
    pub permissions: Option<Vec<String>>,
    pub addresses: Option<Vec<IpNet>>,
    /// Some(None) takes the expiry away.
    pub expires_at: Option<Option<Timestamp>>,
    pub limits: Option<Vec<LimitPolicy>>,
}

impl CredentialChange {
    /// The bounds that the credential would have wider than before.
    fn loosened(&self, before: &CredentialDocument) -> Vec<Problem> {
        let own = |member: &str| {
            let text = "cannot be widened by the credential itself".into();
            let code = "own_bounds";
            Problem::body(format!("/{member}"), Rule::Other { code, text })
        };
        let goes_beyond =
            |block: &IpNet| !before.addresses.iter().any(|known| known.contains(block));
        let addresses = self.addresses.clone().map(canonical);
        let from_elsewhere = addresses.is_some_and(|blocks| {
            !before.addresses.is_empty() && (blocks.is_empty() || blocks.iter().any(goes_beyond))
        });
        let end = self.expires_at.zip(before.expires_at);
        let longer = end.is_some_and(|(end, before)| end.is_none_or(|end| end.micros() > before));
        let problems = [
            from_elsewhere.then(|| own("addresses")),
            longer.then(|| own("expires_at")),
        ];
        problems.into_iter().flatten().collect()
    }
}

/// Cheap to clone; all clones are one table.
#[derive(Clone, Debug)]
pub struct Credentials {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    table: RwLock<Table>,
    /// Held over a write of the store and the table's update, so that the table never goes back to an older state.
    writing: Mutex<()>,
}

#[derive(Default)]
struct Table {
    entries: HashMap<Uuid, Entry>,
    /// By the hash of each secret.
    hashes: HashMap<[u8; 32], Uuid>,
    /// By surface and client id.
    clients: HashMap<(String, String), Uuid>,
}

impl std::fmt::Debug for Table {
    /// Without the hashes, and without the credentials, which are many.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("entries", &self.entries.len())
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Entry {
    credential: Arc<Credential>,
    secrets: Vec<StoredSecret>,
    /// Seconds since 1970; 0 for never. In memory only: it tells an operator which keys are in use, and a write per
    /// request would be too much for that.
    last_used: AtomicI64,
}

impl Credentials {
    pub(crate) fn open(store: Store) -> Self {
        let mut table = Table::default();
        store.each::<CredentialDocument>(&mut |stored| table.put(stored));
        Self {
            inner: Arc::new(Inner {
                store,
                table: RwLock::new(table),
                writing: Mutex::new(()),
            }),
        }
    }

    pub fn create(&self, new: NewCredential, author: &Author) -> Result<Issued, Fault> {
        let _writing = self.inner.writing.lock();
        self.create_alone(new, author)
    }

    /// The first administrator's key, if there is no active administrator yet.
    pub fn ensure_admin(&self, author: &Author) -> Result<Option<Issued>, Fault> {
        let _writing = self.inner.writing.lock();
        if self.has_admin(author.at) {
            return Ok(None);
        }
        let new = NewCredential::api_key(None, "native", "administrator", SecretForm::NATIVE)
            .with_permissions(["*"]);
        self.create_alone(new, author).map(Some)
    }

    /// Who presents this secret. `CredentialsUnknown`, `…Disabled`, `…Revoked` or `…Expired` otherwise.
    pub fn authenticate(
        &self,
        surface: &str,
        presented: &str,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Fault> {
        if presented.is_empty() || presented.len() > SECRET_BYTES_MAX {
            return Err(Kind::CredentialsUnknown.into());
        }
        let hash = SecretHash::of(presented);
        let table = self.inner.table.read();
        let entry = table
            .hashes
            .get(&hash.bytes())
            .and_then(|id| table.entries.get(id))
            .filter(|entry| {
                entry.credential.surface == surface
                    && entry.credential.kind == CredentialKind::ApiKey
            })
            .ok_or(Kind::CredentialsUnknown)?;
        entry.admit(&hash, Kind::CredentialsUnknown, now)
    }

    /// Which OAuth client presents this id and secret. An unknown id and a wrong secret are the same `OauthClientInvalid`;
    /// the state of a client shows only to whoever has its secret.
    pub fn authenticate_client(
        &self,
        surface: &str,
        client_id: &str,
        secret: &str,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Fault> {
        if client_id.len() > CLIENT_ID_BYTES_MAX || secret.len() > SECRET_BYTES_MAX {
            return Err(Kind::OauthClientInvalid.into());
        }
        let hash = SecretHash::of(secret);
        let table = self.inner.table.read();
        let entry = table
            .clients
            .get(&(surface.to_owned(), client_id.to_owned()))
            .and_then(|id| table.entries.get(id))
            .ok_or(Kind::OauthClientInvalid)?;
        entry.admit(&hash, Kind::OauthClientInvalid, now)
    }

    /// The credential of a token that was issued before, if it may still act.
    pub(crate) fn admit_by_id(
        &self,
        surface: &str,
        id: Uuid,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Fault> {
        let table = self.inner.table.read();
        let entry = table
            .entries
            .get(&id)
            .filter(|entry| entry.credential.surface == surface)
            .ok_or(Kind::TokenInvalid)?;
        check_state(&entry.credential, now)?;
        entry.touch(now);
        Ok(Arc::clone(&entry.credential))
    }

    /// One of the organization's credentials; None names the server's.
    pub fn get(
        &self,
        organization: Option<OrganizationId>,
        id: Uuid,
    ) -> Result<Arc<Credential>, Fault> {
        let table = self.inner.table.read();
        table
            .entries
            .get(&id)
            .filter(|entry| entry.credential.organization == organization)
            .map(|entry| Arc::clone(&entry.credential))
            .ok_or_else(|| not_found(id))
    }

    /// By id over all organizations, for the operator's command line.
    pub fn find(&self, id: Uuid) -> Option<Arc<Credential>> {
        let table = self.inner.table.read();
        Some(Arc::clone(&table.entries.get(&id)?.credential))
    }

    /// Newest first. Filters: `surface`, `state`.
    pub fn list(
        &self,
        organization: Option<OrganizationId>,
        list: &List<'_>,
    ) -> Result<(Vec<Arc<Credential>>, Option<Cursor>), Fault> {
        let home = organization.unwrap_or(SERVER);
        let page: Page<CredentialDocument> = self.inner.store.list(home, list)?;
        let items = page.items.iter().map(|stored| Arc::new(view(stored)));
        Ok((items.collect(), page.next))
    }

    /// When it was last used since this process began, to the second.
    pub fn last_used(&self, id: Uuid) -> Option<Timestamp> {
        let table = self.inner.table.read();
        let seconds = table.entries.get(&id)?.last_used.load(Ordering::Relaxed);
        (seconds > 0)
            .then(|| Timestamp::from_seconds(seconds))
            .flatten()
    }

    /// Who lets a credential be used longer or from elsewhere gives what it holds to whoever has its secret, so that an
    /// administrator can only do that to what holds no more than it does. None does it to itself: what bounds a key is for
    /// others to loosen.
    pub fn change(
        &self,
        id: Uuid,
        expected: Option<u64>,
        change: CredentialChange,
        author: &Author,
    ) -> Result<Arc<Credential>, Fault> {
        let home = self.home_of(id)?;
        if let Some(permissions) = &change.permissions {
            self.check_grant(home, permissions, author)?;
        }
        if let Some(expires_at) = change.expires_at {
            refuse(expiry_problem(expires_at, author.at).into_iter().collect())?;
        }
        self.update(id, expected, author, |document| {
            refuse_revoked(document, "changed")?;
            if change.addresses.is_some() || change.expires_at.is_some() {
                self.check_grant(home, &document.permissions, author)?;
            }
            if author.actor == Actor::Credential(id) {
                refuse(change.loosened(document))?;
            }
            if let Some(name) = change.name {
                document.name = name;
            }
            if let Some(permissions) = change.permissions {
                document.permissions = permissions;
            }
            if let Some(addresses) = change.addresses {
                document.addresses = canonical(addresses);
            }
            if let Some(expires_at) = change.expires_at {
                document.expires_at = expires_at.map(Timestamp::micros);
            }
            if let Some(limits) = change.limits {
                document.limits = limits;
            }
            check(document)
        })
    }

    /// A new secret. The one before works for `overlap` longer (at most [`OVERLAP_MAX`]) and is then answered as
    /// revoked; 0 ends it at once. Whoever gets a new secret gets the permissions, so that an administrator can only
    /// rotate what holds no more than it does.
    pub fn rotate(
        &self,
        id: Uuid,
        secret: NewSecret,
        overlap: Duration,
        author: &Author,
    ) -> Result<Issued, Fault> {
        if overlap > OVERLAP_MAX {
            let rule = Rule::Range {
                min: Some("0".to_owned()),
                max: Some(OVERLAP_MAX.as_secs().to_string()),
            };
            return Err(Fault::invalid(Problem::body("/overlap_seconds", rule)));
        }
        let home = self.home_of(id)?;
        let secret = secret.make()?;
        let ends = author.at.saturating_add(overlap).micros();
        let credential = self.update(id, None, author, |document| {
            refuse_revoked(document, "rotated")?;
            self.check_grant(home, &document.permissions, author)?;
            for old in &mut document.secrets {
                old.ends_at = Some(old.ends_at.map_or(ends, |end| end.min(ends)));
            }
            document.secrets.insert(0, StoredSecret::new(&secret));
            document.secrets.truncate(SECRETS_MAX);
            document.hint = secret.hint();
            Ok(())
        })?;
        Ok(Issued { credential, secret })
    }

    /// For ever, from the next request on. Revoking twice is no error; revoking the last active administrator with
    /// all permissions is one, as is taking it away in any other manner.
    pub fn revoke(&self, id: Uuid, author: &Author) -> Result<Arc<Credential>, Fault> {
        self.update(id, None, author, |document| {
            document.state = CredentialState::Revoked;
            Ok(())
        })
    }

    pub fn disable(&self, id: Uuid, author: &Author) -> Result<Arc<Credential>, Fault> {
        self.update(id, None, author, |document| {
            refuse_revoked(document, "disabled")?;
            document.state = CredentialState::Disabled;
            Ok(())
        })
    }

    pub fn enable(&self, id: Uuid, author: &Author) -> Result<Arc<Credential>, Fault> {
        self.update(id, None, author, |document| {
            refuse_revoked(document, "active")?;
            document.state = CredentialState::Active;
            Ok(())
        })
    }

    /// Forgets it; its secrets become unknown.
    pub fn delete(&self, id: Uuid, author: &Author) -> Result<Arc<Credential>, Fault> {
        let _writing = self.inner.writing.lock();
        let home = self.home_of(id)?;
        let current = self.find(id).ok_or_else(|| not_found(id))?;
        if current.is_whole_admin(author.at) {
            self.keep_an_admin(id, "deleted", author.at)?;
        }
        let deleted = self
            .inner
            .store
            .delete::<CredentialDocument>(home, id, None, author)?;
        self.inner.table.write().remove(id);
        Ok(Arc::new(view(&deleted)))
    }

    fn create_alone(&self, new: NewCredential, author: &Author) -> Result<Issued, Fault> {
        refuse(new.problems(author.at))?;
        let home = new.organization.unwrap_or(SERVER);
        self.check_grant(home, &new.permissions, author)?;
        let secret = new.secret.make()?;
        let client_id = match new.kind {
            NewKind::ApiKey => None,
            NewKind::OauthClient {
                client_id: Some(given),
            } => Some(given),
            NewKind::OauthClient { client_id: None } => Some(
                Secret::generate(SecretForm::OAUTH_CLIENT_ID)?
                    .reveal()
                    .to_owned(),
            ),
        };
        let document = CredentialDocument {
            surface: new.surface,
            name: new.name,
            permissions: new.permissions,
            addresses: canonical(new.addresses),
            expires_at: new.expires_at.map(Timestamp::micros),
            state: CredentialState::Active,
            environment: new.environment,
            principal: new.principal,
            limits: new.limits,
            hint: secret.hint(),
            client_id,
            secrets: vec![StoredSecret::new(&secret)],
        };
        self.check_client_id(&document)?;
        let stored = self.save(&secret, author, |writes| writes.create(home, document))?;
        Ok(Issued {
            credential: Arc::new(view(&stored)),
            secret,
        })
    }

    fn update(
        &self,
        id: Uuid,
        expected: Option<u64>,
        author: &Author,
        change: impl FnOnce(&mut CredentialDocument) -> Result<(), Fault>,
    ) -> Result<Arc<Credential>, Fault> {
        let _writing = self.inner.writing.lock();
        let home = self.home_of(id)?;
        let before = self.inner.store.get::<CredentialDocument>(home, id)?;
        let mut document = before.document.clone();
        change(&mut document)?;
        let after = Credential {
            permissions: document.permissions.clone(),
            expires_at: document.expires_at.map(crate::database::time),
            state: document.state,
            ..view(&before)
        };
        if view(&before).is_whole_admin(author.at) && !after.is_whole_admin(author.at) {
            let to = match document.state {
                CredentialState::Active => "less than that",
                CredentialState::Disabled => "disabled",
                CredentialState::Revoked => "revoked",
            };
            self.keep_an_admin(id, to, author.at)?;
        }
        let added = document
            .secrets
            .first()
            .filter(|secret| !before.document.knows(&secret.hash))
            .map(|secret| secret.hash);
        if let Some(hash) = added {
            self.check_unused(&hash)?;
        }
        // A key that does harm must be ended at once, whatever its holder has filled the organization with.
        let stored = self.inner.store.write(author, |writes| {
            writes.update_though_full(home, id, expected, |_| Ok(document))
        })?;
        self.inner.table.write().put(&stored);
        Ok(Arc::new(view(&stored)))
    }

    fn save(
        &self,
        secret: &Secret,
        author: &Author,
        work: impl FnOnce(&mut Writes<'_>) -> Result<Arc<Stored<CredentialDocument>>, Fault>,
    ) -> Result<Arc<Stored<CredentialDocument>>, Fault> {
        self.check_unused(&secret.hash())?;
        let stored = self.inner.store.write(author, work)?;
        self.inner.table.write().put(&stored);
        Ok(stored)
    }

    /// One secret never means two credentials. Only imports can meet this.
    fn check_unused(&self, hash: &SecretHash) -> Result<(), Fault> {
        if self.inner.table.read().hashes.contains_key(&hash.bytes()) {
            return Err(Kind::ResourceExists {
                resource: Resource::Credential,
                field: "secret",
                value: "…".to_owned(),
            }
            .into());
        }
        Ok(())
    }

    /// Client ids are unique per surface over all organizations, since a token request names no organization.
    fn check_client_id(&self, document: &CredentialDocument) -> Result<(), Fault> {
        let Some(client_id) = &document.client_id else {
            return Ok(());
        };
        let key = (document.surface.clone(), client_id.clone());
        if self.inner.table.read().clients.contains_key(&key) {
            return Err(Kind::ResourceExists {
                resource: Resource::Credential,
                field: "client_id",
                value: meterd_fault::quote(client_id),
            }
            .into());
        }
        Ok(())
    }

    fn home_of(&self, id: Uuid) -> Result<OrganizationId, Fault> {
        let credential = self.find(id).ok_or_else(|| not_found(id))?;
        Ok(credential.organization.unwrap_or(SERVER))
    }

    /// Administrators give other administrators only what they hold themselves. What an organization's key holds ends
    /// at the organization, so that whoever may make keys may give it. The operator and meterd itself hold everything.
    fn check_grant(
        &self,
        home: OrganizationId,
        permissions: &[String],
        author: &Author,
    ) -> Result<(), Fault> {
        let Actor::Credential(id) = author.actor else {
            return Ok(());
        };
        if home != SERVER {
            return Ok(());
        }
        let granting = self.find(id).filter(|credential| credential.is_admin());
        for permission in permissions {
            match &granting {
                Some(granting) => granting.permits(permission)?,
                None => {
                    return Err(Kind::PermissionMissing {
                        permission: permission.clone(),
                        holds_related: false,
                    }
                    .into());
                }
            }
        }
        Ok(())
    }

    /// Refuses to end the last administrator who can make others.
    fn keep_an_admin(&self, id: Uuid, to: &str, now: Timestamp) -> Result<(), Fault> {
        let table = self.inner.table.read();
        let mut others = table.entries.values().map(|entry| &entry.credential);
        if others.any(|other| other.id != id && other.is_whole_admin(now)) {
            return Ok(());
        }
        Err(Kind::TransitionNotAllowed {
            resource: Resource::Credential,
            from: "last active administrator".to_owned(),
            to: to.to_owned(),
        }
        .into())
    }

    fn has_admin(&self, now: Timestamp) -> bool {
        let table = self.inner.table.read();
        let mut entries = table.entries.values();
        entries.any(|entry| entry.credential.is_whole_admin(now))
    }
}

impl Credential {
    /// How its secrets look: as its surface's original makes them.
    pub fn secret_form(&self) -> SecretForm {
        // The one surface whose keys look in two ways.
        if self
            .hint
            .starts_with(SecretForm::WATTWATCHERS_INGEST.prefix)
        {
            return SecretForm::WATTWATCHERS_INGEST;
        }
        match self.kind {
            CredentialKind::OauthClient => SecretForm::OAUTH_CLIENT_SECRET,
            CredentialKind::ApiKey => SecretForm::of_key(&self.surface, self.environment),
        }
    }

    /// `AddressNotAllowed` unless the address is in the list or the list is empty.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Fault> {
        // A dual-stack socket reports IPv4 peers as IPv6 addresses; the list means the IPv4 ones.
        let address = address.to_canonical();
        let is_allowed = self.addresses.is_empty()
            || self.addresses.iter().any(|block| block.contains(&address));
        if is_allowed {
            return Ok(());
        }
        Err(Kind::AddressNotAllowed {
            address: address.to_string(),
        }
        .into())
    }

    /// Whether it holds the permission itself, `resource:*` or `*`.
    pub fn holds(&self, permission: &str) -> bool {
        let resource = resource_of(permission);
        self.permissions.iter().any(|held| {
            held == "*"
                || held == permission
                || held
                    .strip_suffix(":*")
                    .is_some_and(|all_of| Some(all_of) == resource)
        })
    }

    /// `PermissionMissing` unless it holds the permission.
    pub fn permits(&self, permission: &str) -> Result<(), Fault> {
        if self.holds(permission) {
            return Ok(());
        }
        let resource = resource_of(permission);
        Err(Kind::PermissionMissing {
            permission: permission.to_owned(),
            holds_related: resource.is_some()
                && self
                    .permissions
                    .iter()
                    .any(|held| resource_of(held) == resource),
        }
        .into())
    }

    pub fn is_admin(&self) -> bool {
        self.organization.is_none()
    }

    /// Whether it administers the server with all permissions, at present.
    fn is_whole_admin(&self, now: Timestamp) -> bool {
        self.is_admin()
            && self.permissions.iter().any(|held| held == "*")
            && check_state(self, now).is_ok()
    }

    /// How it appears as author of a change.
    pub fn actor(&self) -> Actor {
        Actor::Credential(self.id)
    }
}

fn resource_of(permission: &str) -> Option<&str> {
    permission.rsplit_once(':').map(|(resource, _)| resource)
}

impl NewSecret {
    fn make(self) -> Result<Secret, Fault> {
        match self {
            Self::Generate(form) => Secret::generate(form),
            Self::Given(secret) => Ok(secret),
        }
    }
}

/// A credential as the database has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CredentialDocument {
    surface: String,
    name: String,
    permissions: Vec<String>,
    addresses: Vec<IpNet>,
    /// Microseconds since 1970.
    expires_at: Option<i64>,
    state: CredentialState,
    environment: Environment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    principal: Option<Uuid>,
    limits: Vec<LimitPolicy>,
    hint: String,
    client_id: Option<String>,
    /// Newest first.
    secrets: Vec<StoredSecret>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredSecret {
    hash: SecretHash,
    /// When it stops working because another replaced it; microseconds since 1970.
    ends_at: Option<i64>,
}

impl StoredSecret {
    fn new(secret: &Secret) -> Self {
        Self {
            hash: secret.hash(),
            ends_at: None,
        }
    }
}

impl CredentialDocument {
    fn knows(&self, hash: &SecretHash) -> bool {
        self.secrets.iter().any(|secret| secret.hash.matches(hash))
    }
}

impl Document for CredentialDocument {
    const KIND: &'static str = "credential";
    const RESOURCE: Resource = Resource::Credential;

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        vec![
            ("surface", self.surface.clone()),
            ("state", self.state.as_str().to_owned()),
        ]
    }

    fn event_data(changed: &Changed<'_, Self>) -> serde_json::Value {
        let Self {
            name,
            surface,
            hint,
            ..
        } = &changed.newest().document;
        serde_json::json!({"name": name, "surface": surface, "hint": hint})
    }
}

impl Table {
    fn put(&mut self, stored: &Stored<CredentialDocument>) {
        let last_used = self.remove(stored.id);
        let document = &stored.document;
        for secret in &document.secrets {
            self.hashes.insert(secret.hash.bytes(), stored.id);
        }
        if let Some(client_id) = &document.client_id {
            let key = (document.surface.clone(), client_id.clone());
            self.clients.insert(key, stored.id);
        }
        let entry = Entry {
            credential: Arc::new(view(stored)),
            secrets: document.secrets.clone(),
            last_used: AtomicI64::new(last_used),
        };
        self.entries.insert(stored.id, entry);
    }

    /// Returns when it was last used.
    fn remove(&mut self, id: Uuid) -> i64 {
        let Some(entry) = self.entries.remove(&id) else {
            return 0;
        };
        for secret in &entry.secrets {
            self.hashes.remove(&secret.hash.bytes());
        }
        if let Some(client_id) = &entry.credential.client_id {
            let key = (entry.credential.surface.clone(), client_id.clone());
            self.clients.remove(&key);
        }
        entry.last_used.into_inner()
    }
}

impl Entry {
    fn admit(
        &self,
        hash: &SecretHash,
        unknown: Kind,
        now: Timestamp,
    ) -> Result<Arc<Credential>, Fault> {
        let secret = self
            .secrets
            .iter()
            .find(|secret| secret.hash.matches(hash))
            .ok_or(unknown)?;
        check_state(&self.credential, now)?;
        if secret.ends_at.is_some_and(|end| now.micros() >= end) {
            return Err(Kind::CredentialsRevoked.into());
        }
        self.touch(now);
        Ok(Arc::clone(&self.credential))
    }

    fn touch(&self, now: Timestamp) {
        self.last_used.fetch_max(now.seconds(), Ordering::Relaxed);
    }
}

fn check_state(credential: &Credential, now: Timestamp) -> Result<(), Fault> {
    match credential.state {
        CredentialState::Revoked => Err(Kind::CredentialsRevoked.into()),
        CredentialState::Disabled => Err(Kind::CredentialsDisabled.into()),
        CredentialState::Active if credential.expires_at.is_some_and(|end| now >= end) => {
            Err(Kind::CredentialsExpired.into())
        }
        CredentialState::Active => Ok(()),
    }
}

fn view(stored: &Stored<CredentialDocument>) -> Credential {
    let document = &stored.document;
    Credential {
        id: stored.id,
        organization: (stored.organization != SERVER).then_some(stored.organization),
        surface: document.surface.clone(),
        name: document.name.clone(),
        kind: if document.client_id.is_some() {
            CredentialKind::OauthClient
        } else {
            CredentialKind::ApiKey
        },
        permissions: document.permissions.clone(),
        addresses: document.addresses.clone(),
        expires_at: document.expires_at.map(crate::database::time),
        state: document.state,
        environment: document.environment,
        principal: document.principal,
        limits: document.limits.clone(),
        hint: document.hint.clone(),
        client_id: document.client_id.clone(),
        version: stored.version,
        created_at: stored.created_at,
        created_by: stored.created_by,
        modified_at: stored.modified_at,
        modified_by: stored.modified_by,
    }
}

fn check(document: &CredentialDocument) -> Result<(), Fault> {
    let mut problems = Vec::new();
    check_members(
        &Members {
            name: &document.name,
            permissions: &document.permissions,
            addresses: &document.addresses,
            limits: &document.limits,
        },
        &mut problems,
    );
    refuse(problems)
}

fn refuse(problems: Vec<Problem>) -> Result<(), Fault> {
    if problems.is_empty() {
        return Ok(());
    }
    Err(Kind::Invalid { problems }.into())
}

/// What a credential to create and one to change have in common.
struct Members<'a> {
    name: &'a str,
    permissions: &'a [String],
    addresses: &'a [IpNet],
    limits: &'a [LimitPolicy],
}

fn check_members(members: &Members<'_>, problems: &mut Vec<Problem>) {
    if let Err(error) = check_text(members.name, NAME) {
        let rule = match error {
            TextError::Length { min, max } => Rule::Length {
                min: min as u64,
                max: max as u64,
            },
            TextError::Alphabet(_) => Rule::Format {
                format: Format::PlainText,
            },
        };
        problems.push(Problem::body("/name", rule).with_value(members.name));
    }
    count_problem(
        "/permissions",
        members.permissions.len(),
        PERMISSIONS_MAX,
        problems,
    );
    count_problem(
        "/addresses",
        members.addresses.len(),
        ADDRESSES_MAX,
        problems,
    );
    count_problem("/limits", members.limits.len(), LIMITS_MAX, problems);
    for (index, permission) in members.permissions.iter().take(PERMISSIONS_MAX).enumerate() {
        if !is_permission(permission) {
            let rule = Rule::Other {
                code: "permission",
                text: "must be resource:action, resource:* or *".into(),
            };
            let place = format!("/permissions/{index}");
            problems.push(Problem::body(place, rule).with_value(permission));
        }
    }
    for (index, limit) in members.limits.iter().take(LIMITS_MAX).enumerate() {
        problems.extend(limit.problem(&format!("/limits/{index}")));
        let before = members.limits.iter().take(index);
        if before.into_iter().any(|other| other.name == limit.name) {
            problems.push(Problem::body(format!("/limits/{index}/name"), Rule::Unique));
        }
    }
}

/// Something that has expired when it is made is a mistake.
fn expiry_problem(expires_at: Option<Timestamp>, now: Timestamp) -> Option<Problem> {
    let expires_at = expires_at.filter(|end| *end <= now)?;
    let rule = Rule::Other {
        code: "future",
        text: "must be in the future".into(),
    };
    Some(Problem::body("/expires_at", rule).with_value(&expires_at.to_string()))
}

fn client_id_problem(id: &str) -> Option<Problem> {
    let is_sound = (1..=CLIENT_ID_BYTES_MAX).contains(&id.len())
        // A colon would end the id in HTTP Basic authentication.
        && id.bytes().all(|b| b.is_ascii_graphic() && b != b':');
    let rule = Rule::Length {
        min: 1,
        max: CLIENT_ID_BYTES_MAX as u64,
    };
    (!is_sound).then(|| Problem::body("/client_id", rule))
}

fn canonical(blocks: Vec<IpNet>) -> Vec<IpNet> {
    blocks.into_iter().map(canonical_block).collect()
}

fn count_problem(place: &str, count: usize, max: usize, problems: &mut Vec<Problem>) {
    if count > max {
        let rule = Rule::Count {
            min: 0,
            max: max as u64,
        };
        problems.push(Problem::body(place, rule));
    }
}

fn is_permission(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/'))
    };
    text.len() <= PERMISSION_BYTES_MAX
        && (text == "*"
            || text.split_once(':').is_some_and(|(resource, action)| {
                is_word(resource) && (action == "*" || is_word(action))
            }))
}

fn refuse_revoked(document: &CredentialDocument, to: &str) -> Result<(), Fault> {
    if document.state == CredentialState::Revoked {
        return Err(Kind::TransitionNotAllowed {
            resource: Resource::Credential,
            from: "revoked".to_owned(),
            to: to.to_owned(),
        }
        .into());
    }
    Ok(())
}

fn not_found(id: Uuid) -> Fault {
    Fault::new(Kind::ResourceNotFound {
        resource: Resource::Credential,
        id: id.to_string(),
    })
}
