//! What the host's root says to anybody (specs/wattwatchers.md 2).

use meterd_http::{Context, Reply};
use meterd_model::Timestamp;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct Greeting {
    status: &'static str,
    time: String,
    version: &'static str,
}

/// `GET /`
pub(crate) async fn tell_status(context: Context) -> Reply<Greeting> {
    let second = Timestamp::from_seconds(context.now.seconds()).unwrap_or(context.now);
    Reply::ok(Greeting {
        status: "ok",
        // The original writes an offset, also where it is none.
        time: second.to_string().replace('Z', "+00:00"),
        version: env!("CARGO_PKG_VERSION"),
    })
}
