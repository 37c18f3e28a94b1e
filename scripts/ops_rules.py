"""What is wrong with a run, by rules over its measured figures, and which changes might help.

The rules see what an operator sees: metrics, settings, the table of experts. They do not know what
was done to the world, so they are sometimes wrong, and then a second run says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scripts.ops_schema import SETTINGS, Proposal, tier_of
from scripts.ops_worlds import Run


@dataclass(frozen=True, slots=True)
class Finding:
    """`kind` names the rule and `metric` the figure that gave it away; `remedies` are proposals,
    the most plausible first."""

    kind: str
    metric: str
    remedies: tuple[Proposal, ...]
    suspect: str = ""  # An expert.


def _set(
    before: Run, setting: str, to: int, expect: dict[str, float], because: str
) -> Proposal | None:
    """None where there is nothing to change within the range."""
    limits, now = SETTINGS[setting], int(getattr(before.settings, setting))
    to = min(limits.high, max(limits.low, to))
    if to == now:
        return None
    return Proposal(
        "set", setting, now, (to,), tier_of("set", setting), tuple(expect.items()), because
    )


def _pause(name: str, expect: dict[str, float], because: str) -> Proposal:
    return Proposal("pause", name, None, (), tier_of("pause", name), tuple(expect.items()), because)


def _watch(metric: str, because: str) -> Proposal:
    return Proposal("watch", metric, None, (), tier_of("watch", metric), (), because)


def _finding(
    kind: str, metric: str, remedies: list[Proposal | None], suspect: str = ""
) -> list[Finding]:
    found = tuple(r for r in remedies if r is not None)
    return [Finding(kind, metric, found, suspect)] if found else []


def _text(value: float) -> str:
    return f"{value:g}"


def _spare(r: Run) -> int:
    """Experts that no round asks."""
    return int(r.metrics["experts_known"]) - r.settings.k - r.settings.extra


def detect(r: Run) -> list[Finding]:
    """Everything that is wrong, the most urgent first; a run without any fault has the one finding
    `healthy`."""
    rules: tuple[Callable[[Run], list[Finding]], ...] = (
        _expired,
        _cache,
        _few,
        _failover,
        _straggler,
        _spread,
        _width,
        _talk,
        _weight,
    )
    found = [finding for rule in rules for finding in rule(r)]
    return found or _healthy(r)


def _expired(r: Run) -> list[Finding]:
    s, expired = r.settings, r.metrics["expired"]
    if not expired:
        return []
    because = (
        f"{_text(expired)} experts [were forgotten for want of a record|expired] at one record each"
        f" {s.publish_every_s} s"
    )
    to = 3 if s.publish_every_s < 24 else 5
    return _finding(
        "expired",
        "expired",
        [
            _set(r, "publish_every_s", to, {"expired": -0.99}, because),
            _set(r, "publish_every_s", (s.publish_every_s + to) // 2, {"expired": -0.5}, because),
        ],
    )


def _cache(r: Run) -> list[Finding]:
    needs, s = r.metrics["needs"], r.settings
    if needs <= max(2, r.tokens * 0.1):
        return []
    because = (
        f"[experts lost the text|the text had to be sent again] {_text(needs)} times with room for"
        f" {s.sessions_max}"
    )
    return _finding(
        "cache",
        "needs",
        [
            _set(
                r,
                "sessions_max",
                max(4, 2 * r.answers),
                {"needs": -0.99, "round_ms_p50": -0.3},
                because,
            ),
            _set(r, "sessions_max", s.sessions_max + 1, {"needs": -0.5}, because),
        ],
    )


def _few(r: Run) -> list[Finding]:
    s, short, known = r.settings, r.metrics["short_rounds"], int(r.metrics["experts_known"])
    if short < 15:
        return []
    if known < s.k:
        because = (
            f"k is {s.k} but [only|no more than] {known} experts are known,"
            f" so {_text(short)} % of the rounds [fall|end] short"
        )
        return _finding(
            "few", "short_rounds", [_set(r, "k", known, {"short_rounds": -0.9}, because)]
        )
    because = (
        f"{_text(short)} % of the rounds ended with fewer than {s.k} answers though {known} experts"
        " are known"
    )
    return _finding(
        "short",
        "short_rounds",
        [
            _set(r, "extra", s.extra + 1, {"short_rounds": -0.6}, because),
            _set(r, "k", s.k - 1, {"short_rounds": -0.8}, because),
            _set(r, "extra", s.extra + 2, {"short_rounds": -0.8}, because),
        ],
    )


def _failover(r: Run) -> list[Finding]:
    s, failovers = r.settings, r.metrics["failovers"]
    if not failovers:
        return []
    longest = _text(r.metrics["round_ms_max"])
    because = (
        f"{_text(failovers)} failovers[, the longest round took {longest} ms|;"
        f" one round took {longest} ms|]"
    )
    spare = _spare(r)
    return _finding(
        "failover",
        "failovers",
        [
            _set(r, "extra", s.extra + 1, {"round_ms_max": -0.4}, because) if spare else None,
            _set(r, "extra", s.extra + 2, {"round_ms_max": -0.6}, because) if spare > 1 else None,
            _watch("failovers", because),
        ],
    )


def _straggler(r: Run) -> list[Finding]:
    """One expert much slower than its colleagues, where that shows in the rounds."""
    s, m = r.settings, r.metrics
    asked = sorted((e for e in r.experts if e.replies), key=lambda e: e.rtt_ms)
    if len(asked) < 3 or asked[-1].rtt_ms < 2.5 * max(20, asked[len(asked) // 2].rtt_ms):
        return []
    if asked[-1].share < 30 and m["round_ms_p95"] < 1.5 * m["round_ms_p50"]:
        return []
    slow, middle = asked[-1], asked[len(asked) // 2].rtt_ms
    because = (
        f"{slow.name} [takes|needs] {slow.rtt_ms} ms a round [where|while] the median expert"
        f" [takes|needs] {middle} ms"
    )
    spare = _spare(r)
    return _finding(
        "straggler",
        "round_ms_p95",
        [
            _set(r, "extra", s.extra + 1, {"round_ms_p95": -0.3}, because) if spare else None,
            _pause(slow.name, {"round_ms_p95": -0.4}, because),
            _set(r, "k", s.k - 1, {"round_ms_p95": -0.3, "agreement": -0.05}, because)
            if s.k > 2
            else None,
        ],
        slow.name,
    )


def _stall(r: Run) -> list[Finding]:
    """A few rounds in which somebody was waited for in vain."""
    s, m = r.settings, r.metrics
    if m["round_ms_max"] < 3 * m["round_ms_p50"] or m["round_ms_max"] - m["round_ms_p50"] < 200:
        return []
    because = (
        f"[one round|the longest round] took {_text(m['round_ms_max'])} ms [where|while] the median"
        f" is {_text(m['round_ms_p50'])} ms"
    )
    return _finding(
        "stall",
        "round_ms_max",
        [
            _set(r, "extra", s.extra + 1, {"round_ms_max": -0.5}, because),
            _set(r, "extra", s.extra + 2, {"round_ms_max": -0.6}, because),
            _set(r, "k", s.k - 1, {"round_ms_max": -0.3}, because) if s.k > 2 else None,
            _watch("round_ms_max", because),
        ],
    )


def _spread(r: Run) -> list[Finding]:
    s, m = r.settings, r.metrics
    if m["round_ms_p95"] < 1.8 * m["round_ms_p50"] or m["round_ms_p95"] - m["round_ms_p50"] < 50:
        return []
    slow, middle = _text(m["round_ms_p95"]), _text(m["round_ms_p50"])
    because = (
        f"[the slowest rounds take|one round in twenty takes] {slow} ms [and|where] the median [is"
        f" |takes ]{middle} ms"
    )
    return _finding(
        "spread",
        "round_ms_p95",
        [
            _set(r, "extra", s.extra + 1, {"round_ms_p95": -0.25}, because),
            _set(r, "extra", s.extra + 2, {"round_ms_p95": -0.4}, because),
            _set(r, "k", s.k - 1, {"round_ms_p95": -0.25}, because),
        ],
    )


def _width(r: Run) -> list[Finding]:
    """Too many experts for what they cost, or all of them far away."""
    s, m = r.settings, r.metrics
    found: list[Finding] = []
    if m["bytes_per_token"] > 2200:
        because = (
            f"a token costs {_text(m['bytes_per_token'])} bytes and {_text(m['asks_per_token'])}"
            f" questions at k={s.k} extra={s.extra}"
        )
        lower = {"bytes_per_token": -0.3}
        found += _finding(
            "bytes",
            "bytes_per_token",
            [
                _set(r, "extra", s.extra // 2, lower, because),
                _set(r, "k", (s.k + 2) // 2, lower, because),
                _set(r, "k", s.k - 1, lower, because),
            ],
        )
    if m["round_ms_p50"] > 280:
        middle, speed = _text(m["round_ms_p50"]), _text(m["tokens_per_s"])
        because = (
            f"[half of the rounds take {middle} ms or more|the median round takes {middle} ms],"
            f" {speed} tokens a second"
        )
        found += _finding(
            "far",
            "round_ms_p50",
            [
                _set(r, "k", s.k - 1, {"round_ms_p50": -0.1}, because),
                _set(r, "extra", s.extra + 1, {"round_ms_p50": -0.1}, because),
                _watch("round_ms_p50", because),
            ],
        )
    return found


def _talk(r: Run) -> list[Finding]:
    """Traffic that nobody needs: records and look-ups."""
    s, m, known = r.settings, r.metrics, int(r.metrics["experts_known"])
    found: list[Finding] = []
    if m["look_ups"] >= 4:
        because = (
            f"{_text(m['look_ups'])} look-ups a minute [find nobody new|for nothing],"
            f" {known} experts are known"
        )
        fewer = {"look_ups": -0.7}
        found += _finding(
            "look_ups",
            "look_ups",
            [
                _set(r, "look_up_every_s", 30 if s.look_up_every_s > 6 else 60, fewer, because),
                _set(r, "look_up_below", known, {"look_ups": -0.99}, because)
                if s.look_up_below > known > 0
                else None,
                _set(r, "look_up_every_s", s.look_up_every_s * 2, {"look_ups": -0.5}, because),
            ],
        )
    if known and s.publish_every_s < 3 and m["records_per_s"] > 0.3 * known:
        because = (
            f"{_text(m['records_per_s'])} records a second for {known} experts,"
            f" one from each every {s.publish_every_s} s"
        )
        fewer = {"records_per_s": -0.4}
        found += _finding(
            "records",
            "records_per_s",
            [_set(r, "publish_every_s", to, fewer, because) for to in (4, 3, 5)],
        )
    return found


def _weight(r: Run) -> list[Finding]:
    """Experts that agree little, or one whose word counts for little."""
    s, m = r.settings, r.metrics
    asked = sorted((e for e in r.experts if e.share >= 30), key=lambda e: e.weight)
    if len(asked) > 2 and asked[0].weight * 2 < asked[len(asked) // 2].weight:
        odd = asked[0]
        because = (
            f"{odd.name} has a part in {odd.share} % of the tokens and {odd.weight} % of the weight"
            " there"
        )
        return _finding(
            "odd",
            "agreement",
            [
                _pause(odd.name, {"agreement": 0.1}, because),
                _set(r, "k", s.k + 1, {"agreement": 0.05}, because),
            ],
            odd.name,
        )
    if m["agreement"] < 0.6 and s.k > 1:
        overlap = _text(m["agreement"])
        because = (
            f"the experts agree on [only {overlap} of the probability|{overlap} of the probability"
            f" only] at k={s.k}"
        )
        more = int(m["experts_known"]) > s.k
        return _finding(
            "disagree",
            "agreement",
            [
                _set(r, "k", s.k + 1, {"agreement": 0.05}, because) if more else None,
                _watch("agreement", because),
            ],
        )
    return []


def _healthy(r: Run) -> list[Finding]:
    s, m = r.settings, r.metrics
    figures = (
        f"{_text(m['tokens_per_s'])} tokens a second, {_text(m['short_rounds'])} % short rounds,"
        f" {_text(m['failovers'])} failovers"
    )
    because = f"[nothing stands out|no rule fired|all is well]: {figures}"
    more = int(m["experts_known"]) > s.k
    return _finding(
        "healthy",
        "tokens_per_s",
        [
            _watch("tokens_per_s", because),
            _watch("round_ms_p95", because),
            _set(
                r,
                "k",
                s.k + 1,
                {"agreement": 0.03},
                "[the swarm is well and has an expert to spare|there are experts to spare]",
            )
            if more
            else None,
            _set(
                r,
                "extra",
                s.extra - 1,
                {"bytes_per_token": -0.2},
                "[the swarm is well and the insurance costs bytes|nothing was late,"
                " so less insurance may do]",
            )
            if s.extra
            else None,
        ],
    )
