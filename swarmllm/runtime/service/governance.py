"""What people ask a running node about governance: the phase and who decides, all proposals or one,
what each tier needs, what a key should sign now, and take these signed records.

A record that is handed over is checked like one from the network; being asked locally gives nobody
a right that a signature does not. The node drafts what is to be signed, because a draft depends on
what is in force; whoever signs it compares it with what was wanted. Where no key is named it signs
with its own, which has a say in a private swarm, and where the charter names it an agent's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Final

import trio

from swarmllm.core.governance import authoring
from swarmllm.core.governance.book import Taken
from swarmllm.core.governance.machine import GovernanceMachine
from swarmllm.core.governance.mandate import Tier
from swarmllm.core.governance.outcome import Outcome
from swarmllm.core.governance.tiers import decide, read_action
from swarmllm.core.governance.view import GovernanceView, ProposalView, view_of
from swarmllm.core.halt.charter import Rejected
from swarmllm.core.inputs import RecordOffered
from swarmllm.errors import HaltedError, LocalError, RemoteError, UsageError
from swarmllm.messages import PeerId
from swarmllm.messages.declare import GOV
from swarmllm.messages.governance import (
    ACTION_MAX,
    NO_EVIDENCE,
    PROPOSAL_RECORD_MAX,
    TERMS_MAX,
    TIER_MAX,
    WHY_MAX,
    GovernanceRecord,
    Proposal,
    SetDefaultModel,
)
from swarmllm.runtime.driver import Driver
from swarmllm.runtime.handing_in import HandingIn
from swarmllm.runtime.model_reference import NotAReference, parse_shared
from swarmllm.runtime.ports import Keyring
from swarmllm.runtime.service.fields import records_in
from swarmllm.runtime.service.governance_fields import (
    TIER_NAMES,
    governance_fields,
    proposal_fields,
    tiers_fields,
)
from swarmllm.runtime.service.json_events import record_of
from swarmllm.runtime.service.record import Record
from swarmllm.wire.codec import encode
from swarmllm.wire.signed import sign_record

OPS: Final = frozenset(
    {"governance", "tiers", "proposals", "proposal", "propose", "vote", "withdraw", "submit"}
    | {"governance_export", "governance_peers"}
)
RECORDS_MAX: Final = 128  # Handed over at once: more than a proposal can have.
WAKING_S: Final = 10.0
LOOK_EVERY_S: Final = 0.1
RECORD_MAX: Final = max(PROPOSAL_RECORD_MAX, TERMS_MAX)


class _Waking(LocalError):
    """The node takes no records while it asks for orders (HALT-34): 5 s at most."""


class GovernanceService:
    """`own`: this node's key; `peers`: who is connected; `unix_ms`: the time that records carry
    for people. `handing_in` hears from the driver what is on disk."""

    def __init__(
        self,
        driver: Driver,
        handing_in: HandingIn,
        machine: GovernanceMachine,
        own: Keyring,
        peers: Callable[[], tuple[PeerId, ...]],
        unix_ms: Callable[[], int],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._driver = driver
        self._handing_in = handing_in
        self._machine = machine
        self._own = own
        self._peers = peers
        self._unix_ms = unix_ms
        self._clock = clock

    async def call(self, op: str, params: Mapping[str, object]) -> AsyncGenerator[Record]:
        """The record that answers one of `OPS`. UsageError for parameters that make no sense, and
        for what should not be signed; HaltedError while nothing should be."""
        match op:
            case "governance":
                yield record_of("governance", **governance_fields(self._view()))
            case "tiers":
                view = self._view()
                yield record_of("tiers", **governance_fields(view), tiers=tiers_fields(view))
            case "proposals":
                view = self._view()
                yield record_of(
                    "proposals",
                    obstacle=view.obstacle,
                    proposals=[proposal_fields(one) for one in view.proposals],
                )
            case "proposal":
                found = self._found(_hex(params, "id", 64, whole=False))
                yield record_of("proposal", **proposal_fields(found))
            case "propose":
                yield self._propose(params)
            case "vote":
                yield self._vote(params)
            case "withdraw":
                yield self._withdraw(params)
            case "governance_export":
                for kind, records in self._held():
                    yield record_of(kind, records=[record.hex() for record in records])
                yield record_of("end")
            case "governance_peers":
                same, missing = self._machine.replica.agreeing(), self._machine.registry.needs_terms
                yield record_of(
                    "governance_peers",
                    peers=sorted(self._peers()),
                    same=sorted(same),
                    complete=bool(same) and not missing,
                )
            case "submit":
                yield await self._submit(records_in(params, "record", RECORD_MAX, RECORDS_MAX))
            case other:
                raise UsageError(
                    f"the node knows no op {other[:40]!r} of governance;"
                    f" it knows {', '.join(sorted(OPS))}"
                )

    def _view(self) -> GovernanceView:
        return view_of(self._machine, self._clock())

    def _held(self) -> Iterator[tuple[str, Sequence[bytes]]]:
        """The terms, if the charter names any, and each proposal with all that was signed to it."""
        registry = self._machine.registry
        if registry.terms_name:
            yield "governance_terms", registry.records_of(registry.terms_name)
        for case in list(registry.cases.values()):
            yield "governance_records", case.records

    def _found(self, prefix: str) -> ProposalView:
        id = authoring.find(self._machine, prefix).id
        return next(one for one in self._view().proposals if one.id == id)

    # --- what is to be signed ---------------------------------------------------------------------

    def _refuse_halted(self) -> None:
        """What is signed while all stands still would be signed for nothing."""
        if halted := self._machine.switch.halted:
            raise HaltedError(f"governance is suspended: {halted[0]}")

    def _propose(self, params: Mapping[str, object]) -> Record:
        self._refuse_halted()
        raw = bytes.fromhex(_hex(params, "action", 2 * ACTION_MAX, whole=False))
        action = read_action(raw)
        if action is None:
            raise UsageError(
                f"this version knows no action {raw.hex()[:32]}, so it signs no proposal of it"
            )
        if isinstance(action, SetDefaultModel):
            _check_shared(action.reference)
        evidence = bytes.fromhex(_hex(params, "evidence", 64, usual=NO_EVIDENCE.hex()))
        drafted = authoring.draft(
            self._machine,
            action,
            self._key(params),
            now=self._clock(),
            unix_ms=self._unix_ms(),
            why=_why(params),
            evidence=evidence,
            tier=_tier(params),
        )
        return self._draft(drafted, params, **self._decided(drafted))

    def _draft(
        self, record: GovernanceRecord, params: Mapping[str, object], **about: object
    ) -> Record:
        """`signed` is there if this node's own key was meant."""
        own = self._own
        signed = {}
        if "key" not in params:
            signed["signed"] = sign_record(record, [(own.public_key, own.sign)]).hex()
        return record_of("draft", payload=encode(record).hex(), **signed, **about)

    def _key(self, params: Mapping[str, object]) -> bytes:
        """Whose signature it is to be."""
        if "key" not in params:
            return self._own.public_key
        return bytes.fromhex(_hex(params, "key", 64))

    def _decided(self, drafted: Proposal) -> Record:
        """The tier that a proposal will have, and what carries it."""
        machine = self._machine
        assert machine.mandate is not None
        assert machine.outcome is not None
        outcome: Outcome = machine.outcome
        decision = decide(
            read_action(drafted.action),
            drafted.tier,
            drafted.evidence != NO_EVIDENCE,
            machine.rules,
            outcome.bounds_of(machine.rules),
        )
        return {
            "id": sha256(encode(drafted)).hexdigest(),
            "tier": int(decision.tier),
            "tier_name": TIER_NAMES[decision.tier],
            "why_tier": decision.why,
            "escalated": decision.escalated,
            "can_be_done": decision.can_be_done,
            "lacks": decision.lacks,
            "needs": machine.mandate.needs(decision.tier),
            "electorate": machine.mandate.electorate,
            "review_s": machine.mandate.review_s if decision.tier is Tier.DEPLOY_MAJOR else 0.0,
        }

    def _vote(self, params: Mapping[str, object]) -> Record:
        self._refuse_halted()
        found = self._found(_hex(params, "id", 64, whole=False))
        yes = params.get("yes")
        if not isinstance(yes, bool):
            raise UsageError(f"the field 'yes' is {str(yes)[:40]}; it must be true or false")
        made = authoring.ballot(self._machine, found.id, self._key(params), yes, self._unix_ms())
        return self._draft(made, params, proposal=proposal_fields(found))

    def _withdraw(self, params: Mapping[str, object]) -> Record:
        found = self._found(_hex(params, "id", 64, whole=False))
        made = authoring.withdrawal(self._machine, found.id, self._key(params), self._unix_ms())
        return self._draft(made, params, proposal=proposal_fields(found))

    # --- records ----------------------------------------------------------------------------------

    async def _submit(self, records: list[bytes]) -> Record:
        """Answered when what was taken is on disk (`durable`), or cannot be written (`fault`)."""
        until = self._clock() + WAKING_S
        while True:
            try:
                outcomes, fault = await self._handing_in.submit(records, GOV, self._taken)
                break
            except _Waking:
                if self._clock() >= until:
                    raise
                await trio.sleep(LOOK_EVERY_S)
        peers = len(self._peers())
        return record_of(
            "submitted", outcomes=outcomes, peers=peers, durable=not fault, fault=fault
        )

    def _taken(self, offer: RecordOffered) -> tuple[Record, bool]:
        outcome = self._checked(offer)
        return outcome, outcome["outcome"] != "refused"

    def _checked(self, offer: RecordOffered) -> Record:
        try:
            checked = self._driver.act(offer)
        except RemoteError as fault:
            return {"outcome": "refused", "reason": str(fault)}
        if checked is None:
            raise _Waking(
                "this node did not run for a while, and asks its peers for orders that it may have"
                " missed; try again in a moment"
            )
        match checked.outcome:
            case Rejected(reason=reason):
                return {"outcome": "refused", "reason": reason}
            case Taken() if checked.passes:
                return {"outcome": "applied", "reason": ""}
            case _:
                return {"outcome": "known", "reason": "this node holds it already"}


def _check_shared(reference: str) -> None:
    """UsageError if the nodes of a swarm could not all find this model."""
    try:
        parse_shared(reference)
    except NotAReference as fault:
        raise UsageError(f"{reference[:60]!r} is not {fault.expected}") from fault


# --- parameters -----------------------------------------------------------------------------------


def _hex(
    params: Mapping[str, object],
    name: str,
    digits: int,
    *,
    whole: bool = True,
    usual: str | None = None,
) -> str:
    """A field of hexadecimal digits: exactly so many, or (not `whole`) one to so many."""
    found = params.get(name, usual)
    fits = isinstance(found, str) and (len(found) == digits if whole else 1 <= len(found) <= digits)
    if not fits or not set(str(found)) <= set("0123456789abcdefABCDEF"):
        how_many = str(digits) if whole else f"1 to {digits}"
        raise UsageError(
            f"the field {name!r} is {str(found)[:40]!r}; it must be {how_many} hexadecimal digits"
        )
    return str(found)


def _why(params: Mapping[str, object]) -> str:
    why = params.get("why", "")
    if not isinstance(why, str) or len(why.encode("utf-8", "replace")) > WHY_MAX:
        raise UsageError(f"the field 'why' is a text of at most {WHY_MAX} bytes; shorten it")
    return why


def _tier(params: Mapping[str, object]) -> int | None:
    tier = params.get("tier")
    if tier is None:
        return None
    if not isinstance(tier, int) or isinstance(tier, bool) or not 0 <= tier <= TIER_MAX:
        raise UsageError(f"the field 'tier' is {str(tier)[:40]}; it must be 0 to {TIER_MAX}")
    return tier
