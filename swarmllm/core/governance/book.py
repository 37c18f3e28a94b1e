"""The book: all cases under one charter, bounded, and as the groups of a replicated set.

An author has at most four open proposals here and all together 256. What is beyond that is refused
with a sentence, so an agent that files ten thousand fills its own four places. A case that has
passed is outside of these bounds and comes in at any time, its votes together with it: otherwise a
node that an author kept busy would never learn what the others enacted. Passed ones stay for as
long as the charter, 1,024 at most: they are what the settings in force follow from.

What is closed (expired, withdrawn) is dropped, and its name remembered for a while, so that it is
not fetched again from somebody who still has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from swarmllm.core.governance.admission import Admitted, admit
from swarmllm.core.governance.cases import Case, say_of
from swarmllm.core.governance.mandate import Mandate
from swarmllm.core.governance.outcome import Outcome, Standing, evaluate
from swarmllm.core.governance.tiers import Rules
from swarmllm.core.halt.charter import Rejected
from swarmllm.messages.governance import GovernanceRecord, Proposal, Withdrawal
from swarmllm.wire.envelope import Verify

OPEN_MAX: Final = 256
OPEN_PER_AUTHOR_MAX: Final = 4
# A change a day for three years; then a new charter takes over what is in force.
PASSED_MAX: Final = 1_024
# Of those, what agents may pass without votes where the charter lets them; people have the rest. It
# and whatever is open and withdrawn fit a summary (`GROUPS_MAX`) when the phase is closed, too.
UNATTENDED_MAX: Final = 240
CLOSED_MAX: Final = 4_096  # Names of closed cases: 128 KiB.
NAME_BYTES: Final = 8


OutcomeWith = Callable[[Sequence[Case]], Outcome]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of some records: `news` in their order, and one sentence for each refused one."""

    news: tuple[Admitted, ...] = ()
    rejected: tuple[Rejected, ...] = ()


class Book:
    """`rules` is the table of settings."""

    def __init__(self, mandate: Mandate, rules: Rules, verify: Verify) -> None:
        self.mandate = mandate
        self.cases: dict[bytes, Case] = {}
        self._rules = rules
        self._verify = verify
        self._closed: dict[bytes, bytes] = {}  # Name -> id, the oldest first.
        self._by_name: dict[bytes, bytes] = {}

    # --- questions --------------------------------------------------------------------------------

    def outcome(
        self, released: Collection[bytes], ctl_digest: bytes, also: Sequence[Case] = ()
    ) -> Outcome:
        """What is in force by the cases held, and by those in `also`."""
        cases = [*self.cases.values(), *also]
        return evaluate(cases, self.mandate, self._rules, released, ctl_digest)

    def surplus(self, outcome: Outcome) -> Sequence[bytes]:
        """Withdrawn cases beyond what is kept of each author: those of the lowest seq. Never one
        that somebody may still hold as passed: it would come back without what undid it."""
        kept: dict[bytes, int] = {}
        found: list[bytes] = []
        newest = sorted(self.cases.values(), key=lambda c: (c.proposal.seq, c.id), reverse=True)
        for case in newest:
            standing = outcome.standings[case.id]
            if standing.is_withdrawn and not has_carried(case, standing):
                author = case.proposal.author
                kept[author] = kept.get(author, 0) + 1
                if kept[author] > OPEN_PER_AUTHOR_MAX:
                    found.append(case.id)
        return found

    def restore(self, records: Sequence[bytes]) -> Case | None:
        """A case as it was saved: its signatures were checked when it came. None if these are not
        the records of a case under this charter."""
        trusting = Book(self.mandate, self._rules, lambda _key, _message, _signature: True)
        taken = trusting.take(records, lambda also: trusting.outcome((), bytes(8), also))
        if taken.rejected or len(trusting.cases) != 1:
            return None
        (case,) = trusting.cases.values()
        self._hold(case)
        return case

    def groups(self) -> Mapping[bytes, bytes]:
        """Name (8 bytes) -> digest (8 bytes) of each case."""
        return {name: self.cases[found].digest for name, found in self._by_name.items()}

    def records_of(self, name: bytes) -> Sequence[bytes]:
        """The records of the case with this name; none if there is no such case."""
        found = self._by_name.get(name)
        return () if found is None else self.cases[found].records

    def is_closed(self, name: bytes) -> bool:
        """Whether the case with this name was closed here and not needed again."""
        return name in self._closed

    # --- records ----------------------------------------------------------------------------------

    def take(self, records: Sequence[bytes], outcome_with: OutcomeWith) -> Taken:
        """Records as they were signed, a proposal with what was signed to it together. After the
        first breach the rest is not looked at: one bad signature a strike. `outcome_with` says
        how cases stand together with a new one."""
        admitted: list[Admitted] = []
        rejected: list[Rejected] = []
        for data in records:
            found = admit(data, self.mandate, self._is_known, self._verify)
            if isinstance(found, Admitted):
                admitted.append(found)
            elif found is not None:
                rejected.append(found)
                if found.penalise:
                    break
        news: list[Admitted] = []
        for id in dict.fromkeys(one.case for one in admitted):
            together = [one for one in admitted if one.case == id]
            refused = self._take_case(id, together, outcome_with, news)
            if refused is not None:
                rejected.append(refused)
        return Taken(tuple(news), tuple(rejected))

    def close(self, id: bytes) -> None:
        """Drop a case that has not passed, and remember its name."""
        if self.cases.pop(id, None) is not None:
            self._by_name.pop(id[:NAME_BYTES], None)
            self._closed[id[:NAME_BYTES]] = id
            while len(self._closed) > CLOSED_MAX:
                del self._closed[next(iter(self._closed))]

    def _is_known(self, record: GovernanceRecord, id: bytes) -> bool:
        case = self.cases.get(id)
        return case is not None and say_of(record) in case.says

    def _take_case(
        self,
        id: bytes,
        together: Sequence[Admitted],
        outcome_with: OutcomeWith,
        news: list[Admitted],
    ) -> Rejected | None:
        """Records of one case; those that are news are added to `news`."""
        case = self.cases.get(id)
        is_new = case is None
        if case is None:
            proposal = next((o.record for o in together if isinstance(o.record, Proposal)), None)
            if proposal is None:
                return Rejected(
                    f"proposal {id.hex()[:16]} has not come yet", penalise=False, ask=True
                )
            case = Case(id, proposal)
        added: list[Admitted] = []
        for one in together:
            if isinstance(one.record, Withdrawal) and not self._may_withdraw(case, one.record.key):
                return Rejected(
                    f"key {one.record.key.hex()} is neither the author of proposal"
                    f" {id.hex()[:16]} nor a voter, and cannot withdraw it",
                    penalise=True,
                )
            if case.add(one.record, one.data):
                added.append(one)
        if is_new:
            refused = self._no_room(case, outcome_with)
            if refused:
                return Rejected(refused, penalise=False)
            self._hold(case)
        news += added
        return None

    def _may_withdraw(self, case: Case, key: bytes) -> bool:
        return key == case.proposal.author or key in self.mandate.voters

    def _hold(self, case: Case) -> None:
        name = case.id[:NAME_BYTES]
        self.cases[case.id] = case
        self._by_name[name] = case.id
        self._closed.pop(name, None)

    def _no_room(self, case: Case, outcome_with: OutcomeWith) -> str:
        """Why there is no place for a new case; empty if there is one."""
        name, author = case.id[:NAME_BYTES], case.proposal.author
        if name in self._by_name:
            return f"another proposal has the name {name.hex()}"
        standings = outcome_with([case]).standings
        carried = sum(has_carried(one, standings[id]) for id, one in self.cases.items())
        if carried >= PASSED_MAX:
            version = self.mandate.version
            return f"{PASSED_MAX} changes have passed under charter {version}; sign a new charter"
        if standings[case.id].passed:
            alone = sum(standings[id].needs == 0 for id in self.cases)
            if standings[case.id].needs == 0 and alone >= UNATTENDED_MAX:
                return f"{UNATTENDED_MAX} changes have passed without votes; sign a new charter"
            return ""
        if self._closed.get(name) == case.id:
            return f"proposal {name.hex()} was closed here"
        opened = Counter(
            one.proposal.author for id, one in self.cases.items() if is_open(one, standings[id])
        )
        if opened[author] >= OPEN_PER_AUTHOR_MAX:
            return (
                f"key {author.hex()} has {OPEN_PER_AUTHOR_MAX} open proposals already;"
                " withdraw one, or wait until one has expired"
            )
        # What has passed without votes is open again when the phase is closed: more than an author
        # has places, and none of the others'.
        places = sum(min(count, OPEN_PER_AUTHOR_MAX) for count in opened.values())
        return f"{OPEN_MAX} proposals are open already" if places >= OPEN_MAX else ""


def has_carried(case: Case, standing: Standing) -> bool:
    """Whether it has passed, or had before a voter voted twice or a majority withdrew it: by some
    of its records it still passes, and a node that holds only those has it in force."""
    voted = standing.needs is not None and len(case.said_yes) >= standing.needs
    return standing.passed or voted


def is_open(case: Case, standing: Standing) -> bool:
    """Whether it takes one of its author's places."""
    return not standing.is_withdrawn and not has_carried(case, standing)
