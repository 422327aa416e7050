"""DuckDB beside the others: `duck.py PARQUET QUERIES TIMES`. Loads an export into a database file sorted by series and time,
asks each of the SQL texts of a JSON list so often, and prints as JSON the bytes on the disk, the seconds of the load, and
the median milliseconds of each query, answers fetched."""

import json
import os
import statistics
import sys
import tempfile
import time

import duckdb

path, queries, times = sys.argv[1], json.load(open(sys.argv[2])), int(sys.argv[3])
with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(path))) as folder:
    file = os.path.join(folder, "bench.db")
    db = duckdb.connect(file, config={"threads": 2})
    columns = [name for name, *_ in db.execute("select * from read_parquet(?) limit 0", [path]).description]
    time_ns = "time_ns" if "time_ns" in columns else "epoch_ns(time)"
    begin = time.monotonic()
    db.execute(
        f"create table r as select device, point, {time_ns}::bigint as t, value as v from read_parquet(?)"
        " order by device, point, t",
        [path],
    )
    db.execute("checkpoint")
    seconds = time.monotonic() - begin
    took = []
    for query in queries:
        each = []
        for _ in range(times + 3):
            begin = time.monotonic()
            rows = db.execute(query).fetchall()
            each.append((time.monotonic() - begin) * 1e3)
        assert rows, query
        took.append(statistics.median(each[3:]))
    print(json.dumps({"bytes": os.path.getsize(file), "seconds": seconds, "ms": took}))
