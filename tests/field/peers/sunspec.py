"""A device of SunSpec: models as pysunspec2 lays them out, behind a server of pymodbus.

    sunspec.py PORT MODEL...

Says `ready ADDRESS` once it answers at the port, 0 for any; its unit is 1, and its models stand in the order given. Ends
with its standard input.
"""

import asyncio
import os
import sys

import sunspec2.device as device
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

BASE = 40_000
# What pysunspec2 writes into each model; all else is not implemented. Values with a scale are after it.
RAW = {
    1: {"Mn": "Example Solar", "Md": "EX-5000", "Vr": "1.4.2", "SN": "0001"},
    103: {"W_SF": -1, "V_SF": -1, "Hz_SF": -2, "WH_SF": 1, "Tmp_SF": 0, "St": 4, "Evt1": 1 << 7},
    123: {"WMaxLimPct_SF": -1, "Conn": 1, "WMaxLim_Ena": 0},
}
SCALED = {
    103: {"W": -1234.5, "PhVphA": 230.1, "Hz": 50.01, "WH": 12_345_670, "TmpCab": 41},
    123: {"WMaxLimPct": 100.0},
}


def words(number):
    model = device.Model(number)
    for name, value in RAW.get(number, {}).items():
        model.points[name].value = value
    for name, value in SCALED.get(number, {}).items():
        model.points[name].cvalue = value
    return [int.from_bytes(pair) for pair in zip(*[iter(model.get_mb())] * 2)]


async def main(port, models):
    registers = [0x5375, 0x6E53] + [word for model in models for word in words(model)] + [0xFFFF, 0]
    held = [SimData(BASE, values=registers, datatype=DataType.REGISTERS)]
    bits = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
    server = ModbusTcpServer([SimDevice(1, simdata=(bits, bits, held, held))], address=("127.0.0.1", port))
    await server.listen()
    print("ready", "%s:%d" % server.transport.sockets[0].getsockname()[:2], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


asyncio.run(main(int(sys.argv[1]), [int(number) for number in sys.argv[2:]]))
