"""The documents about running a swarm say what was measured, in the same words for the same seed,
and keep their two sides apart."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from scripts import demo_corpus, demo_ops, ops_told
from scripts.demo_ops import (
    REGISTERS,
    SEED,
    Document,
    documents,
    is_validation,
    proposal_prompts,
    tell,
)
from scripts.ops_episodes import Episode, change, live, verdict_on
from scripts.ops_schema import METRICS, SETTINGS, validate
from scripts.ops_words import number
from scripts.ops_worlds import TROUBLES, make_world, run
from tests import ROOT

WORLDS = (*range(len(TROUBLES)), 17, 18)  # One of each kind, and two more deaths.
TOLD = 12  # Of each world here, so that every register occurs.
NAME = "|".join(sorted([*METRICS, *SETTINGS], key=len, reverse=True))


@pytest.fixture(name="episodes", scope="module")
def _episodes() -> list[Episode]:
    return [live(number, 5) for number in WORLDS]


@pytest.fixture(name="told", scope="module")
def _told(episodes: list[Episode]) -> list[tuple[Episode, Document]]:
    return [(episode, document) for episode in episodes for document in tell(episode, 5, TOLD)]


def digest(found: list[Document]) -> str:
    return hashlib.sha256(repr(found).encode()).hexdigest()


def test_documents_are_a_function_of_the_seed_alone() -> None:
    """The same in another interpreter with another hash seed; others for another seed."""
    script = (
        "import hashlib, sys\n"
        "from scripts.demo_ops import documents\n"
        "print(hashlib.sha256(repr(list(documents(3, 3))).encode()).hexdigest())\n"
    )
    environment = os.environ | {
        "PYTHONHASHSEED": "7",
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C",
        "PYTHONPATH": str(ROOT),
    }
    out = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    assert out.stdout.strip() == digest(list(documents(3, 3)))
    assert out.stdout.strip() != digest(list(documents(4, 3)))


def test_every_proposal_keeps_to_the_schema(told: list[tuple[Episode, Document]]) -> None:
    shown = 0
    for episode, document in told:
        assert validate(episode.proposal.text()) == episode.proposal
        for found in re.findall(r"\{\"action\".*\}", document.text):
            assert validate(found) == episode.proposal
            shown += 1
        if document.register == "proposal":
            assert f"Proposal:\n{episode.proposal.text()}" in document.text
    assert shown > len(told) // 2


def test_every_register_and_every_action_occurs(told: list[tuple[Episode, Document]]) -> None:
    assert {document.register for _, document in told} == set(REGISTERS)
    assert {episode.proposal.action for episode, _ in told} >= {"watch", "set"}
    assert {episode.verdict for episode, _ in told} >= {"helped", "nothing"}
    assert len({document.text for _, document in told}) > 0.95 * len(told)


def measured(episode: Episode) -> set[float]:
    """Every number that a document of this episode may hold."""
    runs = [episode.before, *(trial.run for trial in episode.after)]
    p = episode.proposal
    found: set[float] = {v for r in runs for v in r.metrics.values()} | {
        v for r in runs for v in asdict(r.settings).values()
    }
    found |= {v for e in episode.before.experts for v in (e.replies, e.rtt_ms, e.share, e.weight)}
    found |= {episode.before.tokens, episode.before.answers, episode.before.known_before}
    found |= {
        *p.values,
        *([p.before] if p.before is not None else []),
        *(abs(expected) for _, expected in p.expect),
    }
    found |= {
        abs(round(100 * change(episode.before.metrics[m], r.metrics[m])))
        for m in METRICS
        for r in runs[1:]
    }
    return {float(number(value)) for value in found}


def strangers(episode: Episode, text: str) -> list[str]:
    """Numbers in `text` that were not measured (the digits in the names of metrics are no
    numbers)."""
    allowed = measured(episode)
    plain = re.sub(NAME, "", text).replace("95th percentile", "")
    return [found for found in re.findall(r"\d+(?:\.\d+)?", plain) if float(found) not in allowed]


def test_every_number_was_measured(told: list[tuple[Episode, Document]]) -> None:
    for episode, document in told:
        assert not strangers(episode, document.text), document.text
    assert strangers(told[0][0], told[0][1].text + " 123456") == ["123456"]


def test_every_figure_stands_beside_its_own_name(told: list[tuple[Episode, Document]]) -> None:
    """In all six styles of a snapshot, and in the sentences about what happened after."""
    pairs = re.compile(rf"(?<![a-z_])({NAME})(?:=|: | \| |\": | (?=\d))(\d+(?:\.\d+)?)")
    moves = re.compile(
        rf"({NAME}) (?:rose|went up|climbed|fell|went down|dropped) from ([\d.]*\d) to ([\d.]*\d)"
    )
    stated = moved = 0
    for episode, document in told:
        before, trials = episode.before, [trial.run for trial in episode.after]
        known = before.metrics | asdict(before.settings)
        snapshot = (
            document.text if not trials else re.sub(r"(?m)^(apply|rerun) .*$", "", document.text)
        )
        for name, value in pairs.findall(re.sub(r"\{\"action\".*\}", "", snapshot)):
            assert float(value) == known[name], document.text
            stated += 1
        for name, first, second in moves.findall(document.text):
            if name in METRICS:
                assert float(first) == before.metrics[name]
                assert float(second) in {r.metrics[name] for r in trials}
                moved += 1
    assert stated > 5 * len(told)
    assert moved > len(told) // 4


def test_the_verdict_is_what_the_second_run_says(episodes: list[Episode]) -> None:
    """Run both again: the same figures, and a verdict that follows from them."""
    for episode in episodes[::5]:
        assert make_world(episode.world.number, 5) == episode.world
        assert run(episode.world) == episode.before
        assert (episode.proposal.action == "watch") == (not episode.after)
        if episode.after:
            verdicts = [
                verdict_on(episode.proposal, episode.before, trial.run) for trial in episode.after
            ]
            assert episode.verdict in verdicts
            assert not (episode.verdict in ("nothing", "worse") and "helped" in verdicts)


def test_what_is_measured_is_there(episodes: list[Episode]) -> None:
    """Otherwise a change of the node's seam would silence a counter."""
    for name in (
        "tokens_per_s",
        "round_ms_p50",
        "bytes_per_token",
        "asks_per_token",
        "agreement",
        "records_per_s",
        "experts_known",
    ):
        assert sum(episode.before.metrics[name] > 0 for episode in episodes) > 0.8 * len(
            episodes
        ), name
    # No expert is forgotten any more while it is connected.
    for name in ("needs", "failovers", "short_rounds", "look_ups"):
        assert any(episode.before.metrics[name] > 0 for episode in episodes), name


def test_the_worlds_of_the_two_sides_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    some = {6, 7, 8, 27}
    monkeypatch.setattr(
        demo_corpus,
        "documents",
        lambda worlds: documents(worlds=min(28, worlds), only=some.__contains__),
    )
    told = [ops_told.Document(number, "tries", f"told of {number}") for number in (0, 10, 11, 12)]
    monkeypatch.setattr(ops_told, "documents", lambda _folder: iter(told))
    sources = list(demo_corpus.read_ops(Path()))
    trained = {source.name for source in sources if source.train}
    validated = {source.name for source in sources if source.valid}
    assert trained == {"world-6", "world-8", "tuned-0", "tuned-10", "tuned-12"}
    assert validated == {"world-7", "world-27", "tuned-11"}
    assert not {source.train for source in sources if source.train} & {
        source.valid for source in sources if source.valid
    }
    assert sum(is_validation(world) for world in range(demo_ops.WORLDS)) == demo_ops.WORLDS // 20


def test_trials_begin_where_a_proposal_would() -> None:
    prompts = proposal_prompts(2)
    assert len(prompts) == 2
    for (prompt, settings), world in zip(prompts, (7, 27), strict=True):
        assert is_validation(world)
        assert prompt.endswith("Proposal:\n")
        assert next(tell(live(world, SEED), SEED, 1)).text.startswith(prompt)
        assert settings == asdict(make_world(world, SEED).settings)
