//! The `OpenAPI` 3.1 document of `/v1`.
//!
//! Operations are a table; the answers they may fail with come from the catalogue, grouped by status as the dialect
//! gives it. The contract tests hold the table against the router, both ways.

use crate::dialect::status;
use meterd_fault::{Code, Kind};
use meterd_http::{Context, Reply};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// `GET /v1/openapi.json`
pub(crate) async fn openapi_json(context: Context) -> Reply<Value> {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(document);
    let mut document = DOCUMENT.clone();
    // On a listener of its own the surface has no prefix.
    if let Some(server) = document.pointer_mut("/servers/0/url") {
        *server = if context.prefix.is_empty() {
            "/"
        } else {
            context.prefix
        }
        .into();
    }
    Reply::ok(document)
}

/// The whole document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let path = paths
            .entry(operation.path)
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(methods) = path {
            methods.insert(operation.method.to_owned(), operation.describe());
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "meterd",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Metering: measurements in, exact answers out.",
            "description": "A success means stored: the measurement is on disk, kept once, and visible to the next query. A failure is a problem detail (RFC 9457) that says what to do next.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/v1"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key, `mtr_…`."},
            },
            "schemas": schemas(),
        },
    })
}

/// What an operation takes besides path parameters.
#[derive(Clone, Copy)]
enum Input {
    None,
    /// Names of [`parameter`]s.
    Query(&'static [&'static str]),
    /// Name of a schema.
    Body(&'static str),
    Ingest,
}

struct Operation {
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    tag: &'static str,
    /// None for public ones.
    permission: Option<&'static str>,
    input: Input,
    idempotent: bool,
    status: &'static str,
    /// Schema of the success; none for 204.
    answer: Option<&'static str>,
    faults: &'static [Code],
}

const PAGE: &[&str] = &["limit", "cursor"];

#[rustfmt::skip]
const OPERATIONS: &[Operation] = &[
    Operation { method: "get", path: "/meters", id: "list_meters", summary: "List meters, newest first", tag: "meters", permission: Some("meters:read"), input: Input::Query(PAGE), idempotent: false, status: "200", answer: Some("MeterPage"), faults: &[Code::Invalid] },
    Operation { method: "post", path: "/meters", id: "create_meter", summary: "Create a meter", tag: "meters", permission: Some("meters:write"), input: Input::Body("NewMeter"), idempotent: true, status: "201", answer: Some("Meter"), faults: &[Code::ResourceExists] },
    Operation { method: "get", path: "/meters/{name}", id: "get_meter", summary: "Read a meter", tag: "meters", permission: Some("meters:read"), input: Input::None, idempotent: false, status: "200", answer: Some("Meter"), faults: &[Code::ResourceNotFound, Code::Invalid] },
    Operation { method: "put", path: "/meters/{name}", id: "replace_meter", summary: "Replace a meter's definition; fields that hold data stay", tag: "meters", permission: Some("meters:write"), input: Input::Body("MeterChange"), idempotent: false, status: "200", answer: Some("Meter"), faults: &[Code::ResourceNotFound, Code::VersionMismatch, Code::ReferenceBroken, Code::ActionNotSupported] },
    Operation { method: "delete", path: "/meters/{name}", id: "delete_meter", summary: "Delete a meter that holds no measurements", tag: "meters", permission: Some("meters:write"), input: Input::None, idempotent: false, status: "204", answer: None, faults: &[Code::ResourceNotFound, Code::ResourceInUse, Code::ActionNotSupported, Code::Invalid] },
    Operation { method: "post", path: "/measurements", id: "ingest_measurements", summary: "Send measurements; each id is stored once", tag: "measurements", permission: Some("measurements:write"), input: Input::Ingest, idempotent: false, status: "200", answer: Some("IngestAnswer"), faults: &[Code::StorageFull, Code::StorageUnavailable] },
    Operation { method: "get", path: "/measurements", id: "list_measurements", summary: "List stored measurements, newest first", tag: "measurements", permission: Some("measurements:read"), input: Input::Query(&["meter", "subject", "from", "to", "limit", "cursor"]), idempotent: false, status: "200", answer: Some("MeasurementPage"), faults: &[Code::Invalid, Code::QueryTooExpensive] },
    Operation { method: "get", path: "/measurements/{id}", id: "trace_measurement", summary: "What became of a measurement", tag: "measurements", permission: Some("measurements:read"), input: Input::None, idempotent: false, status: "200", answer: Some("Trace"), faults: &[Code::ResourceNotFound, Code::Invalid] },
    Operation { method: "delete", path: "/measurements/{id}", id: "void_measurement", summary: "Withdraw a measurement: it no longer counts, its trace stays", tag: "measurements", permission: Some("measurements:write"), input: Input::None, idempotent: false, status: "204", answer: None, faults: &[Code::ResourceNotFound, Code::Invalid] },
    Operation { method: "post", path: "/voids", id: "void_measurements", summary: "Withdraw many measurements", tag: "measurements", permission: Some("measurements:write"), input: Input::Body("Voids"), idempotent: false, status: "200", answer: Some("VoidAnswer"), faults: &[] },
    Operation { method: "post", path: "/query", id: "query", summary: "Aggregate measurements by window and group", tag: "measurements", permission: Some("measurements:read"), input: Input::Body("Query"), idempotent: false, status: "200", answer: Some("QueryAnswer"), faults: &[Code::QueryTooExpensive] },
    Operation { method: "get", path: "/export", id: "export", summary: "All measurements of a meter that count, in no order, as a stream that can be imported; a connection that breaks off means that some are missing, which HTTP/1.0 cannot tell", tag: "measurements", permission: Some("measurements:read"), input: Input::Query(&["meter", "from", "to", "format"]), idempotent: false, status: "200", answer: None, faults: &[Code::Invalid, Code::ActionNotSupported] },
    Operation { method: "get", path: "/events", id: "list_events", summary: "Changes and ingest events of the organization, or the server's own for its administrator, newest first", tag: "events", permission: Some("events:read"), input: Input::Query(&["type", "limit", "cursor"]), idempotent: false, status: "200", answer: Some("EventPage"), faults: &[Code::Invalid] },
    Operation { method: "get", path: "/organizations", id: "list_organizations", summary: "List organizations", tag: "administration", permission: Some("organizations:read"), input: Input::Query(PAGE), idempotent: false, status: "200", answer: Some("OrganizationPage"), faults: &[Code::Invalid] },
    Operation { method: "post", path: "/organizations", id: "create_organization", summary: "Create an organization", tag: "administration", permission: Some("organizations:write"), input: Input::Body("NewOrganization"), idempotent: true, status: "201", answer: Some("Organization"), faults: &[Code::ResourceExists] },
    Operation { method: "get", path: "/organizations/{name}", id: "get_organization", summary: "Read an organization", tag: "administration", permission: Some("organizations:read"), input: Input::None, idempotent: false, status: "200", answer: Some("Organization"), faults: &[Code::ResourceNotFound, Code::Invalid] },
    Operation { method: "get", path: "/credentials", id: "list_credentials", summary: "List an organization's credentials, or the administrators'", tag: "administration", permission: Some("credentials:read"), input: Input::Query(&["organization", "limit", "cursor"]), idempotent: false, status: "200", answer: Some("CredentialPage"), faults: &[Code::Invalid] },
    Operation { method: "post", path: "/credentials", id: "create_credential", summary: "Create a credential; its secret is shown once", tag: "administration", permission: Some("credentials:write"), input: Input::Body("NewCredential"), idempotent: true, status: "201", answer: Some("Credential"), faults: &[] },
    Operation { method: "get", path: "/credentials/{id}", id: "get_credential", summary: "Read a credential", tag: "administration", permission: Some("credentials:read"), input: Input::None, idempotent: false, status: "200", answer: Some("Credential"), faults: &[Code::ResourceNotFound, Code::Invalid] },
    Operation { method: "patch", path: "/credentials/{id}", id: "change_credential", summary: "Edit a credential, which keeps its secret; acts on its next request", tag: "administration", permission: Some("credentials:write"), input: Input::Body("CredentialEdit"), idempotent: false, status: "200", answer: Some("Credential"), faults: &[Code::ResourceNotFound, Code::TransitionNotAllowed] },
    Operation { method: "delete", path: "/credentials/{id}", id: "revoke_credential", summary: "Revoke a credential for good", tag: "administration", permission: Some("credentials:write"), input: Input::None, idempotent: false, status: "204", answer: None, faults: &[Code::ResourceNotFound, Code::Invalid, Code::TransitionNotAllowed] },
    Operation { method: "post", path: "/credentials/{id}/rotate", id: "rotate_credential", summary: "Give a credential a new secret", tag: "administration", permission: Some("credentials:write"), input: Input::Body("Rotation"), idempotent: true, status: "200", answer: Some("Credential"), faults: &[Code::ResourceNotFound, Code::TransitionNotAllowed] },
    Operation { method: "post", path: "/backups", id: "create_backup", summary: "Back the whole server up to a directory on its machine; answers when it is done", tag: "administration", permission: Some("backups:write"), input: Input::Body("NewBackup"), idempotent: false, status: "201", answer: Some("Backup"), faults: &[] },
    Operation { method: "get", path: "/faults", id: "list_faults", summary: "The catalogue of faults", tag: "about", permission: None, input: Input::None, idempotent: false, status: "200", answer: Some("FaultCatalogue"), faults: &[] },
    Operation { method: "get", path: "/openapi.json", id: "openapi_json", summary: "This document", tag: "about", permission: None, input: Input::None, idempotent: false, status: "200", answer: Some("OpenApi"), faults: &[] },
];

/// What any operation may fail with.
const ALWAYS: &[Code] = &[
    Code::UnknownRoute,
    Code::MethodNotAllowed,
    Code::HeadersTooLarge,
    Code::UriTooLong,
    Code::RateLimited,
    Code::Overloaded,
    Code::ShuttingDown,
    Code::TimedOut,
    Code::Internal,
];
const AUTHENTICATED: &[Code] = &[
    Code::CredentialsMissing,
    Code::CredentialsMalformed,
    Code::CredentialsUnknown,
    Code::CredentialsDisabled,
    Code::CredentialsRevoked,
    Code::CredentialsExpired,
    Code::AddressNotAllowed,
    Code::PermissionMissing,
];
const WITH_BODY: &[Code] = &[
    Code::BodyMalformed,
    Code::BodyTooLarge,
    Code::BodyTimeout,
    Code::MediaTypeUnsupported,
    Code::ContentEncodingUnsupported,
    Code::Invalid,
];
const IDEMPOTENT: &[Code] = &[
    Code::IdempotencyKeyReused,
    Code::IdempotencyInProgress,
    Code::StorageFull,
    Code::StorageUnavailable,
];
const WRITES: &[Code] = &[Code::StorageFull, Code::StorageUnavailable];

impl Operation {
    fn describe(&self) -> Value {
        let mut described = json!({
            "operationId": self.id,
            "summary": self.summary,
            "tags": [self.tag],
            "parameters": self.parameters(),
            "responses": self.responses(),
        });
        if let Value::Object(members) = &mut described {
            match self.permission {
                Some(permission) => {
                    members.insert(
                        "description".into(),
                        format!("Needs the permission `{permission}`.").into(),
                    );
                }
                None => {
                    members.insert("security".into(), json!([]));
                }
            }
            if let Some(body) = self.request_body() {
                members.insert("requestBody".into(), body);
            }
        }
        described
    }

    fn parameters(&self) -> Vec<Value> {
        let mut parameters = Vec::new();
        if let Some((_, rest)) = self.path.split_once('{') {
            let name = rest.split('}').next().unwrap_or_default();
            parameters.push(json!({
                "name": name, "in": "path", "required": true,
                "schema": path_parameter(self.path),
            }));
        }
        match self.input {
            Input::Query(names) => parameters.extend(names.iter().map(|name| parameter(name))),
            Input::Ingest => {
                parameters.extend(["on_error", "on_conflict"].map(parameter));
            }
            Input::None | Input::Body(_) => {}
        }
        if self.idempotent {
            parameters.push(json!({
                "name": "Idempotency-Key", "in": "header", "required": false,
                "description": "The same key with the same request within 24 hours gets the first answer again; secrets are left out of it.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\t -~]+$"},
            }));
        }
        parameters
    }

    fn request_body(&self) -> Option<Value> {
        match self.input {
            Input::Body(schema) => Some(json!({
                "required": true,
                "content": {"application/json": {"schema": reference(schema)}},
            })),
            Input::Ingest => Some(json!({
                "required": true,
                "description": "JSON, or one measurement a line. May be compressed (Content-Encoding gzip or zstd).",
                "content": {
                    "application/json": {"schema": reference("Batch")},
                    "application/x-ndjson": {"schema": {"type": "string"}},
                },
            })),
            Input::None | Input::Query(_) => None,
        }
    }

    fn codes(&self) -> Vec<Code> {
        let mut codes = ALWAYS.to_vec();
        if self.permission.is_some() {
            codes.extend(AUTHENTICATED);
            codes.extend(match self.tag {
                "administration" => Some(Code::AdministratorRequired),
                // Whose events they are follows from the key.
                "events" => None,
                _ => Some(Code::OrganizationRequired),
            });
        }
        if matches!(self.input, Input::Body(_) | Input::Ingest) {
            codes.extend(WITH_BODY);
        }
        if self.idempotent {
            codes.extend(IDEMPOTENT);
        }
        if self.method != "get" && self.id != "query" {
            codes.extend(WRITES);
        }
        codes.extend(self.faults);
        codes.sort_unstable();
        codes.dedup();
        codes
    }

    fn responses(&self) -> Value {
        let mut responses = Map::new();
        let mut success = json!({"description": "Success."});
        if let (Value::Object(members), Some(schema)) = (&mut success, self.answer) {
            members.insert(
                "content".into(),
                json!({"application/json": {"schema": reference(schema)}}),
            );
        }
        if let Value::Object(members) = &mut success {
            members.insert(
                "headers".into(),
                json!({"X-Request-Id": {"schema": {"type": "string", "format": "uuid"}}}),
            );
        }
        if let (Value::Object(members), "export") = (&mut success, self.id) {
            if let Some(Value::Object(headers)) = members.get_mut("headers") {
                headers.insert("Content-Disposition".into(), json!({
                    "description": "A file name. Texts in CSV stand as they were sent, also what a spreadsheet would take for a formula.",
                    "schema": {"type": "string"},
                }));
            }
            members.insert("content".into(), json!({
                "application/x-ndjson": {"schema": {"type": "string"}},
                "text/csv": {"schema": {"type": "string"}},
                "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
            }));
        }
        responses.insert(self.status.to_owned(), success);
        let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
        for code in self.codes() {
            let kind = code.sample();
            by_status
                .entry(status(&kind).as_u16())
                .or_default()
                .push(kind);
        }
        for (status, kinds) in by_status {
            let lines: Vec<_> = kinds
                .iter()
                .map(|kind| format!("`{}`: {}", kind.entry().code, kind.entry().title))
                .collect();
            responses.insert(
                status.to_string(),
                json!({
                    "description": lines.join("; "),
                    "content": {"application/problem+json": {"schema": reference("Problem")}},
                }),
            );
        }
        Value::Object(responses)
    }
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn parameter(name: &str) -> Value {
    let (schema, description) = match name {
        "limit" => (
            json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
            "Items on a page.",
        ),
        "cursor" => (
            json!({"type": "string", "minLength": 1}),
            "The `next_cursor` of the page before.",
        ),
        "meter" => (json!({"type": "string"}), "Name of a meter."),
        "subject" => (subject(), "What was measured."),
        "from" => (time(), "At or after."),
        "to" => (time(), "Before."),
        "type" => (
            json!({"type": "string"}),
            "Type of event, e.g. `meter.created`.",
        ),
        "format" => (
            json!({"type": "string", "enum": ["ndjson", "csv", "parquet"], "default": "ndjson"}),
            "Form of the answer.",
        ),
        "on_conflict" => (
            json!({"type": "string", "enum": ["reject", "replace"], "default": "reject"}),
            "What to do with an id that is stored with other content, or was withdrawn: refuse it as a conflict, or store a new version, which then counts.",
        ),
        "on_error" => (
            json!({"type": "string", "enum": ["abort", "skip"], "default": "abort"}),
            "Whether one bad measurement refuses the batch or only itself.",
        ),
        _ => (json!({"type": "string"}), "Name or id of an organization."),
    };
    json!({"name": name, "in": "query", "required": false, "description": description, "schema": schema})
}

fn path_parameter(path: &str) -> Value {
    if path.starts_with("/meters/") {
        name(80)
    } else if path.starts_with("/organizations/") {
        organization_name()
    } else if path.starts_with("/credentials/") {
        json!({"type": "string", "format": "uuid"})
    } else {
        measurement_id()
    }
}

fn organization_name() -> Value {
    json!({"type": "string", "pattern": "^[a-z0-9][a-z0-9-]*$", "minLength": 1, "maxLength": 64})
}

fn measurement_id() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 128, "description": "Chosen by you; unique in the organization, for ever."})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time", "examples": ["2026-11-01T00:00:00Z"]})
}

fn subject() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 128})
}

fn name(max: u32) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": max, "pattern": "^[A-Za-z][A-Za-z0-9_.-]*$"})
}

fn decimal() -> Value {
    json!({
        "type": "string",
        "pattern": "^-?[0-9]+(\\.[0-9]+)?$",
        "description": "Exact decimal.",
    })
}

fn nullable(mut schema: Value) -> Value {
    if let Value::Object(members) = &mut schema
        && let Some(kind) = members.get("type").cloned()
    {
        members.insert("type".into(), json!([kind, "null"]));
    }
    schema
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "reads as one literal at the call"
)]
fn object(required: &[&str], properties: Value) -> Value {
    json!({
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": false,
    })
}

fn page_of(schema: &str) -> Value {
    object(
        &["items", "next_cursor"],
        json!({
            "items": {"type": "array", "items": reference(schema)},
            "next_cursor": {"type": ["string", "null"], "description": "Null on the last page."},
        }),
    )
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "reads as one literal at the call"
)]
fn map_of(keys: Value, values: Value, max: u32) -> Value {
    json!({"type": "object", "propertyNames": keys, "additionalProperties": values, "maxProperties": max})
}

fn schemas() -> Value {
    let value_fields = map_of(
        name(64),
        object(
            &[],
            json!({"unit": {"type": "string", "minLength": 1, "maxLength": 32, "default": "1", "description": "UCUM code."}}),
        ),
        32,
    );
    let attributes =
        json!({"type": "array", "items": name(64), "uniqueItems": true, "maxItems": 32});
    let kind = json!({"type": "string", "enum": ["delta", "gauge", "register"]});
    let retention_days = json!({
        "type": ["integer", "null"], "minimum": 1, "maximum": meterd_control::RETENTION_DAYS_MAX,
        "description": "Days after which measurements are dropped, a whole calendar month (UTC) at a time; their ids stay known. Null: never.",
    });
    let text = json!({"type": "string"});
    let text_map = json!({"type": "object", "additionalProperties": text.clone()});
    let meter_shown = json!({
        "id": {"type": "string", "format": "uuid"}, "name": name(80), "kind": kind.clone(),
        "values": value_fields.clone(), "attributes": attributes.clone(),
        "retention_days": retention_days.clone(),
        "managed_by": {"type": ["string", "null"], "description": "The surface that made the meter for itself: it is not deleted, nor defined anew, here."},
        "version": {"type": "integer", "minimum": 1}, "created_at": time(), "updated_at": time(),
    });
    let permissions = json!({"type": "array", "minItems": 1, "maxItems": 64, "items": {"type": "string", "anyOf": [
        {"enum": crate::access::grantable()}, {"description": "Or a scope of the surface.", "pattern": "^[a-z_]+:[a-z_]+$"},
    ]}});
    let addresses = json!({"type": ["array", "null"], "maxItems": 64, "items": {"type": "string", "examples": ["192.0.2.0/24"]}});
    let limits = json!({"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}, "description": "Numbers in place of those of the surface's limits, by their names."});
    let environment = json!({"type": "string", "enum": ["live", "test"], "default": "live", "description": "Which of the organization's data sets it works on, where its surface knows two."});
    json!({
        "Meter": object(&["id", "name", "kind", "values", "attributes", "retention_days", "managed_by", "version", "created_at", "updated_at"], meter_shown.clone()),
        "MeterPage": page_of("Meter"),
        "NewMeter": object(&["name", "kind"], json!({
            "name": name(80), "kind": kind.clone(), "values": nullable(value_fields.clone()), "attributes": nullable(attributes.clone()),
            "retention_days": retention_days.clone(),
        })),
        "MeterChange": object(&["name", "kind"], json!({
            "name": name(80), "kind": kind, "values": nullable(value_fields), "attributes": nullable(attributes),
            "retention_days": retention_days,
            "version": {"type": ["integer", "null"], "minimum": 1, "description": "The version you have seen; another one is a conflict."},
            "id": {}, "managed_by": {}, "created_at": {}, "updated_at": {},
        })),
        "NewMeasurement": object(&["id", "meter", "subject", "time"], json!({
            "id": measurement_id(),
            "meter": name(80),
            "subject": subject(),
            "time": time(),
            "end_time": nullable(time()),
            "values": {"type": ["object", "null"], "additionalProperties": {"type": ["number", "string", "null"], "description": "Up to 20 digits before and 18 after the point; a string keeps what a binary number would lose."}},
            "attributes": {"type": ["object", "null"], "additionalProperties": {"type": ["string", "null"], "maxLength": 256}},
        })),
        "Batch": object(&["measurements"], json!({
            "measurements": {"type": "array", "items": reference("NewMeasurement"), "minItems": 1, "maxItems": 10000},
        })),
        "IngestAnswer": object(&["accepted", "duplicate", "conflict", "rejected", "items"], json!({
            "accepted": {"type": "integer", "minimum": 0},
            "replaced": {"type": "integer", "minimum": 0, "description": "Only with `on_conflict=replace`."}, "duplicate": {"type": "integer", "minimum": 0, "description": "Known already with the same content; stored, unless the meter's retention has dropped it since."},
            "conflict": {"type": "integer", "minimum": 0}, "rejected": {"type": "integer", "minimum": 0},
            "items": {"type": "array", "description": "Those not accepted.", "items": object(&["index", "id", "verdict", "fault"], json!({
                "index": {"type": "integer", "minimum": 0},
                "id": {"type": ["string", "null"]},
                "verdict": {"type": "string", "enum": ["duplicate", "conflict", "rejected"]},
                "fault": {"oneOf": [{"type": "null"}, reference("ItemFault")]},
            }))},
        })),
        "Voids": object(&["ids"], json!({
            "ids": {"type": "array", "minItems": 1, "maxItems": 10000, "items": {"type": "string", "minLength": 1, "maxLength": 128}},
        })),
        "VoidAnswer": object(&["voided", "already_voided", "not_found", "items"], json!({
            "voided": {"type": "integer", "minimum": 0}, "already_voided": {"type": "integer", "minimum": 0},
            "not_found": {"type": "integer", "minimum": 0},
            "items": {"type": "array", "description": "Those not voided now.", "items": object(&["index", "id", "outcome"], json!({
                "index": {"type": "integer", "minimum": 0}, "id": text,
                "outcome": {"type": "string", "enum": ["already_voided", "not_found"]},
            }))},
        })),
        "ItemFault": object(&["code", "title", "detail", "retry", "errors"], json!({
            "code": text, "title": text, "detail": text, "retry": reference("Retry"),
            "errors": {"type": "array", "items": reference("FieldError")},
        })),
        "Measurement": object(&["id", "meter", "subject", "time", "end_time", "values", "attributes"], json!({
            "id": text, "meter": {"type": ["string", "null"]}, "subject": text, "time": time(), "end_time": nullable(time()),
            "values": {"type": "object", "additionalProperties": decimal()}, "attributes": text_map.clone(),
        })),
        "MeasurementPage": page_of("Measurement"),
        "Trace": object(&["id", "verdict", "received_at", "meter", "counted_in", "versions", "more_versions"], json!({
            "more_versions": {"type": "boolean", "description": "Whether there are older versions than those listed."},
            "id": text,
            "verdict": {"type": "string", "enum": ["accepted", "replaced", "voided"]},
            "received_at": time(),
            "meter": {"type": ["string", "null"]},
            "counted_in": {"type": "object", "additionalProperties": object(&["from", "to"], json!({"from": time(), "to": time()}))},
            "versions": {"type": "array", "items": object(&["verdict", "received_at", "measurement"], json!({
                "verdict": {"type": "string", "enum": ["accepted", "replaced", "voided"]},
                "received_at": time(),
                "measurement": {"oneOf": [{"type": "null"}, reference("Measurement")]},
            }))},
        })),
        "Query": object(&["meter", "from", "to", "aggregations"], json!({
            "meter": text,
            "from": time(),
            "to": time(),
            "timezone": {"type": ["string", "null"], "default": "UTC", "examples": ["Europe/Berlin"], "description": "IANA time zone of the windows."},
            "window": {"type": ["string", "null"], "enum": ["15m", "hour", "day", "week", "month", "quarter", null]},
            "group_by": {"type": ["array", "null"], "maxItems": 8, "uniqueItems": true, "items": text, "description": "`subject` or attributes."},
            "filter": {"type": ["object", "null"], "additionalProperties": {"oneOf": [{"type": "string"}, {"type": "array", "minItems": 1, "maxItems": 1000, "items": {"type": "string"}}]}},
            "aggregations": {"type": "array", "minItems": 1, "maxItems": 32, "items": object(&["function"], json!({
                "function": {"type": "string", "enum": ["sum", "min", "max", "count", "mean", "latest", "earliest", "unique", "consumption"], "description": "`consumption` is of meters of kind `register`."},
                "field": {"type": ["string", "null"]},
            }))},
            "order_by": {"type": ["array", "null"], "maxItems": 8, "items": object(&["value"], json!({
                "value": {"type": "string", "description": "`from`, a group key, or an aggregation such as `sum(requests)`."},
                "descending": {"type": ["boolean", "null"], "default": false},
            }))},
            "limit": {"type": ["integer", "null"], "minimum": 1, "maximum": 10000, "default": 1000},
            "cursor": {"type": ["string", "null"]},
        })),
        "QueryAnswer": object(&["rows", "next_cursor"], json!({
            "rows": {"type": "array", "items": object(&["from", "to", "group", "values"], json!({
                "from": time(), "to": time(),
                "group": {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
                "values": {"type": "object", "additionalProperties": nullable(decimal())},
            }))},
            "next_cursor": {"type": ["string", "null"]},
        })),
        "Event": object(&["sequence", "time", "type", "actor", "resource", "version_before", "version_after", "changed", "data"], json!({
            "sequence": {"type": "integer"}, "time": time(), "type": text, "actor": text,
            "resource": {"oneOf": [{"type": "null"}, object(&["kind", "id"], json!({"kind": text, "id": text}))]},
            "version_before": {"type": ["integer", "null"]}, "version_after": {"type": ["integer", "null"]},
            "changed": {"type": "array", "items": text}, "data": {},
        })),
        "EventPage": page_of("Event"),
        "Organization": object(&["id", "name", "display_name", "timezone", "version", "created_at"], json!({
            "id": {"type": "string", "format": "uuid"}, "name": text, "display_name": text, "timezone": text,
            "version": {"type": "integer"}, "created_at": time(),
        })),
        "OrganizationPage": page_of("Organization"),
        "NewOrganization": object(&["name"], json!({
            "name": organization_name(),
            "display_name": {"type": ["string", "null"], "minLength": 1, "maxLength": 200},
            "timezone": {"type": ["string", "null"], "examples": ["Europe/Berlin"]},
        })),
        "Credential": object(&["id", "organization", "surface", "environment", "name", "permissions", "addresses", "expires_at", "limits", "state", "hint", "created_at", "last_used_at"], json!({
            "id": {"type": "string", "format": "uuid"}, "organization": {"type": ["string", "null"]}, "surface": text,
            "environment": environment, "name": text,
            "permissions": {"type": "array", "items": text}, "addresses": {"type": "array", "items": text},
            "expires_at": nullable(time()), "limits": limits, "state": {"type": "string", "enum": ["active", "disabled", "revoked"]},
            "hint": text, "created_at": time(), "last_used_at": nullable(time()),
            "secret": {"type": "string", "description": "Only when it is made."},
        })),
        "CredentialPage": page_of("Credential"),
        "NewCredential": object(&["name", "permissions"], json!({
            "organization": {"type": ["string", "null"], "description": "Name or id; null for a server administrator."},
            "surface": {"type": ["string", "null"], "description": "The API that the key is for; `native` without it."},
            "environment": nullable(environment),
            "name": {"type": "string", "minLength": 1, "maxLength": 200},
            "permissions": permissions.clone(),
            "addresses": addresses.clone(),
            "expires_at": nullable(time()),
            "limits": nullable(limits.clone()),
        })),
        "CredentialEdit": object(&[], json!({
            "name": {"type": ["string", "null"], "minLength": 1, "maxLength": 200},
            "permissions": nullable(permissions),
            "addresses": addresses,
            "expires_at": nullable(time()),
            "limits": nullable(limits),
        })),
        "Rotation": object(&[], json!({
            "overlap_seconds": {"type": ["integer", "null"], "minimum": 0, "maximum": 2_592_000, "default": 0},
        })),
        "NewBackup": object(&["directory"], json!({
            "directory": {"type": "string", "minLength": 1, "maxLength": 4096, "pattern": "^/", "examples": ["/var/backups/meterd/2026-11-22"], "description": "Absolute path on the server's machine, without `.` or `..`; new or empty, outside of the data directory."},
        })),
        "Backup": object(&["directory", "measurements", "bytes"], json!({
            "directory": text, "measurements": {"type": "integer", "minimum": 0}, "bytes": {"type": "integer", "minimum": 0},
        })),
        "FaultCatalogue": object(&["items"], json!({
            "items": {"type": "array", "items": object(&["code", "title", "status", "advice", "retry_can_help", "stored", "remedy", "example"], json!({
                "code": text, "title": text, "status": {"type": "integer"}, "advice": text,
                "retry_can_help": {"type": "boolean"}, "stored": text, "remedy": text, "example": text,
            }))},
        })),
        "OpenApi": {"type": "object"},
        "Problem": object(&["type", "title", "status", "detail", "instance", "code", "request_id", "retry", "stored", "errors"], json!({
            "type": {"type": "string", "format": "uri", "description": "Page about this kind of problem, served by this server."},
            "title": text, "status": {"type": "integer"}, "detail": text, "instance": text,
            "code": {"type": "string", "enum": Code::all().map(|code| code.entry().code).collect::<Vec<_>>()},
            "request_id": {"type": "string", "format": "uuid"},
            "retry": reference("Retry"),
            "stored": {"type": "string", "enum": ["none", "unknown"], "description": "Whether the failed request may have stored something."},
            "errors": {"type": "array", "items": reference("FieldError")},
        })),
        "Retry": object(&["class", "after_ms"], json!({
            "class": {"type": "string", "enum": ["fix_request", "authenticate_again", "ask_for_permission", "wait_then_retry", "retry_with_back_off", "call_operator"]},
            "after_ms": {"type": ["integer", "null"], "minimum": 0},
        })),
        "FieldError": object(&["in", "rule", "message"], json!({
            "in": {"type": "string", "enum": ["body", "query", "path", "header"]},
            "pointer": {"type": "string", "description": "JSON Pointer (RFC 6901) into the body."},
            "name": text, "rule": text, "message": text,
            "allowed": {"type": "array", "items": text},
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_resolves() {
        let document = document();
        let text = document.to_string();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(
                document["components"]["schemas"].get(name).is_some(),
                "{name} is not defined"
            );
        }
    }
}
