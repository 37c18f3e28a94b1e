"""An alarm that the owner has looked at: an entry once, kept over a restart, and the log that it is
about is not cosigned again."""

from __future__ import annotations

import copy
from hashlib import sha256

from swarmllm.core.inputs import OwnerAcknowledges
from swarmllm.core.ledger.audit import read_leaf
from swarmllm.core.ledger.entry import LedgerKind
from swarmllm.messages import AlarmAcknowledged
from swarmllm.wire.codec import decode
from tests.core.ledger.support import Machine, Village


def seen(machine: Machine) -> list[AlarmAcknowledged]:
    leaves = [read_leaf(leaf) for leaf in machine.ledger.leaves]
    kind = LedgerKind.ACKNOWLEDGED
    return [decode(one.payload, (AlarmAcknowledged,)) for one in leaves if one.kind == kind]


def test_acknowledged_once_and_kept_and_nothing_is_cosigned_again() -> None:
    village = Village("log", "one")
    log, one = village.machines
    village.checkpoint(log, "a", "b")
    old = copy.deepcopy(log.ledger)
    village.checkpoint(log, "c")
    log.ledger = old
    village.restart(log)
    ((_, data),) = one.ledger.alarms().items()
    digest = sha256(data).digest()
    assert village.view(one).acknowledged == ()
    for alarm in (b"\0" * 32, digest, digest):
        village.handle(one, OwnerAcknowledges(alarm))
        village.settle()
    assert [entry.digest for entry in seen(one)] == [digest], "once, and only of what there is"
    assert village.view(one).acknowledged == (log.peer,)
    assert dict(village.view(one).alarms).keys() == {log.peer}, "the alarm itself stays"
    village.restart(one)
    assert village.view(one).acknowledged == (log.peer,)
    village.handle(one, OwnerAcknowledges(digest))
    village.settle()
    assert len(seen(one)) == 1
    before = len(village.view(log).witnesses)
    village.checkpoint(log, "d", "e", "f")
    assert len(village.view(log).witnesses) <= before, "and is not cosigned again"
