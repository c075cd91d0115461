//! The documentation that the server itself serves. Error pages come from the catalogue.

use crate::errors::dialects;
use meterd_fault::{Advice, Code, Entry, Stored};
use meterd_http::Asked;
use std::fmt::Write as _;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1c1f23;background:#fff}\
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2rem}a{color:#0b5fa5}code,pre{font:14px/1.45 ui-monospace,monospace;background:#f3f5f7;border-radius:4px}\
code{padding:.1em .3em}pre{padding:.8rem;overflow:auto}table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #e2e6ea;vertical-align:top}\
.tag{display:inline-block;padding:.1rem .5rem;border-radius:1rem;background:#e8f1f8;margin-right:.4rem;font-size:.85rem}\
@media(prefers-color-scheme:dark){body{color:#e6e8ea;background:#15181b}code,pre{background:#22272c}td,th{border-color:#333a41}a{color:#6cb6ff}.tag{background:#1f3344}}";

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title} · meterd</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

pub(crate) fn index() -> String {
    page(
        "Documentation",
        "<h1>meterd</h1><p>Measurements in, exact answers out.</p><ul>\
         <li><a href=\"/v1/openapi.json\">OpenAPI document of <code>/v1</code></a></li>\
         <li><a href=\"/docs/errors\">Every error, and what to do about it</a></li>\
         <li><a href=\"/v1/faults\">The same as JSON</a></li>\
         <li><a href=\"/healthz\"><code>/healthz</code></a>, <a href=\"/readyz\"><code>/readyz</code></a>, \
         <a href=\"/metrics\"><code>/metrics</code></a></li></ul>",
    )
}

pub(crate) fn error_list() -> String {
    let mut rows = String::new();
    for code in Code::all() {
        let Entry {
            code,
            title,
            remedy,
            ..
        } = code.entry();
        let _ = write!(
            rows,
            "<tr><td><a href=\"/docs/errors/{code}\"><code>{code}</code></a></td><td>{}</td><td>{}</td></tr>",
            escape(title),
            escape(remedy)
        );
    }
    page(
        "Errors",
        &format!(
            "<h1>Errors</h1><table><tr><th>code</th><th>what happened</th><th>what to do</th></tr>{rows}</table>"
        ),
    )
}

pub(crate) fn error_page(name: &str) -> Option<String> {
    let code = Code::all().find(|code| code.entry().code == name)?;
    let entry = code.entry();
    let sample = code.sample();
    let mut body = format!(
        "<p><a href=\"/docs/errors\">Errors</a></p><h1>{}</h1><p><span class=\"tag\">{}</span><span class=\"tag\">{}</span></p>\
         <p>For example: {}</p><h2>What to do</h2><p>{}</p><p>{}</p><p>{}</p><h2>As each API words it</h2>",
        escape(entry.title),
        entry.code,
        entry.advice.code(),
        escape(&sample.to_string()),
        escape(entry.remedy),
        advice_sentence(entry.advice),
        stored_sentence(entry.stored),
    );
    for dialect in dialects() {
        let rendered = dialect.render(&sample, &Asked::example());
        let text = String::from_utf8_lossy(&rendered.body);
        let pretty = serde_json::from_str::<serde_json::Value>(&text)
            .and_then(|json| serde_json::to_string_pretty(&json))
            .unwrap_or_else(|_| text.into_owned());
        let _ = write!(
            body,
            "<h2>{} <span class=\"tag\">{}</span></h2><pre>{}</pre>",
            dialect.surface(),
            rendered.status.as_u16(),
            escape(&pretty)
        );
    }
    Some(page(entry.title, &body))
}

pub(crate) fn advice_sentence(advice: Advice) -> &'static str {
    match advice {
        Advice::FixRequest => "The same request will fail again: change it first.",
        Advice::AuthenticateAgain => "The same credentials will fail again: get good ones first.",
        Advice::AskForPermission => "The same request will fail until somebody grants more.",
        Advice::WaitThenRetry => {
            "The same request can succeed after the time that the answer names."
        }
        Advice::RetryWithBackOff => {
            "The same request can succeed later; wait longer after each failure."
        }
        Advice::CallOperator => "Only the operator can help.",
    }
}

pub(crate) fn stored_sentence(stored: Stored) -> &'static str {
    match stored {
        Stored::None => "Nothing of the request was stored.",
        Stored::Unknown => {
            "Whether something was stored is not known. Sending the same ids again is safe: nothing counts twice."
        }
    }
}
