"""An OPC UA server of asyncua. Arguments: port, security (`open` or `sealed`), a folder for its certificate, and for
`sealed` the certificate of the one client that it trusts, or `-` for all. It prints `loaded` and waits for a line, listens
and prints `ready`, and ends with its stdin; these lines on stdin are what it does:

    set NAME VALUE           a variable of the pump has this value, of its own type
    burst NAME COUNT         it has the values 1 to COUNT, one right after the other
    status NAME CODE VALUE   it has the status with this number in hex, and this value
    get NAME                 prints its value

`sealed` takes the user `reader` with the password `s3cret`, and nobody without a login.
"""

import asyncio
import datetime
import sys
from pathlib import Path

from asyncua import Server, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.crypto.uacrypto import der_from_x509
from cryptography.x509.oid import ExtendedKeyUsageOID

SPACE = "urn:tideline:test"
URI = "urn:tideline:test:server"
UTC = datetime.timezone.utc


class Users:
    def get_user(self, iserver, username=None, password=None, certificate=None):
        if username == "reader" and password == "s3cret":
            return User(role=UserRole.Admin, name=username)
        return None


async def seal(server, folder, client):
    key, certificate = folder / "server.pem", folder / "server.der"
    uses = [ExtendedKeyUsageOID.SERVER_AUTH]
    await setup_self_signed_certificate(key, certificate, URI, "localhost", uses, {})
    await server.load_certificate(str(certificate))
    await server.load_private_key(str(key))
    policies = ua.SecurityPolicyType
    server.set_security_policy(
        [
            policies.Basic256Sha256_SignAndEncrypt,
            policies.Basic256Sha256_Sign,
            policies.Aes128Sha256RsaOaep_SignAndEncrypt,
            policies.Aes256Sha256RsaPss_SignAndEncrypt,
        ]
    )
    server.set_identity_tokens([ua.UserNameIdentityToken])

    async def validate(shown, _description):
        if client != "-" and der_from_x509(shown) != Path(client).read_bytes():
            raise ua.uaerrors.BadCertificateUntrusted()

    server.set_certificate_validator(validate)


async def fill(server, space):
    types = ua.VariantType
    start = datetime.datetime(2026, 1, 31, 12, tzinfo=UTC)
    values = {
        "Flow": (types.UInt16, 234),
        "Level": (types.Double, 0.75),
        "Ratio": (types.Float, 0.1),
        "Running": (types.Boolean, True),
        "Small": (types.SByte, -7),
        "Total": (types.UInt64, 2**62),
        "Huge": (types.UInt64, 2**64 - 1),
        "Count": (types.Int64, -(2**62)),
        "Name": (types.String, "pump é"),
        "Label": (types.LocalizedText, ua.LocalizedText("Pumpe", "de")),
        "Since": (types.DateTime, start),
        "Setpoint": (types.Int16, 20),
        "Curve": (types.Double, [1.0, 2.0]),
        "Blob": (types.ByteString, b"123"),
        "Raw": (types.Int32, 1),
    }
    objects = server.nodes.objects
    pump = await objects.add_object(ua.NodeId("Pump", space), ua.QualifiedName("Pump", space))
    await pump.add_object(ua.NodeId("Again", space), ua.QualifiedName("Again", space))
    nodes = {}
    for name, (kind, value) in values.items():
        told = ua.DataValue(ua.Variant(value, kind), SourceTimestamp=start)
        node = await pump.add_variable(ua.NodeId(name, space), ua.QualifiedName(name, space), ua.Variant(value, kind))
        await node.set_writable()
        await node.write_value(told)
        nodes[name] = (node, kind)
    return nodes


def value_of(text, kind):
    types = ua.VariantType
    if kind == types.Boolean:
        return text == "true"
    if kind in (types.Double, types.Float):
        return float(text)
    return text if kind == types.String else int(text)


async def obey(line, nodes):
    verb, name, rest = (line.split(maxsplit=2) + [""])[:3]
    node, kind = nodes[name]
    now = datetime.datetime.now(UTC)
    if verb == "set":
        await node.write_value(ua.DataValue(ua.Variant(value_of(rest, kind), kind), SourceTimestamp=now))
    elif verb == "burst":
        for number in range(1, int(rest) + 1):
            await node.write_value(ua.DataValue(ua.Variant(number, kind), SourceTimestamp=now))
    elif verb == "status":
        code, text = rest.split()
        status, value = ua.StatusCode(int(code, 16)), ua.Variant(value_of(text, kind), kind)
        await node.write_value(ua.DataValue(value, StatusCode=status, SourceTimestamp=now))
    elif verb == "get":
        print(await node.read_value(), flush=True)


async def main():
    port, security, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    server = Server(user_manager=Users() if security == "sealed" else None)
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/pump")
    await server.set_application_uri(URI)
    await server.set_build_info("urn:maker:pump", "Maker", "Pump server", "1.2.3", "7", datetime.datetime.now(UTC))
    if security == "sealed":
        await seal(server, folder, sys.argv[4])
    else:
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    nodes = await fill(server, await server.register_namespace(SPACE))
    loop = asyncio.get_running_loop()
    print("loaded", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    async with server:
        print("ready", flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            await obey(line.strip(), nodes)


asyncio.run(main())
