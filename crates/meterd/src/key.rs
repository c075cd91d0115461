//! `meterd key`: credentials, on a running server or in the data directory of a stopped one.

use crate::cli::{KeyCommand, KeyEnvironment, KeySurface, Target};
use crate::config::{BoundsConfig, Config};
use crate::server::{KEY_RULES, control_path, control_settings, ensure_restored, now};
use crate::wattwatchers::WantedKey;
use anyhow::{Context as _, anyhow};
use meterd_control::{
    Actor, Author, Control, CredentialChange, Environment, KeyRules, List, NewSecret, SecretForm,
};
use meterd_fault::Fault;
use meterd_model::{OrganizationId, Timestamp};
use meterd_surface_m3ter::create_service_user;
use meterd_surface_native::{own_limits, parse_block};
use meterd_surface_wattwatchers::create_key;
use serde_json::{Value, json};
use std::fmt;
use std::path::Path;
use std::time::Duration;

pub(crate) fn run(command: &KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create { target, .. }
        | KeyCommand::List { target, .. }
        | KeyCommand::Change { target, .. }
        | KeyCommand::Revoke { target, .. }
        | KeyCommand::Rotate { target, .. } => match (&target.server, &target.admin_key) {
            (Some(server), Some(admin_key)) => remote(command, server, admin_key),
            _ => local(command, target),
        },
    }
}

impl KeySurface {
    fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::FsmNavigator => "fsm-navigator",
            Self::M3ter => "m3ter",
            Self::Wattwatchers => "wattwatchers",
        }
    }
}

impl KeyEnvironment {
    fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }
}

impl From<KeyEnvironment> for Environment {
    fn from(environment: KeyEnvironment) -> Self {
        match environment {
            KeyEnvironment::Live => Self::Live,
            KeyEnvironment::Test => Self::Test,
        }
    }
}

/// The control plane of a stopped server. Also takes the engine's lock, so that no server starts meanwhile.
pub(crate) fn open_control(data: &Path) -> anyhow::Result<Control> {
    ensure_restored(data)?;
    if !control_path(data).is_file() {
        anyhow::bail!(
            "{} is no data directory of meterd; start a server there first",
            data.display()
        );
    }
    ensure_stopped(data)?;
    let settings = meterd_control::Settings {
        resource_bytes_max: usize::MAX,
        ..control_settings()
    };
    Control::open(control_path(data), settings)
        .with_context(|| format!("open {}", control_path(data).display()))
}

/// What a stopped server's data directory is opened with. The operator sets how much organizations may have, and is held
/// to nothing here.
pub(crate) fn config_beside(data: &Path) -> Config {
    Config {
        data: data.to_owned(),
        bounds: BoundsConfig {
            resource_bytes_max: usize::MAX,
            ..BoundsConfig::default()
        },
        ..Config::default()
    }
}

/// A server holds its state in memory and would not see changes made beside it.
pub(crate) fn ensure_stopped(data: &Path) -> anyhow::Result<()> {
    use meterd_engine::Disk as _;
    let engine = crate::server::engine_path(data);
    if !engine.is_dir() {
        return Ok(());
    }
    let lock = meterd_engine::SystemDisk.lock(&engine)?;
    if lock.is_none() {
        anyhow::bail!(
            "a server has {} open; stop it, or talk to it with --server and --admin-key",
            data.display()
        );
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
pub(crate) fn said(fault: Fault) -> anyhow::Error {
    match fault.log_context() {
        Some(context) => anyhow!("{} ({context})", fault.kind),
        None => anyhow!("{}", fault.kind),
    }
}

fn local(command: &KeyCommand, target: &Target) -> anyhow::Result<()> {
    let control = open_control(&target.data)?;
    let author = Author::new(Actor::Operator, now());
    let organization_id = |name: &Option<String>| -> anyhow::Result<Option<OrganizationId>> {
        match name {
            None => Ok(None),
            Some(name) => {
                let found = control.store().organization_by_name(name).map_err(said)?;
                Ok(Some(found.organization_id()))
            }
        }
    };
    match command {
        KeyCommand::Create {
            surface: KeySurface::M3ter,
            organization,
            name,
            policies,
            no_policy,
            ..
        } => {
            let organization = organization_id(organization)?
                .ok_or_else(|| anyhow!("--surface m3ter needs --organization"))?;
            let policies = policies.iter().map(String::as_str);
            let policies: Vec<_> = policies.filter(|_| !no_policy).collect();
            let new = create_service_user(&control, organization, name, &policies, &author)
                .map_err(said)?;
            println!("organization  {organization}");
            println!("service user  {}", new.service_user);
            println!("key           {}", new.api_key);
            print_secret(&new.credential.to_string(), new.api_secret.reveal());
        }
        KeyCommand::Create {
            surface: KeySurface::Wattwatchers,
            organization,
            name,
            addresses,
            expires_at,
            wattwatchers,
            ..
        } => {
            if !addresses.is_empty() || expires_at.is_some() {
                anyhow::bail!(
                    "keys of the Wattwatchers API have neither --address nor --expires-at"
                );
            }
            let organization = organization_id(organization)?
                .ok_or_else(|| anyhow!("--surface wattwatchers needs --organization"))?;
            let new = WantedKey::of(name, wattwatchers).check()?;
            let issued = create_key(&control, organization, &new, &author).map_err(said)?;
            print_secret(&issued.credential.id.to_string(), issued.secret.reveal());
        }
        KeyCommand::Create {
            surface,
            organization,
            name,
            permissions,
            environment,
            limits,
            addresses,
            expires_at,
            ..
        } => {
            let organization = organization_id(organization)?;
            let rules = rules_of(surface.name())?;
            rules.check_home(organization).map_err(said)?;
            let mut new = rules
                .api_key(organization, (*environment).into(), name)
                .with_permissions(permissions.iter().cloned());
            new.addresses = parse_blocks(addresses).context("--address")?;
            new.limits = own_limits(rules, limits.clone())
                .map_err(said)
                .context("--limit")?;
            new.expires_at = match expires_at {
                Some(text) => {
                    Some(Timestamp::parse(text).map_err(|e| anyhow!("--expires-at {e}"))?)
                }
                None => None,
            };
            rules.check(&new, author.at).map_err(said)?;
            let issued = control.credentials().create(new, &author).map_err(said)?;
            print_secret(&issued.credential.id.to_string(), issued.secret.reveal());
        }
        KeyCommand::Change { id, .. } => {
            let credential = control.credentials().find(*id);
            let credential = credential.ok_or_else(|| anyhow!("there is no key {id}"))?;
            let change = local_change(command, &credential.surface)?;
            let changed = control.credentials().change(*id, None, change, &author);
            changed.map_err(said)?;
            println!("changed {id}");
        }
        KeyCommand::List { organization, .. } => {
            let organization = organization_id(organization)?;
            let mut list = List::default();
            loop {
                let (page, next) = control
                    .credentials()
                    .list(organization, &list)
                    .map_err(said)?;
                for credential in page {
                    print_row(
                        &credential.id.to_string(),
                        credential.state.as_str(),
                        &credential.hint,
                        &credential.name,
                        &credential.permissions.join(" "),
                    );
                }
                if next.is_none() {
                    break;
                }
                list.cursor = next;
            }
        }
        KeyCommand::Revoke { id, .. } => {
            control.credentials().revoke(*id, &author).map_err(said)?;
            println!("revoked {id}");
        }
        KeyCommand::Rotate {
            id,
            overlap_seconds,
            ..
        } => {
            let credential = control.credentials().find(*id);
            let form = credential.map(|credential| credential.secret_form());
            let secret = NewSecret::Generate(form.unwrap_or(SecretForm::NATIVE));
            let overlap = Duration::from_secs(*overlap_seconds);
            let issued = control
                .credentials()
                .rotate(*id, secret, overlap, &author)
                .map_err(said)?;
            print_secret(&id.to_string(), issued.secret.reveal());
        }
    }
    Ok(())
}

/// What keys of a surface may be.
pub(crate) fn rules_of(surface: &str) -> anyhow::Result<&'static KeyRules> {
    let found = KEY_RULES.iter().find(|rules| rules.surface == surface);
    found.ok_or_else(|| anyhow!("keys of {surface} are changed elsewhere"))
}

fn local_change(command: &KeyCommand, surface: &str) -> anyhow::Result<CredentialChange> {
    let KeyCommand::Change {
        name,
        permissions,
        addresses,
        any_address,
        limits,
        ..
    } = command
    else {
        anyhow::bail!("nothing is to be changed");
    };
    let mut change = CredentialChange {
        name: name.clone(),
        ..CredentialChange::default()
    };
    if !permissions.is_empty() {
        let problems = rules_of(surface)?.permission_problems(permissions);
        if let Some(problem) = problems.first() {
            anyhow::bail!("--permission: {}", problem.message());
        }
        change.permissions = Some(permissions.clone());
    }
    if *any_address || !addresses.is_empty() {
        change.addresses = Some(parse_blocks(addresses).context("--address")?);
    }
    if !limits.is_empty() {
        let own = own_limits(rules_of(surface)?, limits.clone()).map_err(said);
        change.limits = Some(own.context("--limit")?);
    }
    Ok(change)
}

pub(crate) fn parse_blocks(texts: &[String]) -> anyhow::Result<Vec<ipnet::IpNet>> {
    texts
        .iter()
        .map(|text| {
            parse_block(text)
                .ok_or_else(|| anyhow!("{text:?} is neither an address nor a block of addresses"))
        })
        .collect()
}

fn print_secret(id: &str, secret: &str) {
    println!("id      {id}");
    println!("secret  {secret}");
    println!("The secret is shown once; only its hash is kept.");
}

fn print_row(id: &str, state: &str, hint: &str, name: &str, permissions: &str) {
    println!(
        "{id}  {state:<8}  {hint:<10}…  {}  [{permissions}]",
        printable(name)
    );
}

/// The text without anything that a terminal would obey.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

fn remote(command: &KeyCommand, server: &str, admin_key: &str) -> anyhow::Result<()> {
    let api = Api::new(server, admin_key);
    match command {
        KeyCommand::Create {
            surface: KeySurface::M3ter | KeySurface::Wattwatchers,
            ..
        } => anyhow::bail!(
            "keys of this API are made in the data directory of a stopped server, with --data"
        ),
        KeyCommand::Create {
            surface,
            organization,
            name,
            permissions,
            environment,
            limits,
            addresses,
            expires_at,
            ..
        } => {
            let answer = api.post(
                "/v1/credentials",
                &json!({
                    "organization": organization, "surface": surface.name(), "name": name,
                    "environment": environment.name(), "permissions": permissions,
                    "addresses": addresses, "expires_at": expires_at, "limits": limits_json(limits),
                }),
            )?;
            print_secret(text(&answer, "id"), text(&answer, "secret"));
        }
        KeyCommand::Change {
            id,
            name,
            permissions,
            addresses,
            any_address,
            limits,
            ..
        } => {
            let addresses_change = *any_address || !addresses.is_empty();
            let members = [
                name.as_ref().map(|name| ("name", json!(name))),
                (!permissions.is_empty()).then(|| ("permissions", json!(permissions))),
                addresses_change.then(|| ("addresses", json!(addresses))),
                (!limits.is_empty()).then(|| ("limits", limits_json(limits))),
            ];
            let members = members.into_iter().flatten();
            let edit = members.map(|(name, value)| (name.to_owned(), value));
            let edit = Value::Object(edit.collect());
            api.patch(&format!("/v1/credentials/{id}"), &edit)?;
            println!("changed {id}");
        }
        KeyCommand::List { organization, .. } => {
            let mut query = vec![("limit", "1000".to_owned())];
            query.extend(
                organization
                    .iter()
                    .map(|name| ("organization", name.clone())),
            );
            loop {
                let page = api.get("/v1/credentials", &query)?;
                for item in page
                    .get("items")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                {
                    let permissions: Vec<_> = item
                        .get("permissions")
                        .and_then(Value::as_array)
                        .into_iter()
                        .flatten()
                        .filter_map(Value::as_str)
                        .collect();
                    print_row(
                        text(item, "id"),
                        text(item, "state"),
                        text(item, "hint"),
                        text(item, "name"),
                        &permissions.join(" "),
                    );
                }
                let Some(cursor) = page.get("next_cursor").and_then(Value::as_str) else {
                    break;
                };
                query.retain(|(name, _)| *name != "cursor");
                query.push(("cursor", cursor.to_owned()));
            }
        }
        KeyCommand::Revoke { id, .. } => {
            api.delete(&format!("/v1/credentials/{id}"))?;
            println!("revoked {id}");
        }
        KeyCommand::Rotate {
            id,
            overlap_seconds,
            ..
        } => {
            let body = json!({"overlap_seconds": overlap_seconds});
            let answer = api.post(&format!("/v1/credentials/{id}/rotate"), &body)?;
            print_secret(&id.to_string(), text(&answer, "secret"));
        }
    }
    Ok(())
}

fn limits_json(limits: &[(String, u64)]) -> Value {
    let numbers = limits
        .iter()
        .map(|(name, number)| (name.clone(), json!(number)));
    Value::Object(numbers.collect())
}

pub(crate) fn text<'a>(json: &'a Value, member: &str) -> &'a str {
    json.get(member).and_then(Value::as_str).unwrap_or("")
}

/// An API of a running server, the native one unless told otherwise.
#[derive(Debug)]
pub(crate) struct Api {
    agent: ureq::Agent,
    server: String,
    /// Where it wants its key.
    key_header: &'static str,
    key: String,
}

impl Api {
    pub(crate) fn new(server: &str, key: &str) -> Self {
        Self::with_time_limit(server, key, Some(Duration::from_mins(1)))
    }

    /// For what takes as long as there is data.
    pub(crate) fn patient(server: &str, key: &str) -> Self {
        Self::with_time_limit(server, key, None)
    }

    /// With the key in a header of its own.
    pub(crate) fn with_header(server: &str, key_header: &'static str, key: &str) -> Self {
        Self {
            key_header,
            key: key.to_owned(),
            ..Self::new(server, key)
        }
    }

    fn with_time_limit(server: &str, key: &str, limit: Option<Duration>) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(limit)
            .build()
            .new_agent();
        Self {
            agent,
            server: server.trim_end_matches('/').to_owned(),
            key_header: "Authorization",
            key: format!("Bearer {key}"),
        }
    }

    pub(crate) fn get(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
        read_answer(self.ask(path, query))
    }

    /// The body of a success, whatever its size and type.
    pub(crate) fn stream(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<ureq::BodyReader<'static>> {
        match self.ask(path, query) {
            Ok(answer) if answer.status().is_success() => Ok(answer.into_body().into_reader()),
            other => match read_answer(other) {
                Ok(_) => Err(anyhow!("the server answered nothing")),
                Err(error) => Err(error),
            },
        }
    }

    fn ask(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        self.agent
            .get(format!("{}{path}", self.server))
            .header(self.key_header, &self.key)
            .query_pairs(query.iter().map(|(name, value)| (*name, value.as_str())))
            .call()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(path, "application/json", body.to_string().as_bytes())
    }

    /// Posts bytes of a media type; the answer is JSON.
    pub(crate) fn send(&self, path: &str, media_type: &str, body: &[u8]) -> anyhow::Result<Value> {
        let request = self
            .agent
            .post(format!("{}{path}", self.server))
            .header(self.key_header, &self.key)
            .header("Content-Type", media_type);
        read_answer(request.send(body))
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self
            .agent
            .patch(format!("{}{path}", self.server))
            .header(self.key_header, &self.key)
            .header("Content-Type", "application/json");
        read_answer(request.send(body.to_string().as_bytes()))
    }

    fn delete(&self, path: &str) -> anyhow::Result<Value> {
        let request = self
            .agent
            .delete(format!("{}{path}", self.server))
            .header(self.key_header, &self.key);
        read_answer(request.call())
    }
}

/// The JSON of a success, or the words of the problem.
fn read_answer(
    answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> anyhow::Result<Value> {
    let mut answer = answer.context("reach the server")?;
    let status = answer.status();
    let body = answer
        .body_mut()
        .read_to_string()
        .context("read the answer")?;
    let json: Value = serde_json::from_str(&body).unwrap_or(Value::Null);
    if status.is_success() {
        return Ok(json);
    }
    Err(Refused {
        status: status.to_string(),
        problem: json,
    }
    .into())
}

/// An answer that is no success.
#[derive(Debug, thiserror::Error)]
pub(crate) struct Refused {
    status: String,
    /// Problem details (RFC 9457).
    pub(crate) problem: Value,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = text(&self.problem, "detail");
        write!(f, "the server answered {}: {detail}", self.status)?;
        let errors = self.problem.get("errors").and_then(Value::as_array);
        // A single one is the detail.
        for error in errors
            .filter(|errors| errors.len() > 1)
            .into_iter()
            .flatten()
            .take(5)
        {
            write!(f, "\n  {}", text(error, "message"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn a_listed_name_does_not_steer_the_terminal() {
        assert_eq!(printable("Büro\t\u{1b}[2J\n"), "Büro\\t\\u{1b}[2J\\n");
    }
}
