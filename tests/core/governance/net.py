"""Nodes with streams and gossip between them that the test delivers, loses, repeats and cuts."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from swarmllm.core.governance.clocks import Uptime
from swarmllm.core.inputs import RecordOffered
from swarmllm.messages import PeerId
from swarmllm.wire.codec import encode
from tests.core.governance.support import Node

EVIL = PeerId("evil")
Pair = tuple[PeerId, PeerId]


class Net:
    """`true_s` is the time that really goes by; each node counts its own from its start."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = list(nodes)
        self.by_peer = {node.peer: node for node in nodes}
        self.links: dict[Pair, deque[bytes]] = {}
        self.gossip: list[tuple[PeerId, PeerId, bytes]] = []
        self.true_s = 0.0
        self.bytes_sent = 0
        for node in nodes:
            node.perform(node.machine.replica.opened(EVIL, node.now))
        self.gather()

    def connect(self, one: Node, two: Node) -> None:
        if one is two or (one.peer, two.peer) in self.links:
            return
        for node, other in ((one, two), (two, one)):
            self.links[node.peer, other.peer] = deque()
        for node, other in ((one, two), (two, one)):
            node.perform(node.machine.replica.opened(other.peer, node.now))
        self.gather()

    def disconnect(self, one: Node, two: Node) -> None:
        for node, other in ((one, two), (two, one)):
            if self.links.pop((node.peer, other.peer), None) is not None:
                node.machine.replica.closed(other.peer)

    def gather(self) -> None:
        """What nodes want to send is on its way, to those that they are connected with."""
        for node in self.nodes:
            for peer, message in node.sent:
                if (node.peer, peer) in self.links:
                    frame = encode(message)
                    self.bytes_sent += len(frame)
                    self.links[node.peer, peer].append(frame)
            for record in node.published:
                self.spread(node, record)
            node.sent, node.published = [], []

    def spread(self, node: Node, record: bytes) -> None:
        """By gossip, to its neighbours."""
        for sender, receiver in self.links:
            if sender == node.peer:
                self.gossip.append((sender, receiver, record))

    def deliver(self, sender: PeerId, receiver: PeerId) -> bool:
        """One frame; whether there was one."""
        queue = self.links.get((sender, receiver))
        if not queue:
            return False
        node = self.by_peer[receiver]
        node.perform(node.machine.received(sender, queue.popleft(), node.now))
        self.gather()
        return True

    def hear(self, node: Node, sender: PeerId, record: bytes) -> Any:
        """Gossip arrives; what is valid and news goes on."""
        offer = RecordOffered(1, record, sender, "gov")
        node.perform(node.machine.offered(offer, node.now))
        if node.checked[-1].passes:
            self.spread(node, record)
        self.gather()
        return node.checked[-1].outcome

    def flow(self) -> None:
        """All that is under way arrives."""
        while True:
            for sender, receiver, record in self._taken_gossip():
                if (sender, receiver) in self.links:
                    self.hear(self.by_peer[receiver], sender, record)
            moved = [self.deliver(*pair) for pair in list(self.links)]
            if not self.gossip and not any(moved):
                return

    def _taken_gossip(self) -> list[tuple[PeerId, PeerId, bytes]]:
        found, self.gossip = self.gossip, []
        return found

    def wait(self, seconds: float, *, flowing: bool = False, step_s: float = 3_600.0) -> None:
        """Time goes by for everybody."""
        left = seconds
        while left > 0:
            step = min(left, step_s)
            left -= step
            self.true_s += step
            for node in self.nodes:
                node.wait(step)
            self.gather()
            if flowing:
                self.flow()

    def restart(self, node: Node, *, same_boot: bool) -> None:
        """The process dies and starts again; its own clock begins anew."""
        others = [other for other in self.nodes if (node.peer, other.peer) in self.links]
        for other in others:
            self.disconnect(node, other)
        node.now = 0.0
        boot = b"boot" if same_boot else b"boot %d" % int(self.true_s * 10)
        node.boot(Uptime(boot, self.true_s))
        node.sent, node.published = [], []
        node.perform(node.machine.replica.opened(EVIL, node.now))
        for other in others:
            self.connect(node, other)
        self.gather()
