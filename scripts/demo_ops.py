"""Documents about running this swarm, written from simulated runs of its own machinery: what was
measured, what was wrong, what was changed, what happened after.

    python scripts/demo_ops.py --seed 1 --count 5 [--out FILE]

A document is a function of the seed and its place: ops_worlds.py makes a small swarm with something
wrong in it and measures, ops_rules.py finds what is wrong and changes one thing, ops_words.py has
the words. Every world is told several times, in different registers and with different excerpts of
its figures. One world in twenty is validation, with everything that is told of it.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

if not __package__:  # Started as a file: only its own folder is on the path then.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.ops_episodes import Episode, live
from scripts.ops_grammar import say
from scripts.ops_schema import SETTINGS
from scripts.ops_words import (
    deed,
    experts,
    facts,
    figures,
    metric_names,
    outcome,
    sentence,
    setting_names,
    went,
    why,
    wrong,
)

SEED = 20261123
WORLDS = 1000
TOLD = 8  # Documents of one world.
VALIDATION = 20  # One world in so many ...
VALIDATION_REST = 7  # ... has this remainder.
SPOKEN_OF = {  # Metrics that the reasons of a finding name, beside its own.
    "few": ("experts_known",),
    "short": ("experts_known",),
    "failover": ("round_ms_max", "experts_known"),
    "stall": ("round_ms_p50",),
    "spread": ("round_ms_p50",),
    "bytes": ("asks_per_token",),
    "far": ("tokens_per_s",),
    "look_ups": ("experts_known",),
    "records": ("experts_known",),
    "healthy": ("short_rounds", "failovers"),
}


@dataclass(frozen=True, slots=True)
class Document:
    """`world` is the world's number, `register` the kind of text."""

    world: int
    register: str
    text: str


def is_validation(world: int) -> bool:
    return world % VALIDATION == VALIDATION_REST


def _need(episode: Episode) -> list[str]:
    """The metrics without which the document could not be understood."""
    kind = episode.finding.kind
    return [
        *dict.fromkeys(
            [
                episode.finding.metric,
                *(metric for metric, _ in episode.proposal.expect),
                *SPOKEN_OF.get(kind, ()),
            ]
        )
    ]


def _snapshot(rng: random.Random, episode: Episode, more: int, style: str = "") -> str:
    """The first run's figures; with the table of experts where one of them is spoken of."""
    p = episode.proposal
    settings = setting_names(rng, [p.subject] if p.subject in SETTINGS else [])
    text = figures(rng, episode.before, metric_names(rng, _need(episode), more), settings, style)
    suspect = episode.finding.suspect or (p.subject if p.action == "pause" else "")
    if suspect or rng.random() < 0.15:
        text += "\n" + experts(rng, episode.before, suspect)
    return text


# --- registers ------------------------------------------------------------------------------------


def _proposal(rng: random.Random, e: Episode) -> str:
    head = say(
        rng, "[## Metrics|Metrics snapshot:|Measured:|## Snapshot|Metrics of the last window:]"
    )
    parts = [f"{head}\n{_snapshot(rng, e, rng.randint(1, 5))}"]
    if rng.random() < 0.6:
        label = say(rng, "[Finding: |Observed: |Problem: |]")
        parts.append(label + sentence(wrong(rng, e)))
    parts.append(f"Proposal:\n{e.proposal.text()}")
    if rng.random() < 0.75:
        parts.append(
            f"{say(rng, '[After:|Result:|Outcome:|What happened after:]')} {outcome(rng, e)}"
        )
    return "\n\n".join(parts)


def _log(rng: random.Random, e: Episode) -> str:
    lines = [
        f"{say(rng, '[metrics|measure|window]')} {line}"
        for line in figures(
            rng, e.before, metric_names(rng, _need(e), 4), ["k", "extra"], "plain"
        ).splitlines()
    ]
    lines += [
        f"{say(rng, '[analyse|finding|warn]')} {f.kind}: {wrong(rng, e, f)}"
        for f in (e.finding, *e.others[:2])
    ]
    lines.append(f"propose {e.proposal.text()}")
    for trial in e.after:
        metrics = metric_names(rng, _need(e), 3)
        value = f" {e.proposal.subject}={trial.value}" if trial.value is not None else ""
        lines.append(
            f"{say(rng, '[apply|rerun]')}{value} "
            + " ".join(f"{m}={trial.run.metrics[m]:g}" for m in metrics)
        )
    lines.append(f"{say(rng, '[result|judge|verdict]')} {e.verdict}: {outcome(rng, e)}")
    return "\n".join(lines)


def _incident(rng: random.Random, e: Episode) -> str:
    known = facts(e)
    title = say(
        rng,
        "[Incident|Incident report|Post-mortem|What went wrong]: {kind}",
        kind=e.finding.kind.replace("_", "-"),
    )
    during = "one answer" if e.before.answers == 1 else f"{e.before.answers} answers at once"
    first = say(
        rng,
        "[During|In the course of|While the swarm wrote] {during} ({tokens} tokens), "
        "[this was seen|we saw this|the monitor noticed]: {wrong}",
        during=during,
        tokens=e.before.tokens,
        wrong=wrong(rng, e),
    )
    swarm = say(
        rng,
        "[{known_before} experts were known at the start, {experts_known} at the end|"
        "The swarm had {known_before} experts, then {experts_known}]",
        **known,
    )
    others = [
        sentence(say(rng, "[Besides|Apart from that|Also], {w}", w=wrong(rng, e, f)))
        for f in e.others[:1]
    ]
    acted = sentence(
        say(
            rng,
            "[We|The operators|The agent] {deed}[, because {why}|: {why}|]",
            deed=deed(rng, e),
            why=why(rng, e),
        )
    )
    parts = [
        f"# {title}",
        " ".join([sentence(first), sentence(swarm), *others]),
        _snapshot(rng, e, rng.randint(2, 4)),
        f"{acted} {outcome(rng, e)}",
    ]
    if rng.random() < 0.5:
        parts.append(f"{say(rng, '[Proposal as filed:|The proposal:]')}\n{e.proposal.text()}")
    return "\n\n".join(parts)


def _review(rng: random.Random, e: Episode) -> str:
    p = e.proposal
    ask = f"> {p.text()}"
    view = _view(rng, e)
    ground = sentence(
        say(
            rng,
            "[The snapshot says|I looked at the figures|From the metrics]: {w}",
            w=wrong(rng, e),
        )
    )
    tier = say(
        rng,
        "[The tier is {t}|It is {t}|{t} is the right tier][, {who}|]",
        t=p.tier,
        who=_who(p.tier),
    )
    return "\n\n".join(
        [_snapshot(rng, e, 3), ask, f"{ground} {view}", sentence(tier) + " " + outcome(rng, e)]
    )


def _who(tier: str) -> str:
    return {
        "read-only": "so nobody has to agree",
        "suggest": "so a person decides",
        "sandbox-test": "so it runs in simulation first",
        "deploy-minor": "so two of three reviewers have to agree",
        "deploy-major": "so it takes a full vote and a day of review",
    }[tier]


def _view(rng: random.Random, e: Episode) -> str:
    """What a reviewer says, in the light of what happened."""
    match e.verdict if e.after else "watch":
        case "helped" | "cost":
            return sentence(say(rng, "[Approve|Agreed|Good]: {why}", why=why(rng, e)))
        case "nothing" | "worse":
            return sentence(
                say(
                    rng,
                    "[I doubt it|I am not convinced|Try it, but be ready to revert],"
                    " [even if|though] {why}",
                    why=why(rng, e),
                )
            )
        case _:
            return sentence(say(rng, "[Fine by me|Agreed|Right]: {why}", why=why(rng, e)))


def _dialogue(rng: random.Random, e: Episode) -> str:
    known = facts(e)
    question = say(
        rng,
        "[What is wrong here?|What should be changed?|What do these figures say?|"
        "Is anything wrong with this swarm?|What would you propose?]",
    )
    told = sentence(wrong(rng, e))
    act = (
        sentence(say(rng, "[I would propose this|Proposal|My proposal]:"))
        + "\n"
        + e.proposal.text()
    )
    lines = [
        f"Q: {question}\n{_snapshot(rng, e, rng.randint(2, 5))}",
        f"A: {told} {sentence(why(rng, e))} {act}",
    ]
    if rng.random() < 0.7:
        lines.append(
            f"Q: {say(rng, '[What happened then?|And did it help?|How did it go?]')}\n"
            f"A: {outcome(rng, e)}"
        )
    if rng.random() < 0.4:
        meaning = SETTINGS[e.proposal.subject].meaning if e.proposal.subject in SETTINGS else ""
        if meaning:
            lines.append(
                f"Q: What is {e.proposal.subject}?\n"
                f"A: {sentence(meaning)} It is {known[e.proposal.subject]} in this run."
            )
    return "\n\n".join(lines)


def _changelog(rng: random.Random, e: Episode) -> str:
    p = e.proposal
    title = say(rng, "[## Changes|## Changelog|Changes of this window|Ledger]")
    line = say(rng, "- {deed} ({tier}): {w}", deed=deed(rng, e), tier=p.tier, w=wrong(rng, e))
    moves = [
        f"- {went(rng, m, e.before, t.run)}"
        for t in e.after[:1]
        for m in metric_names(rng, _need(e), 2)
    ]
    return "\n".join(
        [
            title,
            line,
            *moves,
            f"- {outcome(rng, e)}",
            "",
            figures(rng, e.before, metric_names(rng, _need(e), 2), setting_names(rng, [])),
        ]
    )


def _runbook(rng: random.Random, e: Episode) -> str:
    known = facts(e)
    title = say(
        rng,
        "# [Runbook|How to deal with|When you see|Case]: {kind}",
        kind=e.finding.kind.replace("_", " "),
    )
    symptom = f"{say(rng, '[Symptom|What you see|Sign]')}: {sentence(wrong(rng, e))}"
    look = (
        f"{say(rng, '[Check|Look at|First look at]')} {', '.join(metric_names(rng, _need(e), 1))}."
    )
    check = f"{look} {say(rng, '[Here|In this case|In the example]')}:\n{_snapshot(rng, e, 2)}"
    act = (
        f"{say(rng, '[What was done|Change|Remedy tried]')}:"
        f" {sentence(deed(rng, e))} {sentence(why(rng, e))}"
    )
    tier = f"Tier: {e.proposal.tier}, {_who(e.proposal.tier)}."
    after = f"{say(rng, '[Afterwards|Result|What came of it]')}: {outcome(rng, e)}"
    parts = [title, symptom, check, act, tier, after]
    if rng.random() < 0.4:
        parts.append(f"Proposal:\n{e.proposal.text()}")
    if e.finding.suspect:
        parts.append(
            say(rng, "[Ask|Tell] the operator of {suspect} [first|before anything else].", **known)
        )
    return "\n\n".join(parts)


REGISTERS: dict[str, Callable[[random.Random, Episode], str]] = {
    "proposal": _proposal,
    "log": _log,
    "incident": _incident,
    "review": _review,
    "dialogue": _dialogue,
    "changelog": _changelog,
    "runbook": _runbook,
}
WEIGHTS = (5, 2, 2, 2, 2, 1, 2)


# --- the stream of documents ----------------------------------------------------------------------


def tell(episode: Episode, seed: int, count: int = TOLD) -> Iterator[Document]:
    """`count` documents of one world, the first a proposal."""
    number = episode.world.number
    for place in range(count):
        rng = random.Random(f"words/{seed}/{number}/{place}")
        register = "proposal" if place == 0 else rng.choices(list(REGISTERS), WEIGHTS)[0]
        yield Document(number, register, REGISTERS[register](rng, episode))


def documents(
    seed: int = SEED, worlds: int = WORLDS, only: Callable[[int], bool] = lambda _: True
) -> Iterator[Document]:
    """The documents of the worlds 0 to `worlds` that `only` wants, world by world; some 150 ms a
    world."""
    for number in range(worlds):
        if only(number):
            yield from tell(live(number, seed), seed)


def proposal_prompts(count: int) -> list[tuple[str, dict[str, int]]]:
    """(a document of a validation world up to where its proposal would begin, the world's
    settings), one for each of `count` worlds."""
    found: list[tuple[str, dict[str, int]]] = []
    for number in filter(is_validation, range(WORLDS)):
        if len(found) < count:
            episode = live(number, SEED)
            text = next(tell(episode, SEED, 1)).text
            found.append(
                (text[: text.index("Proposal:\n")] + "Proposal:\n", asdict(episode.before.settings))
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--count", type=int, default=10, help="documents to write")
    parser.add_argument("--out", type=Path, help="a file; without it they are printed")
    args = parser.parse_args()
    if args.count < 1:
        parser.error("--count must be at least 1")
    found = []
    for document in documents(args.seed, -(-args.count // TOLD)):
        found.append(f"--- world {document.world}, {document.register}\n{document.text}\n")
    text = "\n".join(found[: args.count])
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
