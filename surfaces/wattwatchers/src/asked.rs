//! What a request for energy asks: of which device, and with which parameters (specs/wattwatchers.md 3.6).

use crate::access::Reader;
use crate::app::App;
use crate::device::Device;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use meterd_control::Stored;
use meterd_fault::{Fault, Format, Problem, Rule};
use meterd_http::body::read_query;
use meterd_http::fields::{Fields, Form};
use meterd_http::{Failure, Params};
use meterd_model::Timestamp;
use std::sync::Arc;

/// A request about a device that its caller sees, which is known before any parameter is looked at.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) app: App,
    pub(crate) device: Arc<Stored<Device>>,
    pub(crate) now: Timestamp,
    query: String,
}

impl FromRequestParts<App> for Asked {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let reader = Reader::from_request_parts(parts, app).await?;
        let params = Params::from_request_parts(parts, app).await?;
        Ok(Self {
            app: app.clone(),
            device: reader.device(app, params.get("id"))?,
            now: reader.now(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
        })
    }
}

impl Asked {
    /// What the parameters say that `read` takes, or what is wrong in their syntax. Others are ignored.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> T) -> Result<T, Fault> {
        read_query(&self.query, Form::LENIENT, |fields| Some(read(fields)))
    }
}

/// A parameter's text; an empty one counts as absent. A plus sign means itself, though it should have been encoded: it
/// stands in words and names of zones, where a blank does not (3.6).
pub(crate) fn text(fields: &mut Fields<'_>, name: &'static str) -> Option<String> {
    let text = fields.string(name).filter(|text| !text.is_empty())?;
    Some(text.replace(' ', "+"))
}

/// A parameter that is a word of a closed list.
pub(crate) fn word<T: Copy>(
    fields: &mut Fields<'_>,
    name: &'static str,
    words: &[(&'static str, T)],
) -> Option<T> {
    let text = text(fields, name)?;
    let found = words.iter().find(|(word, _)| *word == text);
    if found.is_none() {
        let allowed = words.iter().map(|(word, _)| (*word).into()).collect();
        let problem = Problem::query(name, Rule::OneOf { allowed });
        fields.problems().push(problem.with_value(&text));
    }
    found.map(|(_, value)| *value)
}

/// A parameter that is an integer of any size, as text.
pub(crate) fn integer(fields: &mut Fields<'_>, name: &'static str) -> Option<String> {
    let text = text(fields, name)?;
    let digits = text.strip_prefix('-').unwrap_or(&text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text);
    }
    let format = Format::EpochSeconds;
    let problem = Problem::query(name, Rule::Format { format });
    fields.problems().push(problem.with_value(&text));
    None
}
