"""Asks DuckDB the peers' questions over Parquet segments and prints one JSON object.

Usage: duckdb_query.py PATTERN FROM TO RUNS, with times such as 2026-01-01T00:00:00Z
"""

import json
import sys
import time

import duckdb

pattern, begin, end, runs = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
connection = duckdb.connect()
source = f"""
    FROM read_parquet('{pattern}', hive_partitioning = false, union_by_name = true)
    WHERE "current" AND "time" >= TIMESTAMPTZ '{begin}' AND "time" < TIMESTAMPTZ '{end}'
"""
# An hour by division: cheaper than `date_trunc`, which asks the calendar of the session's zone.
questions = {
    "sum_by_subject_top_100": f"""
        SELECT subject, sum(value_bytes) AS total {source} GROUP BY subject ORDER BY total DESC LIMIT 100
    """,
    "sum_by_attribute_and_hour": f"""
        SELECT attribute_region, epoch_us("time") // 3600000000 AS hour, sum(value_bytes) AS total {source}
        GROUP BY ALL ORDER BY ALL
    """,
}
figures = {"rows": connection.execute(f"SELECT count(*) {source}").fetchone()[0]}
for name, question in questions.items():
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        connection.execute(question).fetchall()
        taken.append((time.perf_counter() - started) * 1000)
    taken.sort()
    figures[f"{name}_best_ms"] = taken[0]
    figures[f"{name}_p50_ms"] = taken[(len(taken) - 1) // 2]
print(json.dumps(figures))
