"""Reads an exported file with DuckDB: `duck.py FILE`. Writes a line for each reading, by series, time and place in the
file: the series, ns since 1970, and the bits of the value in hexadecimal."""

import struct
import sys

import duckdb

(path,) = sys.argv[1:]
rows = duckdb.execute(
    "select device || '/' || point, epoch_ns(time), value from read_parquet(?, file_row_number = true)"
    " order by device, point, time, file_row_number",
    [path],
)
while part := rows.fetchmany(10_000):
    for series, time_ns, value in part:
        print(series, time_ns, struct.pack(">d", value).hex())
