//! Jobs (4.1).

use crate::server::{Server, invalid, missing, refusal, refused};
use crate::world::{World, id, ids, location, technician};
use meterd_control::Applied;
use meterd_surface_fsm_navigator::{NewTechnician, apply_technician};
use meterd_testkit::system;
use serde_json::{Value, json};

#[test]
fn a_job_needs_a_title_and_a_place() {
    let world = World::start();
    let server = &world.server;
    let body = json!({
        "job_title": "Repair",
        "job_description": "The cooler leaks.",
        "job_priority": "High",
        "customer_location_id": world.location,
    });
    let answer = server.ask("POST", "/jobs", Some(&body)).expect(201);
    let job = &answer["job"];
    assert_eq!(answer["data"], *job);
    let times = (job["created_at"].clone(), job["updated_at"].clone());
    assert_eq!(
        *job,
        json!({
            "job_id": 1,
            "id": 1,
            "job_title": "Repair",
            "job_description": "The cooler leaks.",
            "job_status": "Pending",
            "job_priority": "High",
            "assigned_technician_id": null,
            "assigned_technician_name": null,
            "customer_location_id": world.location,
            "customer_location_name": "Main site",
            "customer_id": world.customer,
            "customer_name": "Acme",
            "scheduled_start": null,
            "scheduled_end": null,
            "actual_start": null,
            "actual_end": null,
            "assets": [],
            "created_at": times.0,
            "updated_at": times.1,
        })
    );
    assert_eq!(server.get("/jobs?id=1")["job"], *job);
    assert_eq!(server.get("/jobs/1")["data"], *job);
    assert_eq!(world.job()["job_priority"], "Medium");
}

#[test]
fn jobs_are_checked_member_by_member() {
    let world = World::start();
    let with = |member: &str, value: Value| {
        let mut body = json!({"job_title": "A", "customer_location_id": world.location});
        body[member] = value;
        world.server.refused("POST", "/jobs", &body)
    };
    assert_eq!(
        world
            .server
            .refused("POST", "/jobs", &json!({"job_priority": "Critical"})),
        missing("Missing required fields: job_title, customer_location_id.")
    );
    for (member, value, message) in [
        (
            "job_priority",
            json!("Critical"),
            "Invalid value for job_priority: must be one of Low, Medium, High, Urgent.",
        ),
        (
            "customer_location_id",
            json!(999),
            "Invalid value for customer_location_id: must name an existing location.",
        ),
        (
            "customer_location_id",
            json!("1"),
            "Invalid value for customer_location_id: must be an integer.",
        ),
        (
            "assigned_technician_id",
            json!(999),
            "Invalid value for assigned_technician_id: must name an existing technician.",
        ),
        (
            "asset_ids",
            json!([7]),
            "Invalid value for asset_ids[0]: must name an existing asset.",
        ),
        (
            "asset_ids",
            json!([1, "x"]),
            "Invalid value for asset_ids[1]: must be an integer.",
        ),
        (
            "scheduled_start",
            json!("soon"),
            "Invalid value for scheduled_start: must be an ISO 8601 date or time, such as 2026-01-15T00:00:00Z.",
        ),
        (
            "job_status",
            json!("Flying"),
            "Invalid value for job_status: must be one of Pending, Assigned, In-Transit, Arrived, In Progress, On Hold, \
             Completed, Cancelled, Declined.",
        ),
        (
            "job_status",
            json!("Completed"),
            "Invalid value for job_status: must be Pending for a new job, or Assigned with a technician.",
        ),
        (
            "job_status",
            json!("Assigned"),
            "Invalid value for job_status: must be Pending for a new job, or Assigned with a technician.",
        ),
    ] {
        assert_eq!(with(member, value), invalid(message));
    }
    let body = json!({
        "job_title": "A",
        "customer_location_id": world.location,
        "scheduled_start": "2026-01-02",
        "scheduled_end": "2026-01-01T23:59:59Z",
    });
    assert_eq!(
        world.server.refused("POST", "/jobs", &body),
        invalid("Invalid value for scheduled_end: must not be before scheduled_start.")
    );
    assert_eq!(world.server.get("/jobs")["pagination"]["total"], 0);
}

#[test]
fn a_change_reassigns_and_reschedules() {
    let world = World::start();
    let server = &world.server;
    let job = world.job();
    let path = format!("/jobs?id={}", id(&job));
    assert_eq!(server.put(&path, &json!({})), job);
    let changed = server.put(
        &path,
        &json!({
            "assigned_technician_id": world.technician,
            "scheduled_start": "2026-01-15T10:00:00.75+02:00",
            "scheduled_end": "2026-01-15T09:30:00",
            "job_priority": "urgent",
            "sla_due_date": "2026-01-16",
            "asset_ids": [id(&world.asset())],
        }),
    );
    assert_eq!(changed["assets"][0]["asset_name"], "Generator");
    assert_eq!(changed["assigned_technician_name"], "Ada Lovelace");
    assert_eq!(changed["scheduled_start"], "2026-01-15T08:00:00Z");
    assert_eq!(changed["scheduled_end"], "2026-01-15T09:30:00Z");
    assert_eq!(changed["job_priority"], "Urgent");
    assert_eq!(changed["job_status"], "Pending");
    assert_eq!(changed["job_title"], "Inspect");
    assert_eq!(changed.get("sla_due_date"), None);
    // What is left out counts as it was before.
    assert_eq!(
        server.refused("PUT", &path, &json!({"scheduled_end": "2026-01-15"})),
        invalid("Invalid value for scheduled_end: must not be before scheduled_start.")
    );
    // What is never null stays as it was.
    let kept = server.put(&path, &json!({"job_priority": null, "asset_ids": null}));
    assert_eq!(kept, changed);
    let cleared = server.put(
        &path,
        &json!({"assigned_technician_id": null, "scheduled_end": null}),
    );
    assert_eq!(cleared["assigned_technician_id"], Value::Null);
    assert_eq!(cleared["scheduled_end"], Value::Null);
    assert_eq!(cleared["scheduled_start"], "2026-01-15T08:00:00Z");
    let other = id(&server.post("/customers", &json!({"customer_name": "B"})));
    let site = id(&server.post(&format!("/customers/{other}/locations"), &location()));
    let moved = server.put(&path, &json!({"customer_location_id": site}));
    assert_eq!(
        (&moved["customer_id"], &moved["customer_name"]),
        (&json!(other), &json!("B"))
    );
    assert_eq!(server.get(&path)["job"], moved);
}

#[test]
fn work_leaves_its_times() {
    let world = World::start();
    let server = &world.server;
    let path = format!("/jobs?id={}", id(&world.job()));
    let begun = server.patch(
        &path,
        &json!({"job_status": "in_progress", "notes": "off we go"}),
    );
    assert_eq!(begun["job_status"], "In Progress");
    let start = begun["actual_start"].as_str().unwrap().to_owned();
    assert_eq!(begun["actual_end"], Value::Null);
    server.patch(&path, &json!({"status": "ON-HOLD"}));
    let again = server.patch(
        &path,
        &json!({"job_status": "In Progress", "status": "In Progress"}),
    );
    assert_eq!(again["actual_start"], *start);
    let done = server.patch(&path, &json!({"job_status": "Completed"}));
    assert!(done["actual_end"].as_str().unwrap() >= start.as_str());
    let told = |body: Value| server.refused("PATCH", &path, &body);
    let illegal = |to: &str| {
        let message = format!("Cannot change status from \"Completed\" to \"{to}\".");
        refusal(400, "invalid_status_transition", &message)
    };
    assert_eq!(
        told(json!({"job_status": "In Progress"})),
        illegal("In Progress")
    );
    assert_eq!(
        told(json!({"job_status": "Completed"})),
        illegal("Completed")
    );
    assert_eq!(
        told(json!({})),
        missing("Missing required field: job_status.")
    );
    assert_eq!(
        told(json!({"job_status": "Pending", "status": "Assigned"})),
        invalid("Invalid value for job_status: cannot be given together with status.")
    );
    assert_eq!(told(json!({"job_status": "Flying"})).1, "validation_failed");
    // A change of all is held to the table too; the same status is no change.
    assert_eq!(
        server.refused(
            "PUT",
            &path,
            &json!({"job_status": "Pending", "job_title": "B"})
        ),
        illegal("Pending")
    );
    assert_eq!(server.get(&path)["job"], done);
    let kept = server.put(&path, &json!({"job_status": "completed", "job_title": "B"}));
    assert_eq!(
        (&kept["job_status"], &kept["job_title"]),
        (&json!("Completed"), &json!("B"))
    );
}

#[test]
fn a_new_job_may_have_somebody() {
    let world = World::start();
    let body = json!({
        "job_title": "A",
        "customer_location_id": world.location,
        "assigned_technician_id": world.technician,
    });
    let job = world.server.post("/jobs", &body);
    assert_eq!(job["job_status"], "Pending");
    let mut assigned = body;
    assigned["job_status"] = "Assigned".into();
    assert_eq!(
        world.server.post("/jobs", &assigned)["job_status"],
        "Assigned"
    );
}

#[test]
fn jobs_are_found_by_what_they_say() {
    let world = World::start();
    let server = &world.server;
    let other = technician(server, "Grace", "Hopper");
    let site = id(&server.post(
        &format!("/customers/{}/locations", world.customer),
        &location(),
    ));
    let job = |title: &str, more: Value| {
        let mut body = json!({"job_title": title, "customer_location_id": world.location});
        for (member, value) in more.as_object().unwrap() {
            body[member] = value.clone();
        }
        id(&server.post("/jobs", &body))
    };
    let plain = job("Plain", json!({}));
    let urgent = job(
        "Urgent one",
        json!({"job_priority": "Urgent", "job_description": "pump"}),
    );
    let placed = job("Elsewhere", json!({"customer_location_id": site}));
    let taken = job(
        "Taken",
        json!({"assigned_technician_id": other, "scheduled_start": "2026-05-01T08:00:00Z"}),
    );
    server.patch(&format!("/jobs/{plain}"), &json!({"status": "On Hold"}));
    let found = |query: &str| ids(&server.get(&format!("/jobs?{query}")));
    assert_eq!(found(""), [taken, placed, urgent, plain]);
    assert_eq!(found("status=on_hold"), [plain]);
    assert_eq!(found("status=pending&priority=URGENT"), [urgent]);
    assert_eq!(found(&format!("assigned_technician_id={other}")), [taken]);
    assert_eq!(found(&format!("customer_id={}", world.customer)).len(), 4);
    assert_eq!(found("customer_id=999"), [0_u64; 0]);
    assert_eq!(found(&format!("customer_location_id={site}")), [placed]);
    assert_eq!(found(&format!("location_id={site}")), [placed]);
    assert_eq!(found("search=PUMP"), [urgent]);
    assert_eq!(found("scheduled_after=2026-05-01T07:59:59Z"), [taken]);
    assert_eq!(found("scheduled_after=2026-05-01T08:00:00Z"), [0_u64; 0]);
    assert_eq!(found("scheduled_before=2026-05-02"), [taken]);
    let told = |query: &str| server.refused("GET", &format!("/jobs?{query}"), &Value::Null);
    assert_eq!(
        told("priority=Critical"),
        invalid("Invalid value for priority: must be one of Low, Medium, High, Urgent.")
    );
    // A plus that was not encoded is one all the same, and what is out of range stands for the nearest time.
    for (query, expected) in [
        ("scheduled_after=2026-05-01T09:59:59+02:00", vec![taken]),
        ("scheduled_after=2026-05-01T10:00:00+02:00", vec![]),
        ("scheduled_after=2026-05-01T10:00:00%2B02:00", vec![]),
        ("scheduled_after=2026-05-01T10:00:00+0200", vec![]),
        ("scheduled_after=2026-05-01+07:59:59", vec![taken]),
        ("scheduled_after=0001-01-01T00:00:00Z", vec![taken]),
        ("scheduled_after=1969-12-31", vec![taken]),
        ("scheduled_before=1900-01-01", vec![]),
        ("scheduled_before=9999-12-31T23:59:59Z", vec![taken]),
        ("scheduled_after=9999-12-31", vec![]),
    ] {
        assert_eq!(found(query), expected, "{query}");
    }
    let created = "created_after=0001-01-01&created_before=9999-12-31";
    assert_eq!(found(created), found(""));
    for wrong in ["2026-13-01", "10000-01-01", "2026-05-01T10:00:00+x"] {
        let time = "must be an ISO 8601 date or time, such as 2026-01-15T00:00:00Z";
        let message = format!("Invalid value for scheduled_after: {time}.");
        assert_eq!(told(&format!("scheduled_after={wrong}")), invalid(&message));
    }
    for query in [
        "status=x",
        "customer_id=x",
        "scheduled_after=x",
        "created_before=x",
    ] {
        assert_eq!(told(query).1, "validation_failed", "{query}");
    }
}

#[test]
fn technicians_of_one_name_are_told_apart() {
    let server = Server::start();
    let apply = |first_name: &str, last_name: &str, namesake| {
        let new = NewTechnician {
            first_name: first_name.to_owned(),
            last_name: last_name.to_owned(),
            namesake,
            status: None,
            availability_status: None,
            vehicle_type: None,
            transport_modes: Vec::new(),
        };
        apply_technician(&server.control, server.live(), new, &system()).unwrap()
    };
    let all = [
        ("John", "Smith", None),
        ("John", "Smith", Some(2)),
        ("A B", "C", None),
        ("A", "B C", None),
    ];
    for expected in [Applied::Created, Applied::Unchanged] {
        for (number, (first, last, namesake)) in (1..).zip(all) {
            assert_eq!(apply(first, last, namesake), (number, expected));
        }
    }
    let mut pair = server.get("/technicians?per_page=2&page=2")["data"].take();
    for one in pair.as_array_mut().unwrap() {
        for member in ["id", "technician_id", "created_at", "updated_at"] {
            one.as_object_mut().unwrap().remove(member).unwrap();
        }
    }
    assert_eq!(pair[0], pair[1]);
    assert_eq!(pair[0].get("namesake"), None);
}

#[test]
fn technicians_are_only_shown() {
    let world = World::start();
    let server = &world.server;
    let other = technician(server, "Grace", "Hopper");
    assert_eq!(ids(&server.get("/technicians")), [other, world.technician]);
    let alone = server.get(&format!("/technicians?id={other}"));
    let times = (
        alone["data"]["created_at"].clone(),
        alone["data"]["updated_at"].clone(),
    );
    assert_eq!(
        alone["technician"],
        json!({
            "technician_id": other,
            "id": other,
            "first_name": "Grace",
            "last_name": "Hopper",
            "status": "Active",
            "availability_status": "Available",
            "vehicle_type": "Van",
            "transport_modes": ["driving"],
            "skills": [],
            "availability": [],
            "created_at": times.0,
            "updated_at": times.1,
        })
    );
    let listed = server.get("/technicians?status=active&availability_status=AVAILABLE");
    assert_eq!(ids(&listed), [other, world.technician]);
    assert_eq!(listed["data"][0].get("skills"), None);
    assert_eq!(ids(&server.get("/technicians?status=Inactive")), [0_u64; 0]);
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for path in ["/technicians", "/technicians?id=1"] {
            let answer = server.ask(method, path, Some(&json!({})));
            let message = format!("Method {method} is not allowed for this endpoint.");
            assert_eq!(
                refused(&answer),
                refusal(405, "method_not_allowed", &message)
            );
            assert_eq!(answer.header("allow"), Some("GET, HEAD"));
        }
    }
}
