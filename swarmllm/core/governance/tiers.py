"""Action tiers: what an action may do follows from its type and, for settings, from the bounds in
force. Nothing that anybody writes about it changes that.

What is not on the list of actions, or cannot be read, is deploy-major and has no executor: it can
be voted on, and nothing comes of it (`lacking` says why). An action that is asked for at a lower
tier than its own escalates: it waits at its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from swarmllm.core.governance.mandate import Tier
from swarmllm.errors import RemoteError
from swarmllm.messages import Range
from swarmllm.messages.governance import (
    ClosePhase,
    Observe,
    OpenPhase,
    Revert,
    SandboxTest,
    SetBounds,
    SetDefaultModel,
    SetFeature,
    SetSetting,
    Suggest,
)
from swarmllm.wire.codec import decode

Action = (
    Observe
    | Suggest
    | SandboxTest
    | SetSetting
    | SetBounds
    | OpenPhase
    | ClosePhase
    | SetFeature
    | SetDefaultModel
    | Revert
)
ACTIONS: Final[tuple[type[Action], ...]] = (
    Observe,
    Suggest,
    SandboxTest,
    SetSetting,
    SetBounds,
    OpenPhase,
    ClosePhase,
    SetFeature,
    SetDefaultModel,
    Revert,
)
"""The closed list."""


class SettingRule(Protocol):
    """What the table of settings says of one of them."""

    @property
    def key(self) -> str: ...

    @property
    def bounds(self) -> Range:
        """Within which the swarm may set it by deploy-minor, where no charter says otherwise."""

    @property
    def limits(self) -> Range:
        """Beyond which no value makes sense, whoever votes for it."""

    @property
    def owner(self) -> Literal["agent", "operator"]: ...


Rules = Mapping[int, SettingRule]
"""The table of settings, by code."""
Bounds = Callable[[int], Range | None]
"""The bounds in force of the setting with this code; None for no setting."""
SHARED_REFERENCES: Final = ("hf:", "smollm2", "llama3-demo:")
"""With which a model's reference begins if it names the same model on every machine. Any other may
be the path of a file, which votes never choose."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The tier of a proposed action. `escalated`: more than was asked for; `why` in a sentence for
    people. `lacks`: why this version cannot carry it out, in a sentence; empty if it can."""

    tier: Tier
    escalated: bool
    why: str
    lacks: str = ""

    @property
    def can_be_done(self) -> bool:
        """This version has an executor for it."""
        return not self.lacks


def read_action(data: bytes) -> Action | None:
    """None for anything but the encoding of an action on the list."""
    try:
        return decode(data, ACTIONS)
    except RemoteError:
        return None


def decide(
    action: Action | None, asked: int, has_evidence: bool, rules: Rules, bounds: Bounds
) -> Decision:
    """The tier that an action has, asked for at tier `asked`, with a validation report or
    without."""
    own, why = tier_of(action, rules, bounds)
    if own is Tier.DEPLOY_MINOR and isinstance(action, SetSetting) and not has_evidence:
        own, why = Tier.DEPLOY_MAJOR, "no validation report: it was not tested in the sandbox"
    lacks = lacking(action, rules)
    if asked > own:
        return Decision(Tier(asked), False, "its author asked for a higher tier", lacks)
    return Decision(own, asked < own, why, lacks)


def tier_of(action: Action | None, rules: Rules, bounds: Bounds) -> tuple[Tier, str]:
    """The tier of an action by its type, and why in a sentence."""
    match action:
        case None:
            return Tier.DEPLOY_MAJOR, "unknown to this version, so treated as deploy-major"
        case Observe():
            return Tier.READ_ONLY, "it only reads"
        case Suggest():
            return Tier.SUGGEST, "it is shown to people, and nothing follows from it"
        case SandboxTest():
            return Tier.SANDBOX_TEST, "it runs in the simulator alone"
        case SetSetting(setting=setting, value=value):
            return _tier_of_setting(setting, value, rules, bounds)
        case ClosePhase():
            return Tier.DEPLOY_MINOR, "it lets the agent do less"
        case Revert():
            return Tier.DEPLOY_MINOR, "it takes back what was voted before"
        case SetBounds():
            return Tier.DEPLOY_MAJOR, "it changes what few votes may change"
        case OpenPhase():
            return Tier.DEPLOY_MAJOR, "it lets the agent do more"
        case SetFeature() | SetDefaultModel():
            return Tier.DEPLOY_MAJOR, "it changes what nodes are"


def _tier_of_setting(setting: int, value: int, rules: Rules, bounds: Bounds) -> tuple[Tier, str]:
    rule, within = rules.get(setting), bounds(setting)
    if rule is None or within is None:
        return Tier.DEPLOY_MAJOR, f"setting {setting} is unknown to this version"
    if rule.owner != "agent":
        return Tier.DEPLOY_MAJOR, f"{rule.key} belongs to operators"
    if not within.low <= value <= within.high:
        outside = f"{value} is not within its bounds of {within.low} to {within.high}"
        return Tier.DEPLOY_MAJOR, f"{rule.key}: {outside}"
    return Tier.DEPLOY_MINOR, f"{rule.key} is the agent's, and {value} is within its bounds"


def lacking(action: Action | None, rules: Rules) -> str:
    """Why this version cannot carry it out, in a sentence; empty if it has an executor for it."""
    match action:
        case SetSetting(setting=setting, value=value):
            return _beyond(rules, setting, value, value)
        case SetBounds(setting=setting, low=low, high=high):
            return _beyond(rules, setting, low, high)
        case OpenPhase() | ClosePhase() | Revert():
            return ""
        case SetDefaultModel(reference=reference):
            shared = reference.startswith(SHARED_REFERENCES)
            return "" if shared else "its model is not one that every machine finds by this name"
        case SetFeature():
            return NO_FEATURES
        case Observe() | Suggest() | SandboxTest():
            return "votes carry nothing of this tier out"
        case None:
            return "this version does not know the action"


NO_FEATURES: Final = (
    "this version has no feature that votes could switch on or off; what they can switch off is a"
    " setting, by 0"
)
"""The rest is not for votes: the kill switch, the ledger, signatures, whom to connect to, and what
the owner of a node decides for it."""


def _beyond(rules: Rules, setting: int, low: int, high: int) -> str:
    if setting not in rules:
        return f"this version has no setting {setting}"
    limits = rules[setting].limits
    if limits.low <= low <= high <= limits.high:
        return ""
    return f"{rules[setting].key} can only be from {limits.low} to {limits.high}"
