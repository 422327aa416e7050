"""Answers queries about an exported file with DuckDB: `oracle.py FILE QUERIES`. The second file has a JSON list
of SQL texts; what is written is a list with the rows of each. The table `r` has for each reading its series, device, point, time in ns, value, and its place
in the file, which is by series, time and arrival."""

import json
import sys

import duckdb

path, queries = sys.argv[1:]
db = duckdb.connect()
columns = [name for name, *_ in db.execute("select * from read_parquet(?) limit 0", [path]).description]
time_ns = "time_ns" if "time_ns" in columns else "epoch_ns(time)"
db.execute(
    f"create table r as select device || '/' || point as series, device, point, {time_ns}::bigint as t,"
    " value as v, file_row_number as n from read_parquet(?, file_row_number = true)",
    [path],
)
json.dump([db.execute(query).fetchall() for query in json.load(open(queries))], sys.stdout)
