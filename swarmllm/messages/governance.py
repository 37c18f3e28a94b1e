"""Messages of governance: typed actions, the signed records that propose and vote on them, what the
ledger holds of it, and the frames of `/swarmllm/gov` (protocols/governance.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from swarmllm.messages.bounds import U32, U63, Digest, Ext, Range, ShortHash, Size, rising
from swarmllm.messages.declare import BOTH, GOV, message
from swarmllm.messages.halt import KeyId, PublicKey, Seq, Version

PHASE_MAX: Final = 4
TIER_MAX: Final = 4
ACTION_MAX: Final = 1_024  # Bytes; the largest that there is today, a name, has 140.
WHY_MAX: Final = 512  # Bytes: some sentences, which decide nothing.
PROPOSAL_RECORD_MAX: Final = 2_048  # Bytes of a signed Proposal.
VOTE_RECORD_MAX: Final = 512  # Bytes of a signed Vote, Withdrawal or CanaryReport.
TERMS_MAX: Final = 4_096  # Bytes of the terms, which are not signed but named by the charter.
AGENT_KEYS_MAX: Final = 16
SETTINGS_MAX: Final = 64  # That terms can name.
# Bytes of a frame of /swarmllm/gov/1 without its length: one group of records, or 1,536 names.
GOV_FRAME_MAX: Final = 40_960
GROUP_RECORDS_MAX: Final = 96  # A proposal with all that 16 voters and 16 agents can sign to it.
GROUP_ENTRY_BYTES: Final = 16
GROUPS_MAX: Final = 1_536
WANTED_MAX: Final = 64
NO_BASE: Final = bytes(32)
NO_EVIDENCE: Final = bytes(32)

SettingCode = Annotated[int, Range(1, 65_535)]
Phase = Annotated[int, Range(0, PHASE_MAX)]
Name = Annotated[str, Size(1, 128)]
Action = Annotated[bytes, Size(1, ACTION_MAX)]

# --- actions: the closed list ---------------------------------------------------------------------


@message(code=40)
class Observe:
    """Read metrics, reports or the ledger, or ask an expert. `what` is for people: 0 metrics,
    1 reports, 2 ledger, 3 an expert."""

    what: Annotated[int, Range(0, 255)]


@message(code=41)
class Suggest:
    """Show an action, with its reasons, to people. Nothing follows from it by itself."""

    action: Annotated[bytes, Size(1, ACTION_MAX - 8)]


@message(code=42)
class SandboxTest:
    """Run an action in the simulator."""

    action: Annotated[bytes, Size(1, ACTION_MAX - 8)]


@message(code=43)
class SetSetting:
    """Set a setting, by its code in the table of settings, in its own unit."""

    setting: SettingCode
    value: U63


@message(code=44)
class SetBounds:
    """Within `low` to `high` the setting may be set by deploy-minor from now on."""

    setting: SettingCode
    low: U63
    high: U63

    def fault(self) -> str:
        return "" if self.low <= self.high else f"bounds {self.low} to {self.high}"


@message(code=45)
class OpenPhase:
    """Go to a phase that lets the agent do more. The proposal's evidence is the digest of the
    report that the quality gate asks for."""

    phase: Annotated[int, Range(1, PHASE_MAX)]


@message(code=46)
class ClosePhase:
    """Go back to a phase that lets the agent do less."""

    phase: Annotated[int, Range(0, PHASE_MAX - 1)]


@message(code=47)
class SetFeature:
    """Switch a feature on or off."""

    name: Name
    on: Annotated[int, Range(0, 1)]


@message(code=48)
class SetDefaultModel:
    """The model that new nodes are offered whose owner names none."""

    reference: Name
    digest: Digest


@message(code=49)
class Revert:
    """Take an enacted change back: its proposal, by id."""

    proposal: Digest


# --- signed records -------------------------------------------------------------------------------


@message(code=101, domain=b"swarmllm/proposal/1\0", size_max=PROPOSAL_RECORD_MAX)
class Proposal:
    """`author` (a key id) proposes `action`, the encoding of one of the actions above, at `tier`
    or whatever higher tier is the action's own.

    `height` counts the changes of what is changed: this would be that many, and `base` is the id of
    the one before (zeros for the first). `seq` is greater than any that the author has seen, so it
    orders changes without a clock. `ctl_digest` is the author's halt state: what is proposed before
    a halt is told from what is proposed after it. `evidence` is SHA-256 of the validation report
    (zeros: none). `why` and `issued_ms` are for people and decide nothing.
    """

    swarm: Digest
    charter_version: Version
    author: KeyId
    seq: Seq
    tier: Annotated[int, Range(0, TIER_MAX)]
    action: Action
    base: Digest
    height: Annotated[int, Range(1, 2**32 - 1)]
    ctl_digest: ShortHash
    evidence: Digest
    why: Annotated[str, Size(0, WHY_MAX)]
    issued_ms: U63

    def fault(self) -> str:
        first = self.height == 1
        return "" if first == (self.base == NO_BASE) else "a base of zeros is that of height 1"


@message(code=102, domain=b"swarmllm/vote/1\0", size_max=VOTE_RECORD_MAX)
class Vote:
    """`key` votes for (1) or against (0) the proposal with this id. Final."""

    swarm: Digest
    charter_version: Version
    proposal: Digest
    key: KeyId
    yes: Annotated[int, Range(0, 1)]
    issued_ms: U63


@message(code=103, domain=b"swarmllm/withdrawal/1\0", size_max=VOTE_RECORD_MAX)
class Withdrawal:
    """`key`, its author or a voter, withdraws a proposal: see GOV-11 for how many are enough."""

    swarm: Digest
    charter_version: Version
    proposal: Digest
    key: KeyId
    issued_ms: U63


@message(code=104, domain=b"swarmllm/canary/1\0", size_max=VOTE_RECORD_MAX)
class CanaryReport:
    """What an agent's node measured under a change, beside the time before it. Costs are the mean
    time per token in microseconds; `worse` (1) is the verdict."""

    swarm: Digest
    charter_version: Version
    proposal: Digest
    key: KeyId
    worse: Annotated[int, Range(0, 1)]
    samples_before: U32
    samples_during: U32
    cost_before_us: U32
    cost_during_us: U32
    issued_ms: U63


GovernanceRecord = Proposal | Vote | Withdrawal | CanaryReport


@message(code=105)
class GovernanceTerms:
    """What a charter says of governance: the charter carries SHA-256 of this encoding in its `ext`,
    so that the root quorum has signed it. What is not said is as in the design's defaults, which
    are those of `core.governance.terms`.

    `agent` are keys that may propose and report on canaries. `minor_threshold` yes-votes carry a
    deploy-minor. `phase_experts` and `phase_audits` are what phases 1 to 4 need. `bounds` are a
    setting (u16), low and high (u64 each), `values` a setting (u16) and a value (u64), all
    big-endian: what this charter starts from, and `phase` likewise. `unattended` (1): in phase 4
    the agent's deploy-minor needs no votes.
    """

    agent: Annotated[tuple[PublicKey, ...], Size(0, AGENT_KEYS_MAX)]
    minor_threshold: Annotated[int, Range(1, 16)]
    review_h: Annotated[int, Range(1, 8_760)]
    canary_permille: Annotated[int, Range(0, 1_000)]
    canary_s: Annotated[int, Range(0, 604_800)]
    phase: Phase
    phase_experts: Annotated[tuple[U32, ...], Size(PHASE_MAX, PHASE_MAX)]
    phase_audits: Annotated[tuple[U32, ...], Size(PHASE_MAX, PHASE_MAX)]
    stable_days: Annotated[int, Range(0, 3_650)]
    unattended: Annotated[int, Range(0, 1)]
    bounds: Annotated[tuple[Annotated[bytes, Size(18, 18)], ...], Size(0, SETTINGS_MAX)]
    values: Annotated[tuple[Annotated[bytes, Size(10, 10)], ...], Size(0, SETTINGS_MAX)]
    ext: Ext = b""

    def fault(self) -> str:
        if any(entry[2:10] > entry[10:] for entry in self.bounds):
            return "bounds whose low is above their high"
        return (
            rising("agent keys", self.agent)
            or rising("settings with bounds", [entry[:2] for entry in self.bounds])
            or rising("settings with values", [entry[:2] for entry in self.values])
        )


# --- entries of the ledger ------------------------------------------------------------------------


@message(code=87)
class TierDecided:
    """A proposal asked for `asked`, and has `tier`; `needs` yes-votes carry it."""

    proposal: Digest
    asked: Annotated[int, Range(0, TIER_MAX)]
    tier: Annotated[int, Range(0, TIER_MAX)]
    needs: Annotated[int, Range(0, 255)]


@message(code=88)
class Enacted:
    """A change that was put into force here, or taken back: what it concerns, in the words of
    `core.governance.targets`, and the values before and after. `why` is a sentence."""

    proposal: Digest
    what: Name
    old: Annotated[str, Size(0, 128)]
    new: Annotated[str, Size(0, 128)]
    why: Annotated[str, Size(0, 200)]


@message(code=89)
class CanaryStep:
    """A canary began (0), was not worse (1) or was worse (2) here."""

    proposal: Digest
    step: Annotated[int, Range(0, 2)]
    samples_before: U32
    samples_during: U32
    cost_before_us: U32
    cost_during_us: U32


@message(code=90)
class Validated:
    """The digest of the validation report that a proposal names."""

    proposal: Digest
    evidence: Digest


@message(code=91)
class NotCarriedOut:
    """A proposal has passed, and this node cannot carry it out: why, in a sentence."""

    proposal: Digest
    why: Annotated[str, Size(1, 200)]


@message(code=93)
class ReportRead:
    """A validation report was read here, and its verdict follows from its figures: `evidence` is
    its digest, `setting` and `value` what it is about. `verdict`: 0 better, 1 worse, 2 no
    difference, 3 not shown, 4 a law broken."""

    evidence: Digest
    setting: SettingCode
    value: U63
    verdict: Annotated[int, Range(0, 4)]


# --- frames of a replicated set -------------------------------------------------------------------


@message(code=106, stream=GOV, sender=BOTH)
class SetDigest:
    """The first frame both ways, and every minute to somebody: what the sender's set adds up to.
    `scope` names the set; sets of different scopes have nothing to do with each other."""

    scope: ShortHash
    digest: ShortHash


@message(code=107, stream=GOV, sender=BOTH)
class SetSummary:
    """All groups of the sender's set: a name (8 bytes, rising) and the digest (8) of each."""

    scope: ShortHash
    groups: Annotated[bytes, Size(0, GROUPS_MAX * GROUP_ENTRY_BYTES)]

    def fault(self) -> str:
        return _entries("groups", self.groups, GROUP_ENTRY_BYTES)


@message(code=108, stream=GOV, sender=BOTH)
class SetWanted:
    """Please send what you have of these groups (8 bytes each, rising)."""

    scope: ShortHash
    names: Annotated[bytes, Size(8, WANTED_MAX * 8)]

    def fault(self) -> str:
        return _entries("names", self.names, 8)


@message(code=109, stream=GOV, sender=BOTH)
class SetRecords:
    """The records of one group, as they were signed."""

    scope: ShortHash
    records: Annotated[tuple[Annotated[bytes, Size(1, TERMS_MAX)], ...], Size(1, GROUP_RECORDS_MAX)]


SetFrame = SetDigest | SetSummary | SetWanted | SetRecords


def _entries(name: str, packed: bytes, size: int) -> str:
    """What is wrong with entries of this size, which begin with a name of 8 bytes each."""
    if len(packed) % size:
        return f"{name}: {len(packed)} bytes are no whole number of entries"
    found: Sequence[bytes] = [packed[at : at + 8] for at in range(0, len(packed), size)]
    return rising(name, found)
