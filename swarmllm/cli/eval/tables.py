"""For people at a terminal: scores with the best single expert marked, what else was measured in
brief, and the verdicts."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table

from swarmllm.cli.eval.names import EXPERT, OURS, title_of
from swarmllm.cli.eval.report import Report
from swarmllm.cli.screen import Flow, Line

MARKS = {True: ("yes", "green"), False: ("no", "red"), None: ("open", "yellow")}


def shown(report: Report) -> RenderableType:
    parts: list[RenderableType] = [_scores(report, text) for text in report.kinds]
    parts += [_curve(report), _lists(report)]
    if report.verdicts:
        parts.append(_verdicts(report))
    parts += [Line(note, style="dim") for note in report.notes]
    return Group(*(line for part in parts for line in (part, Line())))


def _scores(report: Report, text: str) -> Table:
    kind = report.kinds[text]
    title = (
        f"{text}: nats per token over {len(kind.answers)} documents,"
        f" {int(kind.tokens.sum()):,} tokens"
    )
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for heading in ("nats/token", "to best single", "experts"):
        table.add_column(heading, justify="right")
    last = ""
    for score in (s for s in report.scores if s.text == text):
        group = (
            "expert"
            if score.method.startswith(EXPERT)
            else "ours"
            if score.method in OURS
            else "other"
        )
        if last == "expert" != group:
            table.add_section()
        last = group
        best = score.method == kind.best_single
        name = title_of(score.method, report.names) + (
            f" ({score.setting})" if score.setting is not None else ""
        )
        table.add_row(
            Line(
                name + (" ◂ best single" if best else ""),
                style="bold" if best or group == "ours" else "",
            ),
            f"{score.nats.mean:.3f} ± {score.nats.half:.3f}",
            "" if best else f"{score.difference.mean:+.3f} ± {score.difference.half:.3f}",
            f"{score.asked:.2f}",
        )
    return table


def _curve(report: Report) -> Table:
    text = list(report.kinds)[-1]
    table = Table(
        title=f"adaptive K on {text} text: nats per token by budget",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("share", justify="right")
    for weights in ("EM", "Soft-Bayes"):
        for heading in ("experts", "entropy", "excess", "random"):
            table.add_column(Flow(f"{weights}\n{heading}"), justify="right")
    for point in report.measured("adaptive_k", text=text, weights="em", signal="entropy"):
        row = []
        for weights in ("em", "em_soft_bayes"):
            found = [
                report.measured(
                    "adaptive_k", text=text, weights=weights, signal=signal, share=point["share"]
                )[0]
                for signal in ("entropy", "excess", "random")
            ]
            row += [
                f"{found[0]['experts_asked']:.2f}",
                *(f"{one['nats_per_token']:.3f}" for one in found),
            ]
        table.add_row(f"{point['share']:.0%}", *row)
    return table


def _lists(report: Report) -> Table:
    table = Table(
        title="lists of 256 entries, and drafts",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for heading, justify in (("expert", "left"), ("text", "left")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for heading in ("tail", "p95", "wire TV", "wire nats", "alpha to ensemble"):
        table.add_column(heading, justify="right")
    for cut in report.measured("truncation"):
        wire = report.measured("wire_quantisation", text=cut["text"], expert=cut["expert"])[0]
        alpha = report.measured("alpha", text=cut["text"], draft=cut["expert"], target="ensemble")[
            0
        ]
        table.add_row(
            *(cut["expert"], cut["text"], f"{cut['tail_mean']:.3f}", f"{cut['tail_p95']:.3f}"),
            *(f"{wire['tv_mean']:.4f}", f"{wire['nats_mean']:.5f}", f"{alpha['value']:.3f}"),
        )
    return table


def _verdicts(report: Report) -> RenderableType:
    return Group(*_verdict_lines(report))


def _verdict_lines(report: Report) -> Iterator[RenderableType]:
    for verdict in report.verdicts:
        word, style = MARKS[verdict.holds]
        yield Line.assemble((f"{word:>5}  ", style), verdict.sentence)
