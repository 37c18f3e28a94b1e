"""When addresses are saved, step by step: while there are connections, and at the end."""

from __future__ import annotations

import math
import random

from swarmllm.core.effects import Save
from swarmllm.core.inputs import NodeStops, PeerConnected, TimerFired
from swarmllm.core.peers.dialling import Dialling, load_saved
from swarmllm.core.peers.saving import SAVED_PEERS, AddressSaving
from swarmllm.messages import PeerId

EVERY_S = 100.0
MET = PeerConnected(PeerId("a"))
ADDR = ("/ip4/192.0.2.1/tcp/1",)


def saving() -> AddressSaving:
    """Of a book with one address."""
    book = Dialling(PeerId("own"), random.Random(0))
    book.found(PeerId("a"), ADDR, 0.0)
    return AddressSaving(book, random.Random(0), EVERY_S)


def test_a_node_that_stops_soon_after_its_first_peer_remembers_it() -> None:
    part = saving()
    assert part.handle(MET, 0.0) == ()
    (save,) = part.handle(NodeStops(), 1.0)
    assert isinstance(save, Save)
    assert save.key == SAVED_PEERS
    assert load_saved(save.value) == [(PeerId("a"), ADDR)]


def test_what_is_saved_already_is_not_saved_again() -> None:
    part = saving()
    part.handle(MET, 0.0)
    assert len(part.handle(TimerFired(), 2 * EVERY_S)) == 1
    part.handle(MET, 2 * EVERY_S)
    assert part.handle(NodeStops(), 2 * EVERY_S) == ()


def test_who_met_nobody_leaves_what_was_saved_before() -> None:
    """Some of it may not even have been looked at: offline."""
    part = saving()
    assert part.next_deadline() == math.inf
    assert part.handle(NodeStops(), 1.0) == ()
