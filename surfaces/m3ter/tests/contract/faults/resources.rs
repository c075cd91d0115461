//! What is asked for: things that are not there, are there already, are in use, or are not to be changed.

use super::{Case, Group, case, exchange};
use crate::server::Server;
use crate::uploads::finished;
use meterd_fault::Code;
use meterd_testkit::client::{delete, get, post, put};
use serde_json::{Value, json};

const UNKNOWN: &str = "0193a5c2-7c1e-7d3a-9f10-3b6f0f2f9d11";

pub(super) const GROUP: Group = Group {
    name: "resources",
    start: || {
        let server = Server::start();
        let product = server.post("/products", &json!({"name": "P", "code": "p"}));
        let mut meter = meter();
        meter["productId"] = product["id"].clone();
        let meter = server.post("/meters", &meter);
        server.post(
            "/aggregations",
            &json!({
                "name": "Bytes per month", "code": "bytes", "aggregation": "SUM", "targetField": "bytes",
                "meterId": meter["id"], "rounding": "NONE", "quantityPerUnit": 1, "unit": "By",
            }),
        );
        server
    },
    cases,
    keeps_contents: true,
};

fn meter() -> Value {
    json!({
        "name": "M", "code": "m", "derivedFields": [],
        "dataFields": [
            {"category": "MEASURE", "code": "bytes", "name": "Bytes"},
            {"category": "MEASURE", "code": "parts", "name": "Parts"},
        ],
    })
}

/// The path of the only item of a list.
fn only(server: &Server, list: &str) -> String {
    let page = server.get(list);
    format!("{list}/{}", page["data"][0]["id"].as_str().unwrap())
}

fn cases() -> Vec<Case> {
    let mut cases = not_found();
    cases.extend([
        case("a code in use", Code::ResourceExists, |s| {
            let body = json!({"name": "Other", "code": "p"});
            post(s.path("/products")).json(body.to_string())
        }),
        case("a stale version", Code::VersionMismatch, |s| {
            let body = json!({"name": "P", "code": "p", "version": 9});
            put(s.path(&only(s, "/products"))).json(body.to_string())
        }),
        case("no version", Code::Invalid, |s| {
            let body = json!({"name": "P", "code": "p"});
            put(s.path(&only(s, "/products"))).json(body.to_string())
        }),
        case("a product in use", Code::ResourceInUse, |s| {
            delete(s.path(&only(s, "/products")))
        }),
        case("a meter in use", Code::ResourceInUse, |s| {
            delete(s.path(&only(s, "/meters")))
        }),
        case("a reference to nothing", Code::Invalid, |s| {
            let mut body = meter();
            body["code"] = json!("other");
            body["productId"] = json!(UNKNOWN);
            post(s.path("/meters")).json(body.to_string())
        }),
        case(
            "a meter without the field of an aggregation",
            Code::ReferenceBroken,
            |s| {
                let mut body = meter();
                body["version"] = json!(1);
                body["dataFields"] = json!([body["dataFields"][1]]);
                put(s.path(&only(s, "/meters"))).json(body.to_string())
            },
        ),
        case("a managed policy", Code::ActionNotSupported, |s| {
            delete(s.path(&only(s, "/permissionpolicies")))
        }),
        exchange(
            "an address to upload to, twice",
            Code::TransitionNotAllowed,
            |s| {
                let made = s.post(
                "/fileuploads/measurements/generateUploadUrl",
                &json!({"fileName": "a", "contentType": "application/json", "contentLength": 2}),
            );
                let url = made["url"].as_str().unwrap().to_owned();
                let send = || s.send(&put(crate::failures::path_of(&url)).json("[]"));
                assert_eq!(send().status, 200);
                let job = made["jobId"].as_str().unwrap();
                let job = format!("/fileuploads/measurements/jobs/{job}");
                finished(s, &job, &["succeeded"]);
                send()
            },
        ),
    ]);
    cases
}

fn not_found() -> Vec<Case> {
    vec![
        case("a code for an id", Code::ResourceNotFound, |s| {
            get(s.path("/accounts/game_dev_indie"))
        }),
        case("an unknown id", Code::ResourceNotFound, |s| {
            get(s.path(&format!("/meters/{UNKNOWN}")))
        }),
        case("an unknown id to replace", Code::ResourceNotFound, |s| {
            put(s.path(&format!("/products/{UNKNOWN}"))).json("{}")
        }),
        exchange(
            "an id of another organization",
            Code::ResourceNotFound,
            |s| {
                let path = s.rival.path(&only(s, "/products"));
                s.send(&get(path).key(&s.rival.admin.token))
            },
        ),
        case("an unknown file", Code::ResourceNotFound, |s| {
            get(s.path("/measurements/failedIngest/getDownloadUrl?file=x"))
        }),
        case("an unknown event", Code::ResourceNotFound, |s| {
            get(s.path(&format!("/events/{UNKNOWN}")))
        }),
    ]
}
