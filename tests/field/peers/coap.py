"""A CoAP server of aiocoap. Arguments: host, port. It prints `ready`, and ends with its stdin.

    /3303/0/5700   a temperature as text, observable; a line on stdin is its new value
    /3304/0/5700   a humidity as text, not observable
    /long          JSON of more than one block
    /cbor          CBOR
    /3308/0/5900   a set point as text, which can be put up to HIGHEST and is forbidden above
    /wild/N        what no sensor means
    /config        JSON, which can be put as JSON
"""

import asyncio
import json
import sys

import aiocoap
import cbor2
from aiocoap import resource

TEXT, JSON, CBOR = 0, 50, 60
HIGHEST = 25.0
# What no sensor means: no number, without end, beyond what can be, words, nothing, what is cut off, another type and format.
WILD = [
    (b"NaN", TEXT),
    (b"1e999", TEXT),
    (b"-400", TEXT),
    (b"warm", TEXT),
    (b"", TEXT),
    (b"\xff\xfe", TEXT),
    (b'{"v": 2', JSON),
    (b"[20.5]", JSON),
    (cbor2.dumps(float("nan")), CBOR),
    (cbor2.dumps(float("inf")), CBOR),
    (cbor2.dumps(20.5)[:-3], CBOR),
    (b"20.5", 42),
]


class Temperature(resource.ObservableResource):
    def __init__(self):
        super().__init__()
        self.value = "20.5"

    async def render_get(self, _request):
        return aiocoap.Message(payload=self.value.encode(), content_format=TEXT)


class Plain(resource.Resource):
    def __init__(self, payload, content_format):
        super().__init__()
        self.payload, self.content_format = payload, content_format

    async def render_get(self, _request):
        return aiocoap.Message(payload=self.payload, content_format=self.content_format)


class SetPoint(Plain):
    async def render_put(self, request):
        if float(request.payload) > HIGHEST:
            return aiocoap.Message(code=aiocoap.FORBIDDEN)
        self.payload = request.payload
        return aiocoap.Message(code=aiocoap.CHANGED)


class Config(Plain):
    async def render_put(self, request):
        if request.opt.content_format != JSON:
            return aiocoap.Message(code=aiocoap.UNSUPPORTED_CONTENT_FORMAT)
        self.payload = json.dumps(json.loads(request.payload)).encode()
        return aiocoap.Message(code=aiocoap.CHANGED)


async def main():
    site = resource.Site()
    temperature = Temperature()
    long = '{"pad":"' + "x" * 5000 + '","level":7.25}'
    site.add_resource(["3303", "0", "5700"], temperature)
    site.add_resource(["3304", "0", "5700"], Plain(b"55", TEXT))
    site.add_resource(["long"], Plain(long.encode(), JSON))
    site.add_resource(["cbor"], Plain(cbor2.dumps({"pressure": 1013.25, "door": True}), CBOR))
    for number, value in enumerate(WILD):
        site.add_resource(["wild", str(number)], Plain(*value))
    site.add_resource(["3308", "0", "5900"], SetPoint(b"20", TEXT))
    site.add_resource(["config"], Config(b'{"mode": "auto"}', JSON))
    host, port = sys.argv[1], int(sys.argv[2])
    context = await aiocoap.Context.create_server_context(site, bind=(host, port))
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        temperature.value = line.strip()
        temperature.updated_state()
    await context.shutdown()


asyncio.run(main())
