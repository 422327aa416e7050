"""What the readings of an exported file take in Parquet, encoding by encoding, and how fast they are read back.

    EXPORT=/tmp/walk.parquet make bench PART=hub
    python3 -m venv /tmp/parquet && /tmp/parquet/bin/pip install pyarrow
    /tmp/parquet/bin/python tests/bench/parquet.py /tmp/walk.parquet

Each form holds the same rows by series and time, as series number, time and value, in row groups of 128 Ki rows. It
stands beside the figure of the same benchmark for the store's own files, which has the rollups in it."""

import os
import sys
import time

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

GROUP_ROWS = 128 * 1024
RUNS = 3

(path,) = sys.argv[1:]
table = pq.read_table(path)
device, point = (table[name].cast(pa.string()) for name in ("device", "point"))
names = pc.binary_join_element_wise(device, point, "/").combine_chunks()
series = names.dictionary_encode().indices
scaled = pc.round(pc.multiply(table["value"], 100.0)).cast(pa.int64())
assert pc.all(pc.equal(pc.divide(scaled.cast(pa.float64()), 100.0), table["value"])).as_py(), "not of two decimals"
doubles = pa.table({"series": series, "time": table["time"].cast(pa.int64()), "value": table["value"]})
integers = doubles.set_column(2, "value", scaled)

DELTA, SPLIT = "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"
FORMS = [
    ("dictionary, zstd", doubles, {}),
    ("dictionary, zstd 9", doubles, {"compression_level": 9}),
    ("times by deltas, values split by byte, zstd", doubles, {"value": SPLIT}),
    ("values as integers by deltas, zstd", integers, {"value": DELTA}),
]

for name, form, options in FORMS:
    settings = {"compression": "zstd", "row_group_size": GROUP_ROWS, "write_statistics": True}
    value = options.get("value")
    if value:
        settings |= {"use_dictionary": ["series"], "column_encoding": {"time": DELTA, "value": value}}
    settings |= {key: options[key] for key in ("compression_level",) if key in options}
    out, taken = path + ".form", []
    start = time.perf_counter()
    pq.write_table(form, out, **settings)
    wrote = time.perf_counter() - start
    for _ in range(RUNS):
        start = time.perf_counter()
        pq.read_table(out, use_threads=False, memory_map=True)
        taken.append(time.perf_counter() - start)
    size = os.path.getsize(out)
    rows, read = form.num_rows, sorted(taken)[RUNS // 2]
    print(f"{name:<48} {size / rows:6.2f} B/reading {rows / wrote / 1e6:7.1f} M/s written {rows / read / 1e6:7.1f} M/s read")
