"""What every `runtime.ports.Network` does, the real one and the double alike.

A test module derives a class named `Test...` from `NetworkContract` and says how to open networks.
Nothing here sleeps to synchronise: a test waits for what it expects to be told, under a deadline
that only a broken network meets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeVar

import trio

from swarmllm.core.inputs import (
    AddressesChanged,
    AddressesFound,
    DialFailed,
    NetworkInput,
    PeerConnected,
    PeerLost,
    PingMeasured,
    Received,
)
from swarmllm.messages import (
    HALT_FRAME_MAX,
    NO_HALT_DIGEST,
    Busy,
    Close,
    ExpertRecord,
    Halted,
    Open,
    PeerId,
    Shuffle,
    Shuffled,
)
from swarmllm.messages.declare import HALT
from swarmllm.runtime.ports import Keyring, Network
from swarmllm.wire.envelope import seal
from swarmllm.wire.framing import frame

DEADLINE_S = 120.0
FINGERPRINT = bytes(range(32))

_Kind = TypeVar("_Kind", bound=NetworkInput)


class Door:
    """A `Door` that writes down who came: `calls` in order, as (what, peer, data). It passes on
    what is not in `refused`, each record once."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, PeerId, bytes]] = []
        self.refused: set[bytes] = set()
        self._changed = trio.Event()

    def opened(self, peer: PeerId) -> None:
        self._note("opened", peer, b"")

    def closed(self, peer: PeerId) -> None:
        self._note("closed", peer, b"")

    def received(self, peer: PeerId, frame: bytes) -> None:
        self._note("received", peer, frame)

    def heard(self, forwarder: PeerId, data: bytes) -> bool:
        is_known = data in [record for what, _, record in self.calls if what == "heard"]
        self._note("heard", forwarder, data)
        return not is_known and data not in self.refused

    def saw(self, what: str, peer: PeerId | None = None) -> list[bytes]:
        return [data for kind, who, data in self.calls if kind == what and peer in (None, who)]

    async def sees(self, what: str, peer: PeerId | None = None, skip: int = 0) -> bytes:
        """The data of the first such call after `skip` of them, made already or still to come."""
        with trio.fail_after(DEADLINE_S):
            while len(found := self.saw(what, peer)) <= skip:
                await self._changed.wait()
            return found[skip]

    def _note(self, what: str, peer: PeerId, data: bytes) -> None:
        self.calls.append((what, peer, data))
        self._changed.set()
        self._changed = trio.Event()


class AboutPeer(Protocol):
    """An input that concerns one peer."""

    @property
    def peer(self) -> PeerId: ...


def about(peer: PeerId) -> Callable[[AboutPeer], bool]:
    """Whether an input concerns this peer: for `Member.hears`."""
    return lambda one: one.peer == peer


class Member:
    """A network under test with its door, and everything it has told so far."""

    def __init__(self, network: Network, keyring: Keyring, door: Door) -> None:
        self.network = network
        self.keyring = keyring
        self.door = door
        self.told: list[NetworkInput] = []
        self._changed = trio.Event()

    @property
    def peer(self) -> PeerId:
        return self.network.peer

    async def listen(self) -> None:
        async for happened in self.network.inputs:
            self.told.append(happened)
            self._wake()

    async def hears(
        self, kind: type[_Kind], matching: Callable[[_Kind], bool] = lambda _: True, skip: int = 0
    ) -> _Kind:
        """The first input of this kind that matches, after `skip` of them, told already or still to
        come."""
        with trio.fail_after(DEADLINE_S):
            while True:
                found = [one for one in self.told if isinstance(one, kind) and matching(one)]
                if len(found) > skip:
                    return found[skip]
                await self._changed.wait()

    def count(self, kind: type[NetworkInput]) -> int:
        return sum(isinstance(one, kind) for one in self.told)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def opening(session: int) -> Open:
    return Open(session, bytes(32), bytes(32), NO_HALT_DIGEST)


async def connect(caller: Member, called: Member) -> None:
    caller.network.dial(called.peer, called.network.addrs)
    await caller.hears(PeerConnected, lambda one: one.peer == called.peer)
    await called.hears(PeerConnected, lambda one: one.peer == caller.peer)


async def meet(caller: Member, called: Member) -> None:
    """Connect, and wait for the halt stream."""
    await connect(caller, called)
    await caller.door.sees("opened", called.peer)
    await called.door.sees("opened", caller.peer)


def greet(member: Member) -> None:
    """From now on the member's door says its own name to whoever opens."""
    opened = member.door.opened

    def opened_and_greeted(peer: PeerId) -> None:
        opened(peer)
        member.network.send_frame(HALT, peer, member.peer.encode())

    member.door.opened = opened_and_greeted  # type: ignore[method-assign]


class NetworkContract(ABC):
    @abstractmethod
    def open_members(self, count: int) -> AbstractAsyncContextManager[Sequence[Member]]:
        """So many networks of one swarm, connected to nobody yet, each listening through
        `Member.listen`."""

    def run(self, count: int, law: Callable[..., object]) -> None:
        async def main() -> None:
            async with self.open_members(count) as members:
                await law(*members)  # type: ignore[misc]

        trio.run(main)

    def test_its_addresses_are_told_at_the_start(self) -> None:
        async def law(a: Member) -> None:
            told = await a.hears(AddressesChanged)
            assert told.addrs == a.network.addrs != ()
            assert all(addr.endswith(f"/p2p/{a.peer}") for addr in told.addrs)

        self.run(1, law)

    def test_a_dial_connects_both_sides_once(self) -> None:
        async def law(a: Member, b: Member) -> None:
            await connect(a, b)
            assert (await a.hears(PingMeasured)).rtt_s >= 0
            assert a.count(PeerConnected) == b.count(PeerConnected) == 1

        self.run(2, law)

    def test_requests_and_replies_arrive_in_order_with_their_size(self) -> None:
        async def law(a: Member, b: Member) -> None:
            await connect(a, b)
            for session in range(50):
                a.network.send(b.peer, opening(session))
                b.network.send(a.peer, opening(1000 + session))
            await b.hears(Received, skip=49)
            await a.hears(Received, skip=49)
            for session in range(50):
                b.network.send(a.peer, Busy(session, 0, 10))
            await a.hears(Received, skip=99)
            received = [one for one in b.told if isinstance(one, Received)]
            assert [one.message for one in received] == [opening(session) for session in range(50)]
            assert {one.peer for one in received} == {a.peer}
            assert [one.size_bytes for one in received] == [
                len(frame(one.message)) for one in received
            ]
            replies = [
                one.message
                for one in a.told
                if isinstance(one, Received) and isinstance(one.message, Busy)
            ]
            assert replies == [Busy(session, 0, 10) for session in range(50)]

        self.run(2, law)

    def test_nothing_of_a_peer_is_told_before_it_is_connected_or_after_it_is_lost(self) -> None:
        async def law(a: Member, b: Member) -> None:
            await connect(a, b)
            b.network.send(a.peer, Close(7))
            await a.hears(Received)
            b.network.hang_up(a.peer, "enough")
            await a.hears(PeerLost)
            kinds = [
                type(one) for one in a.told if not isinstance(one, AddressesChanged | PingMeasured)
            ]
            assert kinds == [PeerConnected, Received, PeerLost]

        self.run(2, law)

    def test_hanging_up_loses_the_peer_on_both_sides(self) -> None:
        async def law(a: Member, b: Member) -> None:
            await connect(a, b)
            a.network.hang_up(b.peer, "enough")
            assert (await a.hears(PeerLost)).reason == "enough"
            assert (await b.hears(PeerLost)).peer == a.peer
            await self.reconnect(a, b)

        self.run(2, law)

    async def reconnect(self, a: Member, b: Member) -> None:
        a.network.dial(b.peer, b.network.addrs)
        await a.hears(PeerConnected, skip=1)
        await b.hears(PeerConnected, skip=1)

    def test_a_dial_that_reaches_nobody_says_so(self) -> None:
        async def law(a: Member, b: Member) -> None:
            a.network.dial(b.peer, ())
            failed = await a.hears(DialFailed)
            assert failed.peer == b.peer
            assert failed.reason

        self.run(2, law)

    def test_sending_to_a_stranger_shows_as_a_lost_peer(self) -> None:
        async def law(a: Member, b: Member) -> None:
            a.network.send(b.peer, opening(1))
            assert (await a.hears(PeerLost)).peer == b.peer

        self.run(2, law)

    def test_a_shuffle_goes_out_on_our_own_stream_and_its_answer_comes_back_on_it(self) -> None:
        async def law(a: Member, b: Member) -> None:
            await connect(a, b)
            shuffle, shuffled = (
                Shuffle(bytes(8), (3,), (b"sealed",), 4),
                Shuffled((0, 7), (b"one", b"two")),
            )
            a.network.send(b.peer, shuffle)
            b.network.send(a.peer, shuffle)
            assert (await b.hears(Received)).message == (await a.hears(Received)).message == shuffle
            a.network.send(b.peer, shuffled)
            b.network.send(a.peer, shuffled)
            assert (
                (await b.hears(Received, skip=1)).message
                == (await a.hears(Received, skip=1)).message
                == shuffled
            )

        self.run(2, law)

    def test_who_advertises_is_found_by_its_signed_addresses(self) -> None:
        async def law(a: Member, b: Member, c: Member) -> None:
            await connect(a, b)
            await connect(c, b)
            record = ExpertRecord(
                1, "demo", bytes(32), FINGERPRINT, 1, ("/ip4/127.0.0.1/tcp/4242",)
            )
            a.network.advertise(FINGERPRINT, seal(record, a.keyring.public_key, a.keyring.sign))
            with trio.fail_after(DEADLINE_S):
                while not any(
                    isinstance(one, AddressesFound) and one.peer == a.peer for one in c.told
                ):
                    c.network.look_up(FINGERPRINT)
                    await trio.sleep(0.2)  # Between two questions; the answer is waited for.
            found = await c.hears(AddressesFound, lambda one: one.peer == a.peer)
            assert found == AddressesFound(a.peer, record.addrs, "dht")
            a.network.advertise(FINGERPRINT, b"")  # Taken back: harmless, and repeatable.
            a.network.advertise(FINGERPRINT, b"")

        self.run(3, law)

    def test_a_peer_with_three_strikes_is_lost_and_refused(self) -> None:
        async def law(a: Member, b: Member, c: Member) -> None:
            await connect(a, b)
            await connect(a, c)
            for _ in range(3):
                a.network.penalise(b.peer, "lies")
            assert (await a.hears(PeerLost)).peer == b.peer
            a.network.dial(b.peer, b.network.addrs)
            assert (await a.hears(DialFailed)).peer == b.peer
            a.network.send(c.peer, opening(1))
            assert (await c.hears(Received)).peer == a.peer

        self.run(3, law)

    def test_a_control_stream_opens_both_ways_and_ends_with_the_connection(self) -> None:
        async def law(a: Member, b: Member) -> None:
            await meet(a, b)
            a.network.hang_up(b.peer, "enough")
            assert [what for what, _, _ in a.door.calls] == ["opened", "closed"]  # At once.
            await b.door.sees("closed", a.peer)
            await self.reconnect(a, b)
            await a.door.sees("opened", b.peer, skip=1)
            await b.door.sees("opened", a.peer, skip=1)
            assert [what for what, _, _ in a.door.calls] == ["opened", "closed", "opened"]
            assert [what for what, _, _ in b.door.calls] == ["opened", "closed", "opened"]

        self.run(2, law)

    def test_control_frames_arrive_whole_and_in_order_both_ways(self) -> None:
        async def law(a: Member, b: Member) -> None:
            await meet(a, b)
            frames = [
                bytes([n]) * size for n, size in enumerate([1, 2, 100, 1_000, HALT_FRAME_MAX] * 5)
            ]
            for frame_ in frames:
                a.network.send_frame(HALT, b.peer, frame_)
                b.network.send_frame(
                    HALT, a.peer, frame_[::-1] + b"!" if len(frame_) < HALT_FRAME_MAX else frame_
                )
            await b.door.sees("received", a.peer, skip=len(frames) - 1)
            await a.door.sees("received", b.peer, skip=len(frames) - 1)
            assert b.door.saw("received") == frames
            assert a.door.saw("received") == [
                one + b"!" if len(one) < HALT_FRAME_MAX else one for one in frames
            ]

        self.run(2, law)

    def test_what_a_door_says_at_once_is_the_first_thing_that_the_other_hears(self) -> None:
        async def law(a: Member, b: Member) -> None:
            for one in (a, b):
                greet(one)
            await meet(a, b)
            assert await a.door.sees("received") == b.peer.encode()
            assert await b.door.sees("received") == a.peer.encode()

        self.run(2, law)

    def test_telling_a_stranger_does_nothing(self) -> None:
        async def law(a: Member, b: Member, c: Member) -> None:
            await meet(a, b)
            a.network.send_frame(HALT, c.peer, b"hello")
            a.network.send_frame(HALT, b.peer, b"hello")
            assert await b.door.sees("received") == b"hello"
            assert a.count(PeerLost) == 0
            assert c.door.calls == []

        self.run(3, law)

    def test_control_records_reach_all_and_not_again_their_author(self) -> None:
        async def law(a: Member, b: Member, c: Member) -> None:
            await connect(a, b)
            await connect(b, c)
            a.network.publish(HALT, b"from a")
            await c.door.sees("heard", b.peer)
            assert c.door.saw("heard") == [b"from a"]
            assert a.door.saw("heard") == []

        self.run(3, law)

    def test_a_control_record_that_a_door_refuses_goes_no_further_and_may_come_again(self) -> None:
        async def law(a: Member, b: Member, c: Member) -> None:
            b.door.refused.add(b"too early")
            await connect(a, b)
            await connect(c, b)
            a.network.publish(HALT, b"too early")
            await b.door.sees("heard", a.peer)
            c.network.publish(HALT, b"too early")
            await b.door.sees("heard", c.peer)
            a.network.publish(HALT, b"good")
            await c.door.sees("heard")
            assert c.door.saw("heard") == [b"good"]

        self.run(3, law)

    def test_the_end_of_streams_is_heard_by_every_peer_and_connections_stay(self) -> None:
        async def law(a: Member, b: Member, c: Member) -> None:
            await connect(a, b)
            await connect(c, a)
            a.network.end_streams(Halted(b"8 bytes."))
            for peer in (b, c):
                received = await peer.hears(Received)
                assert (received.peer, received.message) == (a.peer, Halted(b"8 bytes."))
                assert received.size_bytes == len(frame(received.message))
                peer.network.send(a.peer, opening(1))
                asked = await a.hears(Received, about(peer.peer))
                assert asked.message == opening(1)
                a.network.send(peer.peer, opening(2))
                await peer.hears(Received, lambda one: one.message == opening(2))
                assert peer.count(PeerLost) == 0
            assert a.count(PeerLost) == 0

        self.run(3, law)


@asynccontextmanager
async def listening(members: Sequence[Member]) -> AsyncIterator[Sequence[Member]]:
    """The members with their listening tasks."""
    async with trio.open_nursery() as nursery:
        for member in members:
            nursery.start_soon(member.listen)
        yield members
        nursery.cancel_scope.cancel()
