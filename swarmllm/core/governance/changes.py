"""Changes: what is to be in force on this node, what is, and the journal of both.

What is put into force goes through three steps: it is wanted (and journalled, with the old value),
it is written down, it is live. A crash between any two of them repeats a step and loses none. What
is taken back is live at once, whatever the disk does: it goes back to something that was voted or
chartered before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

from swarmllm.core.governance.entries import entry_of_change
from swarmllm.core.governance.journal import Journal
from swarmllm.core.governance.mandate import Mandate
from swarmllm.core.governance.outcome import Outcome, Target
from swarmllm.core.governance.state_file import InForce, Saved
from swarmllm.core.governance.tiers import Rules, read_action
from swarmllm.core.ledger.entry import LedgerEntry
from swarmllm.messages import Range
from swarmllm.messages.governance import SetDefaultModel

PHASE: Final = Target("phase")
MODEL: Final = Target("model")
Wanted = dict[Target, InForce]
RankOf = Callable[[bytes], "tuple[int, int] | None"]
"""The rank of the case with this id; None for one that is not held."""


class Steering(Protocol):
    """The node's settings, as the swarm sets them; by code, in their own unit."""

    def default(self, setting: int) -> int: ...

    def set(self, setting: int, value: int, by: str, at_ms: int) -> None:
        """`by`: who set it, in words for people."""

    def take_bounds(self, bounds: Mapping[int, Range]) -> None:
        """In place of any before."""


class Changed(NamedTuple):
    """A setting that the swarm has set, or taken back, here and now."""

    setting: int
    old: int
    new: int


class Changes:
    """`rules` is the table of settings."""

    def __init__(self, steering: Steering, rules: Rules) -> None:
        self._steering = steering
        self._rules = rules
        self.wanted: Wanted = {}
        self.live: Wanted = {}
        self.journal = Journal()
        self._changed: list[Changed] = []
        # Ids that were in force in this life of the node, or are again; the charter always.
        self._lived = {b""}

    @property
    def phase(self) -> int:
        """Live; 0 before anything is."""
        return self.live[PHASE][1][0] if PHASE in self.live else 0

    @property
    def model(self) -> InForce | None:
        """The model that new nodes are offered, live: see `model_of`. None: nobody voted for
        one."""
        return self.live.get(MODEL)

    def value(self, setting: int) -> int:
        """Of the swarm: live."""
        found = self.live.get(Target("setting", setting))
        return self._steering.default(setting) if found is None else found[1][0]

    def changed(self) -> list[Changed]:
        """What has changed since this was asked last."""
        found, self._changed = self._changed, []
        return found

    @property
    def lived(self) -> frozenset[bytes]:
        """Of what is wanted, the ids that have taken effect here."""
        return frozenset(id for id, _ in self.wanted.values() if id in self._lived)

    def restore(self, saved: Saved, *, halted: bool = False) -> None:
        """What a former life put into force. What it had only written down, a node that is
        `halted` leaves to the resume."""
        self.journal = Journal(saved.journal, saved.next_number)
        self.wanted = dict(saved.in_force)
        for target, value in saved.in_force.items():
            is_new = value[0] not in saved.lived
            is_known = target.kind != "setting" or target.code in self._rules
            if is_known and not (halted and is_new):
                self._apply(target, value, 0)

    def want(
        self, wanted: Wanted, outcome: Outcome, rank_of: RankOf, at_ms: int, *, halted: bool = False
    ) -> list[LedgerEntry]:
        """From now on this is to be in force. What has to be in the ledger before it is; what is
        taken back is back already.

        What was voted and overtaken before it came into force here is nothing to go back to: where
        it is next in turn it has to be written first, like anything new. A node that is `halted`
        wants nothing of that kind until the resume.
        """
        entries: list[LedgerEntry] = []
        self.wanted = dict(self.wanted)  # A write that is under way has the one before.
        for target in sorted(wanted.keys() | self.wanted.keys()):
            old, new = self.wanted.get(target), wanted.get(target)
            if old == new:
                continue
            is_new = new is not None and new[0] not in self._lived
            why = self._taken_back(old, new, outcome, rank_of)
            if why:
                back = None if is_new else new
                entries.append(self._step(target, old, back, at_ms, why))
                self._apply(target, back, at_ms)
                old = back
            if old != new and not (halted and is_new):
                entries.append(self._step(target, old, new, at_ms))
        self._drop_void(outcome, at_ms)
        return entries

    def _step(
        self, target: Target, old: InForce | None, new: InForce | None, at_ms: int, why: str = ""
    ) -> LedgerEntry:
        """This is wanted instead of that from now on, and journalled. `why`: that is taken back."""
        by = old if why else new
        texts = self._text(target, old), self._text(target, new)
        id = b"" if by is None else by[0]
        entry = self.journal.add(id, self.name(target), *texts, at_ms, why)
        if new is None:
            self.wanted.pop(target, None)
        else:
            self.wanted[target] = new
        return entry_of_change(target, entry)

    def enact(self, written: Mapping[Target, InForce], at_ms: int) -> bool:
        """This is written down: what of it is still wanted, and not live yet, goes live; what is
        neither wanted nor written any more (a charter before set it) goes. Whether anything has
        taken effect for the first time, which is to be written down, too."""
        before = len(self._lived)
        for target, value in written.items():
            if self.wanted.get(target) == value and self.live.get(target) != value:
                self._apply(target, value, at_ms)
        for target in sorted(self.live.keys() - self.wanted.keys() - written.keys()):
            self._apply(target, None, at_ms)
        return len(self._lived) > before

    def name(self, target: Target) -> str:
        """For people: the setting's key, "phase" or "default model"."""
        if target.kind in {"phase", "model"}:
            return "phase" if target.kind == "phase" else "default model"
        rule = self._rules.get(target.code)
        key = f"setting {target.code}" if rule is None else rule.key
        return key if target.kind == "setting" else f"bounds of {key}"

    def _taken_back(
        self,
        old: InForce | None,
        new: InForce | None,
        outcome: Outcome,
        rank_of: RankOf,
    ) -> str:
        """Why this is a taking back, in a sentence; empty if it puts something into force."""
        if old is None or not old[0]:
            return ""  # What the charter says gives way to what is voted.
        if new is not None and new[0]:
            if new[0] == old[0] and new[1] > old[1]:
                return ""  # A phase case, by which the phase is higher: what it builds on opened.
            before, after = rank_of(old[0]), rank_of(new[0])
            if before is not None and after is not None and after > before:
                return ""
        standing = outcome.standings.get(old[0])
        if standing is None:
            return "its charter is no longer in force"
        if standing.void:
            return standing.void
        return "it has lost its votes" if not standing.passed else "it was taken out of force here"

    def _drop_void(self, outcome: Outcome, at_ms: int) -> None:
        """What is overtaken stays live until what overtook it is written down, which a full disk
        may put off for long; once it is void it does not, and nothing of the swarm's is in force
        there meanwhile. The journal has it as overtaken already."""
        for target, value in list(self.live.items()):
            standing = outcome.standings.get(value[0])
            stands = standing is not None and standing.passed and not standing.void
            if value[0] and not stands and self.wanted.get(target) != value:
                self._apply(target, None, at_ms)

    def _apply(self, target: Target, value: InForce | None, at_ms: int) -> None:
        before = self.value(target.code) if target.kind == "setting" else 0
        if value is None:
            self.live.pop(target, None)
        else:
            self.live[target] = value
            self._lived.add(value[0])
        match target.kind:
            case "setting":
                self._set(target.code, before, value, at_ms)
            case "bounds":
                self._steering.take_bounds(
                    {
                        one.code: Range(*numbers)
                        for one, (_, numbers) in self.live.items()
                        if one.kind == "bounds"
                    }
                )
            case "phase" | "model":
                pass  # Whoever asks reads it.

    def _set(self, setting: int, before: int, value: InForce | None, at_ms: int) -> None:
        now = self.value(setting)
        by = "nobody" if value is None else "the charter"
        if value is not None and value[0]:
            by = f"proposal {value[0].hex()[:16]}"
        self._steering.set(setting, now, by, at_ms)
        if now != before:
            self._changed.append(Changed(setting, before, now))

    def _text(self, target: Target, value: InForce | None) -> str:
        if target.kind == "model":
            return "" if value is None else _model_text(value)
        if value is not None:
            return " to ".join(map(str, value[1]))
        return "" if target.kind == "bounds" else str(self._start(target))

    def _start(self, target: Target) -> int:
        return self._steering.default(target.code) if target.kind == "setting" else 0


def wanted_by(outcome: Outcome, mandate: Mandate, rules: Rules) -> Wanted:
    """What is to be in force by the records: of each target the case that wins, or what the charter
    starts from."""
    found: Wanted = {}
    if outcome.phase or PHASE in outcome.winners:
        found[PHASE] = (_winner(outcome, PHASE), (outcome.phase,))
    for code, value in outcome.values.items():
        target = Target("setting", code)
        if code in rules:
            found[target] = (_winner(outcome, target), (value,))
    for code, bounds in outcome.bounds.items():
        target = Target("bounds", code)
        if code in rules:
            found[target] = (_winner(outcome, target), (bounds.low, bounds.high))
    model = outcome.winners.get(MODEL)
    if model is not None:
        found[MODEL] = (model.id, tuple(model.proposal.action))
    return found


def model_of(value: InForce | None) -> SetDefaultModel | None:
    """The model that this names; None if it names none."""
    action = None if value is None else read_action(bytes(value[1]))
    return action if isinstance(action, SetDefaultModel) else None


def _model_text(value: InForce) -> str:
    """For people, as it fits an entry: its reference, and how its digest begins."""
    model = model_of(value)
    if model is None:
        return "?"
    return f"{model.reference.encode()[:96].decode(errors='ignore')} ({model.digest.hex()[:16]})"


def _winner(outcome: Outcome, target: Target) -> bytes:
    case = outcome.winners.get(target)
    return b"" if case is None else case.id
