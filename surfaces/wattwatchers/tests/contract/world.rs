//! The server that the tests run against, with two accounts, their devices and whoever calls for them.

use meterd_http::{Core, Mount, Surface};
use meterd_model::OrganizationId;
use meterd_surface_wattwatchers::{
    App, KeyRole, KeySees, Level, NewKey, NewKeyLimits, Registration, Serial, WattwatchersLimits,
    WattwatchersSettings, WattwatchersSurface, create_key, documents, register_device,
};
use meterd_testkit::client::{Answer, Request, get, patch, post, put};
use meterd_testkit::{create_organization, now, system};
use serde_json::{Value, json};
use std::ops::Deref;
use std::sync::Arc;
use uuid::Uuid;

/// Six channels.
pub(crate) const HOUSE: &str = "D123456789012";
/// Three channels.
pub(crate) const SHED: &str = "B00000000000A";
/// Six channels and three switches.
pub(crate) const SWITCHED: &str = "DD03710132282";
/// With a Modbus meter.
pub(crate) const MODBUS: &str = "E00000000000B";
/// Of the other account.
pub(crate) const FOREIGN: &str = "F00000000000C";

pub(crate) struct Options {
    /// Without limits that a test could reach, unless it is about them.
    pub(crate) settings: WattwatchersSettings,
    pub(crate) general: meterd_testkit::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            settings: WattwatchersSettings {
                limits: WattwatchersLimits {
                    per_second: 100_000,
                    per_day: 100_000_000,
                    address_per_minute: 0,
                    ..WattwatchersLimits::default()
                },
                ..WattwatchersSettings::default()
            },
            general: meterd_testkit::Options {
                documents: documents(),
                ..meterd_testkit::Options::default()
            },
        }
    }
}

/// A running server with the accounts `acme` and `rival`. What it is asked without further words is asked with a key of
/// acme that sees all its devices and may change everything of them.
pub(crate) struct World {
    running: meterd_testkit::Server,
    pub(crate) app: App,
    pub(crate) acme: OrganizationId,
    pub(crate) key: String,
    /// Of the devices.
    pub(crate) feed: String,
}

impl Deref for World {
    type Target = meterd_testkit::Server;

    fn deref(&self) -> &meterd_testkit::Server {
        &self.running
    }
}

impl World {
    pub(crate) fn start() -> Self {
        Self::start_with(Options::default())
    }

    pub(crate) fn start_with(options: Options) -> Self {
        let settings = options.settings;
        let mut app = None;
        let running = meterd_testkit::Server::start(options.general, |parts| {
            let core = Core::new(Arc::clone(&parts.control), Arc::clone(&parts.engine));
            let made = App::new(core, settings);
            app = Some(made.clone());
            let surface = Arc::new(WattwatchersSurface::new(made)) as Arc<dyn Surface>;
            // The pipeline wants something that answers below no prefix, too.
            ["/wattwatchers", ""]
                .map(|prefix| Mount {
                    prefix,
                    surface: Arc::clone(&surface),
                })
                .into()
        });
        let app = app.unwrap();
        let account = |name| {
            // A server that is started again has them.
            match running.control.store().organization_by_name(name) {
                Ok(stored) => stored.organization_id(),
                Err(_) => create_organization(&running.control, name),
            }
        };
        let (acme, rival) = (account("acme"), account("rival"));
        let devices = NewKey {
            name: "devices".to_owned(),
            role: KeyRole::Ingest,
        };
        let feed = create_key(&running.control, acme, &devices, &system()).unwrap();
        let mut world = Self {
            app,
            acme,
            key: String::new(),
            feed: feed.secret.reveal().to_owned(),
            running,
        };
        for (account, serial, model) in [
            (acme, HOUSE, "6M"),
            (acme, SHED, "3M"),
            (acme, SWITCHED, "6M+3SW"),
            (acme, MODBUS, "6M+One"),
            (rival, FOREIGN, "6M"),
        ] {
            world.register(account, serial, model);
        }
        world.key = world.new_key(&Level::ALL, KeySees::All);
        world
    }

    /// Stops and starts again over the same data, with the same settings.
    pub(crate) fn restart(self) -> Self {
        let settings = WattwatchersSettings::clone(&self.app.settings);
        let Self { running, app, .. } = self;
        app.write_heard(now()).unwrap();
        running.control.limits().flush(now()).unwrap();
        drop(app);
        let mut options = Options {
            settings,
            ..Options::default()
        };
        options.general.directory = Some(running.stop());
        Self::start_with(options)
    }

    /// Whatever is answered has exactly the headers that it should.
    #[track_caller]
    pub(crate) fn send(&self, request: &Request) -> Answer {
        let answer = self.running.send(request);
        check_headers(request, &answer);
        answer
    }

    fn register(&self, account: OrganizationId, serial: &str, model: &str) {
        let serial = Serial::parse(serial).unwrap();
        let model = meterd_surface_wattwatchers::Model::named(model).unwrap();
        let registration = Registration::new(serial, model);
        register_device(&self.control, account, registration, &system()).unwrap();
    }

    /// A key of acme that sees some of its devices.
    pub(crate) fn key_for(&self, serials: &[&str], levels: &[Level]) -> String {
        let serials = serials.iter().map(|serial| Serial::parse(serial).unwrap());
        self.new_key(levels, KeySees::These(serials.collect()))
    }

    pub(crate) fn new_key(&self, levels: &[Level], sees: KeySees) -> String {
        self.make_key(levels, sees, NewKeyLimits::Default)
    }

    pub(crate) fn make_key(&self, levels: &[Level], sees: KeySees, limits: NewKeyLimits) -> String {
        let new = NewKey {
            name: "dashboard".to_owned(),
            role: KeyRole::Api {
                levels: levels.to_vec(),
                sees,
                limits,
            },
        };
        let issued = create_key(&self.control, self.acme, &new, &system()).unwrap();
        issued.secret.reveal().to_owned()
    }

    /// Asks below the surface's prefix.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.get_as(&self.key, path)
    }

    pub(crate) fn get_as(&self, key: &str, path: &str) -> Answer {
        self.send(&get(at(path)).key(key))
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Answer {
        self.patch_as(&self.key, path, body)
    }

    pub(crate) fn patch_as(&self, key: &str, path: &str, body: &Value) -> Answer {
        self.send(&json_request(patch(at(path)).key(key), body))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(&json_request(post(at(path)).key(&self.key), body))
    }

    /// Sends what a device has to say; `path` is below its address on the ingest side.
    pub(crate) fn feed(&self, serial: &str, path: &str, body: &Value) -> Answer {
        let path = at(&format!("/ingest/v1/devices/{serial}{path}"));
        self.send(&json_request(post(path).key(&self.feed), body))
    }

    pub(crate) fn feed_put(&self, serial: &str, body: &Value) -> Answer {
        let path = at(&format!("/ingest/v1/devices/{serial}"));
        self.send(&json_request(put(path).key(&self.feed), body))
    }
}

/// A path below the surface's prefix.
pub(crate) fn at(path: &str) -> String {
    format!("/wattwatchers{path}")
}

fn json_request(request: Request, body: &Value) -> Request {
    request.json(body.to_string())
}

/// What scripts of other sites may read of an answer (2, oddity 6).
const EXPOSED: &str = "X-RateLimit-TpdLimit, X-RateLimit-TpdRemaining, X-RateLimit-TpdReset, X-RateLimit-TpsLimit, \
                       X-RateLimit-TpsRemaining, X-RateLimit-TpsReset, X-RateLimit-Limit, X-RateLimit-Remaining, \
                       X-RateLimit-Reset, Retry-After";

#[track_caller]
fn check_headers(request: &Request, answer: &Answer) {
    let sent = String::from_utf8_lossy(&request.bytes()).into_owned();
    let mut line = sent.split(' ');
    let (method, path) = (line.next().unwrap(), line.next().unwrap());
    let is_plain = answer.body.starts_with(b"Too many requests.");
    let tells_limits = tells_limits(method, path, answer) && !is_plain;
    let mut expected = vec![
        "access-control-allow-origin",
        "access-control-expose-headers",
        "cache-control",
        "connection",
        "date",
        "x-content-type-options",
        "x-request-id",
    ];
    if answer.status != 204 {
        expected.extend(["content-length", "content-type"]);
    } else if method == "OPTIONS" {
        expected.extend([
            "access-control-allow-headers",
            "access-control-allow-methods",
            "access-control-max-age",
        ]);
    }
    if answer.status == 405 {
        expected.push("allow");
    }
    if answer.status == 429 && !is_plain {
        expected.push("retry-after");
    }
    let limits = ["tpd", "tps", ""].map(|limit| {
        ["limit", "remaining", "reset"].map(|name| format!("x-ratelimit-{limit}{name}"))
    });
    let limits = limits.concat();
    if tells_limits {
        expected.extend(limits.iter().map(String::as_str));
    }
    expected.sort_unstable();
    let mut names: Vec<_> = (answer.headers.iter())
        .map(|(name, _)| name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, expected, "{method} {path} {}", answer.status);

    for (name, value) in &answer.headers {
        let is_sound = match name.as_str() {
            "access-control-allow-origin" => value == "*",
            "access-control-expose-headers" => value == EXPOSED,
            "cache-control" => value == "no-store",
            "content-type" if is_plain => value == "text/plain; charset=utf-8",
            "content-type" => value == "application/json",
            "x-content-type-options" => value == "nosniff",
            "x-request-id" => value.parse::<Uuid>().is_ok(),
            // In thousandths; all other numbers are whole.
            "x-ratelimit-tpsreset" => value.split_once('.').is_some_and(|(whole, thousandths)| {
                matches!(whole, "0" | "1") && thousandths.len() == 3
            }),
            name if limits.iter().any(|limit| limit == name) => value.parse::<u64>().is_ok(),
            _ => true,
        };
        assert!(is_sound, "{name}: {value}");
    }
}

/// Whether a key was known and its limits counted the request (8).
fn tells_limits(method: &str, path: &str, answer: &Answer) -> bool {
    if path.contains("/ingest/") {
        return false;
    }
    let said = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
    match answer.status {
        200 => path != "/wattwatchers/",
        204 => method != "OPTIONS",
        400 => {
            let is_head = ["The address is longer", "The headers are larger"];
            let message = said("message");
            !is_head.iter().any(|begin| message.starts_with(begin))
        }
        401 | 405 => false,
        403 => said("code") != "NOT_PERMITTED",
        404 => said("message") != "The requested resource could not be found.",
        _ => true,
    }
}

/// Holds a failure to its whole body.
#[track_caller]
pub(crate) fn assert_fault(answer: &Answer, status: u16, code: &str, message: &str) {
    assert_eq!(
        answer.expect(status),
        json!({"code": code, "httpCode": status, "message": message})
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

/// A record of Long Energy, in which every channel has its own numbers.
pub(crate) fn long_record(timestamp: i64, channels: usize) -> Value {
    let each =
        |value: &dyn Fn(i64) -> Value| -> Vec<Value> { (1..).map(value).take(channels).collect() };
    json!({
        "timestamp": timestamp,
        "duration": 300,
        "eReal": each(&|n| json!(1000 * n - 2000)),
        "eRealPositive": each(&|n| json!(1000 * n)),
        "eRealNegative": each(&|_| json!(2000)),
        "eReactive": each(&|n| json!(10 * n)),
        "eReactivePositive": each(&|n| json!(15 * n)),
        "eReactiveNegative": each(&|n| json!(5 * n)),
        "vRMSMin": each(&|n| json!(230.0 + 0.1 * f64::from(i32::try_from(n).unwrap()))),
        "vRMSMax": each(&|_| json!(241.5)),
        "iRMSMin": each(&|_| json!(0.125)),
        "iRMSMax": each(&|_| json!(2.75)),
    })
}

/// A record of Short Energy, likewise.
pub(crate) fn short_record(timestamp: i64, channels: usize) -> Value {
    let each =
        |value: &dyn Fn(i64) -> Value| -> Vec<Value> { (1..).map(value).take(channels).collect() };
    json!({
        "timestamp": timestamp,
        "duration": 30,
        "frequency": 50.04,
        "eReal": each(&|n| json!(1150 * n)),
        "eReactive": each(&|n| json!(-857 * n)),
        "vRMS": each(&|_| json!(244.9)),
        "iRMS": each(&|_| json!(1.259)),
    })
}
