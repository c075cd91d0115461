//! Service records and transfers of assets (4.3).

use crate::server::{invalid, missing};
use crate::world::{World, id, ids, location, technician};
use serde_json::{Value, json};

#[test]
fn a_service_is_recorded() {
    let world = World::start();
    let server = &world.server;
    let asset = id(&world.asset());
    let path = format!("/assets?id={asset}&sub=service");
    let body = json!({
        "service_type": "repair",
        "service_date": "2026-03-01T10:00:00.7+01:00",
        "technician_id": world.technician,
        "cost": 120.50,
        "notes": "belt",
    });
    let answer = server.ask("POST", &path, Some(&body)).expect(201);
    let record = &answer["service_record"];
    assert_eq!(
        *record,
        json!({
            "id": 1,
            "service_record_id": 1,
            "asset_id": asset,
            "service_type": "repair",
            "service_date": "2026-03-01T09:00:00Z",
            "description": null,
            "technician_id": world.technician,
            "job_id": null,
            "cost": 120.5,
            "notes": "belt",
            "technician_name": "Ada Lovelace",
            "created_at": record["created_at"],
            "updated_at": record["updated_at"],
        })
    );
    let second = server.post(&path, &json!({"service_type": "inspection"}));
    assert_eq!(second["service_date"], second["created_at"]);
    let history = server.get(&format!("/assets/{asset}/service_history?per_page=1"));
    assert_eq!(history["data"], json!([second]));
    assert_eq!(
        history["pagination"],
        json!({"page": 1, "per_page": 1, "total": 2, "total_pages": 2})
    );
    for (body, message) in [
        (
            json!({"service_type": "x", "cost": -1}),
            "Invalid value for cost: must be at least 0.",
        ),
        (
            json!({"service_type": "x", "job_id": 5}),
            "Invalid value for job_id: must name an existing job.",
        ),
        (
            json!({"service_type": "x", "technician_id": 5}),
            "Invalid value for technician_id: must name an existing technician.",
        ),
    ] {
        assert_eq!(server.refused("POST", &path, &body), invalid(message));
    }
    assert_eq!(
        server.refused("POST", &path, &json!({"cost": -1})),
        missing("Missing required field: service_type.")
    );
}

/// A job that is completed leaves a record with each of its assets, and no other job does.
#[test]
fn completed_jobs_leave_records() {
    let world = World::start();
    let server = &world.server;
    let assets = [id(&world.asset()), id(&world.asset())];
    let job = json!({
        "job_title": "Yearly service",
        "customer_location_id": world.location,
        "assigned_technician_id": world.technician,
        "asset_ids": assets,
    });
    let history = |asset: u64| server.get(&format!("/assets?id={asset}&sub=service_history"));
    let (done, cancelled) = (
        id(&server.post("/jobs", &job)),
        id(&server.post("/jobs", &job)),
    );
    server.patch(
        &format!("/jobs?id={cancelled}"),
        &json!({"job_status": "Cancelled"}),
    );
    server.patch(
        &format!("/jobs?id={done}"),
        &json!({"job_status": "In Progress"}),
    );
    assert_eq!(history(assets[0])["data"], json!([]));
    let path = format!("/jobs?id={done}");
    let completed = server.put(&path, &json!({"job_status": "Completed"}));
    server.put(&path, &json!({"job_description": "All well."}));
    for asset in assets {
        let history = history(asset);
        assert_eq!(history["pagination"]["total"], 1);
        let record = &history["data"][0];
        assert_eq!(record["service_type"], "job");
        assert_eq!(record["job_id"], done);
        assert_eq!(record["description"], "Yearly service");
        assert_eq!(record["technician_id"], world.technician);
        assert_eq!(record["service_date"], completed["actual_end"]);
    }
}

#[test]
fn an_asset_goes_from_holder_to_holder() {
    let world = World::start();
    let server = &world.server;
    let asset = id(&world.asset());
    let to = format!("/customers/{}/locations", world.customer);
    let elsewhere = id(&server.post(&to, &location()));
    let grace = technician(server, "Grace", "Hopper");
    let path = format!("/assets?id={asset}&sub=transfer");
    let holders = || {
        let asset = server.get(&format!("/assets?id={asset}"))["asset"].clone();
        assert_eq!(asset["status"], "Active");
        (
            asset["location_id"].clone(),
            asset["assigned_technician_id"].clone(),
        )
    };
    let transfer =
        |body: Value| server.ask("POST", &path, Some(&body)).expect(200)["transfer"].take();
    let first = transfer(
        json!({"to_technician_id": grace, "reason": "repair", "transfer_date": "2026-05-01"}),
    );
    assert_eq!(
        first,
        json!({
            "id": 1,
            "transfer_id": 1,
            "asset_id": asset,
            "from_location_id": world.location,
            "from_technician_id": null,
            "to_location_id": null,
            "to_technician_id": grace,
            "reason": "repair",
            "notes": null,
            "transfer_date": "2026-05-01T00:00:00Z",
            "created_at": first["created_at"],
            "updated_at": first["updated_at"],
        })
    );
    assert_eq!(holders(), (Value::Null, json!(grace)));
    let second = transfer(json!({"location_id": elsewhere, "to_technician_id": ""}));
    assert_eq!(second["from_technician_id"], grace);
    assert_eq!(holders(), (json!(elsewhere), Value::Null));
    assert_eq!(ids(&json!({"data": [first, second]})), [1, 2]);
    for (body, message) in [
        (
            json!({"to_location_id": elsewhere}),
            "Invalid value for to_location_id: must not be where the asset is already.",
        ),
        (
            json!({"to_location_id": 99}),
            "Invalid value for to_location_id: must name an existing location.",
        ),
        (
            json!({"technician_id": 99}),
            "Invalid value for to_technician_id: must name an existing technician.",
        ),
        (
            json!({"to_location_id": world.location, "to_technician_id": grace}),
            "Invalid value for to_location_id: cannot be given together with to_technician_id.",
        ),
    ] {
        assert_eq!(server.refused("POST", &path, &body), invalid(message));
    }
    assert_eq!(
        server.refused(
            "POST",
            &path,
            &json!({"reason": "why", "to_location_id": null})
        ),
        missing("Missing required field: to_location_id.")
    );
    assert_eq!(holders(), (json!(elsewhere), Value::Null));
    server.patch(
        &format!("/assets?id={asset}"),
        &json!({"status": "Decommissioned"}),
    );
    assert_eq!(
        server.refused("POST", &path, &json!({"to_technician_id": grace})),
        invalid("Invalid value for id: must not be that of an asset that is Decommissioned.")
    );
}
