//! The way of a request, the same for every surface:
//! request id → normalise path → find surface → bound → the surface's own order of checks → handler → render.
//!
//! Each check either adds to [`Progress`] or ends the request with a fault, which the surface's dialect words.

use crate::body::BodyBounds;
use crate::clock::HandlerClock;
use crate::context::{Caller, Context, Facts, undecodable_parameter};
use crate::dialect::{Asked, Rendered};
use crate::failure::Failure;
use crate::fields::decode_percent;
use crate::idempotency;
use crate::metrics::{Finished, HttpMetrics};
use crate::proxy::TrustedProxies;
use crate::route::{Route, Target};
use crate::surface::{Answered, Step, Surface};
use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::response::Response;
use futures_util::FutureExt;
use meterd_control::{Control, Decision, LimitPolicy};
use meterd_fault::{Fault, Kind, LimitScope};
use meterd_model::Timestamp;
use prometheus_client::metrics::gauge::Gauge;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, error, info, warn};
use uuid::Uuid;

/// Bounds on requests. Each has a catalogued fault of its own.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Names and values of all headers together, and 32 bytes for each (as RFC 9113, 6.5.2 counts).
    pub headers_max_bytes: usize,
    pub uri_max_bytes: usize,
    /// Longest time for a handler.
    pub time_limit: Duration,
    /// Requests in hand; more are turned away at once.
    pub in_flight_max: usize,
    /// Memory for request bodies in hand.
    pub body_memory_max_bytes: usize,
    pub body_pause_max: Duration,
    pub body_total_max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            headers_max_bytes: 32 * 1024,
            uri_max_bytes: 8 * 1024,
            time_limit: Duration::from_secs(30),
            in_flight_max: 1024,
            body_memory_max_bytes: 512 * 1024 * 1024,
            body_pause_max: Duration::from_secs(10),
            body_total_max: Duration::from_mins(1),
        }
    }
}

const HEADER_OVERHEAD_BYTES: usize = 32;

/// Where a surface answers.
#[derive(Clone, Debug)]
pub struct Mount {
    /// `/v1`, or empty for whatever no other mount answers.
    pub prefix: &'static str,
    pub surface: Arc<dyn Surface>,
}

/// Everything between a listener and the handlers. One per server.
#[derive(Debug)]
pub struct Pipeline {
    mounts: Vec<Mount>,
    control: Arc<Control>,
    bounds: Bounds,
    body_bounds: BodyBounds,
    in_flight: Arc<Semaphore>,
    proxies: TrustedProxies,
    /// Replaces what the `Host` header says in links.
    public_url: Option<String>,
    pub metrics: HttpMetrics,
}

/// What has been established about a request so far.
#[derive(Default)]
struct Progress<'a> {
    route: Option<&'a Route>,
    params: Vec<(String, String)>,
    target: Option<Target>,
    caller: Option<Caller>,
    limits: Option<Decision>,
}

impl Pipeline {
    /// `mounts` must hold one with an empty prefix, which answers what no other does.
    pub fn new(
        mounts: Vec<Mount>,
        control: Arc<Control>,
        bounds: Bounds,
        proxies: TrustedProxies,
        public_url: Option<String>,
        metrics: HttpMetrics,
    ) -> Self {
        let body_bounds = BodyBounds {
            pause_max: bounds.body_pause_max,
            total_max: bounds.body_total_max,
            memory_kib: Arc::new(Semaphore::new(
                (bounds.body_memory_max_bytes / 1024).min(Semaphore::MAX_PERMITS),
            )),
        };
        Self {
            mounts,
            control,
            in_flight: Arc::new(Semaphore::new(bounds.in_flight_max)),
            bounds,
            body_bounds,
            proxies,
            public_url,
            metrics,
        }
    }

    /// Whether a surface of this name is mounted.
    pub fn serves(&self, surface: &str) -> bool {
        self.mounts
            .iter()
            .any(|mount| mount.surface.dialect().surface() == surface)
    }

    /// Answers one request. `only` names the surface of a listener that serves a single one, without prefix.
    pub async fn answer(&self, request: Request, peer: SocketAddr, only: Option<&str>) -> Response {
        let started = Instant::now();
        let now = Timestamp::of_system(SystemTime::now());
        let request_id = Uuid::now_v7();
        let (mut parts, body) = request.into_parts();
        let path = normal_path(parts.uri.path());
        let Some((mount, prefix, below)) = self.find_mount(&path, only) else {
            // Cannot happen with a mount for the rest; an empty answer beats a panic.
            return Response::default();
        };
        let surface = mount.surface.as_ref();
        let arrival = Arrival {
            request_id,
            now,
            client: self.proxies.client(peer.ip(), &parts.headers),
            base_url: self.base_url(peer.ip(), &parts),
            prefix,
            path: below,
        };
        let method = parts.method.clone();
        let asked_path = parts.uri.path().to_owned();
        let accept = parts
            .headers
            .get(header::ACCEPT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
            .to_owned();

        let mut progress = Progress::default();
        let result = self
            .run(surface, &arrival, &mut parts, body, &mut progress)
            .await;
        let (mut response, fault) = match result {
            Ok(response) => (response, None),
            Err(fault) => {
                let asked = Asked {
                    request_id,
                    method: method.as_str(),
                    path: &asked_path,
                    base_url: &arrival.base_url,
                    accept: &accept,
                    now,
                };
                let rendered = surface.dialect().render(&fault.kind, &asked);
                (into_response(rendered), Some(fault))
            }
        };
        let answered = Answered {
            request_id,
            now,
            limits: progress.limits.as_ref(),
            fault: fault.as_ref(),
        };
        surface.decorate(response.headers_mut(), &answered);
        if let Some(cors) = surface.cors() {
            cors.open(response.headers_mut());
        }
        response
            .headers_mut()
            .entry(header::X_CONTENT_TYPE_OPTIONS)
            .or_insert(axum::http::HeaderValue::from_static("nosniff"));
        response
            .headers_mut()
            .entry(header::CACHE_CONTROL)
            .or_insert(axum::http::HeaderValue::from_static("no-store"));
        self.finish(
            &Finished {
                surface: surface.dialect().surface(),
                route: progress.route.map_or("none", |route| route.template),
                method: method_label(&method),
                status: response.status().as_u16(),
                fault: fault.as_ref().map(|fault| fault.entry().code),
                duration: started.elapsed(),
            },
            &arrival,
            progress.caller.as_ref(),
            fault.as_ref(),
        );
        response
    }

    /// Which surface answers, below which prefix, and the path below that.
    fn find_mount<'p>(
        &self,
        path: &'p str,
        only: Option<&str>,
    ) -> Option<(&Mount, &'static str, &'p str)> {
        if let Some(name) = only {
            let named = |mount: &&Mount| mount.surface.dialect().surface() == name;
            let mount = self.mounts.iter().find(named)?;
            let rest = self.mounts.iter().find(|mount| mount.prefix.is_empty());
            let is_shared =
                mount.surface.shares(path) && mount.surface.routes().find(path).is_none();
            return Some((rest.filter(|_| is_shared).unwrap_or(mount), "", path));
        }
        self.mounts
            .iter()
            .filter_map(|mount| {
                let below = path.strip_prefix(mount.prefix)?;
                let whole = mount.prefix.is_empty() || below.is_empty() || below.starts_with('/');
                let below = if below.is_empty() { "/" } else { below };
                whole.then_some((mount, mount.prefix, below))
            })
            .max_by_key(|(_, prefix, _)| prefix.len())
    }

    fn base_url(&self, peer: IpAddr, parts: &Parts) -> String {
        self.public_url.clone().unwrap_or_else(|| {
            let authority = parts
                .uri
                .authority()
                .map(axum::http::uri::Authority::as_str);
            self.proxies.base_url(peer, &parts.headers, authority)
        })
    }

    async fn run<'s>(
        &self,
        surface: &'s dyn Surface,
        arrival: &Arrival<'_>,
        parts: &mut Parts,
        body: Body,
        progress: &mut Progress<'s>,
    ) -> Result<Response, Fault> {
        self.check_head(parts)?;
        find_route(surface, arrival, parts, progress);
        let _slot = self.take_slot(surface)?;
        if let Some(cors) = surface.cors()
            && parts.method == Method::OPTIONS
        {
            check(Step::Route, surface, arrival, parts, progress)?;
            self.take_limits(Step::AddressLimit, surface, arrival, progress)
                .await?;
            return Ok(cors.leave());
        }
        for step in surface.order() {
            match step {
                Step::AddressLimit | Step::RateLimit => {
                    self.take_limits(*step, surface, arrival, progress).await?;
                }
                step => check(*step, surface, arrival, parts, progress)?,
            }
        }
        let Some(target) = progress.target.take() else {
            return Err(Fault::internal("the surface's order has no method step"));
        };
        let traits = target.traits;
        let context = Context::new(Facts {
            request_id: arrival.request_id,
            now: arrival.now,
            client: arrival.client,
            base_url: arrival.base_url.clone(),
            prefix: arrival.prefix,
            caller: progress.caller.clone(),
            params: decode_params(&progress.params)?,
            body_limit_bytes: traits
                .body_limit_bytes
                .unwrap_or_else(|| surface.body_limit_bytes()),
        });
        let mut request = Request::from_parts(parts.clone(), body);
        request.extensions_mut().insert(context);
        let mut body_bounds = self.body_bounds.clone();
        if let Some(limit) = traits.body_time_limit {
            body_bounds.total_max = limit;
        }
        request.extensions_mut().insert(body_bounds);
        let time_limit = traits.time_limit.unwrap_or(self.bounds.time_limit);
        let clock = HandlerClock::start(time_limit);
        request.extensions_mut().insert(clock.clone());
        let handled = async {
            if traits.idempotent {
                idempotency::call(&self.control, target, request).await
            } else {
                Ok(target.call(request).await)
            }
        };
        let outcome = tokio::select! {
            outcome = AssertUnwindSafe(handled).catch_unwind() => outcome,
            () = clock.expired() => return Err(Kind::TimedOut { limit: time_limit }.into()),
        };
        let mut response = match outcome {
            Ok(result) => result?,
            // The panic hook has logged where and why.
            Err(_) => return Err(Fault::internal("the handler panicked")),
        };
        match response.extensions_mut().remove::<Failure>() {
            Some(Failure(fault)) => Err(fault),
            None => Ok(response),
        }
    }

    /// A place among the requests in hand, given back when dropped, also when the client goes away.
    fn take_slot(&self, surface: &dyn Surface) -> Result<Slot, Fault> {
        let permit = if surface.is_shed() {
            let permit = Arc::clone(&self.in_flight).try_acquire_owned();
            Some(permit.map_err(|_| Kind::Overloaded {
                retry_after: Duration::from_secs(1),
            })?)
        } else {
            None
        };
        self.metrics.in_flight.inc();
        Ok(Slot {
            _permit: permit,
            in_flight: self.metrics.in_flight.clone(),
        })
    }

    fn check_head(&self, parts: &Parts) -> Result<(), Fault> {
        let uri_bytes = parts.uri.path_and_query().map_or(0, |p| p.as_str().len());
        if uri_bytes > self.bounds.uri_max_bytes {
            return Err(Kind::UriTooLong {
                limit_bytes: self.bounds.uri_max_bytes as u64,
            }
            .into());
        }
        let header_bytes: usize = parts
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + HEADER_OVERHEAD_BYTES)
            .sum();
        if header_bytes > self.bounds.headers_max_bytes {
            return Err(Kind::HeadersTooLarge {
                limit_bytes: self.bounds.headers_max_bytes as u64,
            }
            .into());
        }
        Ok(())
    }

    /// Takes one request of every limit that counts it here, the credential's own and the surface's: of all or of none.
    async fn take_limits(
        &self,
        step: Step,
        surface: &dyn Surface,
        arrival: &Arrival<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<(), Fault> {
        let charges = charges(step, surface, arrival, progress);
        if charges.is_empty() {
            return Ok(());
        }
        let limits = self.control.limits();
        let now = arrival.now;
        let borrowed: Vec<_> = charges.iter().map(|(p, key)| (p, key.as_str())).collect();
        let decision = match limits.try_take(&borrowed, now) {
            Some(decision) => decision,
            // A quota has to be reserved on disk first.
            None => {
                let limits = limits.clone();
                tokio::task::spawn_blocking(move || {
                    let borrowed: Vec<_> =
                        charges.iter().map(|(p, key)| (p, key.as_str())).collect();
                    limits.take(&borrowed, now)
                })
                .await
                .map_err(Fault::internal)??
            }
        };
        let refused = decision.refused.clone();
        match &mut progress.limits {
            // What the step before it found stays to be shown.
            Some(limits) => limits.join(decision),
            limits => *limits = Some(decision),
        }
        refused.map_or(Ok(()), |hit| Err(Kind::RateLimited(hit).into()))
    }

    fn finish(
        &self,
        finished: &Finished,
        arrival: &Arrival<'_>,
        caller: Option<&Caller>,
        fault: Option<&Fault>,
    ) {
        self.metrics.record(finished);
        let credential = caller.map(|caller| caller.credential.id.to_string());
        info!(
            target: "access",
            request_id = %arrival.request_id,
            client = %arrival.client,
            surface = finished.surface,
            method = finished.method,
            route = finished.route,
            status = finished.status,
            fault = finished.fault.unwrap_or("-"),
            credential = credential.as_deref().unwrap_or("-"),
            duration_us = u64::try_from(finished.duration.as_micros()).unwrap_or(u64::MAX),
            "{} {}{} {}",
            finished.method, finished.surface, finished.route, finished.status,
        );
        if let Some(fault) = fault
            && let Some(context) = fault.log_context()
        {
            let (request_id, code) = (arrival.request_id, fault.entry().code);
            // What a client caused must not fill the log of what went wrong here.
            match fault.kind.as_ref() {
                Kind::Overloaded { .. } => {
                    warn!(%request_id, fault = code, "turned away: {context}");
                }
                _ if finished.status >= 500 => {
                    error!(%request_id, fault = code, "request failed: {context}");
                }
                _ => debug!(%request_id, fault = code, "request refused: {context}"),
            }
        }
    }
}

/// One request in hand.
struct Slot {
    _permit: Option<OwnedSemaphorePermit>,
    in_flight: Gauge,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}

/// What would handle the request, which tells the limits that count it wherever their step stands in the order. Whether
/// anything does is for the steps of route and method to tell the caller.
fn find_route<'s>(
    surface: &'s dyn Surface,
    arrival: &Arrival<'_>,
    parts: &Parts,
    progress: &mut Progress<'s>,
) {
    let query = parts.uri.query().unwrap_or("");
    let path = surface.route_path(arrival.path, query);
    if let Some((route, params)) = surface.routes().find(&path) {
        progress.target = route.target(&parts.method);
        progress.route = Some(route);
        progress.params = params;
    }
}

/// One check of the surface's order, the limits apart.
fn check(
    step: Step,
    surface: &dyn Surface,
    arrival: &Arrival<'_>,
    parts: &Parts,
    progress: &mut Progress<'_>,
) -> Result<(), Fault> {
    match step {
        Step::Route => {
            progress.route.ok_or(Kind::UnknownRoute)?;
        }
        Step::Method => {
            let route = progress.route.ok_or(Kind::UnknownRoute)?;
            if progress.target.is_none() {
                return Err(Kind::MethodNotAllowed {
                    allowed: route.allowed(),
                }
                .into());
            }
        }
        Step::Authenticate => {
            let public = progress
                .target
                .as_ref()
                .is_some_and(|target| target.traits.public);
            if !public {
                progress.caller = Some(surface.authenticate(parts, arrival.now)?);
            }
        }
        Step::Address => {
            if let Some(caller) = &progress.caller {
                caller.credential.check_address(arrival.client)?;
            }
        }
        Step::Organization => {
            if let Some(caller) = &progress.caller {
                surface.admit(caller, &progress.params)?;
            }
        }
        // Taken by the pipeline, since they may wait for a disk.
        Step::AddressLimit | Step::RateLimit => {}
    }
    Ok(())
}

/// The limits that count a request in this step, each with the name of what it is counted for.
fn charges(
    step: Step,
    surface: &dyn Surface,
    arrival: &Arrival<'_>,
    progress: &Progress<'_>,
) -> Vec<(LimitPolicy, String)> {
    let class = progress
        .target
        .as_ref()
        .map_or("default", |target| target.traits.class);
    let name = surface.dialect().surface();
    let credential = progress.caller.as_ref().map(|caller| &caller.credential);
    let own = credential.map_or(&[][..], |credential| credential.limits.as_slice());
    own.iter()
        .chain(surface.policies().iter().filter(|policy| {
            // A credential's own limit stands in for the surface's of the same name.
            !own.iter().any(|own| own.name == policy.name)
        }))
        .filter(|policy| policy.applies_to(class))
        .filter(|policy| {
            let early = policy.scope == LimitScope::Address
                && surface.order().contains(&Step::AddressLimit);
            early == (step == Step::AddressLimit)
        })
        .filter_map(|policy| {
            let holder = match policy.scope {
                LimitScope::Credential => credential?.id.to_string(),
                LimitScope::Organization => credential?.organization?.to_string(),
                LimitScope::Address => arrival.client.to_string(),
                LimitScope::Server => String::new(),
            };
            Some((policy.clone(), format!("{name}/{holder}")))
        })
        .collect()
}

/// A request as it arrived.
struct Arrival<'a> {
    request_id: Uuid,
    now: Timestamp,
    client: IpAddr,
    base_url: String,
    /// Where the surface answers on this listener; empty on its own one.
    prefix: &'static str,
    /// Below the prefix.
    path: &'a str,
}

/// Repeated slashes become one, and one at the end goes away, as every served API asks for.
fn normal_path(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        normal.push('/');
        normal.push_str(segment);
    }
    if normal.is_empty() {
        normal.push('/');
    }
    normal
}

fn decode_params(raw: &[(String, String)]) -> Result<Vec<(String, String)>, Fault> {
    raw.iter()
        .map(|(name, value)| {
            let decoded = decode_percent(value).ok_or_else(|| undecodable_parameter(name))?;
            Ok((name.clone(), decoded))
        })
        .collect()
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn into_response(rendered: Rendered) -> Response {
    let mut response = Response::new(Body::from(rendered.body));
    *response.status_mut() = rendered.status;
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in rendered.headers {
        headers.append(name, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::normal_path;

    #[test]
    fn paths_have_one_spelling() {
        for (given, normal) in [
            ("/", "/"),
            ("", "/"),
            ("//", "/"),
            ("/v1/meters", "/v1/meters"),
            ("//v1///meters/", "/v1/meters"),
            ("/v1/meters/a%2Fb", "/v1/meters/a%2Fb"),
        ] {
            assert_eq!(normal_path(given), normal);
        }
    }
}
