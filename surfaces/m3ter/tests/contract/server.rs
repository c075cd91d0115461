//! The server that the tests run against, with two organizations and whoever calls for them.

use axum::http::HeaderMap;
use axum::http::request::Parts;
use meterd_control::{Control, LimitPolicy};
use meterd_fault::{Code, Fault, Kind};
use meterd_http::{Answered, Asked, Caller, Core, Dialect, Mount, Rendered, Routes, Step, Surface};
use meterd_model::{OrganizationId, Timestamp};
use meterd_surface_m3ter::{
    App, M3terLimits, M3terSettings, M3terSurface, NewUser, apply_user, create_service_user,
    documents, provision, remember_ids, work,
};
use meterd_testkit::client::{Answer, Request, request};
use meterd_testkit::{Held, Trouble, create_organization, now, system};
use serde_json::{Value, json};
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use uuid::Uuid;

/// What a test may set before the start.
pub(crate) struct Options {
    /// Without limits, unless a test is about them.
    pub(crate) settings: M3terSettings,
    /// Whether jobs are done, and not only queued.
    pub(crate) works: bool,
    pub(crate) general: meterd_testkit::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            settings: M3terSettings {
                limits: M3terLimits {
                    enabled: false,
                    ..M3terLimits::default()
                },
                ..M3terSettings::default()
            },
            works: true,
            general: meterd_testkit::Options {
                documents: documents(),
                ..meterd_testkit::Options::default()
            },
        }
    }
}

/// A running server with the organizations `acme` and `rival`. What it is asked without further words is asked with
/// the token of acme's administrator.
pub(crate) struct Server {
    /// Goes before the server, which waits for requests in hand.
    pub(crate) held: Held,
    running: meterd_testkit::Server,
    pub(crate) app: App,
    pub(crate) acme: Tenant,
    pub(crate) rival: Tenant,
    told: Told,
}

/// The faults that were told, oldest first.
type Told = Arc<Mutex<Vec<Code>>>;

/// An organization with a service user that may do everything.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub(crate) id: OrganizationId,
    pub(crate) admin: ServiceUser,
}

/// A service user with a token.
#[derive(Clone, Debug)]
pub(crate) struct ServiceUser {
    pub(crate) id: Uuid,
    pub(crate) credential: Uuid,
    pub(crate) key: String,
    pub(crate) secret: String,
    pub(crate) token: String,
}

impl Deref for Server {
    type Target = meterd_testkit::Server;

    fn deref(&self) -> &meterd_testkit::Server {
        &self.running
    }
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(Options::default())
    }

    pub(crate) fn start_with(options: Options) -> Self {
        let settings = options.settings;
        let (mut app, mut held) = (None, None);
        let told = Told::default();
        let running = meterd_testkit::Server::start(options.general, |parts| {
            for name in ["acme", "rival"] {
                let control = &parts.control;
                // A server that is started again has them.
                let organization = match control.store().organization_by_name(name) {
                    Ok(stored) => stored.organization_id(),
                    Err(_) => create_organization(control, name),
                };
                provision(control, organization, &system()).unwrap();
            }
            remember_ids(&parts.control, &parts.engine, &settings).unwrap();
            let core = Core::new(Arc::clone(&parts.control), Arc::clone(&parts.engine));
            let made = App::new(core, settings);
            app = Some(made.clone());
            if options.works {
                tokio::spawn(work(made.clone(), now));
            }
            let surface = Arc::new(M3terSurface::new(made)) as Arc<dyn Surface>;
            let (trouble, holding) = Trouble::over(Arc::clone(&surface));
            held = Some(holding);
            let trouble = Arc::new(trouble) as Arc<dyn Surface>;
            // The pipeline wants something that answers below no prefix, too.
            [("/m3ter", &surface), ("", &surface), ("/trouble", &trouble)]
                .map(|(prefix, surface)| Mount {
                    prefix,
                    surface: Arc::new(Noting {
                        surface: Arc::clone(surface),
                        told: Arc::clone(&told),
                    }),
                })
                .into()
        });
        let tenant = |name| {
            let stored = running.control.store().organization_by_name(name).unwrap();
            let id = stored.organization_id();
            let admin = service_user(&running, id, "administrator", &["Administrator"]);
            Tenant { id, admin }
        };
        Self {
            acme: tenant("acme"),
            rival: tenant("rival"),
            app: app.unwrap(),
            held: held.unwrap(),
            running,
            told,
        }
    }

    /// The faults that answers told since this was asked last: what the dialect's words alone do not tell apart.
    pub(crate) fn told(&self) -> Vec<Code> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    /// Stops and starts again over the same data, with the same settings.
    pub(crate) fn restart(self) -> Self {
        let settings = M3terSettings::clone(&self.app.settings);
        let Self { running, app, .. } = self;
        drop(app);
        let directory: TempDir = running.stop();
        let mut options = Options {
            settings,
            ..Options::default()
        };
        options.general.directory = Some(directory);
        Self::start_with(options)
    }

    /// A service user of acme with the policies of these names; it may only fetch tokens if there are none.
    pub(crate) fn service_user(&self, name: &str, policies: &[&str]) -> ServiceUser {
        service_user(&self.running, self.acme.id, name, policies)
    }

    /// A person of acme.
    pub(crate) fn user(&self, email: &str) -> Uuid {
        let new = NewUser {
            email: email.to_owned(),
            first_name: "Jane".to_owned(),
            last_name: "Doe".to_owned(),
            contact_number: None,
        };
        apply_user(&self.control, self.acme.id, new, &system())
            .unwrap()
            .0
    }

    /// A service user of acme with one policy of these statements.
    pub(crate) fn with_statements(&self, name: &str, statements: &Value) -> ServiceUser {
        let policy = json!({"name": name, "permissionPolicy": statements});
        self.post("/permissionpolicies", &policy);
        self.service_user(name, &[name])
    }

    /// Asks about acme, as its administrator.
    pub(crate) fn ask(&self, method: &'static str, path: &str, body: Option<&Value>) -> Answer {
        self.ask_as(&self.acme.admin.token, method, path, body)
    }

    /// Asks about acme with this token.
    pub(crate) fn ask_as(
        &self,
        token: &str,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let request = request(method, self.path(path)).key(token);
        match body {
            Some(body) => self.send(&request.json(body.to_string())),
            None => self.send(&request),
        }
    }

    pub(crate) fn path(&self, path: &str) -> String {
        self.acme.path(path)
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.ask("GET", path, None).expect(200)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", path, Some(body)).expect(200)
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Value {
        self.ask("PUT", path, Some(body)).expect(200)
    }

    pub(crate) fn delete(&self, path: &str) -> Value {
        self.ask("DELETE", path, None).expect(200)
    }

    /// What a request that must be refused says.
    #[track_caller]
    pub(crate) fn refused(
        &self,
        status: u16,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
    ) -> String {
        message(&self.ask(method, path, body), status)
    }
}

impl Tenant {
    /// A path below this organization.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("/m3ter/organizations/{}{path}", self.id)
    }
}

/// The message of a refusal, whose body has nothing else.
#[track_caller]
pub(crate) fn message(answer: &Answer, status: u16) -> String {
    let body = answer.expect(status);
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    body["message"].as_str().unwrap().to_owned()
}

/// A request for a token, with Basic authentication.
pub(crate) fn token_request(key: &str, secret: &str) -> Request {
    request("POST", "/m3ter/oauth/token").header("Authorization", &basic(key, secret))
}

pub(crate) fn basic(key: &str, secret: &str) -> String {
    use base64::Engine as _;
    let pair = format!("{key}:{secret}");
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {encoded}")
}

pub(crate) const GRANT: &str = r#"{"grant_type":"client_credentials"}"#;

fn service_user(
    server: &meterd_testkit::Server,
    organization: OrganizationId,
    name: &str,
    policies: &[&str],
) -> ServiceUser {
    let control: &Control = &server.control;
    let new = create_service_user(control, organization, name, policies, &system()).unwrap();
    let secret = new.api_secret.reveal().to_owned();
    let answer = server.send(&token_request(&new.api_key, &secret).json(GRANT));
    let token = answer.expect(200)["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    ServiceUser {
        id: new.service_user,
        credential: new.credential,
        key: new.api_key,
        secret,
        token,
    }
}

/// A surface, and a note of each fault that it words.
#[derive(Debug)]
struct Noting {
    surface: Arc<dyn Surface>,
    told: Told,
}

impl Dialect for Noting {
    fn surface(&self) -> &'static str {
        self.surface.dialect().surface()
    }

    fn render(&self, kind: &Kind, request: &Asked<'_>) -> Rendered {
        self.told.lock().unwrap().push(Code::from(kind));
        self.surface.dialect().render(kind, request)
    }
}

impl Surface for Noting {
    fn dialect(&self) -> &dyn Dialect {
        self
    }

    fn order(&self) -> &'static [Step] {
        self.surface.order()
    }

    fn routes(&self) -> &Routes {
        self.surface.routes()
    }

    fn authenticate(&self, parts: &Parts, now: Timestamp) -> Result<Caller, Fault> {
        self.surface.authenticate(parts, now)
    }

    fn admit(&self, caller: &Caller, params: &[(String, String)]) -> Result<(), Fault> {
        self.surface.admit(caller, params)
    }

    fn policies(&self) -> &[LimitPolicy] {
        self.surface.policies()
    }

    fn body_limit_bytes(&self) -> u64 {
        self.surface.body_limit_bytes()
    }

    fn decorate(&self, headers: &mut HeaderMap, answered: &Answered<'_>) {
        self.surface.decorate(headers, answered);
    }
}
