"""Submits usage with m3ter's own Python SDK and asks for it by day.

    pip install m3ter==0.9.0
    meterd demo &
    python m3ter-usage.py .meterd-demo/demo.json
"""

import json
import sys
import time
from datetime import datetime, timedelta, timezone

from m3ter import M3ter

with open(sys.argv[1]) as file:
    ready = json.load(file)["m3ter"]

client = M3ter(
    api_key=ready["api_key"],
    api_secret=ready["api_secret"],
    org_id=ready["org_id"],
    base_url=ready["base_url"],
)

now = datetime.now(timezone.utc)
run = f"example-{int(time.time())}"
client.usage.submit(
    measurements=[
        {
            # The same uid again would not count twice.
            "uid": f"{run}-{hours}",
            "meter": "storage",
            "account": "customer-00",
            "ts": (now - timedelta(hours=hours)).isoformat(),
            "measure": {"bytes": 3 * 2**30},
            "where": {"region": "eu"},
        }
        for hours in (1, 25, 49)
    ]
)

(meter,) = client.meters.list(codes=["storage"])
(account,) = client.accounts.list(codes=["customer-00"])
usage = client.usage.query(
    start_date=(now - timedelta(days=3)).isoformat(),
    end_date=now.isoformat(),
    account_ids=[account.id],
    aggregations=[{"meter_id": meter.id, "field_code": "gib", "field_type": "MEASURE", "function": "MAX"}],
    groups=[{"groupType": "TIME", "frequency": "DAY"}],
)
for row in usage.data:
    print(row["startDate"][:10], row["gib.MAX"], "GiB")
assert usage.data
