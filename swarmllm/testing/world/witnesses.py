"""Ledgers that witness each other, in a world: each host runs the real ledger part on its log in
memory, and some hosts do with their logs what a witness must find.

`Logs.part` puts the part together as `adapters.ledger` does for a node. Hosts need real peer ids
for it (`World(named_by_keys=True)`), since a checkpoint is checked by the name of its log.
A **forking** host keeps two histories that differ in their first entry, and shows every second peer
the other one. A host whose ledger is **put back** starts again with an earlier copy of it.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from swarmllm.core.effects import NodeEffect, SendFrame
from swarmllm.core.facts import Fact
from swarmllm.core.inputs import ChannelOpened, FrameReceived, Input
from swarmllm.core.ledger.audit import read_leaf
from swarmllm.core.ledger.own_log import Keys
from swarmllm.core.ledger.part import FRAMES, LedgerPart
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    NOTE_MAX,
    LedgerCosigned,
    LedgerFork,
    LedgerHead,
    LedgerLeaf,
    LedgerProof,
    PeerId,
)
from swarmllm.runtime.ports import LedgerWrites
from swarmllm.testing.memory_ledger import MemoryLedger
from swarmllm.wire.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from swarmllm.wire.codec import decode, encode

if TYPE_CHECKING:
    from swarmllm.testing.world.host import Host


class Logs:
    """`forking` are the numbers of hosts that keep two histories; `put_back` those whose ledger is
    an earlier copy, with the numbers of the hosts that held a checkpoint of more."""

    def __init__(self, forking: Collection[int] = ()) -> None:
        self.parts: dict[int, LedgerPart] = {}
        self.forking = frozenset(forking)
        self.put_back: dict[int, frozenset[int]] = {}
        self.second: dict[int, SecondHistory] = {}

    def part(self, host: Host) -> LedgerPart:
        """For `World(parts=...)`: of this life of the host."""
        assert host.key is not None
        keys = Keys(host.peer, host.key.public_key, host.key.sign, host.world.verify)
        rng = random.Random(f"{host.world.seed} {host.number} {host.life} ledger")
        zero_ms = host.boot_ms - round(1000 * host.clock())

        def unix_ms(now: float) -> int:
            return max(0, zero_ms + round(1000 * now))

        if host.number in self.forking:
            second = self.second.setdefault(host.number, SecondHistory(host, keys))
            self.parts[host.number] = ForkingLedger(keys, rng, unix_ms, second)
        else:
            self.parts[host.number] = LedgerPart(keys, rng, unix_ms)
        return self.parts[host.number]

    def is_honest(self, host: Host) -> bool:
        return host.number not in self.forking and host.number not in self.put_back

    def put_back_copy(self, host: Host, size: int) -> None:
        """The ledger of a host that is down is an earlier copy of it from now on."""
        self.put_back[host.number] = frozenset(
            one.number for one in host.world.hosts if held_size(one, host) > size
        )
        host.disk.ledger = host.disk.ledger.as_it_was(size)


def held_size(host: Host, log: Host) -> int:
    """Entries of the last checkpoint of that log that a host has on its disk; 0 if none."""
    note = host.disk.ledger.heads().get(log.peer)
    if note is None:
        return 0
    return open_checkpoint(note, host.world.verify, NOTE_MAX).checkpoint.size


class SecondHistory:
    """The other history of a forking host: its own log, but for the first entry. `deceived` are the
    peers that are shown it: every second one, in the order in which they came."""

    def __init__(self, host: Host, keys: Keys) -> None:
        self._host, self._keys = host, keys
        self._log = MemoryLedger()
        self.deceived: dict[PeerId, bool] = {}

    def meet(self, peer: PeerId) -> None:
        self.deceived.setdefault(peer, bool(len(self.deceived) % 2))

    def note(self, size: int) -> bytes:
        """Its checkpoint of so many entries."""
        root = self._grown().root_at(size)
        assert root is not None
        checkpoint = Checkpoint(self._keys.peer, size, root)
        return sign_checkpoint(checkpoint, self._keys.public_key, self._keys.sign)

    def proof(self, old: int, new: int) -> tuple[bytes, ...]:
        return self._grown().prove(old, new) or ()

    def _grown(self) -> MemoryLedger:
        for data in self._host.disk.ledger.leaves[self._log.size :]:
            leaf = read_leaf(data)
            later = encode(LedgerLeaf(int(leaf.kind), leaf.at_ms + 1, leaf.payload))
            self._log.write(LedgerWrites(leaves=(data if self._log.size else later,)))
        return self._log


class ForkingLedger(LedgerPart):
    """A liar's: all that an honest one does, with another history for every second peer. What tells
    it that it forks it does not hear."""

    def __init__(
        self, keys: Keys, rng: random.Random, unix_ms: object, second: SecondHistory
    ) -> None:
        super().__init__(keys, rng, unix_ms)  # type: ignore[arg-type]
        self._second = second

    def handle(self, event: Input | Fact, now: float) -> Sequence[NodeEffect]:
        if isinstance(event, ChannelOpened):
            self._second.meet(event.peer)
        if isinstance(event, FrameReceived) and self._gives_away(event):
            return []
        return [self._twisted(effect) for effect in super().handle(event, now)]

    def _gives_away(self, event: FrameReceived) -> bool:
        with suppress(RemoteError):
            match decode(event.frame, FRAMES):
                case LedgerHead(note=note) | LedgerFork(one=note):
                    return self._is_own(note)
                case LedgerCosigned():
                    return self._second.deceived.get(event.peer, False)
                case _:
                    pass
        return False

    def _twisted(self, effect: NodeEffect) -> NodeEffect:
        if not isinstance(effect, SendFrame) or not self._second.deceived.get(effect.peer, False):
            return effect
        match effect.message:
            case LedgerHead(note=note) if self._is_own(note):
                size = open_checkpoint(note, self._keys.verify, NOTE_MAX).checkpoint.size
                return SendFrame(effect.peer, LedgerHead(self._second.note(size)), effect.channel)
            case LedgerProof(old=old, new=new, hashes=hashes) if hashes:
                proof = LedgerProof(old, new, self._second.proof(old, new))
                return SendFrame(effect.peer, proof, effect.channel)
            case _:
                return effect

    def _is_own(self, note: bytes) -> bool:
        shown = open_checkpoint(note, self._keys.verify, NOTE_MAX)
        return shown.checkpoint.peer == self._keys.peer
