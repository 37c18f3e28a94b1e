"""Laws of the network between hosts: what arrives, in which order, what becomes of it when somebody
falls silent or a partition lies across, and that gossip reaches everybody."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest

from swarmllm.core.inputs import AddressesFound, DialFailed, PeerConnected, PeerLost, Received
from swarmllm.core.peers.liveness import DIAL_S, SILENT_S
from swarmllm.messages import Close, PeerId
from swarmllm.testing.world import Host, LinkModel, Overlay, Spec, World
from swarmllm.testing.world.checks import Checker

MESSAGES = 60


class Diary(Checker):
    """What every host was told, and when."""

    def __init__(self) -> None:
        self.events: list[tuple[float, PeerId, Any]] = []

    def stepped(self, host: Host, event: object) -> None:
        self.events.append((self.world.now, host.peer, event))

    def told(self, host: Host, kind: type) -> list[tuple[float, Any]]:
        return [
            (at, event)
            for at, peer, event in self.events
            if peer == host.peer and isinstance(event, kind)
        ]

    def closes(self, host: Host) -> list[int]:
        """The sessions of the Close messages that it was told, in order."""
        found = [event.message for _, event in self.told(host, Received)]
        return [message.session for message in found if isinstance(message, Close)]


def pair(
    link: LinkModel | None = None, count: int = 2, overlay: Overlay | None = None
) -> tuple[World, Diary, list[Host]]:
    """Hosts without experts, so that they have little to say by themselves, all connected with each
    other."""
    diary = Diary()
    world = World(1, link=link or LinkModel(0.02), overlay=overlay, checkers=[diary])
    hosts = [world.add(Spec(model=None, place=(0.5, 0.5))) for _ in range(count)]
    world.run_for(1.0)
    for i, one in enumerate(hosts):
        for two in hosts[i + 1 :]:
            if two.peer not in one.connections:
                world.network.connect(one, two)
    world.run_for(1.0)
    return world, diary, hosts


def send_all(world: World, one: Host, two: Host, numbers: range) -> None:
    for number in numbers:
        world.network.send(one, two.peer, Close(number), 10)


@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_a_stream_keeps_its_order_and_loses_nothing(loss: float) -> None:
    world, diary, (one, two) = pair(LinkModel(0.02, sigma=1.0, loss=loss))
    send_all(world, one, two, range(MESSAGES))
    world.run_for(60.0)
    assert diary.closes(two) == list(range(MESSAGES))


def test_faults_drop_double_and_overtake() -> None:
    world, diary, (one, two) = pair(
        LinkModel(0.02, sigma=1.0, drop=0.1, duplicate=0.1, reorder=0.3)
    )
    send_all(world, one, two, range(10 * MESSAGES))
    world.run_for(60.0)
    seen = diary.closes(two)
    assert set(seen) < set(range(10 * MESSAGES))
    assert len(seen) > len(set(seen))
    assert any(later < earlier for earlier, later in pairwise(dict.fromkeys(seen)))


def test_a_process_that_dies_is_noticed_behind_what_it_sent() -> None:
    world, diary, (one, two) = pair()
    began = world.now
    send_all(world, one, two, range(5))
    world.crash(one)
    world.run_for(1.0)
    assert diary.closes(two) == list(range(5))
    (lost,) = diary.told(two, PeerLost)
    assert lost[1] == PeerLost(one.peer, "reset")
    assert lost[0] < began + 0.5
    assert not two.connections


@pytest.mark.parametrize("how", ["freeze", "lose_power", "partition"])
def test_silence_is_noticed_when_it_has_lasted(how: str) -> None:
    world, diary, (one, two) = pair()
    began = world.now
    if how == "partition":
        world.partition([[one]])
    else:
        getattr(world, how)(one)
    world.run_for(SILENT_S + 1.0)
    [(at, event)] = diary.told(two, PeerLost)
    assert event == PeerLost(one.peer, "silent")
    assert at - began == pytest.approx(SILENT_S)


def test_a_short_absence_goes_unnoticed_and_nothing_is_lost() -> None:
    world, diary, (one, two) = pair()
    world.freeze(two)
    send_all(world, one, two, range(5))
    world.run_for(SILENT_S - 1.0)
    assert diary.closes(two) == []
    world.thaw(two)
    world.run_for(SILENT_S + 8.0)
    assert diary.closes(two) == list(range(5))
    assert not diary.told(one, PeerLost)


def test_what_is_sent_across_a_partition_arrives_in_order_once_it_heals() -> None:
    world, diary, (one, two) = pair()
    send_all(world, one, two, range(3))
    world.run_for(1.0)
    world.partition([[one]])
    send_all(world, one, two, range(3, 9))
    world.run_for(SILENT_S - 1.0)
    assert diary.closes(two) == [0, 1, 2]
    world.heal()
    world.run_for(SILENT_S + 1.0)
    assert diary.closes(two) == list(range(9))
    assert not diary.told(one, PeerLost)


def test_whoever_is_not_connected_is_lost_at_once() -> None:
    world, diary, (one, two) = pair()
    world.crash(two)
    world.run_for(1.0)
    send_all(world, one, two, range(1))
    world.run_for(0.0)
    assert diary.events[-1] == (world.now, one.peer, PeerLost(two.peer, "not connected"))


def strangers(link: LinkModel | None = None) -> tuple[World, Diary, Host, Host]:
    diary = Diary()
    world = World(1, link=link or LinkModel(0.02, sigma=0.0), checkers=[diary])
    one, two = world.add(Spec(model=None), starts=False), world.add(Spec(model=None), starts=False)
    for host in (one, two):
        world.start(host, introduced=0)
    return world, diary, one, two


def test_a_dial_connects_both_after_some_round_trips() -> None:
    world, diary, one, two = strangers()
    world.introduce(one, two)
    world.run_for(1.0)
    ((at, event),) = diary.told(one, PeerConnected)
    assert event == PeerConnected(two.peer)
    assert diary.told(two, PeerConnected) == [(at, PeerConnected(one.peer))]
    assert at == pytest.approx(0.184)  # 4.6 round trips of 40 ms.


@pytest.mark.parametrize(
    ("what", "reason", "after_s"),
    [
        ("crash", "refused", 0.04),
        ("lose_power", "no answer in time", DIAL_S),
        ("freeze", "no answer in time", DIAL_S),
        ("partition", "no answer in time", DIAL_S),
        ("moved", "no answer in time", DIAL_S),
    ],
)
def test_a_dial_fails_as_it_does_in_life(what: str, reason: str, after_s: float) -> None:
    world, diary, one, two = strangers()
    addrs = two.addrs
    if what == "partition":
        world.partition([[two]])
    elif what == "moved":
        addrs = ("/ip4/192.0.2.9/tcp/1",)
    else:
        getattr(world, what)(two)
    one.receive(AddressesFound(two.peer, addrs, "bootstrap"))
    world.run_for(DIAL_S + 0.5)
    at, event = diary.told(one, DialFailed)[0]
    assert event == DialFailed(two.peer, reason)
    assert at == pytest.approx(after_s)


def test_a_host_that_restarts_unnoticed_takes_the_place_of_its_former_self() -> None:
    world, diary, (one, two) = pair()
    world.lose_power(one)
    world.run_for(1.0)
    world.start(one)
    world.run_for(5.0)
    kinds = [
        type(event)
        for _, peer, event in diary.events
        if peer == two.peer and isinstance(event, PeerConnected | PeerLost)
    ]
    assert kinds[-2:] == [PeerLost, PeerConnected]
    assert one.connections[two.peer] is two.connections[one.peer]


def test_look_ups_name_who_has_advertised_dead_or_alive() -> None:
    world, diary, (one, two, three) = pair(count=3)
    for host in (two, three):
        world.network.advertise(host, b"key", host.addrs)
    world.crash(three)
    world.run_for(0.5)
    world.network.look_up(one, b"key")
    before = world.now
    world.run_for(2.0)
    found = [event.peer for at, event in diary.told(one, AddressesFound) if at > before]
    assert sorted(found) == [two.peer, three.peer]


# --- gossip ---------------------------------------------------------------------------------------


def spread(loss: float, seed: int, hosts: int = 30, **more: Any) -> tuple[World, list[Host]]:
    """A halt that goes by gossip alone; who has it after ten seconds."""
    world = World(seed, link=LinkModel(0.02), overlay=Overlay(gossip_loss=loss, **more))
    found = [world.add(Spec(model=None)) for _ in range(hosts)]
    world.run_for(30.0)
    world.network.tell = lambda *_: None  # type: ignore[method-assign]
    origin = random.Random(seed).choice(found)
    record = world.founders.halt()
    world.network.gossip(origin, record)
    origin.import_record(record)
    world.run_for(10.0)
    return world, found


@pytest.mark.parametrize("seed", range(3))
def test_gossip_without_loss_reaches_everybody_at_once(seed: int) -> None:
    world, hosts = spread(0.0, seed)
    began = world.now - 10.0
    assert all(host.is_halted for host in hosts)
    assert max(host.halted_at for host in hosts) < began + 1.0


def test_without_heartbeats_more_are_left_out() -> None:
    found = [
        [host.is_halted for host in spread(0.8, seed, offers=offers)[1]]
        for seed in range(3)
        for offers in (0, 6)
    ]
    assert sum(map(sum, found[::2])) < sum(map(sum, found[1::2]))


@pytest.mark.parametrize("seed", range(3))
def test_heartbeats_make_up_for_what_gossip_loses(seed: int) -> None:
    """Offers go to those outside the mesh, as in GossipSub: whoever has nobody there depends on the
    mesh alone."""
    _, hosts = spread(0.5, seed)
    assert all(host.is_halted or set(host.mesh) == set(host.connections) for host in hosts)
    assert sum(host.is_halted for host in hosts) >= 0.8 * len(hosts)
