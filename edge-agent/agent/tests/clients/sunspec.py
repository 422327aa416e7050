"""Reads the models of a device with pysunspec2, which has SunSpec's own definitions; prints them as JSON.

usage: sunspec.py HOST PORT
"""

import json
import sys

import sunspec2.modbus.client as client

device = client.SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr=sys.argv[1], ipport=int(sys.argv[2]))
device.connect()
device.scan()
models = {}
for number in (key for key in device.models if isinstance(key, int)):
    model = device.models[number][0]
    model.read()
    points = {}
    for name, point in model.points.items():
        points[name] = {"value": point.cvalue if point.sf else point.value, "units": point.pdef.get("units", "")}
    models[number] = {"length": model.model_len, "points": points}
json.dump(models, sys.stdout)
