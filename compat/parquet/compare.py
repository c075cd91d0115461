"""Compares what DuckDB and pandas find in the segments of a backup with what the API answers.

    python compare.py BASE_URL KEY BACKUP/engine
"""

import glob
import json
import os
import sys
import urllib.request
from collections import defaultdict
from decimal import Decimal

from check import PATTERN, by_duckdb, by_pandas, exact


def ask(base_url, key, path, body=None):
    request = urllib.request.Request(
        base_url + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def by_api(base_url, key):
    count = 0
    sums = defaultdict(list)
    page = ask(base_url, key, "/meters?limit=1000")
    assert page["next_cursor"] is None, "more meters than a page"
    for meter in page["items"]:
        names = list(meter["values"])
        query = {
            "meter": meter["name"],
            "from": "1970-01-01T00:00:00Z",
            "to": "2100-01-01T00:00:00Z",
            "aggregations": [{"function": "count"}, *({"function": "sum", "field": name} for name in names)],
        }
        for row in ask(base_url, key, "/query", query)["rows"]:
            values = row["values"]
            count += int(values["count"])
            for name in names:
                sums[f"value_{name}"].append(Decimal(values[f"sum({name})"] or 0))
    return {"current": count, "sums": {name: exact(parts) for name, parts in sorted(sums.items())}}


def own_pattern(base_url, key, directory):
    """The segments of the key's organization; others may be beside it."""
    meters = ask(base_url, key, "/meters?limit=1000")["items"]
    (organization,) = {
        os.path.basename(os.path.dirname(found))
        for meter in meters
        for found in glob.glob(f"{directory}/segments/organization=*/meter={meter['id']}")
    }
    return f"{directory}/{PATTERN.replace('organization=*', organization)}"


def main(base_url, key, directory):
    pattern = own_pattern(base_url, key, directory)
    api = by_api(base_url, key)
    assert api["current"] > 100_000, api
    for name, found in [("DuckDB", by_duckdb(pattern)), ("pandas", by_pandas(pattern))]:
        told = {"current": found["current"], "sums": found["sums"]}
        if told != api:
            print(f"{name} finds {told}\nthe API answers {api}")
            return 1
        print(f"{name}: {found['current']} measurements of {found['partitions']} partitions, sums as the API's")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
