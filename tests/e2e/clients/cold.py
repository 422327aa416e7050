"""Reads the cold tier of a hub with DuckDB: `cold.py FOLDER`. Writes JSON: the readings as series, ns since 1970 and value, by
these, and how many of them are not of the day that their folder is named by."""

import json
import sys

import duckdb

(folder,) = sys.argv[1:]
db = duckdb.connect()
db.execute("set timezone = 'UTC'")
db.execute(
    "create view cold as select * from read_parquet(?, hive_partitioning = true)".replace(
        "?", "'" + folder + "/*/*.parquet'"
    )
)
rows = db.execute("select device || '/' || point, epoch_ns(time), value from cold order by all").fetchall()
((elsewhere,),) = db.execute("select count(*) from cold where day <> time::date").fetchall()
json.dump({"rows": rows, "elsewhere": elsewhere}, sys.stdout)
