//! Figures about requests, for Prometheus. Every label comes from a closed set: route templates, not paths.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

/// Upper bounds of the duration buckets, in seconds.
const DURATION_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    surface: &'static str,
    route: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    surface: &'static str,
    route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabels {
    surface: &'static str,
    code: &'static str,
}

/// Counters of the request pipeline.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    faults: Family<FaultLabels, Counter>,
    pub in_flight: Gauge,
    pub connections: Gauge,
}

/// One finished request.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    pub surface: &'static str,
    /// Template of the route, or `none`.
    pub route: &'static str,
    pub method: &'static str,
    pub status: u16,
    pub fault: Option<&'static str>,
    pub duration: Duration,
}

impl HttpMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            faults: Family::default(),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
        };
        let group = registry.sub_registry_with_prefix("http");
        group.register("requests", "Requests answered", metrics.requests.clone());
        group.register_with_unit(
            "request_duration",
            "Time from the first byte of a request to the head of its answer",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        group.register(
            "faults",
            "Faults answered, by catalogue code",
            metrics.faults.clone(),
        );
        group.register(
            "requests_in_flight",
            "Requests in hand",
            metrics.in_flight.clone(),
        );
        group.register(
            "connections",
            "Open connections",
            metrics.connections.clone(),
        );
        metrics
    }

    pub(crate) fn record(&self, finished: &Finished) {
        let &Finished {
            surface,
            route,
            method,
            status,
            fault,
            duration,
        } = finished;
        self.requests
            .get_or_create(&RequestLabels {
                surface,
                route,
                method,
                status,
            })
            .inc();
        self.durations
            .get_or_create(&RouteLabels { surface, route })
            .observe(duration.as_secs_f64());
        if let Some(code) = fault {
            self.faults
                .get_or_create(&FaultLabels { surface, code })
                .inc();
        }
    }
}
