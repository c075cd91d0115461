//! The server that the tests run against, with two companies and keys to both of their data sets.

use meterd_control::{Environment, Issued, NewCredential};
use meterd_http::{Core, Mount, Surface};
use meterd_model::OrganizationId;
use meterd_surface_fsm_navigator::{
    App, DataSet, FsmNavigatorLimits, FsmNavigatorSettings, FsmNavigatorSurface, KEYS, SCOPES,
    documents,
};
use meterd_testkit::client::{Answer, request};
use meterd_testkit::{create_organization, system};
use serde_json::Value;
use std::ops::Deref;
use std::sync::Arc;
use tempfile::TempDir;

/// What a test may set before the start.
pub(crate) struct Options {
    /// Without limits, unless a test is about them.
    pub(crate) settings: FsmNavigatorSettings,
    pub(crate) general: meterd_testkit::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            settings: FsmNavigatorSettings {
                limits: FsmNavigatorLimits {
                    enabled: false,
                    ..FsmNavigatorLimits::default()
                },
                ..FsmNavigatorSettings::default()
            },
            general: meterd_testkit::Options {
                documents: documents(),
                ..meterd_testkit::Options::default()
            },
        }
    }
}

/// A running server with the companies `acme` and `rival`. What it is asked without further words is asked with acme's
/// live key, which has all scopes.
pub(crate) struct Server {
    running: meterd_testkit::Server,
    pub(crate) acme: OrganizationId,
    /// For the places that it has.
    pub(crate) core: Core,
    /// Every path with its methods.
    pub(crate) routes: Vec<(&'static str, Vec<String>)>,
    pub(crate) key: String,
    pub(crate) test_key: String,
    pub(crate) rival_key: String,
    has_limits: bool,
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
        let has_limits = settings.limits.enabled;
        let (mut routes, mut core) = (Vec::new(), None);
        let running = meterd_testkit::Server::start(options.general, |parts| {
            let (control, engine) = (Arc::clone(&parts.control), Arc::clone(&parts.engine));
            let app = App::new(core.insert(Core::new(control, engine)).clone(), settings);
            let surface = Arc::new(FsmNavigatorSurface::new(app)) as Arc<dyn Surface>;
            routes = surface.routes().list().collect();
            // The pipeline wants something that answers below no prefix, too.
            ["/fsm-navigator", ""]
                .map(|prefix| Mount {
                    prefix,
                    surface: Arc::clone(&surface),
                })
                .into()
        });
        let [acme, rival] = ["acme", "rival"].map(|name| {
            let known = running.control.store().organization_by_name(name);
            known.map_or_else(
                |_| create_organization(&running.control, name),
                |known| known.organization_id(),
            )
        });
        let key = |company, environment| {
            let issued = issue(&running, company, environment, SCOPES, |_| {});
            issued.secret.reveal().to_owned()
        };
        Self {
            acme,
            core: core.unwrap(),
            routes,
            key: key(acme, Environment::Live),
            test_key: key(acme, Environment::Test),
            rival_key: key(rival, Environment::Live),
            has_limits,
            running,
        }
    }

    /// The directory, which another one can be started over.
    pub(crate) fn stop(self) -> TempDir {
        self.running.stop()
    }

    /// A live key of acme with these scopes, otherwise as `shape` makes it.
    pub(crate) fn issue(&self, scopes: &[&str], shape: impl FnOnce(&mut NewCredential)) -> Issued {
        issue(&self.running, self.acme, Environment::Live, scopes, shape)
    }

    /// The secret of a live key of acme with these scopes.
    pub(crate) fn key_with(&self, scopes: &[&str]) -> String {
        self.issue(scopes, |_| {}).secret.reveal().to_owned()
    }

    /// Acme's live data.
    pub(crate) fn live(&self) -> DataSet {
        DataSet {
            company: self.acme,
            environment: Environment::Live,
        }
    }

    /// Asks with this key; `path` is below `/api/v1`. Whatever is answered has the form of all answers.
    #[track_caller]
    pub(crate) fn ask_as(
        &self,
        key: &str,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let request = request(method, format!("/fsm-navigator/api/v1{path}"));
        let request = request.header("X-API-Key", key);
        let answer = match body {
            Some(body) => self.send(&request.json(body.to_string())),
            None => self.send(&request),
        };
        self.check_headers(&answer);
        if method != "HEAD" {
            check_body(&answer);
        }
        answer
    }

    /// That it tells the limits to whoever they count, and to wait only where that helps (6).
    #[track_caller]
    fn check_headers(&self, answer: &Answer) {
        assert_eq!(answer.header("retry-after").is_some(), answer.status == 429);
        let is_counted = match answer.status {
            401 => false,
            403 => {
                let (_, code, message) = refused(answer);
                code != "ip_not_allowed" && message != NO_API
            }
            _ => true,
        };
        for name in ["limit", "remaining", "reset"] {
            let told = answer.header(&format!("x-ratelimit-{name}"));
            if self.has_limits {
                assert_eq!(told.is_some(), is_counted, "{name}");
            }
            assert!(told.is_none_or(|told| told.parse::<u64>().is_ok()));
        }
    }

    #[track_caller]
    pub(crate) fn ask(&self, method: &'static str, path: &str, body: Option<&Value>) -> Answer {
        self.ask_as(&self.key, method, path, body)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        self.ask("GET", path, None).expect(200)
    }

    /// Makes something and returns it.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", path, Some(body)).expect(201)["data"].take()
    }

    #[track_caller]
    pub(crate) fn put(&self, path: &str, body: &Value) -> Value {
        self.ask("PUT", path, Some(body)).expect(200)["data"].take()
    }

    #[track_caller]
    pub(crate) fn patch(&self, path: &str, body: &Value) -> Value {
        self.ask("PATCH", path, Some(body)).expect(200)["data"].take()
    }

    /// What a request with acme's live key is told that must be refused, see [`refused`].
    #[track_caller]
    pub(crate) fn refused(&self, method: &'static str, path: &str, body: &Value) -> Told {
        let body = (!body.is_null()).then_some(body);
        refused(&self.ask(method, path, body))
    }
}

/// What is said of a company without the plan.
pub(crate) const NO_API: &str = "Your organization does not include the REST API.";

/// That a body has the envelope of its kind (3.2).
#[track_caller]
fn check_body(answer: &Answer) {
    if answer.status >= 400 {
        refused(answer);
        return;
    }
    let body = answer.json();
    assert_eq!(
        answer.header("content-type"),
        Some("application/json; charset=utf-8")
    );
    let request_id = body["request_id"].as_str().unwrap();
    assert_eq!(answer.header("x-request-id"), Some(request_id));
    assert!(request_id.len() == 12 && request_id.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(body["success"], true);
    let members: Vec<_> = (body.as_object().unwrap().keys())
        .map(String::as_str)
        .collect();
    match members[..] {
        ["success", "data", "pagination", "request_id"] => {
            let pagination: Vec<_> = body["pagination"].as_object().unwrap().keys().collect();
            assert_eq!(pagination, ["page", "per_page", "total", "total_pages"]);
            let all = body["data"].as_array().unwrap();
            assert!(all.iter().all(|one| one["id"].is_u64()), "{body}");
        }
        ["success", "data", name, "request_id"]
        | ["success", "data", name, "meter", "threshold", "request_id"] => {
            assert_eq!(body["data"], body[name]);
            assert!(body["data"]["id"].is_u64(), "{body}");
        }
        _ => panic!("{body}"),
    }
}

/// Status, code and message of a refusal.
pub(crate) type Told = (u16, String, String);

/// What a refusal says, whose body and headers have the form of all refusals.
#[track_caller]
pub(crate) fn refused(answer: &Answer) -> Told {
    let body = answer.json();
    let members = if answer.status == 429 { 4 } else { 3 };
    assert_eq!(body.as_object().unwrap().len(), members, "{body}");
    assert_eq!(body["success"], false, "{body}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/json; charset=utf-8")
    );
    let request_id = answer.header("x-request-id").unwrap();
    assert!(request_id.len() == 12 && request_id.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(body.get("retry_after").is_some(), answer.status == 429);
    let text = |member: &str| body[member].as_str().unwrap().to_owned();
    (answer.status, text("error"), text("message"))
}

/// [`refused`] as it is to be compared with.
pub(crate) fn refusal(status: u16, code: &str, message: &str) -> Told {
    (status, code.to_owned(), message.to_owned())
}

pub(crate) fn invalid(message: &str) -> Told {
    refusal(400, "validation_failed", message)
}

pub(crate) fn missing(message: &str) -> Told {
    refusal(400, "missing_required_field", message)
}

/// That a key lacks a scope; the code tells whether it holds another one of the resource.
pub(crate) fn no_scope(code: &str, scope: &str) -> Told {
    let message = format!("This API key does not include the required scope: {scope}.");
    refusal(403, code, &message)
}

fn issue(
    server: &meterd_testkit::Server,
    company: OrganizationId,
    environment: Environment,
    scopes: &[&str],
    shape: impl FnOnce(&mut NewCredential),
) -> Issued {
    let new = KEYS.api_key(Some(company), environment, "test");
    let mut new = new.with_permissions(scopes.iter().copied());
    shape(&mut new);
    server.control.credentials().create(new, &system()).unwrap()
}
