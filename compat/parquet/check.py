"""Opens the segments of a data directory with DuckDB and pandas, as anybody might, and prints what they find.

    pip install -r requirements.txt
    python check.py DATA/engine

Prints one JSON object: counts and exact sums by each program, as texts. Ends with status 1 if the two differ.
"""

import glob
import json
import sys
from decimal import Decimal, localcontext

import duckdb
import pandas
import pyarrow.parquet

PATTERN = "segments/organization=*/meter=*/month=*/*.parquet"


def by_duckdb(pattern):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    segments = "read_parquet(?, hive_partitioning = true, hive_types_autocast = false, union_by_name = true)"
    described = connection.execute(f"DESCRIBE SELECT * FROM {segments}", [pattern]).fetchall()
    types = {row[0]: row[1] for row in described}
    values = sorted(name for name in types if name.startswith("value_"))
    for name in values:
        assert types[name] == "DECIMAL(38,18)", (name, types[name])
    assert types["time"] == "TIMESTAMP WITH TIME ZONE", types["time"]

    def ask(what, where="true"):
        return connection.execute(f"SELECT {what} FROM {segments} WHERE {where}", [pattern]).fetchone()

    rows, ids, current, subjects, partitions = ask(
        "count(*), count(DISTINCT id), count(*) FILTER (current), count(DISTINCT subject),"
        " count(DISTINCT (organization, meter, month))"
    )
    first, last = ask("epoch_us(min(time)), epoch_us(max(time))")
    # A sum of many decimals may need more than 38 digits, so it is made of two parts that do not.
    sums = {}
    for name in values:
        whole, rest = ask(
            f'sum(trunc("{name}")::DECIMAL(38, 0)), sum(("{name}" - trunc("{name}"))::DECIMAL(38, 18))', "current"
        )
        sums[name] = exact([Decimal(whole or 0), Decimal(rest or 0)])
    return {
        "rows": rows,
        "ids": ids,
        "current": current,
        "subjects": subjects,
        "partitions": partitions,
        "first": first,
        "last": last,
        "sums": sums,
    }


def by_pandas(pattern):
    frames = []
    partitions = set()
    for path in sorted(glob.glob(pattern)):
        metadata = pyarrow.parquet.ParquetFile(path).metadata.metadata
        named = "/".join(part.split("=")[1] for part in path.split("/") if "=" in part)
        told = "/".join(metadata[b"meterd." + key].decode() for key in (b"organization", b"meter", b"month"))
        assert named == told, (named, told)
        partitions.add(named)
        frame = pandas.read_parquet(path, engine="pyarrow", partitioning=None)
        places = list(zip(frame["subject"].fillna("").str.encode("utf-8"), frame["time"].fillna(pandas.Timestamp(0, tz="UTC")), frame["sequence"]))
        assert places == sorted(places), f"{path} is not sorted"
        frames.append(frame)
    rows = pandas.concat(frames, ignore_index=True)
    current = rows[rows["current"]]
    values = sorted(name for name in rows.columns if name.startswith("value_"))
    return {
        "rows": len(rows),
        "ids": rows["id"].nunique(),
        "current": len(current),
        "subjects": rows["subject"].nunique(),
        "partitions": len(partitions),
        "first": micros(rows["time"].min()),
        "last": micros(rows["time"].max()),
        "sums": {name: exact(current[name].dropna()) for name in values},
    }


def exact(decimals):
    with localcontext(prec=80):
        return f"{sum(decimals, Decimal(0)):.18f}"


def micros(time):
    return None if pandas.isna(time) else time.value // 1000 if time.unit == "ns" else int(time.as_unit("us").asm8.astype("int64"))


def main(directory):
    pattern = f"{directory}/{PATTERN}"
    found = {"duckdb": by_duckdb(pattern), "pandas": by_pandas(pattern)}
    found["same"] = found["duckdb"] == found["pandas"]
    print(json.dumps(found, indent=2))
    return 0 if found["same"] else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
