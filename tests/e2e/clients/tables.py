"""Makes files of an exported one with other programs: `tables.py EXPORT FOLDER`.

duckdb.parquet     DuckDB's own writing of the export
pandas.parquet     the same with times in microseconds without a zone, as pandas writes them
wide.parquet       DuckDB's pivot: a row for each time, a column for each point of one device
duckdb.csv         DuckDB's CSV
"""

import sys

import duckdb

export, folder = sys.argv[1:]
db = duckdb.connect()
db.execute("set timezone = 'UTC'")
# In the order of the file, which is by series, time and arrival.
db.execute("create table r as select * from read_parquet(?, file_row_number = true)", [export])
order = "order by file_row_number"
db.execute(f"copy (select * exclude (file_row_number) from r {order}) to '{folder}/duckdb.parquet' (format parquet)")
db.execute(f"copy (select device, point, unit, time, value from r {order}) to '{folder}/duckdb.csv' (format csv)")
db.execute(
    f"copy (select device, point, unit, make_timestamp(epoch_ns(time) // 1000) as \"when\", value::float as value from r {order})"
    f" to '{folder}/pandas.parquet' (format parquet, row_group_size 1000)"
)
db.execute(
    "copy (select epoch_ns(time) // 1000000 as ms, max(value) filter (point = 'load') as load, max(value) filter (point = 'fuel') as fuel"
    f" from r where device = 'truck-1' group by 1 order by 1) to '{folder}/wide.parquet' (format parquet)"
)
wide = "select epoch_ns(time) // 1000000 as ms, point, max(value) as value from r where device = 'truck-1' and point in ('load', 'fuel') group by all order by all"
print(db.execute(f"select count(*) from ({wide})").fetchone()[0])
