"""`swarmllm eval`: is the ensemble better than its best member? In nats per token, on text that
nobody was trained on, with intervals.

`--json` prints one record a line, each with `event` and `time`:

    score        method, text, nats_per_token, ci95, tokens, documents, versus_best_single,
                 versus_best_single_ci95, best_single, experts_asked; setting for the baselines that
                 were tuned. `text` is a corpus's name, single-domain or mixed
    measurement  name is one of truncation, wire_quantisation, pooled_truncation, alpha, adaptive_k,
                 sweep, after_switch, batch_shape; the other fields say of what
    verdict      name (beats_all, beats_running, beats_single, beats_random, close_to_best), method,
                 text, holds (true, false, or null where the intervals leave it open), sentence
    summary      ok, models, documents, best_single, verdicts, notes, seconds, computed, cached,
                 seed, texts (the digest of the corpora, which a charter can pin); always last

First every model reads every document, one model at a time; that is nearly all of the work and is
kept in the cache. Then each document is looked at in every way, with only that document's lists in
memory.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from swarmllm.adapters.limits import cores
from swarmllm.cli.eval import measurements as m
from swarmllm.cli.eval.analysis import Question, analyse_all
from swarmllm.cli.eval.corpora import bundled_corpora, read_corpus
from swarmllm.cli.eval.experts import Expert, encode_all, load_experts, right_expert
from swarmllm.cli.eval.findings import kinds_of
from swarmllm.cli.eval.plan import Plan
from swarmllm.cli.eval.report import Report, score_record, summary_record, verdict_record
from swarmllm.cli.eval.scoring import agree_with_itself, score_all
from swarmllm.cli.eval.tables import shown
from swarmllm.cli.eval.texts import Texts, make_texts
from swarmllm.cli.eval.verdicts import verdicts
from swarmllm.cli.guard import OK
from swarmllm.cli.output import answer, notice, people, print_record
from swarmllm.cli.screen import Screen
from swarmllm.core.vocabulary import Vocabulary
from swarmllm.runtime.config import Config

PAGE: Final = "evaluation.md"
WIDTH: Final = 110  # Of tables in a file or a pipe.


def evaluate(config: Config, plan: Plan, *, as_json: bool) -> int:
    """UsageError or LocalError, in one sentence, for whatever keeps it from measuring."""
    console = people()
    if not console.is_terminal:
        console = people(width=WIDTH)
    if plan.out is not None:
        from swarmllm.cli.eval.files import make_out
        from swarmllm.cli.eval.plots import require_matplotlib

        require_matplotlib()
        make_out(plan.out)  # Now, and not after minutes of work.
    report = _measure(config, plan, console)
    written = _write(report) if plan.out is not None else []
    if as_json:
        for record in _records(report):
            print_record(record)
    else:
        (answer() if sys.stdout.isatty() else answer(width=WIDTH)).print(shown(report))
        for path in written:
            notice(f"written: {path}")
    return OK


def _measure(config: Config, plan: Plan, console: Screen) -> Report:
    clock = _Clock()
    with _bars(console) as bar:
        say = _sayer(console)
        experts = load_experts(plan.models, config.cache_dir, say)
        vocabulary, texts = _texts(plan, experts, say)
        clock.lap("reading models and texts")
        advance = bar("reading")
        scored = score_all(
            experts, texts.documents, vocabulary.bos or 0, plan, config.cache_dir, advance
        )
        clock.lap("running the models")
        shapes = list(_shapes(experts, texts, plan, bar("batch shapes")))
        clock.lap("comparing batch shapes")
        right = {text: right_expert(text, experts) for text in texts.kinds}
        questions = [
            Question(document, paths, plan.prompt, vocabulary.size, right, plan.seed)
            for document, paths in zip(texts.documents, scored.paths, strict=True)
        ]
        weighing = bar("weighing")
        answers = analyse_all(
            questions,
            plan.threads or cores(),
            lambda done, total: weighing("documents", done, total),
        )
        clock.lap("weighing")
    kinds = kinds_of(answers, texts.kinds, len(experts), plan.seed)
    names = [expert.name for expert in experts]
    scores = tuple(score for kind in kinds.values() for score in kind.scores())
    measured = [
        *m.lists_of(kinds, names),
        *m.alphas_of(kinds, names),
        *m.curves_of(kinds),
        *m.sweeps_of(kinds),
        *m.switches_of(kinds),
        *shapes,
    ]
    clock.lap("counting")
    notes = (*texts.notes, *_notes(experts, right, plan))
    return Report(
        plan, tuple(experts), kinds, scores, tuple(measured), tuple(verdicts(kinds, names)), notes,
        clock.laps, scored.fresh, len(experts) * len(texts.documents), _command(),
        version("swarmllm"), texts.digest,
    )  # fmt: skip


def _texts(
    plan: Plan, experts: Sequence[Expert], say: Callable[[str], None]
) -> tuple[Vocabulary, Texts]:
    corpora = dict(plan.corpora) or bundled_corpora()
    say(f"reading {', '.join(corpora)}")
    passages = {name: read_corpus(name, path) for name, path in corpora.items()}
    texts = [passage.text for found in passages.values() for passage in found]
    vocabulary, ids = encode_all(experts, texts)
    return vocabulary, make_texts(passages, ids.__getitem__, plan)


def _shapes(
    experts: Sequence[Expert], texts: Texts, plan: Plan, advance: Callable[[str, int, int], None]
) -> Iterator[m.Record]:
    """With --quick only of the first expert: each takes two starts of a model."""
    chosen = experts[:1] if plan.is_quick else experts
    for i, expert in enumerate(chosen):
        advance(expert.name, i, len(chosen))
        for exact in (True, False):
            found = agree_with_itself(expert, texts.documents[0].tokens, plan, exact=exact)
            yield from m.shapes_of(expert.name, found, wanted_exact=exact)
    advance(chosen[-1].name, len(chosen), len(chosen))


def _notes(experts: Sequence[Expert], right: dict[str, int | None], plan: Plan) -> Iterator[str]:
    if len(experts) == 1:
        yield (
            f"{experts[0].name} is the only model, so there is nothing to pool:"
            " every pool of it is itself"
        )
    without = [text for text, expert in right.items() if expert is None and text != "mixed"]
    if without:
        yield (
            f"no model declares the domain {', '.join(without)},"
            " so the baselines by label are left out where they would need it"
        )
    if plan.is_quick:
        yield "this was a quick run: few and short documents, so wide intervals"


def _write(report: Report) -> list[Path]:
    from swarmllm.cli.eval.files import write_report

    assert report.plan.out is not None
    return write_report(report, report.plan.out, PAGE)


def _records(report: Report) -> Iterator[m.Record]:
    for score in report.scores:
        yield score_record(score, report.kinds, report.names)
    for measurement in report.measurements:
        yield {"event": "measurement", **measurement}
    for verdict in report.verdicts:
        yield verdict_record(verdict)
    yield summary_record(report)


def _command() -> str:
    return " ".join(["swarmllm", *sys.argv[1:]]) if sys.argv[1:2] == ["eval"] else "swarmllm eval"


class _Clock:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = now - self._last
        self._last = now


Advance = Callable[[str, int, int], None]
"""(what, done, in all)."""


def _sayer(console: Screen) -> Callable[[str], None]:
    return lambda text: console.print(text, style="dim")


@contextmanager
def _bars(console: Screen) -> Iterator[Callable[[str], Advance]]:
    """Bars on a terminal; elsewhere one line for each model and part, when it is done."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        tasks: dict[tuple[str, str], int] = {}

        def bar(part: str) -> Advance:
            def advance(what: str, done: int, total: int) -> None:
                key = (part, what)
                if key not in tasks:
                    tasks[key] = progress.add_task(f"{part} {what}", total=total)
                progress.update(tasks[key], completed=done)  # type: ignore[arg-type]
                if done == total and not console.is_terminal:
                    console.print(f"{part} {what}: {total} done")

            return advance

        yield bar
