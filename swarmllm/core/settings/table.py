"""The table of the settings that the swarm can change while it runs, each declared here and nowhere
else.

These are the values that the router, the rounds, the gate, the cascade, the capacity exchange and
the serving side read at each decision. The config file's pins, the help, the local API,
docs/settings.md, the simulator and governance are made of these declarations. Nothing that concerns
keys, code, files, addresses or the kill switch is among them: what is not in this table cannot be
named, and so not be changed.

To add one: declare it with the next free code, and read it where it decides. Codes are for ever:
3, 5, 6, 7 and 8 meant something once and are not given out again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from swarmllm.core.settings.setting import UNITS, N, Owner, Setting, thousandth, whole
from swarmllm.core.values import EXTRA_USUAL, K_USUAL, QUALITY_USUAL
from swarmllm.messages import ANSWER_ENTRIES_MAX, ANSWERS_MAX, Range

_ENTRIES_MAX: Final = ANSWER_ENTRIES_MAX // ANSWERS_MAX  # However many lists a reply brings.
_declared: list[Setting[Any]] = []


def _declare(
    read: Callable[[int], N],
    key: str,
    code: int,
    unit: str,
    default: int,
    bounds: tuple[int, int],
    limits: tuple[int, int],
    effect: str,
    owner: Owner = "agent",
) -> Setting[N]:
    assert (read is thousandth) == (unit in UNITS), f"{key}: unit {unit}"
    made = Setting(key, code, unit, default, Range(*bounds), Range(*limits), effect, read, owner)
    _declared.append(made)
    return made


# --- what an answer takes where nobody says anything ----------------------------------------------

EXPERTS = _declare(
    *(whole, "answer.experts", 1, "experts", K_USUAL, (1, 16), (1, 64)),
    "More experts decide each token: better text where they know different things, and more work"
    " and traffic for the swarm.",
)
EXTRA = _declare(
    *(whole, "router.hedging_extra", 2, "experts", EXTRA_USUAL, (0, 4), (0, 64)),
    "More experts are asked than are waited for: a slow one delays fewer tokens, and the swarm"
    " computes more that nobody uses.",
)
WIDE_SHARE = _declare(
    *(
        thousandth,
        "cascade.wide_share",
        9,
        "permille",
        round(1000 * QUALITY_USUAL),
        (200, 1000),
        (0, 1000),
    ),
    "More of the tokens are put to all experts and fewer to one alone: better text, and more work"
    " for the swarm.",
)
# The default is about the median surprise of a small model.
FIRST_THRESHOLD = _declare(
    *(thousandth, "cascade.first_threshold", 10, "millinats", 2000, (0, 8000), (0, 12_000)),
    "The first token that one expert is asked about alone is put to all only if it is less sure"
    " than this; from then on the threshold follows what is seen.",
)
LIST_ENTRIES = _declare(
    *(whole, "answer.list_entries", 4, "tokens", 256, (64, _ENTRIES_MAX), (1, _ENTRIES_MAX)),
    "Each expert lists more tokens of its distribution: rare tokens are pooled more exactly, and"
    " each reply is longer.",
)

# --- whom to ask ----------------------------------------------------------------------------------

WAIT_COST = _declare(
    *(thousandth, "router.wait_cost", 11, "millinats/s", 2000, (500, 8000), (0, 100_000)),
    "Quick experts are preferred to knowing ones: at 2000, waiting 100 ms longer is worth a fifth"
    " of an expert's share.",
)
# The default is the scheduling noise of an ordinary machine.
PATIENCE_FLOOR = _declare(
    *(thousandth, "router.patience_floor", 12, "ms", 100, (20, 1000), (1, 30_000)),
    "An expert gets longer beyond its usual time before it counts as missing: fewer are given up"
    " for a hiccup, and a dead one is waited for longer.",
)
PATIENCE_UNKNOWN = _declare(
    *(thousandth, "router.patience_unknown", 13, "ms", 1000, (250, 5000), (1, 30_000)),
    "An expert that was never measured gets longer to answer for the first time.",
)
PATIENCE_MAX = _declare(
    *(thousandth, "router.patience_max", 14, "ms", 30_000, (5000, 60_000), (1000, 60_000)),
    "Slow experts with long prompts to take in get longer before they count as missing.",
)
SUSPECT_REST = _declare(
    *(thousandth, "router.suspect_rest", 15, "ms", 1000, (250, 10_000), (1, 60_000)),
    "An expert that let a deadline pass is left alone for longer (doubled for each further one, up"
    " to a minute).",
)
SWITCH_RATIO = _declare(
    *(thousandth, "router.switch_ratio", 16, "permille", 2000, (1100, 5000), (1000, 100_000)),
    "An expert that has the text already is given up only for a replica that is faster by more.",
)
SWITCH_ADVANTAGE = _declare(
    *(thousandth, "router.switch_advantage", 17, "millinats", 700, (0, 3000), (0, 20_000)),
    "An expert that has the text already is given up only for a model that is expected to weigh"
    " more: at 700, twice as much.",
)
REPLICA_COST = _declare(
    *(thousandth, "router.replica_cost", 18, "millinats", 2000, (0, 8000), (0, 20_000)),
    "Another model is preferred to a second replica of one that is asked already: more knowledge,"
    " less insurance.",
)
BLUR = _declare(
    *(thousandth, "router.blur", 19, "millinats", 100, (10, 1000), (0, 20_000)),
    "More experts count as equals and share the requests, and the best one is asked less often.",
)

# --- how long a round waits -----------------------------------------------------------------------

STRAGGLER_RATIO = _declare(
    *(thousandth, "round.straggler_ratio", 20, "permille", 3000, (1500, 10_000), (1000, 100_000)),
    "While too few have answered, the others get more times as long as the first took.",
)
STRAGGLER_FLOOR = _declare(
    *(thousandth, "round.straggler_floor", 21, "ms", 250, (50, 2000), (0, 60_000)),
    "While too few have answered, the others get at least this much longer than the first took.",
)
LATE_RATIO = _declare(
    *(thousandth, "round.late_ratio", 22, "permille", 1500, (1000, 4000), (1000, 100_000)),
    "Once enough have answered, an expert that weighs much gets more times as long: better tokens,"
    " later.",
)
LATE_FLOOR = _declare(
    *(thousandth, "round.late_floor", 23, "ms", 20, (0, 500), (0, 60_000)),
    "Once enough have answered, an expert that weighs much gets at least this much longer.",
)
FIRST_WAIT = _declare(
    *(thousandth, "round.first_wait", 24, "ms", 10_000, (1000, 30_000), (1, 60_000)),
    "Once enough have taken in the prompt, those that may still change what is known of it are"
    " waited for longer: better weights, and a later first token.",
)
HEDGE_COST = _declare(
    *(thousandth, "round.hedge_cost", 25, "ms", 100, (0, 1000), (0, 60_000)),
    "An expert is asked as a hedge even if it has to compute this long to catch up with the text.",
)

# --- which experts an answer has, and what they weigh ---------------------------------------------

EXPLORATION = _declare(
    *(thousandth, "ensemble.exploration", 26, "permille", 100, (10, 300), (0, 1000)),
    "More often an expert is tried that the router would not have chosen: verdicts are corrected"
    " sooner, and more prompts are taken in for nothing.",
)
PROBES = _declare(
    *(whole, "ensemble.probes", 27, "models", 2, (1, 4), (1, 16)),
    "For each expert that an answer wants, more models take in its prompt before the best are kept:"
    " better experts, and each costs the swarm a prompt.",
)
QUORUM_SHARE = _declare(
    *(thousandth, "ensemble.quorum_share", 28, "permille", 900, (500, 1000), (1, 1000)),
    "A token waits until more of the weight that it could have is there: better tokens, later.",
)
# Less loses on text that turns to another domain (50: 0.15 nats), more costs over one per cent on
# text that does not.
UNIFORM_SHARE = _declare(
    *(thousandth, "gate.uniform_share", 29, "permille", 100, (20, 300), (1, 1000)),
    "More of the weight is spread whatever the prompt said: better on text that turns to another"
    " domain, worse on text that does not.",
)
# `swarmllm eval` measures these two, in nats per token. Forgetting 10 instead of 20: ops of the
# SmolLM2 family goes from 2.0 to 0.4 % above its best expert and mixed text from 2.824 to 2.823; of
# the tiny experts ops goes from 0.762 to 0.750, all else changes by less than 0.1 %.
LEARNING_RATE = _declare(
    *(thousandth, "gate.learning_rate", 30, "permille", 500, (50, 900), (1, 1000)),
    "Each token of a later turn moves the weights further.",
)
FORGETTING = _declare(
    *(thousandth, "gate.forgetting", 31, "permille", 10, (1, 200), (1, 1000)),
    "More of the weight is spread again after each token of a later turn: a change of domain is"
    " followed sooner, and steady text is weighed less sharply.",
)

# --- what an expert's word is worth ---------------------------------------------------------------

RESULTS = _declare(
    *(whole, "trust.results", 34, "results", 8, (4, 32), (0, 1000)),
    "An expert must have predicted more hidden tokens, or passed more audits, before its model may"
    " weigh more than its part of the prior: liars are found more surely, and honest newcomers"
    " weigh little for longer.",
)
NEW_SHARE = _declare(
    *(thousandth, "trust.new_share", 35, "permille", 333, (100, 500), (1, 1000)),
    "All models together that this node does not know may weigh more beside those that it knows.",
)
HIDDEN_SHARE = _declare(
    *(thousandth, "trust.hidden_share", 36, "permille", 8, (4, 30), (0, 1000)),
    "For each token more of a round may be spent on hidden tokens: newcomers are known sooner and"
    " turncoats found sooner, and first tokens come later.",
)

# --- what nodes do for each other -----------------------------------------------------------------

SHUFFLE_INTERVAL = _declare(
    *(thousandth, "exchange.shuffle_interval", 32, "ms", 5500, (4500, 20_000), (2000, 60_000)),
    "Capacity records are exchanged less often: less traffic, and older news of who has room.",
)
SESSIONS_OFFERED = _declare(
    *(whole, "serving.sessions_offered", 33, "sessions", 256, (1, 256), (1, 256)),
    "Others may have more rounds at this node's expert at once, up to what its engine holds: more"
    " for the swarm, less for its owner.",
    "operator",
)

SETTINGS: Final = {setting.key: setting for setting in _declared}
"""Every setting, by its key."""
BY_CODE: Final = {setting.code: setting for setting in _declared}
assert len(SETTINGS) == len(BY_CODE) == len(_declared), "keys and codes must differ"
