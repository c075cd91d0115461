//! The server that the tests run against: the native surface, and trouble beside it.

use meterd_control::{Control, Credential, LimitPolicy, Meter, NewCredential, SecretForm};
use meterd_engine::testing::SimulatedDisk;
use meterd_http::{Bounds, Core, Mount, Surface};
use meterd_model::{MeterName, OrganizationId};
use meterd_surface_native::{App, NativeSurface};
use meterd_testkit::client::{get, post};
use meterd_testkit::{Held, Trouble, create_organization};
use serde_json::{Value, json};
use std::ops::Deref;
use std::sync::Arc;

pub(crate) use meterd_testkit::{now, system};

/// What a test may set before the start.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) bounds: Bounds,
    pub(crate) engine: meterd_engine::Settings,
    /// Instead of the machine's own disk.
    pub(crate) disk: Option<SimulatedDisk>,
    pub(crate) policies: Vec<LimitPolicy>,
    pub(crate) proxies: Vec<ipnet::IpNet>,
}

/// A running server with two organizations, `acme` and `rival`, and a key with every permission for each.
pub(crate) struct Server {
    /// Goes before the server, which waits for requests in hand.
    pub(crate) held: Held,
    running: meterd_testkit::Server,
    pub(crate) acme: OrganizationId,
    /// Of `acme`.
    pub(crate) key: String,
    pub(crate) rival_key: String,
    pub(crate) admin_key: String,
    pub(crate) core: Core,
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
        let general = meterd_testkit::Options {
            bounds: options.bounds,
            engine: options.engine,
            disk: options.disk,
            proxies: options.proxies,
            ..meterd_testkit::Options::default()
        };
        let (mut core, mut held) = (None, None);
        let running = meterd_testkit::Server::start(general, |parts| {
            let (control, engine) = (Arc::clone(&parts.control), Arc::clone(&parts.engine));
            let app = App::new(core.insert(Core::new(control, engine)).clone());
            let surface: Arc<dyn Surface> = Arc::new(NativeSurface::new(app, options.policies));
            let (trouble, holding) = Trouble::over(Arc::clone(&surface));
            held = Some(holding);
            let trouble = Arc::new(trouble);
            vec![
                Mount {
                    prefix: "/v1",
                    surface,
                },
                Mount {
                    prefix: "",
                    surface: trouble,
                },
            ]
        });
        let control = &running.control;
        let acme = create_organization(control, "acme");
        let rival = create_organization(control, "rival");
        let key = issue(control, full_key(Some(acme), "acme")).1;
        let rival_key = issue(control, full_key(Some(rival), "rival")).1;
        let admin_key = issue(control, full_key(None, "administrator")).1;
        Self {
            running,
            acme,
            key,
            rival_key,
            admin_key,
            core: core.unwrap(),
            held: held.unwrap(),
        }
    }

    /// A key of `acme`, as the given change makes it of one with every permission.
    pub(crate) fn issue(
        &self,
        change: impl FnOnce(&mut NewCredential),
    ) -> (Arc<Credential>, String) {
        let mut new = full_key(Some(self.acme), "issued");
        change(&mut new);
        issue(&self.control, new)
    }

    pub(crate) fn key_with(&self, permissions: &[&str]) -> String {
        self.issue(|new| new.permissions = permissions.iter().map(ToString::to_string).collect())
            .1
    }

    /// The usual meter: `api_calls`, with the values `requests` and `bytes` and the attributes `region` and `plan`.
    pub(crate) fn with_meter(self) -> Self {
        for key in [&self.key, &self.rival_key] {
            self.send(&post("/v1/meters").key(key).json(METER))
                .expect(201);
        }
        self
    }

    /// Makes a meter of `acme` as a surface makes one for itself, defined as the usual one.
    pub(crate) fn made_by_a_surface(&self, name: &str) {
        let store = self.control.store();
        let usual = store.get_by_key::<Meter>(self.acme, "name", "api_calls");
        let meter = Meter {
            name: MeterName::new(name).unwrap(),
            managed_by: Some("wattwatchers".to_owned()),
            ..usual.unwrap().document.clone()
        };
        store.create(self.acme, meter, &system()).unwrap();
    }

    pub(crate) fn get(&self, target: &str) -> Value {
        self.send(&get(target).key(&self.key)).expect(200)
    }

    pub(crate) fn query(&self, query: &Value) -> Value {
        self.send(&post("/v1/query").key(&self.key).json(query.to_string()))
            .expect(200)
    }

    /// Sends measurements of `acme` as JSON rows.
    pub(crate) fn ingest(&self, rows: &[Value]) -> Value {
        let body = json!({"measurements": rows}).to_string();
        self.send(&post("/v1/measurements").key(&self.key).json(body))
            .expect(200)
    }

    /// Everything that a request could have changed in `acme`, but its events.
    pub(crate) fn contents(&self) -> Value {
        let sums = self.send(&post("/v1/query").key(&self.key).json(
            json!({
                "meter": "api_calls", "from": "1970-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z",
                "group_by": ["subject"],
                "aggregations": [{"function": "sum", "field": "requests"}, {"function": "count"}],
            })
            .to_string(),
        ));
        json!([
            self.get("/v1/measurements?limit=1000"),
            self.get("/v1/meters?limit=1000"),
            sums.json()["rows"],
        ])
    }
}

pub(crate) const METER: &str = r#"{"name":"api_calls","kind":"delta",
    "values":{"requests":{"unit":"1"},"bytes":{"unit":"By"}},"attributes":["region","plan"]}"#;

/// A good measurement of `api_calls`.
pub(crate) fn row(id: &str) -> Value {
    json!({
        "id": id, "meter": "api_calls", "subject": "acct_1", "time": "2026-11-01T00:00:00Z",
        "values": {"requests": 1}, "attributes": {"region": "eu"},
    })
}

/// A good row with some of its members replaced.
pub(crate) fn row_with(id: &str, members: &Value) -> Value {
    let mut row = row(id);
    for (name, value) in members.as_object().unwrap() {
        row[name] = value.clone();
    }
    row
}

fn full_key(organization: Option<OrganizationId>, name: &str) -> NewCredential {
    NewCredential::api_key(organization, "native", name, SecretForm::NATIVE).with_permissions(["*"])
}

fn issue(control: &Control, new: NewCredential) -> (Arc<Credential>, String) {
    let issued = control.credentials().create(new, &system()).unwrap();
    (issued.credential, issued.secret.reveal().to_owned())
}
