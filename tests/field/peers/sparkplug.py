"""An edge node of pysparkplug with a device. Who asks for a rebirth has it connect again. Both carry out commands, and tell
what came of them; one by which a metric is to be IGNORED is left alone.

Arguments: host, port. A line on stdin is a value of the node's metric `level` to be told, or `deregister` to have the
device die.
"""

import sys
import threading
import time

import pysparkplug as psp


IGNORED = 13


def metric(name, datatype, value):
    return psp.Metric(timestamp=psp.get_current_timestamp(), name=name, datatype=datatype, value=value)


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    births = (
        metric("level", psp.DataType.DOUBLE, 0.5),
        metric("count", psp.DataType.INT16, -7),
        metric("open", psp.DataType.BOOLEAN, True),
        metric("mode", psp.DataType.STRING, "auto"),
    )
    lock = threading.Lock()

    def connect():
        node.connect(host, port=port)
        while not node._connected:
            time.sleep(0.02)

    def reborn():
        with lock:
            node.disconnect()
            connect()

    def command(_node, message):
        names = [metric.name for metric in message.payload.metrics]
        if names == ["Node Control/Rebirth"]:
            # Its client cannot be closed from within its own callback.
            threading.Thread(target=reborn).start()
        else:
            _node.update(wanted(message))

    def wanted(message):
        return [
            metric(one.name, one.datatype, one.value)
            for one in message.payload.metrics
            if one.value != IGNORED
        ]

    def command_pump(_node, message):
        _node.update_device("pump", wanted(message))

    node = psp.EdgeNode("plant", "edge", births, cmd_callback=command)
    metrics = (metric("speed", psp.DataType.UINT32, 1500), metric("target", psp.DataType.INT16, -5))
    pump = psp.Device("pump", metrics, cmd_callback=command_pump)
    node.register(pump)
    connect()
    print("ready", flush=True)
    for line in sys.stdin:
        word = line.strip()
        with lock:
            if word == "deregister":
                node.deregister("pump")
            else:
                node.update((metric("level", psp.DataType.DOUBLE, float(word)),))


main()
