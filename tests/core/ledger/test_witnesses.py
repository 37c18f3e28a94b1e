"""Laws of the witnesses: an honest log is cosigned by every neighbour and never doubted; one that
forks, shrinks or was put back is found, by its owner or by a witness."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmllm.core.effects import KeepHead, ProveConsistency, SendFrame
from swarmllm.core.inputs import ChannelOpened, FrameReceived, HeadKept
from swarmllm.core.ledger.audit import read_leaf
from swarmllm.core.ledger.entry import LedgerEntry, LedgerKind
from swarmllm.core.ledger.own_log import LAST_CHECKPOINT
from swarmllm.core.ledger.witness import ALARMS_MAX, HEADS, HEADS_MAX, IGNORED_MAX
from swarmllm.messages import (
    ALARM_FORKED,
    ALARM_SHRANK,
    ALARM_UNPROVEN,
    ALARMS,
    LEDGER,
    LedgerAlarm,
    LedgerCosigned,
    LedgerFork,
    LedgerHead,
    LedgerProof,
    LedgerProofWanted,
    PeerId,
)
from swarmllm.runtime.ledger_performer import leaf_of
from swarmllm.runtime.ports import LedgerWrites
from swarmllm.testing.memory_ledger import MemoryLedger
from swarmllm.testing.operators import verify
from swarmllm.wire.checkpoint import (
    Checkpoint,
    cosign,
    open_checkpoint,
    open_cosignature,
    sign_checkpoint,
)
from swarmllm.wire.codec import encode
from swarmllm.wire.signed import good_signers, open_signed
from tests.core.ledger.support import Machine, Village, keys_of


def ledger_of(*texts: str) -> MemoryLedger:
    """Another history."""
    ledger = MemoryLedger()
    entries = [LedgerEntry(LedgerKind.COMMAND, text.encode()) for text in texts]
    ledger.write(LedgerWrites(tuple(leaf_of(entry, 1) for entry in entries)))
    return ledger


def signed_head(machine: Machine, ledger: MemoryLedger | None = None) -> bytes:
    ledger = ledger or machine.ledger
    checkpoint = Checkpoint(machine.peer, ledger.size, ledger.root)
    return sign_checkpoint(checkpoint, machine.keys.public_key, machine.keys.sign)


def quiet(village: Village) -> bool:
    return not any(m.alarms or m.doubts or m.strikes for m in village.machines)


def test_a_checkpoint_is_cosigned_by_every_neighbour_and_the_lines_prove_it() -> None:
    village = Village("log", "one", "two")
    log, one, two = village.machines
    village.checkpoint(log, "a", "b", "c")
    assert village.view(log).checkpoint == 3
    assert village.view(log).head == log.ledger.root
    assert village.view(one).head == b""
    assert {*village.view(log).witnesses} == {one.peer, two.peer}
    note = open_checkpoint(log.ledger.note, verify, 512)
    found = [
        open_cosignature(line.decode(), note.checkpoint, verify)
        for line in log.ledger.cosignatures.values()
    ]
    assert {made.witness for made in found if made} == {one.peer, two.peer}
    assert log.saved[LAST_CHECKPOINT] == log.ledger.note
    assert one.ledger.heads()[log.peer] == log.ledger.note
    assert quiet(village)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["grow", "restart", "wait", "part"])),
        max_size=20,
    )
)
def test_honest_logs_are_never_doubted_whatever_happens_to_their_nodes(
    happens: list[tuple[int, str]],
) -> None:
    village = Village("a", "b", "c")
    for at, what in happens:
        machine = village.machines[at]
        match what:
            case "grow":
                village.append(machine, f"{village.now}")
            case "restart":
                village.restart(machine)
            case "wait":
                village.run_for(100)
            case _:
                other = village.machines[(at + 1) % 3]
                village.disconnect(machine, other)
                village.connect(machine, other)
                village.settle()
    village.run_for(400)
    assert quiet(village)
    for machine in village.machines:
        if machine.ledger.size:
            assert village.view(machine).checkpoint == machine.ledger.size
            assert len(village.view(machine).witnesses) == 2


def test_nothing_is_signed_while_nothing_happens() -> None:
    village = Village("log", "one")
    village.checkpoint(village.machines[0], "a")
    before = [len(machine.performed) for machine in village.machines]
    village.run_for(40.0)
    assert [len(machine.performed) for machine in village.machines] == before


@pytest.mark.parametrize("ok", [True, False])
def test_a_checkpoint_is_cosigned_when_it_is_on_disk_and_not_before(ok: bool) -> None:  # LED-12
    village = Village("log", "one")
    log, one = village.machines
    village.append(log, "a")
    note = signed_head(log)
    head = FrameReceived(log.peer, encode(LedgerHead(note)), LEDGER)
    [keep] = one.part.handle(head, village.now)
    assert keep == KeepHead(log.peer, note)
    told = one.part.handle(HeadKept(log.peer, note, ok), village.now)
    sent = [effect.message for effect in told if isinstance(effect, SendFrame)]
    assert [type(message) for message in sent] == ([LedgerCosigned] if ok else [])
    assert (log.peer in dict(village.view(one).watched)) is ok


def test_an_old_copy_put_back_is_found_by_the_owner_and_by_its_neighbours() -> None:
    village = Village("log", "one")
    log, one = village.machines
    village.checkpoint(log, "a", "b")
    old = copy.deepcopy(log.ledger)
    village.checkpoint(log, "c")
    log.ledger = old
    village.restart(log)
    assert "old copy" in log.doubts[0]
    assert one.alarms == [log.peer]
    [alarm] = alarms_of(one)
    assert alarm.what == ALARM_SHRANK
    village.checkpoint(log, "d", "e", "f")
    assert open_checkpoint(log.ledger.note, verify, 512).checkpoint.size == 2, "it signs no more"


def test_a_ledger_that_was_removed_is_found_by_its_owner_from_what_a_neighbour_holds() -> None:
    village = Village("log", "one")
    log, _ = village.machines
    village.checkpoint(log, "a", "b")
    log.ledger = MemoryLedger()
    village.restart(log)
    assert "this node has signed, and the ledger has 0" in log.doubts[0]


@pytest.mark.parametrize("more", [(), ("d", "e")], ids=["as long", "longer"])
def test_a_history_made_anew_is_found_by_owner_and_witness(more: tuple[str, ...]) -> None:
    village = Village("log", "one")
    log, one = village.machines
    village.checkpoint(log, "a", "b", "c")
    log.ledger = ledger_of("a", "X", "c", *more)
    log.ledger.write(LedgerWrites(checkpoints=((log.ledger.size, signed_head(log)),)))
    village.restart(log)
    assert "history was changed" in log.doubts[0]
    assert one.alarms == [log.peer]
    assert alarms_of(one)[0].what == (ALARM_UNPROVEN if more else ALARM_FORKED)


def alarms_of(machine: Machine) -> list[LedgerAlarm]:
    """Those in its ledger, with its signature."""
    found = []
    for data in machine.ledger.leaves:
        leaf = read_leaf(data)
        if leaf.kind == LedgerKind.ALARM:
            opened = open_signed(leaf.payload, (LedgerAlarm,))
            assert good_signers(opened, frozenset({machine.keys.public_key}), verify)
            found.append(opened.record)
    return found


def test_a_fork_that_is_shown_to_one_neighbour_each_is_found_when_they_compare() -> None:
    """The log shows each of two witnesses a history of its own, and proves each of them well."""
    village = Village("one", "two", "third")
    one, two, third = village.machines
    liar = Machine("liar")
    for witness, text in ((one, "for one"), (two, "for two")):
        note = signed_head(liar, ledger_of("a", text))
        village.handle(witness, ChannelOpened(liar.peer, LEDGER))
        village.handle(witness, FrameReceived(liar.peer, encode(LedgerHead(note)), LEDGER))
    village.settle()
    village.run_for(2_000)
    assert liar.peer in one.alarms
    assert liar.peer in two.alarms
    # Who never saw that log has the proof as well: it was passed on.
    assert liar.peer in third.alarms
    assert all(alarm.what == ALARM_FORKED for alarm in alarms_of(third))
    assert [m.strikes for m in village.machines] == [[], [], []]


def test_a_fork_at_different_sizes_is_found_because_the_log_cannot_prove_it() -> None:
    village = Village("liar", "one", "two")
    liar, one, two = village.machines
    village.checkpoint(liar, "a", "b")
    # To the other witness it shows a longer log that does not begin like that.
    other = ledger_of("a", "X", "c", "d")
    village.disconnect(liar, two)
    two.neighbours[liar.peer] = liar
    village.handle(two, ChannelOpened(liar.peer, LEDGER))
    del two.part._witness._kept[liar.peer]  # It had not met this log before.
    frame = encode(LedgerHead(signed_head(liar, other)))
    village.handle(two, FrameReceived(liar.peer, frame, LEDGER))
    village.settle()
    village.run_for(3_000)
    assert one.alarms == [liar.peer]
    assert alarms_of(one)[0].what == ALARM_UNPROVEN


def test_a_log_that_does_not_prove_is_not_cosigned_and_at_last_doubted() -> None:
    village = Village("log", "one")
    log, one = village.machines
    village.checkpoint(log, "a")
    log.is_lying = True
    village.checkpoint(log, "b")
    assert village.view(log).witnesses == ()
    assert one.alarms == []
    village.run_for(600)
    assert one.alarms == [log.peer]
    assert alarms_of(one)[0].what == ALARM_UNPROVEN
    assert one.ledger.heads()[log.peer] != log.ledger.note


def test_a_log_that_was_doubted_is_not_cosigned_again_also_after_a_restart_of_the_witness() -> None:
    village = Village("log", "one")
    log, one = village.machines
    village.checkpoint(log, "a")
    log.is_lying = True
    village.checkpoint(log, "b")
    village.run_for(600)
    log.is_lying = False
    village.restart(one)
    assert village.view(one).alarms == ((log.peer, ALARMS[ALARM_UNPROVEN]),)
    village.checkpoint(log, "c")
    assert village.view(log).checkpoint == 3
    assert village.view(log).witnesses == ()


def _fork_of(machine: Machine) -> LedgerFork:
    return LedgerFork(
        signed_head(machine, ledger_of("a", "b")), signed_head(machine, ledger_of("a", "c"))
    )


def test_whoever_signed_two_histories_learns_that_its_key_is_used_elsewhere() -> None:
    village = Village("log", "one")
    log, one = village.machines
    village.handle(log, FrameReceived(one.peer, encode(_fork_of(log)), LEDGER))
    assert "somebody else has the key" in log.doubts[0]


def test_two_checkpoints_that_prove_nothing_are_a_strike() -> None:
    village = Village("log", "one")
    log, one = village.machines
    same, longer = signed_head(log, ledger_of("a")), signed_head(log, ledger_of("b", "c"))
    for frame in (LedgerFork(same, same), LedgerFork(same, longer)):
        village.handle(one, FrameReceived(log.peer, encode(frame), LEDGER))
    assert one.strikes == ["two checkpoints that prove no fork"] * 2
    assert one.alarms == []


BAD_NOTES = ("nothing of the kind", "a bad signature", "an extension line", "two signatures")


@pytest.mark.parametrize("name", BAD_NOTES)
def test_a_malformed_checkpoint_is_a_strike_and_changes_nothing(name: str) -> None:
    village = Village("log", "one")
    log, one = village.machines
    village.append(log, "a")
    note = signed_head(log)
    text, _, lines = note.decode().partition("\n\n")
    bad = {
        "nothing of the kind": b"hello\n",
        "a bad signature": note.replace(b"\n1\n", b"\n2\n"),
        "an extension line": f"{text}\nmore\n\n{lines}".encode(),
        "two signatures": note + lines.encode(),
    }[name]
    before = village.view(one)
    village.handle(one, FrameReceived(log.peer, encode(LedgerHead(bad)), LEDGER))
    assert len(one.strikes) == 1
    assert village.view(one) == before


def test_any_bytes_are_a_strike_and_never_more() -> None:
    village = Village("log", "one")
    log, one = village.machines
    village.checkpoint(log, "a", "b")
    before = village.view(one)

    @given(st.binary(max_size=300))
    def check(data: bytes) -> None:
        count = len(one.strikes)
        village.handle(one, FrameReceived(log.peer, data, LEDGER))
        assert len(one.strikes) == count + 1
        assert village.view(one) == before

    check()


def test_a_bad_cosignature_is_a_strike_and_a_late_one_is_none() -> None:
    village = Village("log", "one", "two")
    log, one, two = village.machines
    village.checkpoint(log, "a")
    before = village.view(log).witnesses
    note = open_checkpoint(log.ledger.note, verify, 512).checkpoint
    late = cosign(Checkpoint(log.peer, 7, note.root), two.peer, 5, two.keys.sign)
    village.handle(
        log, FrameReceived(two.peer, encode(LedgerCosigned(7, 5, late.signature)), LEDGER)
    )
    assert log.strikes == []
    stranger = keys_of("stranger")
    bad = LedgerCosigned(1, 5, cosign(note, two.peer, 5, stranger.sign).signature)
    log.part._cosigned.clear()
    village.handle(log, FrameReceived(two.peer, encode(bad), LEDGER))
    assert log.strikes == ["a cosignature of our checkpoint that is not good"]
    assert before == (one.peer, two.peer)


def test_a_proof_that_nobody_asked_for_changes_nothing() -> None:
    village = Village("log", "one")
    log, one = village.machines
    village.checkpoint(log, "a")
    before = village.view(one)
    frame = encode(LedgerProof(1, 9, (bytes(32),)))
    village.handle(one, FrameReceived(log.peer, frame, LEDGER))
    assert village.view(one) == before
    assert quiet(village)


def test_a_flood_of_checkpoints_is_not_looked_at_and_is_a_strike_in_the_end() -> None:
    village = Village("log", "one")
    log, one = village.machines
    frame = encode(LedgerHead(signed_head(log, ledger_of("a"))))
    sent = round(HEADS.burst) + IGNORED_MAX
    for _ in range(sent):
        village.handle(one, FrameReceived(log.peer, frame, LEDGER))
    assert len(one.strikes) == 1
    assert "beyond what a peer may show" in one.strikes[0]


def test_a_flood_of_questions_costs_a_bounded_number_of_proofs() -> None:
    village = Village("log", "one")
    log, one = village.machines
    village.checkpoint(log, "a", "b", "c")
    before = len(log.of(ProveConsistency))
    for _ in range(200):
        village.handle(log, FrameReceived(one.peer, encode(LedgerProofWanted(1, 2)), LEDGER))
        village.settle()
    assert len(log.of(ProveConsistency)) - before <= 8


def test_hearsay_makes_nobody_keep_a_log() -> None:
    village = Village("log", "one", "gossip")
    _, one, gossip = village.machines
    stranger = Machine("stranger")
    head = encode(LedgerHead(signed_head(stranger, ledger_of("a"))))
    village.handle(one, FrameReceived(gossip.peer, head, LEDGER))
    assert stranger.peer not in dict(village.view(one).watched)


def test_what_others_show_of_a_log_makes_a_witness_ask_it_once_a_minute_at_most() -> None:
    village = Village("log", "one", "g1", "g2", "g3")
    log, one, *gossips = village.machines
    notes = []
    for at in range(6):
        village.checkpoint(log, f"{at}")
        notes.append(log.ledger.note)
    before = _questions(one)
    for _ in range(3):
        for gossip in gossips:
            for note in notes[:-1]:
                frame = encode(LedgerHead(note))
                village.handle(one, FrameReceived(gossip.peer, frame, LEDGER))
                village.settle()
        village.run_for(60)
    assert 1 <= _questions(one) - before <= 5
    assert quiet(village)


def _questions(machine: Machine) -> int:
    return sum(isinstance(one.message, LedgerProofWanted) for one in machine.of(SendFrame))


def test_logs_are_bounded_and_a_crowd_does_not_push_out_what_was_watched_long() -> None:
    village = Village("log", "one")
    log, one = village.machines
    for at in range(3):
        village.checkpoint(log, f"{at}")
    village.disconnect(log, one)
    witness = one.part._witness
    kept = witness._kept[log.peer]
    crowd = [PeerId(f"crowd {at}") for at in range(2 * HEADS_MAX)]
    for peer in crowd:
        witness._accept(peer, kept.head)
    assert len(witness._kept) == HEADS_MAX
    assert log.peer in witness._kept


def test_the_number_of_alarms_is_bounded() -> None:
    village = Village("one", "two")
    one, two = village.machines
    for at in range(ALARMS_MAX + 5):
        village.handle(one, FrameReceived(two.peer, encode(_fork_of(Machine(f"m{at}"))), LEDGER))
        village.run_for(60)
    assert len(village.view(one).alarms) == ALARMS_MAX
    assert one.part._witness.dropped == 5
