"""Routers that forward ports, on loopback: one that speaks PCP or NAT-PMP, and one with UPnP."""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from typing import Any

import trio

OUTSIDE = "11.9.0.1"


@dataclass(slots=True)
class UdpRouter:
    """`speaks` is 0 for NAT-PMP, 2 for PCP as well. `answer` changes what is answered."""

    speaks: int = 2
    host: str = OUTSIDE
    lifetime_s: int = 3_600
    result: int = 0
    mute: bool = False
    answer: Callable[[bytes], bytes] = lambda data: data
    grant: Callable[[bytes, str], bytes] = lambda reply, asker: reply
    """What is done before the answer leaves."""
    mapped: dict[int, int] = field(default_factory=dict)
    """Lifetimes by inside port; 0: not wanted any more."""
    heard: trio.Event = field(default_factory=trio.Event)
    asked: int = 0

    async def serve(self, sock: Any) -> None:
        while True:
            data, who = await sock.recvfrom(2_000)
            self.asked += 1
            reply = self.grant(self.answer(self._reply(data)), str(who[0]))
            if not self.mute and reply:
                await sock.sendto(reply, who)
            self.heard.set()

    def _reply(self, data: bytes) -> bytes:
        if data[0] == 2 and self.speaks < 2:
            return struct.pack(">BBHI", 0, 0x80, 1, 7)
        if data[0] == 2:
            lifetime, nonce = int.from_bytes(data[4:8], "big"), data[24:36]
            inside = int.from_bytes(data[40:42], "big")
            self.mapped[inside] = lifetime
            packed = bytes(10) + b"\xff\xff" + ip_address(self.host).packed
            head = struct.pack(
                ">BBBBII12x", 2, 0x81, 0, self.result, min(lifetime, self.lifetime_s), 7
            )
            return head + nonce + struct.pack(">B3xHH16s", 6, inside, inside, packed)
        if data[1] == 0:
            packed = ip_address(self.host).packed
            return struct.pack(">BBHI4s", 0, 0x80, self.result, 7, packed)
        inside, wanted, lifetime = struct.unpack_from(">HHI", data, 4)
        self.mapped[inside] = lifetime
        granted = min(lifetime, self.lifetime_s)
        return struct.pack(">BBHIHHI", 0, 0x82, self.result, 7, inside, wanted or inside, granted)


ROOT = """<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
<serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId><controlURL>/ctl</controlURL>
<eventSubURL>/evt</eventSubURL><SCPDURL>/scpd.xml</SCPDURL>
</service></serviceList></device></deviceList></device></deviceList></device></root>"""
FAULT = """<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault>
<faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>
<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>718</errorCode>
<errorDescription>ConflictInMappingEntry</errorDescription></UPnPError></detail>
</s:Fault></s:Body></s:Envelope>"""


@dataclass(slots=True)
class Igd:
    """A router with UPnP at `url`. `taken` ports belong to somebody else."""

    url: str = ""
    host: str = OUTSIDE
    taken: frozenset[int] = frozenset()
    mapped: dict[int, dict[str, str]] = field(default_factory=dict)
    removed: threading.Event = field(default_factory=threading.Event)

    def act(self, action: str, fields: dict[str, str]) -> dict[str, str] | None:
        match action:
            case "GetExternalIPAddress":
                return {"NewExternalIPAddress": self.host}
            case "GetStatusInfo":
                return {
                    **{"NewConnectionStatus": "Connected", "NewLastConnectionError": ""},
                    "NewUptime": "9",
                }
            case "AddPortMapping":
                port = int(fields["NewExternalPort"])
                if port in self.taken:
                    return None
                self.mapped[port] = fields
                return {}
            case "DeletePortMapping":
                self.mapped.pop(int(fields["NewExternalPort"]), None)
                self.removed.set()
                return {}
            case _:
                return {}


@contextmanager
def igd(**changes: Any) -> Iterator[Igd]:
    router = Igd(**changes)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(200, ROOT)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            action = self.headers["SOAPAction"].strip('"').partition("#")[2]
            fields = dict(re.findall(r"<(New\w+)>([^<]*)</", body))
            told = router.act(action, fields)
            if told is None:
                self._say(500, FAULT)
                return
            inner = "".join(f"<{name}>{value}</{name}>" for name, value in told.items())
            self._say(
                200,
                '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
                f'<u:{action}Response xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1">'
                f"{inner}</u:{action}Response></s:Body></s:Envelope>",
            )

        def _say(self, code: int, text: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    router.url = f"http://127.0.0.1:{server.server_port}/root.xml"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield router
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
