//! `meterd serve`: its configuration file and its listeners.

use crate::support::{Home, Server, call, furnish, run};
use serde_json::json;

fn refused(toml: &str, words: &[&str]) {
    println!("{toml}");
    let home = Home::new();
    let file = home.write("meterd.toml", toml);
    let mut words = words.to_vec();
    words.push("meterd.toml");
    run(&["serve", "--config", &file, "--data", &home.data()]).failed_with(&words);
    assert!(!home.path("data").exists());
}

#[test]
fn a_bad_configuration_is_refused_by_name() {
    for (toml, words) in [
        ("trusted_proxys = []", &["trusted_proxys"][..]),
        ("[bounds]\nin_flight = 3", &["in_flight"]),
        ("[[listen]]\naddres = \"127.0.0.1:0\"", &["addres"]),
        ("[[listen]]\naddress = \"localhost\"", &["address"]),
        ("[engine]\ndurability = \"none\"", &["none", "durability"]),
        ("[bounds]\nin_flight_max = 0", &["in_flight_max"]),
        ("[bounds]\nconnections_max = -1", &["connections_max"]),
        (
            "[bounds]\nrequest_seconds_max = nan",
            &["request_seconds_max"],
        ),
        ("[bounds]\ndrain_seconds_max = -0.5", &["drain_seconds_max"]),
        (
            "[bounds]\nbody_pause_seconds_max = 1e9",
            &["body_pause_seconds_max"],
        ),
        (
            "[bounds]\nbody_memory_max_bytes = \"1 MB\"",
            &["body_memory_max_bytes"],
        ),
        ("trusted_proxies = [\"10.0.0.0/40\"]", &["trusted_proxies"]),
        ("public_url = \"meter.example\"", &["public_url"]),
        ("[log]\nformat = \"xml\"", &["xml"]),
        (
            "[[limit]]\nname = \"a\"\nscope = \"address\"\nlimit = 1\nwindow_seconds = 0",
            &["limit"],
        ),
        (
            "[[limit]]\nname = \"a\"\nscope = \"galaxy\"\nlimit = 1\nwindow_seconds = 1",
            &["galaxy"],
        ),
        ("listen = ", &["line 1"]),
    ] {
        refused(toml, words);
    }
    let home = Home::new();
    run(&["serve", "--config", &home.text("none.toml")]).failed_with(&["none.toml"]);
}

#[test]
fn an_unknown_surface_or_a_taken_address_is_refused() {
    let home = Home::new();
    let toml = "[[listen]]\naddress = \"127.0.0.1:0\"\nsurface = \"nativ\"\n";
    let file = home.write("meterd.toml", toml);
    run(&["serve", "--config", &file, "--data", &home.data()]).failed_with(&["nativ"]);

    let server = Server::start(&home);
    let other = home.text("other");
    run(&["serve", "--data", &other, "--listen", server.address()])
        .failed_with(&[server.address()]);
}

#[test]
fn a_listener_of_one_surface_serves_it_without_prefix() {
    let home = Home::new();
    let server = Server::configured(
        &home,
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[[listen]]\naddress = \"127.0.0.1:0\"\nsurface = \"native\"\n",
    );
    let client = furnish(&server, &server.admin_key());
    let listen = server.ready["listen"].as_array().unwrap();
    assert_eq!(listen.len(), 2);
    assert_eq!(listen[0], server.ready["base_url"]);
    let alone = client.at(listen[1].as_str().unwrap());

    let rows = json!({"measurements": [call("a", "4")]});
    assert_eq!(alone.post("/measurements", &rows).ok()["accepted"], 1);
    assert_eq!(alone.get("/meters").ok()["items"][0]["name"], "calls");
    assert_eq!(alone.get("/measurements/a").ok()["verdict"], "accepted");
    assert_eq!(
        client.sum_and_count("calls", "requests"),
        ("4".to_owned(), 1)
    );
    assert_eq!(alone.get("/v1/meters").problem(404), "unknown_route");
    assert_eq!(alone.get("/healthz").status, 200);
    assert_eq!(alone.get("/docs/errors/overloaded").status, 200);
    assert_eq!(alone.get("/metrics").problem(404), "unknown_route");
    assert_eq!(client.get("/meters").problem(404), "unknown_route");
}

/// Nobody who meets it there can tell it from the original by what else the server has.
#[test]
fn a_listener_of_one_surface_speaks_its_words_alone() {
    let home = Home::new();
    let listeners = ["m3ter", "wattwatchers", "fsm-navigator"]
        .map(|surface| format!("[[listen]]\naddress = \"127.0.0.1:0\"\nsurface = \"{surface}\"\n"));
    let server = Server::configured(&home, &listeners.concat());
    let listen = server.ready["listen"].as_array().unwrap();
    let refusals = [
        json!({"message": "Not Found"}),
        json!({"code": "NOT_FOUND", "httpCode": 404, "message": "The requested resource could not be found."}),
        json!({"success": false, "error": "unauthorized", "message": "API key is missing or invalid."}),
    ];
    for (address, refusal) in listen.iter().zip(refusals) {
        let client = server.client("").at(address.as_str().unwrap());
        for path in ["/metrics", "/readyz", "/docs", "/docs/errors"] {
            assert_eq!(client.get(path).json(), refusal, "{path}");
        }
        assert_eq!(client.get("/healthz").status, 200);
    }
}

#[test]
fn limits_of_the_configuration_hold() {
    let home = Home::new();
    let server = Server::configured(
        &home,
        "[[listen]]\naddress = \"127.0.0.1:0\"\n\n[[limit]]\nname = \"query\"\nscope = \"credential\"\nclass = \"query\"\nlimit = 2\nwindow_seconds = 3600\n",
    );
    let client = furnish(&server, &server.admin_key());
    let path = "/v1/measurements?limit=1";
    // An hour may end between the requests, once.
    let mut statuses: Vec<_> = (0..6).map(|_| client.get(path).status).collect();
    statuses.sort_unstable();
    assert!(
        statuses == [200, 200, 429, 429, 429, 429]
            || statuses == [200, 200, 200, 200, 429, 429]
            || statuses == [200, 200, 200, 429, 429, 429],
        "{statuses:?}"
    );
    let refused = client.get(path);
    if refused.status == 429 {
        assert!(refused.headers.contains_key("retry-after"));
        assert!(
            refused.headers["ratelimit-policy"]
                .to_str()
                .unwrap()
                .contains("\"query\";q=2;w=3600")
        );
    }
    client.get("/v1/meters").ok();
}
