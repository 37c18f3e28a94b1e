"""Speculation: whether a draft pays, who should make it, and how long it should be.

A round of one token and a round of ten cost one round trip each. So the text goes on by guesses,
the *draft*; the experts are asked about all of its positions at once, and what they say decides
token by token how far it holds (`core.decoding.sampling`: the text is the same as without a draft).
Who drafts decides what it is worth: our own expert, at one step of its engine a token; a look-up of
what followed the same words before in this text, at no cost; or, where there is no expert of our
own, the one that weighs most, which goes on with its own likeliest text while it answers: then the
draft is a round late, and only good if the token before it was right as well.

A draft goes on as long as the next token of it gains more than it costs: it is reached and accepted
with some probability, and takes the time of one step and of one more position to verify, in which
`rate` tokens would come otherwise (optimal stopping of a renewal process: at the best length what
one more token brings a second equals what a whole round brings). Whoever drafts badly drafts
nothing for a while and is tried again; so what speculation may cost is bounded, and strict mode is
nothing but a draft of no tokens.

All of this is measured as an answer goes on and kept for the next one. No peer can claim any of it;
what a lie about distributions does to a draft is its rejection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

Drafter = Literal["local", "lookup", "remote"]

DRAFT_MAX: Final = 30
"""Tokens of one draft."""
MATCH_MIN: Final = 3  # Tokens that must be the same before a look-up says anything.
MATCH_MAX: Final = 8
LOOK_BACK: Final = 4096  # Tokens of a prompt: more would take more than milliseconds at once.
BYTES_MAX: Final = 1600.0
"""Per expert and token that comes of it; a peer's limit is 2,000 (the lists of rejected positions
are paid for by those that are accepted)."""
# Below, our own expert does not go ahead of the draft, for it is seldom right that far; ...
AHEAD_ODDS: Final = 0.1
# ... and below, it takes no step that may not be finished when the answers come.
LATE_ODDS: Final = 0.5
RETRY_ROUNDS: Final = 24  # Without a draft, until one is tried again.
RETRY_TOKENS: Final = 2
KNOWN_TRIES: Final = 12  # Tokens of a drafter, until it is known well enough to be left alone.

KEEP: Final = 0.97  # Of what is known about acceptance, from token to token, ...
SMOOTHING: Final = 0.15  # ... and weight of the newest of times and sizes.
PRIOR_TRIES: Final = 3.0
# Ends of the classes that drafted tokens fall into, by the drafter's own probability of them, ...
SURE: Final = (0.15, 0.35, 0.6, 0.85)
# ... with what is believed of each before it was tried.
BELIEFS: Final = (0.25, 0.45, 0.6, 0.75, 0.9)
ALL_BELIEF: Final = 0.6  # Of all of them.
# The same for look-ups, by how many tokens were the same.
MATCHED: Final = (4, 6)
LOOKUP_BELIEFS: Final = (0.4, 0.6, 0.8)


@dataclass(slots=True)
class Odds:
    """How often tokens of one class were accepted; what is long ago counts less."""

    hits: float
    tries: float

    @property
    def share(self) -> float:
        return self.hits / self.tries

    def learn(self, *, accepted: bool) -> None:
        self.hits = KEEP * self.hits + accepted
        self.tries = KEEP * self.tries + 1


def _believed(beliefs: Sequence[float]) -> list[Odds]:
    return [Odds(PRIOR_TRIES * share, PRIOR_TRIES) for share in beliefs]


@dataclass(slots=True)
class Mean:
    """Of what was measured lately; 0 before the first time."""

    value: float = 0.0

    def learn(self, measured: float) -> None:
        newest = SMOOTHING if self.value else 1.0
        self.value += newest * (measured - self.value)


@dataclass(slots=True)
class Slope:
    """What one more position costs: the slope of the time that rounds take over the number of
    their positions, by weighted least squares."""

    count: float = 0.0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])

    def learn(self, positions: int, seconds: float) -> None:
        x = float(positions)
        self.count = KEEP * self.count + 1
        newest = (x, seconds, x * x, x * seconds)
        self.sums = [KEEP * one + new for one, new in zip(self.sums, newest, strict=True)]

    def within(self, low: float, high: float, otherwise: float) -> float:
        """The slope, but no less than `low` and no more than `high`; `otherwise` while rounds were
        too much alike."""
        if self.count < 4:
            return otherwise
        x, y, xx, xy = (one / self.count for one in self.sums)
        spread = xx - x * x
        return otherwise if spread < 1 else min(high, max(low, (xy - x * y) / spread))


class Speculation:
    """What one node has learned of drafts, from answer to answer."""

    def __init__(self) -> None:
        self._odds: dict[Drafter, list[Odds]] = {
            "local": _believed(BELIEFS),
            "lookup": _believed(LOOKUP_BELIEFS),
            "remote": _believed(BELIEFS),
        }
        # The same of all classes together: in those that never come up only beliefs are left.
        self._all: dict[Drafter, Odds] = {
            drafter: Odds(PRIOR_TRIES * ALL_BELIEF, PRIOR_TRIES) for drafter in self._odds
        }
        # Seconds of one more token of a draft.
        self._steps: dict[Drafter, Mean] = {"local": Mean(), "lookup": Mean(), "remote": Mean()}
        self._wait = Mean()
        self._list_bytes = Mean()
        self._slope = Slope()
        self._tokens = self._seconds = 0.0
        self._since: dict[Drafter, int] = {"local": RETRY_ROUNDS, "lookup": 0, "remote": 0}

    # --- deciding -------------------------------------------------------------------------------

    @property
    def rate(self) -> float:
        """Tokens a second of late; 0: not known yet."""
        return self._tokens / self._seconds if self._seconds > 0 else 0.0

    def odds(self, drafter: Drafter, measure: float) -> float:
        """How likely a token is accepted: `measure` is what the drafter gives to it, or how many
        tokens a look-up found the same."""
        return self._odds[drafter][_class(drafter, measure)].share

    def pays(self, drafter: Drafter, other: float) -> bool:
        """Whether its usual draft brings as many tokens a second as `other` does and more than
        none; now and then also where the last ones did not."""
        if not self.rate:
            return False
        gain = self.gain(drafter, *self.usual(drafter))
        is_unknown = self._all[drafter].tries < PRIOR_TRIES + KNOWN_TRIES
        return (
            gain >= max(other, 0.0 if is_unknown else self.strict)
            or self._since[drafter] >= RETRY_ROUNDS
        )

    @property
    def strict(self) -> float:
        """Tokens a second of a round without a draft."""
        return 1 / (self._wait.value + 1e-9)

    def is_worth(
        self,
        drafter: Drafter,
        reached: float,
        count: int,
        expected: float,
        *,
        is_made: bool = False,
    ) -> bool:
        """Whether a draft should have a token number `count` that is reached and accepted with
        probability `reached`. `expected`: how many are accepted of those before it. `is_made`: the
        drafter has taken its step already."""
        if count > DRAFT_MAX or not self.rate:
            return False
        lists = (count + 1) / (1 + expected + reached)
        if lists * self._list_bytes.value > BYTES_MAX:
            return False
        if self._since[drafter] >= RETRY_ROUNDS and count <= RETRY_TOKENS:
            return True
        step_s = 0.0 if is_made else self._steps[drafter].value
        return reached > self.rate * (step_s + self._verify_s())

    def may_go_ahead(self, reached: float, waited_s: float) -> bool:
        """Whether our own expert should take one more step behind a draft that others were asked
        about `waited_s` ago. With probability `reached` it is a step of the next draft; if not, and
        it is still at it when they have answered, the next round waits for it."""
        is_in_time = waited_s + self._steps["local"].value <= self._wait.value
        return reached >= (AHEAD_ODDS if is_in_time else LATE_ODDS)

    def _verify_s(self) -> float:
        """Seconds that one more position costs."""
        step_s = self._steps["local"].value or self._wait.value / 10
        return self._slope.within(0.05 * step_s, step_s, 0.4 * step_s)

    def gain(self, drafter: Drafter, expected: float, count: int) -> float:
        """Tokens a second of a round with a draft of `count`, of which `expected` are accepted. Our
        own expert's step in the round itself is over before the others are asked."""
        step_s = self._steps[drafter].value
        before_s = step_s if drafter == "local" else 0.0
        took_s = self._wait.value + before_s + count * (step_s + self._verify_s())
        return (1 + expected) / (took_s + 1e-9)

    def usual(self, drafter: Drafter, before: float = 1.0) -> tuple[float, int]:
        """What a draft of this drafter is expected to be: accepted tokens, and tokens. `before`:
        the probability that all is accepted which stands before it."""
        share = self._all[drafter].share
        expected, reached, count = 0.0, before * share, 0
        while self.is_worth(drafter, reached, count + 1, expected):
            expected, reached, count = expected + reached, reached * share, count + 1
        return expected, count

    def ahead(self, guesses: int, step_s: float) -> tuple[int, float]:
        """How many tokens a remote expert should go on behind so many guesses, and how long that
        takes: they are of use only if all of these, and the token behind them, are what it says.
        `step_s`: what it claims that a token takes it, which counts until it was measured."""
        if not self.rate:
            return 0, 0.0
        if not self._steps["remote"].value:
            self._steps["remote"].learn(step_s)
        _, count = self.usual("remote", self._all["remote"].share ** (guesses + 1))
        return count, count * max(step_s, self._steps["remote"].value)

    # --- learning -------------------------------------------------------------------------------

    def stepped(self, drafter: Drafter, seconds: float) -> None:
        """One more token of a draft has taken so long."""
        self._steps[drafter].learn(max(0.0, seconds))

    def listed(self, size_bytes: int, lists: int) -> None:
        """An expert's answer of so many lists has come."""
        self._list_bytes.learn(size_bytes / lists)

    def tried(self, drafter: Drafter) -> None:
        """It has drafted, whatever became of that."""
        self._since[drafter] = 0

    def verified(
        self, drafter: Drafter, measures: Sequence[float], accepted: int, *, is_cut: bool
    ) -> None:
        """Of the drafted tokens with these measures the first `accepted` were; the one behind them
        was rejected, unless the text was cut there for another reason."""
        self.tried(drafter)
        seen = accepted + (accepted < len(measures) and not is_cut)
        for place, measure in enumerate(measures[:seen]):
            for odds in (self._odds[drafter][_class(drafter, measure)], self._all[drafter]):
                odds.learn(accepted=place < accepted)

    def finished(
        self, tokens: int, drafted: int, wait_s: float, draft_s: float, drafter: Drafter | None
    ) -> None:
        """A round is over that brought `tokens`: it took `draft_s` to make its draft and `wait_s`
        to verify it."""
        for name in self._since:
            if name != drafter:
                self._since[name] += 1
        self._slope.learn(drafted + 1, wait_s)
        self._wait.learn(max(0.0, wait_s - drafted * self._verify_s()))
        self._tokens = (1 - SMOOTHING) * self._tokens + tokens
        self._seconds = (1 - SMOOTHING) * self._seconds + wait_s + draft_s


def _class(drafter: Drafter, measure: float) -> int:
    ends = MATCHED if drafter == "lookup" else SURE
    return sum(measure > end for end in ends)


class LookUp:
    """What followed the same words before, in prompt and answer: drafts by n-grams."""

    def __init__(self) -> None:
        self._ends: dict[tuple[int, ...], int] = {}
        self._read = 0

    def find(self, tokens: Sequence[int], most: int) -> tuple[tuple[int, ...], int]:
        """`most` tokens that may come next, and how many before them are the same; nothing where
        fewer than MATCH_MIN are. What ends within the text before there are so many goes round, as
        loops do. `tokens` only ever grows."""
        self._read_on(tokens)
        end = self._ends.get(tuple(tokens[-MATCH_MIN:])) if most > 0 else None
        if end is None:
            return (), 0
        matched = MATCH_MIN
        while (
            matched < MATCH_MAX
            and matched < end
            and tokens[end - 1 - matched] == tokens[len(tokens) - 1 - matched]
        ):
            matched += 1
        size = len(tokens) - end
        return tuple(tokens[end + i % size] for i in range(most)), matched

    def _read_on(self, tokens: Sequence[int]) -> None:
        """Remember where each run of MATCH_MIN tokens ended last, but for the run at the end."""
        for end in range(max(self._read, MATCH_MIN, len(tokens) - LOOK_BACK), len(tokens)):
            self._ends[tuple(tokens[end - MATCH_MIN : end])] = end
        self._read = max(self._read, len(tokens))
