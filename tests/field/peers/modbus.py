"""Modbus devices by pymodbus, over TCP or at one end of a line of two pseudo-terminals.

    modbus.py tcp | rtu

Says `ready ADDRESS` once it answers. Unit 1 has values of all types, unit 3 few registers; over TCP unit 4 answers
with a register too few, and unit 5 with what no frame is; unit 6 never answers. Ends with its standard input.
"""

import asyncio
import os
import sys
import threading
import tty

from pymodbus import FramerType
from pymodbus.client import ModbusTcpClient
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

TYPES = ModbusTcpClient.DATATYPE
VALUES = [
    (65535, TYPES.UINT16),
    (-2, TYPES.INT16),
    (4_000_000_000, TYPES.UINT32),
    (-2_000_000_000, TYPES.INT32),
    (2**53 + 1, TYPES.UINT64),
    (-(2**53) - 1, TYPES.INT64),
    (1.5, TYPES.FLOAT32),
    (3.141592653589793, TYPES.FLOAT64),
]


def registers(order):
    """The values one after the other, as pymodbus writes them."""
    return [word for value, kind in VALUES for word in ModbusTcpClient.convert_to_registers(value, kind, word_order=order)]


def swapped(words):
    """The same with the bytes of each register the other way round."""
    return [int.from_bytes(word.to_bytes(2, "big"), "little") for word in words]


# 12345678 as digits, bits that mean several things, names 2 and 77, and four flags.
PACKED = [0x1234, 0x5678, 0x5A3C, 2, 77, 0b1001]
# What no meter means: no number, without end, beyond what can be, digits that are none, and the least of all.
WILD = [
    word
    for value in (float("nan"), float("inf"), float("-inf"), 3.0e38)
    for word in ModbusTcpClient.convert_to_registers(value, TYPES.FLOAT32)
] + [0xABCD, 0x8000]


def devices():
    text = ModbusTcpClient.convert_to_registers("Zähler 7", TYPES.STRING)
    holding = [
        SimData(0, values=registers("big"), datatype=DataType.REGISTERS),
        SimData(100, values=registers("little"), datatype=DataType.REGISTERS),
        SimData(200, values=text, datatype=DataType.REGISTERS),
        SimData(300, values=swapped(registers("big")), datatype=DataType.REGISTERS),
        SimData(400, values=swapped(registers("little")), datatype=DataType.REGISTERS),
        SimData(500, values=PACKED, datatype=DataType.REGISTERS),
        SimData(600, values=WILD, datatype=DataType.REGISTERS),
    ]
    inputs = [SimData(0, values=[230, 231, 0x1234], datatype=DataType.REGISTERS)]
    coils = [SimData(0, values=[n % 3 == 0 for n in range(32)], datatype=DataType.BITS)]
    contacts = [SimData(0, values=[n % 5 == 0 for n in range(32)], datatype=DataType.BITS)]
    few = [SimData(0, values=[1, 2], datatype=DataType.REGISTERS)]
    bits = [SimData(0, values=[True] * 16, datatype=DataType.BITS)]
    return [
        SimDevice(1, simdata=(coils, contacts, holding, inputs)),
        SimDevice(3, simdata=(bits, bits, few, few)),
        SimDevice(4, simdata=(bits, bits, few, few)),
        SimDevice(5, simdata=(bits, bits, few, few)),
        SimDevice(6, simdata=(bits, bits, few, few)),
    ]


def spoil(sending, packet):
    """What units 4, 5 and 6 make of their answers, over TCP."""
    if not sending or len(packet) < 9 or packet[7] & 0x80:
        return packet
    if packet[6] == 6:
        return b""
    if packet[6] == 4:
        body = bytes([packet[6], packet[7], packet[8] - 2]) + packet[9:-2]
        return packet[:4] + len(body).to_bytes(2, "big") + body
    return b"\xff" * 300 if packet[6] == 5 else packet


def hush(sending, packet):
    """What unit 6 makes of its answers, over a line."""
    return b"" if sending and packet[:1] == b"\x06" else packet


def bridge(one, other):
    """Carries bytes from one pseudo-terminal to another."""
    while chunk := os.read(one, 4096):
        os.write(other, chunk)


async def main(transport):
    if transport == "tcp":
        server = ModbusTcpServer(devices(), address=("127.0.0.1", 0), trace_packet=spoil)
        await server.listen()
        address = "%s:%d" % server.transport.sockets[0].getsockname()[:2]
    else:
        (near, near_line), (far, far_line) = os.openpty(), os.openpty()
        for line in (near_line, far_line):
            tty.setraw(line)
        for ends in ((near, far), (far, near)):
            threading.Thread(target=bridge, args=ends, daemon=True).start()
        server = ModbusSerialServer(
            devices(), framer=FramerType.RTU, port=os.ttyname(far_line), baudrate=19200, trace_packet=hush
        )
        await server.listen()
        address = os.ttyname(near_line)
    print("ready", address, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


asyncio.run(main(sys.argv[1]))
