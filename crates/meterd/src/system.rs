//! What the server says about itself: health, metrics, documentation.

use crate::docs;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use meterd_control::LimitPolicy;
use meterd_engine::{Engine, Stats};
use meterd_fault::{Fault, Kind, Resource};
use meterd_http::route::{RouteTable, get};
use meterd_http::{
    Answered, Asked, Caller, Dialect, Failure, HEALTH_PATH, Params, Rendered, Reply, Routes, Step,
    Surface, request_id_header,
};
use meterd_model::Timestamp;
use meterd_surface_native::NativeDialect;
use prometheus_client::registry::Registry;
use serde::Serialize;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Words faults as the native surface does, under its own name in metrics and logs.
#[derive(Debug)]
struct SystemDialect;

impl Dialect for SystemDialect {
    fn surface(&self) -> &'static str {
        "system"
    }

    fn render(&self, kind: &Kind, asked: &Asked<'_>) -> Rendered {
        NativeDialect.render(kind, asked)
    }
}

#[derive(Debug)]
pub(crate) struct SystemSurface {
    routes: Routes,
}

#[derive(Clone, Debug)]
pub(crate) struct SystemState {
    pub(crate) engine: Arc<Engine>,
    pub(crate) registry: Arc<Registry>,
    /// Set while the server lets its last requests finish.
    pub(crate) draining: Arc<AtomicBool>,
}

impl SystemSurface {
    pub(crate) fn new(state: SystemState) -> Self {
        let routes = RouteTable::new(state)
            .route("/", [get(index).public()])
            .route(HEALTH_PATH, [get(healthz).public()])
            .route("/readyz", [get(readyz).public()])
            .route("/metrics", [get(metrics).public()])
            .route("/docs", [get(index).public()])
            .route("/docs/errors", [get(error_list).public()])
            .route("/docs/errors/{code}", [get(error_page).public()])
            .build();
        Self { routes }
    }
}

impl Surface for SystemSurface {
    fn dialect(&self) -> &dyn Dialect {
        &SystemDialect
    }

    fn order(&self) -> &'static [Step] {
        &[Step::Route, Step::Method, Step::Authenticate]
    }

    fn routes(&self) -> &Routes {
        &self.routes
    }

    fn authenticate(&self, _: &Parts, _: Timestamp) -> Result<Caller, Fault> {
        // Every route here is public.
        Err(Kind::CredentialsMissing.into())
    }

    fn policies(&self) -> &[LimitPolicy] {
        &[]
    }

    fn body_limit_bytes(&self) -> u64 {
        0
    }

    fn is_shed(&self) -> bool {
        false
    }

    fn decorate(&self, headers: &mut HeaderMap, answered: &Answered<'_>) {
        request_id_header(headers, answered.request_id);
    }
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
}

/// The process answers.
async fn healthz() -> Reply<Health> {
    Reply::ok(Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// The process takes measurements.
async fn readyz(State(state): State<SystemState>) -> Result<Reply<Health>, Failure> {
    const AGAIN: Duration = Duration::from_secs(5);
    if state.draining.load(Ordering::Relaxed) {
        return Err(Kind::ShuttingDown { retry_after: AGAIN }.into());
    }
    if !state.engine.is_writable() {
        return Err(Kind::StorageUnavailable { retry_after: AGAIN }.into());
    }
    Ok(Reply::ok(Health {
        status: "ready",
        version: env!("CARGO_PKG_VERSION"),
    }))
}

/// Prometheus text (`OpenMetrics` 1.0).
async fn metrics(State(state): State<SystemState>) -> Result<Response, Failure> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &state.registry)
        .map_err(Fault::internal)?;
    // The encoder ends with the end marker, which must stay last.
    let body = text.trim_end().trim_end_matches("# EOF").to_owned();
    let body = format!("{body}{}# EOF\n", engine_metrics(&state.engine.stats()));
    let content_type =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
}

fn engine_metrics(stats: &Stats) -> String {
    let figures = [
        (
            "measurements",
            "gauge",
            "Measurements that count",
            stats.measurements,
        ),
        ("ids", "gauge", "Distinct measurement ids", stats.ids),
        ("log_bytes", "gauge", "Bytes of the log", stats.log_bytes),
        ("log_files", "gauge", "Files of the log", stats.log_files),
        (
            "segments",
            "gauge",
            "Segments of measurements",
            stats.segments,
        ),
        (
            "segment_bytes",
            "gauge",
            "Bytes of the segments",
            stats.segment_bytes,
        ),
        (
            "answer_bytes",
            "gauge",
            "Bytes kept of what segments answered",
            stats.answer_bytes,
        ),
        (
            "answers_found",
            "counter",
            "Segments that a query did not have to read",
            stats.answers_found,
        ),
        (
            "answers_missed",
            "counter",
            "Segments read whose answer could have been kept",
            stats.answers_missed,
        ),
        (
            "settled",
            "gauge",
            "Whether nothing is left to merge while nothing comes",
            u64::from(stats.settled),
        ),
        (
            "id_bytes",
            "gauge",
            "Bytes of the ids on disk",
            stats.id_bytes,
        ),
        (
            "queue_batches",
            "gauge",
            "Batches waiting for the log",
            stats.queue_batches,
        ),
        ("groups", "counter", "Groups committed", stats.groups),
        ("batches", "counter", "Batches answered", stats.batches),
        ("syncs", "counter", "Syncs of the log", stats.syncs),
        (
            "log_failures",
            "counter",
            "Failed writes and syncs",
            stats.log_failures,
        ),
        (
            "writable",
            "gauge",
            "Whether the log takes writes",
            u64::from(stats.writable),
        ),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in figures {
        let name = format!("meterd_engine_{name}");
        let suffix = if kind == "counter" { "_total" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name}{suffix} {value}"
        );
    }
    text
}

async fn index() -> Html<String> {
    Html(docs::index())
}

async fn error_list() -> Html<String> {
    Html(docs::error_list())
}

async fn error_page(params: Params) -> Result<Html<String>, Failure> {
    let code = params.get("code");
    docs::error_page(code).map(Html).ok_or_else(|| {
        Kind::ResourceNotFound {
            resource: Resource::Resource,
            id: meterd_fault::quote(code),
        }
        .into()
    })
}
