"""Writes with InfluxDB's own client library: `influx.py URL TOKEN`. The last line says what was written, as JSON:
readings by series, each a time in ns and a value, both as text."""

import json
import math
import sys

from influxdb_client import InfluxDBClient, Point, WriteOptions, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

url, token = sys.argv[1:]
BEGIN = 1_763_719_200_000_000_000
sent = {}


def note(series, time_ns, value):
    sent.setdefault(series, []).append([str(time_ns), repr(float(value))])


def single(api):
    """Each kind of value, and names that have to be escaped."""
    point = Point("weather").tag("host", "roof").tag("room", "a b,c=d").time(BEGIN, WritePrecision.NS)
    for name, value in [("temp", -1.5e-3), ("count", 2**53), ("wet", True), ("dry", False), ("value", math.pi)]:
        point = point.field(name, value)
        part = "" if name == "value" else "/" + name
        note(f"roof/weather{part}/room.a-x20b-x2cc-x3dd", BEGIN, value)
    api.write("any", "any", point)
    # A unit of its own for times.
    api.write("any", "any", "late,host=pump-1 v=7u 1763719200", write_precision=WritePrecision.S)
    note("pump-1/late/v", BEGIN, 7)


def batches(client):
    """Thousands of points, in batches of the library's own thread."""
    failed = []
    options = WriteOptions(batch_size=1_000, flush_interval=200)
    with client.write_api(options, error_callback=lambda conf, data, error: failed.append(str(error))) as api:
        for n in range(20_000):
            time_ns, device, value = BEGIN + n * 1_000_000, f"pump-{n % 3}", math.sin(n) * 10**(n % 30)
            api.write("any", "any", Point("flow").tag("host", device).field("rate", value).time(time_ns, WritePrecision.NS))
            note(f"{device}/flow/rate", time_ns, value)
    assert not failed, failed[0]


def refused(api, line, status, text):
    try:
        api.write("any", "any", line)
    except ApiException as error:
        assert error.status == status and text in error.message, (error.status, error.message)
    else:
        raise AssertionError(f"{line!r} was taken")


with InfluxDBClient(url=url, token=token, org="any", enable_gzip=True) as client:
    api = client.write_api(write_options=SYNCHRONOUS)
    single(api)
    batches(client)
    refused(api, "m,host=roof v=1 1\nm,host=roof v= 2", 400, "nothing was stored: line 2")
    refused(api, f"m,host=roof v=1,s=9223372036854775808u {BEGIN}", 400, 'line 1: field "s": 9223372036854775808 cannot be kept')
    note("roof/m/v", BEGIN, 1)
    refused(api, "m,host=cellar v=1 1", 400, "may not write for device cellar")
with InfluxDBClient(url=url, token="tlw_nobody_x", org="any") as client:
    refused(client.write_api(write_options=SYNCHRONOUS), "m,host=roof v=1 1", 401, "token create NAME --write DEVICE")
print(json.dumps(sent))
