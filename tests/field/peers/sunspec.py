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
    160: {"DCA_SF": -2, "DCV_SF": -1, "DCW_SF": 0, "DCWH_SF": 1, "N": 11},
}
SCALED = {
    103: {"W": -1234.5, "PhVphA": 230.1, "Hz": 50.01, "WH": 12_345_670, "TmpCab": 41},
    123: {"WMaxLimPct": 100.0},
}
# There is room for one module more than the model says that it has.
LENGTHS = {160: 8 + 12 * 20}
MODULES = [
    {"ID": number, "IDStr": "string %d" % number, "DCA": 0.5 * number, "DCV": 400.1, "DCW": 200 * number, "DCSt": 4}
    for number in range(1, 13)
]


def words(number):
    model = device.Model(number, model_len=LENGTHS.get(number))
    for name, value in RAW.get(number, {}).items():
        model.points[name].value = value
    for name, value in SCALED.get(number, {}).items():
        model.points[name].cvalue = value
    for module, values in zip(model.groups.get("module", []), MODULES):
        for name, value in values.items():
            point = module.points[name]
            if point.sf:
                point.cvalue = value
            else:
                point.value = value
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
