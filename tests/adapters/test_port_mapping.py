"""A router forwards our port, or says something that is no use; and takes it back at the end."""

from __future__ import annotations

import math
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from swarmllm.adapters import port_mapping
from swarmllm.adapters.port_mapping import LEASE_MIN_S, PortMapper, default_gateway
from swarmllm.core.peers.reachability import PortMapping
from swarmllm.errors import RemoteError
from tests.adapters.routers import OUTSIDE, UdpRouter, igd

PORT = 7339
AT = f"/ip4/{OUTSIDE}/tcp/{PORT}"


@dataclass(slots=True)
class Told:
    mappings: list[tuple[PortMapping | None, str]] = field(default_factory=list)
    changed: trio.Event = field(default_factory=trio.Event)

    def tell(self, mapping: PortMapping | None, note: str) -> None:
        self.mappings.append((mapping, note))
        self.changed.set()

    async def next(self) -> tuple[PortMapping | None, str]:
        with trio.fail_after(30):
            while not self.mappings:
                await self.changed.wait()
                self.changed = trio.Event()
        return self.mappings.pop(0)


@pytest.fixture
def without_upnp(monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(*words: str) -> dict[str, object]:
        raise RemoteError("no router with UPnP was found")

    monkeypatch.setattr(port_mapping, "_run_upnp", none)


@asynccontextmanager
async def asking(router: UdpRouter, **more: Any) -> AsyncIterator[tuple[PortMapper, Told]]:
    sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.1", 0))
    told = Told()
    mapper = PortMapper(
        *(PORT, lambda: "192.168.1.10", told.tell, lambda: "127.0.0.1"),
        router_port=sock.getsockname()[1],
        **more,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(router.serve, sock)
        nursery.start_soon(mapper.run)
        yield mapper, told
        nursery.cancel_scope.cancel()
    sock.close()


@pytest.mark.usefixtures("without_upnp")
@pytest.mark.parametrize(("speaks", "by"), [(2, "PCP"), (0, "NAT-PMP")])
def test_a_router_forwards_the_port_in_the_best_way_that_it_speaks_and_takes_it_back(
    speaks: int, by: str
) -> None:
    async def main() -> None:
        router = UdpRouter(speaks=speaks)
        async with asking(router) as (mapper, told):
            mapping, note = await told.next()
            assert mapping is not None
            assert (mapping.by, mapping.outside, note) == (by, AT, "")
            assert router.mapped[PORT] > 0
            router.heard = trio.Event()
            mapper.withdraw()
            with trio.fail_after(10):
                await router.heard.wait()
            assert router.mapped[PORT] == 0

    trio.run(main)


@pytest.mark.usefixtures("without_upnp")
def test_a_lease_is_renewed_at_half_of_its_time_however_short_the_router_makes_it() -> None:
    async def main() -> None:
        router = UdpRouter(lifetime_s=1)
        async with asking(router) as (_, told):
            began = trio.current_time()
            mapping, _ = await told.next()
            assert mapping is not None
            assert mapping.until == pytest.approx(began + LEASE_MIN_S, abs=60)
            asked = router.asked
            await trio.sleep(LEASE_MIN_S / 2 + 1)
            await told.next()
            assert asked < router.asked <= asked + 3

    # Real sockets, and a clock that jumps once everybody waits for it.
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.2))


@pytest.mark.usefixtures("without_upnp")
@pytest.mark.parametrize(
    ("router", "said"),
    [
        (UdpRouter(host="192.168.0.7"), "behind another NAT"),
        (UdpRouter(host="127.0.0.1"), "behind another NAT"),
        (UdpRouter(result=2), "UPnP"),
        (UdpRouter(mute=True), "UPnP"),
        (UdpRouter(answer=lambda data: b"\xff" * 60), "UPnP"),
        (UdpRouter(answer=lambda data: data[:5]), "UPnP"),
        (UdpRouter(answer=lambda data: data + bytes(2_000)), "UPnP"),
    ],
    ids=["private", "loopback", "refuses", "mute", "noise", "short", "long"],
)
def test_what_a_router_says_that_is_no_use_forwards_nothing_and_says_why(
    router: UdpRouter, said: str
) -> None:
    async def main() -> None:
        faults: list[str] = []
        async with asking(router) as (mapper, told):
            mapping, note = await told.next()
            assert mapping is None
            assert note
            for way in (mapper._pcp, mapper._pmp):
                try:
                    mapper._checked((await way("192.168.1.10")).mapped)
                except RemoteError as error:
                    faults.append(str(error))
            assert len(faults) == 2
            assert said == "UPnP" or all(said in one for one in faults)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.2))


def test_upnp_forwards_the_port_or_one_beside_it_and_takes_it_back() -> None:
    async def main(url: str, check: Callable[[], None]) -> None:
        router = UdpRouter(mute=True)
        async with asking(router, upnp_url=url) as (mapper, told):
            mapping, note = await told.next()
            assert (mapping is not None, note) == (True, "")
            assert mapping is not None
            assert (mapping.by, mapping.outside) == ("UPnP", f"/ip4/{OUTSIDE}/tcp/{PORT + 1}")
            check()
            mapper.withdraw()

    with igd(taken=frozenset({PORT})) as found:

        def check() -> None:
            (fields,) = found.mapped.values()
            assert fields["NewInternalPort"] == str(PORT)
            assert int(fields["NewLeaseDuration"]) == port_mapping.LEASE_S

        trio.run(main, found.url, check)
        assert found.removed.wait(30)
        assert not found.mapped


def test_a_upnp_process_that_answers_nothing_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_mapping, "UPNP_WITHIN_S", 0.2)
    monkeypatch.setattr(port_mapping, "_command", lambda words: ["sleep", "600"])

    async def main() -> None:
        with pytest.raises(RemoteError, match="no answer in time"):
            await port_mapping._run_upnp("map")

    trio.run(main)


def test_without_a_private_address_no_router_is_asked() -> None:
    async def main() -> None:
        told = Told()
        mapper = PortMapper(PORT, lambda: "", told.tell, lambda: "127.0.0.1")
        assert await mapper._once() < math.inf
        assert told.mappings == [(None, "")]

    trio.run(main)


def test_the_default_routes_router_is_read_with_the_best_metric(tmp_path: Path) -> None:
    def row(gateway: str, metric: int, flags: int = 3, target: str = "00000000") -> str:
        return f"eth0\t{target}\t{gateway}\t{flags:04X}\t0\t0\t{metric}\t00000000\t0\t0\t0"

    def hexed(host: str) -> str:
        return struct.pack("<I", int.from_bytes(bytes(map(int, host.split("."))), "big")).hex()

    file = tmp_path / "route"
    rows = [
        row(hexed("192.168.9.1"), 600),
        row(hexed("192.168.1.1"), 100),
        row(hexed("10.0.0.1"), 50, flags=1),
        row(hexed("10.0.0.2"), 1, target="0000A8C0"),
    ]
    file.write_text("\n".join(["Iface\tDestination\tGateway", *rows]), encoding="ascii")
    assert default_gateway(file) == "192.168.1.1"
    file.write_text("Iface", encoding="ascii")
    assert default_gateway(file) == ""
