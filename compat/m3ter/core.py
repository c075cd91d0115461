"""Walks the official SDK through every operation of m3ter's that meterd serves, and looks at what comes back.

    python core.py ready.json

Everything is done twice: as the SDK comes, and with answers validated strictly against m3ter's types. A few operations
answer what those types cannot hold (LOOSE_ONLY says why); they are done loosely both times.
"""

import base64
import inspect
import json
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone

import m3ter
from m3ter import M3ter

AREAS = """accounts aggregations authentication compound_aggregations counter_adjustments counters custom_fields
    data_exports data_exports.destinations data_exports.jobs data_exports.schedules events meters
    notification_configurations organization_config permission_policies products resource_groups
    scheduled_event_configurations usage usage.file_uploads usage.file_uploads.jobs users users.invitations""".split()

# The SDK's types want the time of an action that events never have, and words in capitals that m3ter's guides refuse.
LOOSE_ONLY = ("events.list", "events.retrieve", "permission_policies.", "users.", "resource_groups.list_permissions")


def area(client, name):
    for part in name.split("."):
        client = getattr(client, part)
    return client


def methods(client):
    for name in AREAS:
        for method, function in inspect.getmembers(type(area(client, name)), inspect.isfunction):
            if not method.startswith("_"):
                yield f"{name}.{method}"


class Walk:
    """One walk through all operations, under names of its own."""

    def __init__(self, ready, strict):
        self.ready = ready
        self.name = f"sdk-{'strict' if strict else 'loose'}-{int(time.time())}"
        self.loose = self.client()
        self.strict = self.client(_strict_response_validation=True) if strict else self.loose
        self.called = set()

    def client(self, **options):
        return M3ter(
            api_key=self.ready["api_key"],
            api_secret=self.ready["api_secret"],
            org_id=self.ready["org_id"],
            base_url=self.ready["base_url"],
            max_retries=5,
            **options,
        )

    def call(self, name, /, **arguments):
        self.called.add(name)
        client = self.loose if name.startswith(LOOSE_ONLY) else self.strict
        owner, method = name.rsplit(".", 1)
        return getattr(area(client, owner), method)(**arguments)

    def refused(self, kind, word, name, /, **arguments):
        try:
            answer = self.call(name, **arguments)
        except kind as error:
            assert word in error.body["message"], error.body
            return
        raise AssertionError(f"{name} was not refused: {answer}")

    def crud(self, name, first, change, /, **path):
        """Creates, reads, lists, replaces; leaves the second version behind."""
        made = self.call(f"{name}.create", **path, **first)
        assert made.version == 1 and len(made.id) == 36, made
        assert self.call(f"{name}.retrieve", id=made.id, **path).id == made.id
        assert made.id in [item.id for item in self.call(f"{name}.list", **path)]
        second = {**first, **change}
        self.refused(m3ter.BadRequestError, "ersion", f"{name}.update", id=made.id, version=7, **path, **second)
        changed = self.call(f"{name}.update", id=made.id, version=1, **path, **second)
        assert changed.version == 2 and changed.id == made.id, changed
        return changed

    def remove(self, name, item, /, **path):
        assert self.call(f"{name}.delete", id=item.id, **path).id == item.id
        self.refused(m3ter.NotFoundError, item.id, f"{name}.retrieve", id=item.id, **path)

    def until(self, what, look, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = look()
            if found:
                return found
            time.sleep(0.2)
        raise AssertionError(f"{what} did not come")

    def run(self):
        self.identity()
        self.configuration()
        self.usage()
        self.files()
        self.events()
        self.exports()
        self.clean_up()
        missing = set(methods(self.loose)) - self.called
        assert not missing, f"not called: {sorted(missing)}"
        return len(self.called)

    def identity(self):
        pair = f"{self.ready['api_key']}:{self.ready['api_secret']}".encode()
        token = self.call(
            "authentication.get_bearer_token",
            grant_type="client_credentials",
            extra_headers={"Authorization": f"Basic {base64.b64encode(pair).decode()}"},
        )
        assert token.access_token and token.expires_in == 18000
        me = self.call("users.me")
        assert me.service_user.id and me.organization.id, me
        users = list(self.call("users.list"))
        assert users
        user = self.call("users.retrieve", id=users[0].id)
        self.call("users.update", id=user.id, version=user.version, dt_end_access="2040-01-01T00:00:00Z")
        assert self.call("users.resend_password", id=user.id) is None
        self.call("users.get_permissions", id=user.id)
        self.call("users.get_user_groups", id=user.id)
        invited = self.call(
            "users.invitations.create", email=f"{self.name}@example.com", first_name="A", last_name="B"
        )
        assert self.call("users.invitations.retrieve", id=invited.id).accepted is False
        assert invited.id in [item.id for item in self.call("users.invitations.list")]

        statement = {"effect": "ALLOW", "action": ["CONFIG_RETRIEVE"], "resource": ["config:meter/*"]}
        policy = self.crud(
            "permission_policies",
            {"name": self.name, "permission_policy": [statement]},
            {"name": f"{self.name}-2"},
        )
        group = self.crud("resource_groups", {"name": self.name}, {"name": f"{self.name}-2"}, type="user")
        self.call(
            "resource_groups.add_resource", resource_group_id=group.id, type="user", target_id=user.id, target_type="ITEM"
        )
        contents = self.call("resource_groups.list_contents", resource_group_id=group.id, type="user")
        assert [item.target_id for item in contents] == [user.id]
        for kind, principal in [("user", user.id), ("user_group", group.id), ("service_user", me.service_user.id)]:
            principal = {"permission_policy_id": policy.id, "principal_id": principal}
            granted = self.call(f"permission_policies.add_to_{kind}", **principal)
            assert granted.permission_policy_id == policy.id, granted
            if kind == "user_group":
                self.call("resource_groups.list_permissions", resource_group_id=group.id, type="user")
            self.call(f"permission_policies.remove_from_{kind}", **principal)
        self.call("permission_policies.add_to_support_user", permission_policy_id=policy.id)
        self.call("permission_policies.remove_from_support_user", permission_policy_id=policy.id)
        self.call(
            "resource_groups.remove_resource", resource_group_id=group.id, type="user", target_id=user.id, target_type="ITEM"
        )
        self.remove("resource_groups", group, type="user")
        self.remove("permission_policies", policy)

    def configuration(self):
        config = self.call("organization_config.retrieve")
        again = self.call(
            "organization_config.update",
            version=config.version,
            **{
                name: getattr(config, name)
                for name in "currency day_epoch days_before_bill_due month_epoch timezone week_epoch year_epoch".split()
            },
        )
        assert again.version == config.version + 1
        fields = self.call("custom_fields.retrieve")
        assert self.call("custom_fields.update", version=fields.version, account={"tier": "free"}).account["tier"] == "free"

        code = self.name.replace("-", "_")
        self.product = self.crud(
            "products", {"name": "P", "code": self.name}, {"name": "P2", "custom_fields": {"a": "b", "n": 1.5}}
        )
        assert self.product.custom_fields == {"a": "b", "n": 1.5}, self.product
        self.refused(m3ter.BadRequestError, "already in use", "products.create", name="P", code=self.name)
        self.refused(m3ter.NotFoundError, self.name, "products.retrieve", id=self.name)
        meter = {
            "name": "M",
            "code": self.name,
            "product_id": self.product.id,
            "data_fields": [
                {"category": "MEASURE", "code": "bytes", "name": "Bytes", "unit": "By"},
                {"category": "MEASURE", "code": "parts", "name": "Parts"},
                {"category": "WHERE", "code": "region", "name": "Region"},
            ],
            "derived_fields": [{"category": "MEASURE", "code": "share", "name": "Share", "calculation": "bytes / parts"}],
        }
        self.meter = self.crud("meters", meter, {"name": "M2"})
        found = self.call("meters.list", codes=[self.name, "nothing"], product_id=[self.product.id])
        assert [item.id for item in found] == [self.meter.id]
        aggregation = {
            "name": "A",
            "code": code,
            "aggregation": "SUM",
            "meter_id": self.meter.id,
            "quantity_per_unit": 1,
            "rounding": "UP",
            "target_field": "bytes",
            "unit": "By",
        }
        self.aggregation = self.crud("aggregations", aggregation, {"name": "A2"})
        self.refused(
            m3ter.BadRequestError, "target", "meters.update",
            id=self.meter.id, version=2, **{**meter, "data_fields": meter["data_fields"][1:], "derived_fields": []},
        )
        compound = {
            "name": "C",
            "calculation": f"aggregation.{code} * 2",
            "quantity_per_unit": 1,
            "rounding": "NONE",
            "unit": "By",
        }
        self.compound = self.crud("compound_aggregations", compound, {"name": "C2"})
        account = {"name": "Account", "code": self.name, "email_address": "a@example.com"}
        self.account = self.crud("accounts", account, {"name": "Account 2"})
        child = self.call(
            "accounts.create", name="Child", code=f"{self.name}-child", email_address="a@example.com",
            parent_account_id=self.account.id,
        )
        assert [item.id for item in self.call("accounts.list_children", id=self.account.id)] == [child.id]
        found = self.call("accounts.search", search_query=f"code:{self.name}")
        assert [item.id for item in found.data] == [self.account.id], found
        ended = self.call(
            "accounts.end_date_billing_entities",
            id=self.account.id, billing_entities=["CONTRACT"], end_date="2030-01-01T00:00:00Z",
        )
        assert ended.status_message is not None
        self.remove("accounts", child)
        self.counter = self.crud("counters", {"name": "Seats", "unit": "seat"}, {"name": "Seats 2"})
        adjustment = {"account_id": self.account.id, "counter_id": self.counter.id, "date": "2026-01-01", "value": 3}
        made = self.call("counter_adjustments.create", **adjustment)
        self.refused(m3ter.BadRequestError, "", "counter_adjustments.create", **adjustment)
        assert self.call("counter_adjustments.retrieve", id=made.id).value == 3
        assert [item.id for item in self.call("counter_adjustments.list", counter_id=self.counter.id)] == [made.id]
        changed = self.call("counter_adjustments.update", id=made.id, version=1, **{**adjustment, "value": 4})
        self.remove("counter_adjustments", changed)
        for number in range(3):
            self.call("counters.create", name=f"page {number}", unit="1", code=f"{self.name}-{number}")
        codes = [f"{self.name}-{number}" for number in range(3)]
        pages = self.call("counters.list", codes=codes, page_size=2)
        assert len(pages.data) == 2 and pages.next_token
        assert [item.name for item in pages] == ["page 2", "page 1", "page 0"]

    def row(self, uid, **changes):
        now = datetime.now(timezone.utc) - timedelta(minutes=1)
        row = {
            "uid": f"{self.name}-{uid}"[-50:],
            "meter": self.name,
            "account": self.name,
            "ts": now.isoformat(),
            "measure": {"bytes": 3, "parts": 2},
            "where": {"region": "eu"},
        }
        return {**row, **changes}

    def ask(self, **arguments):
        today = datetime.now(timezone.utc)
        return self.call(
            "usage.query",
            start_date=(today - timedelta(days=2)).isoformat(),
            end_date=(today + timedelta(days=1)).isoformat(),
            meter_ids=[self.meter.id],
            **arguments,
        )

    def usage(self):
        assert self.call("usage.submit", measurements=[self.row("one")]).result == "accepted"
        again = self.call("usage.submit", measurements=[self.row("one"), self.row("none", measure={"bytes": 1})])
        assert again.result == "accepted"
        many = [self.row(f"many-{n}") for n in range(2500)]
        answers = list(self.call("usage.submit_all", measurements=many))
        assert len(answers) == 3 and all(answer.result == "accepted" for answer in answers), answers
        total = self.ask(
            aggregations=[
                {"meter_id": self.meter.id, "field_code": "bytes", "field_type": "MEASURE", "function": function}
                for function in ("SUM", "COUNT")
            ],
            groups=[{"group_type": "ACCOUNT"}],
        )
        (found,) = total.data
        assert (found["bytes.SUM"], found["bytes.COUNT"]) == (7503, 2501), found
        assert found["accountId"] == self.account.id
        raw = self.ask(limit=10)
        assert len(raw.data) == 10 and raw.has_more_data

    def fetch(self, url):
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.read()

    def files(self):
        kinds = {
            event.m3ter_event["type"]: event
            for event in self.call("events.list", event_type="IngestValidationFailure")
            if any(uid.startswith(self.name[-20:]) or self.name in uid for uid in event.m3ter_event["uids"])
        }
        assert {"DuplicateUid", "MissingField"} <= set(kinds), kinds
        named = kinds["MissingField"].m3ter_event["getDownloadUrl"].rsplit("file=", 1)[1]
        url = self.call("usage.get_failed_ingest_download_url", file=named).url
        records = json.loads(self.fetch(url))
        assert any(record["errors"][0]["type"] == "MissingField" for record in records), records

        body = json.dumps([self.row("file-1"), self.row("file-2"), {"uid": "broken"}]).encode()
        made = self.call(
            "usage.file_uploads.generate_upload_url",
            file_name="rows.json", content_type="application/json", content_length=len(body),
        )
        request = urllib.request.Request(made.url, data=body, headers=made.headers, method="PUT")
        assert urllib.request.urlopen(request, timeout=30).status == 200
        job = self.until(
            "the upload's end",
            lambda: next(
                (job for job in [self.call("usage.file_uploads.jobs.retrieve", id=made.job_id)] if job.status in ("succeeded", "failed")),
                None,
            ),
        )
        assert (job.status, job.total_rows, job.failed_rows) == ("succeeded", 3, 1), job
        assert made.job_id in [job.id for job in self.call("usage.file_uploads.jobs.list")]
        original = self.call("usage.file_uploads.jobs.get_original_download_url", id=made.job_id)
        assert self.fetch(original.url) == body
        try:
            self.fetch(original.url + "x")
        except urllib.error.HTTPError as error:
            assert error.code == 403
        else:
            raise AssertionError("a forged address works")

    def events(self):
        types = self.call("events.get_types").events
        assert "configuration.account.created" in types and "ingest.validation.failure" in types
        fields = self.call("events.get_fields", event_name="configuration.account.updated").events
        assert fields["configuration.account.updated"]["new.code"] == "string"
        created = next(
            event for event in self.call("events.list", event_name="configuration.account.created", account_id=self.account.id)
        )
        assert created.m3ter_event["eventData"]["newDto"]["code"] == self.name
        assert self.call("events.retrieve", id=created.id).event_name == created.event_name
        self.refused(m3ter.BadRequestError, "ids", "events.list", ids=[created.id], account_id=self.account.id)
        notification = {
            "name": "N",
            "code": self.name,
            "description": "D",
            "event_name": "configuration.account.updated",
            "calculation": "new.name != old.name",
        }
        self.notification = self.crud("notification_configurations", notification, {"name": "N2", "active": True})
        account = self.call("accounts.retrieve", id=self.account.id)
        self.call(
            "accounts.update", id=account.id, version=account.version,
            name="Renamed", code=account.code, email_address=account.email_address,
        )
        fired = list(self.call("events.list", event_type="Notification", notification_code=self.name))
        assert len(fired) == 1, fired
        self.scheduled = self.crud(
            "scheduled_event_configurations",
            {"name": self.name, "entity": "account", "field": "dtCreated", "offset": 1},
            {"offset": 2},
        )
        assert f"scheduled.account.{self.name}" in self.call("events.get_types").events

    def exports(self):
        destination = {"bucket_name": "bucket", "iam_role_arn": "arn:aws:iam::123456789012:role/x"}
        self.destination = self.crud("data_exports.destinations", destination, {"prefix": "p"})
        schedule = {"source_type": "OPERATIONAL", "operational_data_types": ["ACCOUNTS"]}
        self.schedule = self.crud("data_exports.schedules", schedule, {"operational_data_types": ["METERS"]})
        usage = self.call("data_exports.schedules.create", source_type="USAGE", time_period="TODAY")
        self.remove("data_exports.schedules", usage)
        made = self.call(
            "data_exports.create_adhoc",
            source_type="USAGE", meter_ids=[self.meter.id], extra_body={"exportFileFormat": "JSONL"},
        )
        job = self.until(
            "the export's end",
            lambda: next(
                (job for job in [self.call("data_exports.jobs.retrieve", id=made.job_id)] if job.status in ("SUCCEEDED", "FAILED")),
                None,
            ),
        )
        assert job.status == "SUCCEEDED", job
        assert made.job_id in [job.id for job in self.call("data_exports.jobs.list", status="SUCCEEDED")]
        url = self.call("data_exports.jobs.get_download_url", job_id=made.job_id)
        assert url.expiration_time
        rows = [json.loads(line) for line in self.fetch(url.url).splitlines()]
        assert len(rows) == 2503 and rows[0]["meterCode"] == self.name, len(rows)

    def clean_up(self):
        self.refused(m3ter.BadRequestError, "in use", "meters.delete", id=self.meter.id)
        for name, item in [
            ("data_exports.schedules", self.schedule),
            ("data_exports.destinations", self.destination),
            ("scheduled_event_configurations", self.scheduled),
            ("notification_configurations", self.notification),
            ("counters", self.counter),
            ("compound_aggregations", self.compound),
            ("aggregations", self.aggregation),
            ("meters", self.meter),
            ("products", self.product),
            ("accounts", self.account),
        ]:
            self.remove(name, item)


def refusals(ready):
    def client(**options):
        settings = {name: ready[name] for name in ("api_key", "api_secret", "org_id", "base_url")}
        return M3ter(**{**settings, **options})

    def refused(word, **options):
        try:
            client(**options).products.list()
        except m3ter.PermissionDeniedError as error:
            assert error.status_code == 403 and error.body == {"message": word}, error.body
            return
        raise AssertionError(f"not refused: {options}")

    refused("Unauthorized", api_secret="wrong")
    refused("Unauthorized", token=ready["expired_token"])
    refused("Unauthorized", token="garbage")
    refused("Forbidden", org_id=ready["other_org_id"])
    refused("Forbidden", org_id="no-such-organization")
    refused("Forbidden", api_key=ready["restricted_api_key"], api_secret=ready["restricted_api_secret"])
    # A base URL may end with a slash.
    assert client(base_url=ready["base_url"] + "/").products.list().data


def main(ready_file):
    with open(ready_file) as file:
        ready = json.load(file)["m3ter"]
    refusals(ready)
    for strict in (False, True):
        count = Walk(ready, strict).run()
        print(f"m3ter SDK {m3ter.__version__}, {'strict' if strict else 'loose'}: {count} operations")


if __name__ == "__main__":
    main(*sys.argv[1:])
