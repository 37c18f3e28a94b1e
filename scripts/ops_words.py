"""Words for figures: tables, sentences and reasons about a run, varied by a small grammar and by
nothing else.

Every number that is written here was measured, is a setting, or is the difference of two of these
in per cent.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict

from scripts.ops_episodes import Episode, change, price
from scripts.ops_grammar import say
from scripts.ops_rules import Finding
from scripts.ops_schema import METRICS, SETTINGS
from scripts.ops_worlds import Run


def sentence(text: str) -> str:
    """With a capital letter, unless it begins with a name that has none, and a full stop."""
    first = text.split(" ", 1)[0].strip(",:")
    begin = (
        text
        if first in SETTINGS or first in METRICS or "=" in first
        else text[:1].upper() + text[1:]
    )
    return begin if begin.endswith((".", "?", ":")) else begin + "."


def number(value: float) -> str:
    return f"{value:g}"


def moved(before: float, after: float) -> str:
    """`-34 %`; empty where there is nothing to compare with."""
    return f"{round(100 * change(before, after)):+d} %" if before else ""


# --- snapshots ------------------------------------------------------------------------------------


def metric_names(rng: random.Random, need: Sequence[str], more: int) -> list[str]:
    """`need` and `more` others, in the schema's order."""
    others = rng.sample([m for m in METRICS if m not in need], more)
    return [m for m in METRICS if m in need or m in others]


def setting_names(rng: random.Random, need: Sequence[str]) -> list[str]:
    wanted = {"k", "extra", *need, *rng.sample(list(SETTINGS), rng.randint(0, 2))}
    return [s for s in SETTINGS if s in wanted]


def figures(
    rng: random.Random, run: Run, metrics: Sequence[str], settings: Sequence[str], style: str = ""
) -> str:
    """Some metrics and settings of a run as text, in one of six styles."""
    values = {m: number(run.metrics[m]) for m in metrics}
    current = {s: str(asdict(run.settings)[s]) for s in settings}
    match style or rng.choice(
        ("plain", "plain", "pairs", "pairs", "colons", "table", "json", "bullets")
    ):
        case "plain":
            return f"{_pairs(values)}\n[settings] {_pairs(current)}"
        case "pairs":
            return f"metrics: {_pairs(values)}\nsettings: {_pairs(current)}"
        case "colons":
            return "\n".join(f"{key}: {value}" for key, value in (values | current).items())
        case "table":
            rows = [f"| {key} | {value} |" for key, value in (values | current).items()]
            return "\n".join(["| name | value |", "|---|---|", *rows])
        case "json":
            plain = {m: run.metrics[m] for m in metrics}
            return json.dumps(
                {"metrics": plain, "settings": {s: int(v) for s, v in current.items()}},
                separators=(", ", ": "),
            )
        case _:
            return "\n".join(f"- {key} {value}" for key, value in (values | current).items())


def _pairs(found: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in found.items())


def experts(rng: random.Random, run: Run, need: str, style: str = "") -> str:
    """The table of experts that were asked (and `need`), at most six."""
    asked = [e for e in run.experts if e.replies or e.name == need]
    shown = [e for e in asked if e.name == need] + rng.sample(
        others := [e for e in asked if e.name != need], min(5, len(others))
    )
    shown.sort(key=lambda e: e.name)
    if (style or rng.choice(("lines", "lines", "table"))) == "table":
        rows = [f"| {e.name} | {e.replies} | {e.rtt_ms} | {e.share} | {e.weight} |" for e in shown]
        return "\n".join(
            ["| expert | replies | rtt_ms | share | weight |", "|---|---|---|---|---|", *rows]
        )
    return "\n".join(
        (
            f"{e.name}: replies={e.replies} rtt_ms={e.rtt_ms} share={e.share}"
            f" weight={e.weight}{' resting' if e.resting else ''}"
        )
        for e in shown
    )


# --- what was wrong -------------------------------------------------------------------------------

_WRONG = {
    "expired": (
        "[{m} experts were forgotten|the table dropped {m} experts] [because no record of theirs"
        " came in time|for want of a fresh record]|[records come too rarely|one record every"
        " {publish_every_s} s is too few]: {m} experts [expired|ran out] and {experts_known} are"
        " known now"
    ),
    "cache": (
        "[experts keep losing the text|the caches are too small]: {m} times the whole text had to"
        " be sent again|{m} [questions had to be repeated|times an expert had to start over]"
        " because [its cache held another text|there is room for {sessions_max} only]"
    ),
    "few": (
        "[there are not enough experts|too few experts are there] for k={k}:"
        " {m} % of the rounds [ended short|were short]|{experts_known} [experts are known|experts"
        " are in sight] and {k} are wanted[|, so {m} % of the rounds end short]"
    ),
    "short": (
        "{m} % of the rounds [ended with fewer than {k} answers|fell short of {k} answers]|[many"
        " rounds|too many rounds, {m} % of them,] go on without all of the {k} answers [they"
        " wanted|asked for]"
    ),
    "failover": (
        "[there were|the answers needed] {m} failovers[| and the worst round took {longest}"
        " ms]|experts [left|vanished] in the middle of [an answer|the work]: {m} failovers"
    ),
    "straggler": (
        "{suspect} [is slow|lags behind]: {suspect_ms} ms a round[| while the others are done long"
        " before]|one expert, {suspect}, [holds up the rounds|makes everybody wait] with"
        " {suspect_ms} ms"
    ),
    "stall": (
        "[the swarm stalled once|one round stood still]: {m} ms[,"
        " against {round_ms_p50} ms in the median|]|[the "
        "longest round|the worst round] took {m} ms[ and the median one {round_ms_p50} ms|]"
    ),
    "spread": (
        "[the tail is long|round times vary much]: {round_ms_p50} ms in the median but {m} ms at"
        " the 95th percentile|one round in twenty takes {m} ms or more, [against|where the median"
        " is] {round_ms_p50} ms"
    ),
    "bytes": (
        "[a token costs|every token costs] {m} bytes[| and {asks_per_token} questions]|traffic is"
        " high: {m} bytes a token at k={k} and extra={extra}"
    ),
    "far": (
        "[everybody is far away|rounds are slow throughout]: the median round takes {m} ms|[only|no"
        " more than] {tokens_per_s} tokens a second, for half of the rounds take {m} ms or more"
    ),
    "look_ups": (
        "[the node looks for experts all the time|it keeps asking the DHT]:"
        " {m} look-ups a minute[| though {experts_known} experts are known]|{m} look-ups a minute"
        " [bring nothing new|are for nothing]"
    ),
    "records": (
        "[gossip is busier than it need be|records come more often than they are read]:"
        " {m} a second from {experts_known} experts|{m} records a second [is much|is more than"
        " enough] for {experts_known} experts"
    ),
    "odd": (
        "{suspect} [counts for little|disagrees with the rest]: {suspect_weight} % of the weight"
        " where it has a part[|, agreement {m}]|the word of {suspect} [weighs|is given]"
        " {suspect_weight} % only, and the agreement is {m}"
    ),
    "disagree": (
        "[the experts do not agree|opinions differ]:"
        " agreement {m} at k={k}|agreement is [low|down], {m}[| with {k} experts a token]"
    ),
    "healthy": (
        "[nothing is wrong|all is well|no rule fired|the figures are as they should be]: {m} tokens"
        " a second[|, {failovers} failovers]|[a quiet window|a healthy run] at {m} tokens a second"
    ),
}

_WHY = {
    ("k", 1): "[one more opinion sharpens|more experts steady] the pooled distribution",
    (
        "k",
        -1,
    ): (
        "[a round that waits for fewer answers ends sooner|fewer answers are needed before a token"
        " is chosen]"
    ),
    (
        "extra",
        1,
    ): (
        "[with one to spare, the slowest answer is never waited for|more insurance means that a"
        " late or lost answer is made up for at once]"
    ),
    (
        "extra",
        -1,
    ): (
        "[insurance that is not used only costs bytes|the swarm answers well enough without so"
        " much insurance]"
    ),
    (
        "sessions_max",
        1,
    ): (
        "[room for every open answer keeps their texts in the cache|an expert with more room does"
        " not throw away what it needs next]"
    ),
    ("sessions_max", -1): "[less memory is needed|the room is not used]",
    (
        "look_up_every_s",
        1,
    ): "[looking less often costs nothing when nobody new is there|the DHT is spared]",
    ("look_up_every_s", -1): "[new experts are found sooner]",
    ("look_up_below", 1): "[more experts are looked for]",
    (
        "look_up_below",
        -1,
    ): (
        "[the node stops looking once it has enough|there is no need to look for more experts than"
        " there are]"
    ),
    ("publish_every_s", 1): "[rarer records cost everybody less|fewer records say the same]",
    (
        "publish_every_s",
        -1,
    ): (
        "[a record must come again before the last one expires|with more frequent records nobody"
        " is forgotten by mistake]"
    ),
}


def facts(episode: Episode) -> dict[str, str]:
    """Everything that a sentence about the first run may say."""
    r, f = episode.before, episode.finding
    found = {name: number(value) for name, value in r.metrics.items()} | {
        s: str(v) for s, v in asdict(r.settings).items()
    }
    found |= {
        "m": number(r.metrics[f.metric]),
        "longest": number(r.metrics["round_ms_max"]),
        "suspect": f.suspect,
        "tokens": str(r.tokens),
    }
    found |= {
        "answers": str(r.answers),
        "finished": str(r.finished),
        "known_before": str(r.known_before),
    }
    for e in r.experts:
        if e.name == f.suspect:
            found |= {"suspect_ms": str(e.rtt_ms), "suspect_weight": str(e.weight)}
    return found


def wrong(rng: random.Random, episode: Episode, finding: Finding | None = None) -> str:
    """What was wrong, as a clause."""
    about = finding or episode.finding
    known = facts(episode) | {
        "m": number(episode.before.metrics[about.metric]),
        "suspect": about.suspect,
    }
    for e in episode.before.experts:
        if e.name == about.suspect:
            known |= {"suspect_ms": str(e.rtt_ms), "suspect_weight": str(e.weight)}
    return say(rng, f"[{_WRONG[about.kind]}]", **known)


def why(rng: random.Random, episode: Episode) -> str:
    """Why the change might help, as a clause."""
    p = episode.proposal
    match p.action:
        case "set" | "try":
            return say(rng, _WHY[p.subject, 1 if p.values[0] > (p.before or 0) else -1])
        case "pause":
            return say(
                rng,
                "[the others can do without {name}|the rounds should not depend on {name}|its"
                " operator can look at it in peace]",
                name=p.subject,
            )
        case "watch":
            return say(
                rng,
                "[a change without a fault to mend is a risk|one run proves little|the next window"
                " will tell]",
            )


def deed(rng: random.Random, episode: Episode) -> str:
    """What was done, in the past tense and without a subject: 'raised extra from 1 to 2'."""
    p = episode.proposal
    match p.action:
        case "set":
            verb = (
                "[raised|increased]" if p.values[0] > (p.before or 0) else "[lowered|reduced|cut]"
            )
            return say(
                rng,
                f"[{verb}|{verb}|set|changed] {{s}} from {{a}} to {{b}}",
                s=p.subject,
                a=p.before,
                b=p.values[0],
            )
        case "pause":
            return say(
                rng,
                "[asked the operator of {name} to pause it|paused {name}|took {name} out for a"
                " while]",
                name=p.subject,
            )
        case "try":
            values = listed([str(v) for v in p.values])
            return say(
                rng,
                "[tried|simulated] {s} at {v} [instead of {a}|beside the {a} that it is]",
                s=p.subject,
                a=p.before,
                v=values,
            )
        case "watch":
            return say(
                rng,
                "[changed nothing and watched {m}|left everything as it is and kept an eye on {m}]",
                m=p.subject,
            )


def listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


# --- what happened after --------------------------------------------------------------------------


def went(rng: random.Random, metric: str, before: Run, after: Run) -> str:
    """'round_ms_p95 went from 410 to 260 (-37 %)'."""
    a, b = before.metrics[metric], after.metrics[metric]
    if a == b:
        return say(rng, "{m} [stayed at|is still|did not move from] {a}", m=metric, a=number(a))
    verb = "[rose|went up|climbed]" if b > a else "[fell|went down|dropped]"
    delta = moved(a, b)
    tail = f"[ ({delta})|]" if delta else ""
    return say(rng, f"{{m}} {verb} from {{a}} to {{b}}{tail}", m=metric, a=number(a), b=number(b))


def outcome(rng: random.Random, episode: Episode) -> str:
    """What the second run showed and what was decided, as one to three sentences."""
    p, before = episode.proposal, episode.before
    if not episode.after:
        return sentence(
            say(
                rng,
                "[no change was made|nothing was changed|left as it is][|; {why}]",
                why=why(rng, episode),
            )
        )
    target = p.expect[0][0]
    if p.action == "try":
        tried = [
            say(rng, "with {v} {w}", v=t.value, w=went(rng, target, before, t.run))
            for t in episode.after
        ]
        keep = (
            "[{b} is the best of them|best: {b}|keep {b}]"
            if episode.best is not None
            else "[none is better than {a}|keep {a}]"
        )
        return (
            sentence("; ".join(tried)) + " " + sentence(say(rng, keep, a=p.before, b=episode.best))
        )
    after = episode.after[0].run
    seen = went(rng, target, before, after)
    side = [m for m in METRICS if m != target and before.metrics[m] != after.metrics[m]]
    also = went(rng, rng.choice(side), before, after) if side and rng.random() < 0.5 else ""
    back = (
        f"[went back to {p.before}|set it back to {p.before}|reverted]"
        if p.action == "set"
        else f"[{p.subject} came back|let {p.subject} back in]"
    )
    match episode.verdict:
        case "helped":
            verdict = (
                "[it helped|the change helped|this helped]: {seen}[. Kept|. The change stays|]"
            )
        case "cost":
            verdict = "{seen}, [but|at a price:] {cost}[. Kept for now|. Kept, and to be watched|]"
            also = ""
        case "nothing":
            verdict = "[it made no difference|no effect|nothing came of it]: {seen}; " + back
        case "worse":
            verdict = "[it made things worse|that was a mistake|worse]: {seen}; " + back
    cost = went(rng, price(p, before, after), before, after)
    text = sentence(say(rng, verdict, seen=seen, cost=cost))
    return f"{text} {sentence(also)}" if also else text
