"""A study's pictures. Colours are Okabe and Ito's, which colour-blind readers can tell apart;
markers and lines differ as well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from swarmllm.errors import MissingExtraError
from swarmllm.sims.study import Curves, Lines, Parameter, Plot, Study, Summary

COLOURS: Final = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8A8A8A",
)
MARKERS: Final = "osD^vPX*"
STYLES: Final = ("-", "--", "-.", ":")
GREY: Final = "#8A8A8A"
DPI: Final = 120
# Of a value: an interval that reaches below zero has no end on a logarithmic axis.
LOG_DOWN_MAX: Final = 0.5
LINES_MAX: Final = 16  # More cannot be told apart; the rest is in the CSV.


def require_matplotlib() -> None:
    """Before minutes of computing, and not after them. UsageError, which names the extra, if there
    is none."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError("--out", "matplotlib", "plots")


def draw(study: Study, summaries: Sequence[Summary], folder: Path) -> list[str]:
    """Write the pictures that these summaries have something for; their file names. OSError passes
    through."""
    require_matplotlib()
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    settings: dict[Any, Any] = {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.facecolor": "white",
    }
    names: list[str] = []
    with pyplot.rc_context(settings):
        for plot in study.plots:
            figure, axis = pyplot.subplots(figsize=(7.6, 4.8), layout="constrained")
            lines = list(
                _lines(study, plot, summaries)
                if isinstance(plot, Lines)
                else _curves(study, plot, summaries)
            )
            if lines:
                _finish(study, figure, axis, plot, lines)
                name = f"{study.name}-{plot.name}.png"
                figure.savefig(folder / name, format="png", dpi=DPI, bbox_inches="tight")
                names.append(name)
            pyplot.close(figure)
    return names


class _Line:
    """`x` is a number or a word; `halves` are the halves of intervals, empty for a curve; `guide`
    is as long as `x`, or empty."""

    def __init__(self, label: str, x_label: str) -> None:
        self.label, self.x_label = label, x_label
        self.x: list[Any] = []
        self.y: list[float] = []
        self.halves: list[float] = []
        self.guide: list[float] = []


def _varied(study: Study, summaries: Sequence[Summary]) -> list[Parameter]:
    return [p for p in study.parameters if len({s.parameters[p.name] for s in summaries}) > 1]


def _lines(study: Study, plot: Lines, summaries: Sequence[Summary]) -> Iterator[_Line]:
    varied = _varied(study, summaries)
    x = next(
        (p for p in varied if p.name == plot.x),
        next((p for p in varied if not isinstance(p.default, str)), None),
    )
    if x is None:
        return
    found: dict[tuple[object, ...], _Line] = {}
    for y in plot.ys:
        for summary in summaries:
            mean = summary.means.get(y)
            if mean is None:
                continue
            others = [p for p in varied if p is not x]
            words = [
                f"{p.name.replace('_', ' ')} {p.show(summary.parameters[p.name])}" for p in others
            ]
            if len(plot.ys) > 1:
                words.insert(0, next((r.label for r in study.results if r.name == y), y))
            line = found.setdefault(
                (y, *(summary.parameters[p.name] for p in others)), _Line(", ".join(words), x.label)
            )
            line.x.append(summary.parameters[x.name])
            line.y.append(mean.value)
            line.halves.append(mean.half)
            if plot.guide and y == plot.ys[0]:
                line.guide.append(summary.get(plot.guide))
    yield from found.values()


def _curves(study: Study, plot: Curves, summaries: Sequence[Summary]) -> Iterator[_Line]:
    varied = _varied(study, summaries)
    for summary in summaries:
        if plot.x not in summary.curves or plot.y not in summary.curves:
            continue
        words = [f"{p.name.replace('_', ' ')} {p.show(summary.parameters[p.name])}" for p in varied]
        line = _Line(", ".join(words), plot.x_label)
        line.x, line.y = list(summary.curves[plot.x]), list(summary.curves[plot.y])
        yield line


def _finish(study: Study, figure: Any, axis: Any, plot: Plot, lines: Sequence[_Line]) -> None:
    is_log = "y" in plot.log and all(y > 0 for line in lines for y in line.y)
    for number, line in enumerate(lines[:LINES_MAX]):
        colour = COLOURS[number % len(COLOURS)]
        style = STYLES[number // len(COLOURS) % len(STYLES)]
        if line.halves:
            down = (
                [min(half, LOG_DOWN_MAX * y) for half, y in zip(line.halves, line.y, strict=True)]
                if is_log
                else line.halves
            )
            axis.errorbar(
                line.x, line.y, yerr=(down, line.halves), color=colour, linestyle=style,
                marker=MARKERS[number % len(MARKERS)], markersize=5, capsize=2, linewidth=1.4,
                label=line.label,
            )  # fmt: skip
        else:
            axis.plot(
                line.x, line.y, color=colour, linestyle=style, linewidth=1.4, label=line.label
            )
    if isinstance(plot, Lines) and plot.guide:
        _guides(
            axis,
            lines[:LINES_MAX],
            next((r.help for r in study.results if r.name == plot.guide), plot.guide),
        )
    if isinstance(plot, Lines) and plot.limit is not None:
        axis.axhline(plot.limit[0], color=GREY, linestyle=":", linewidth=1.4, label=plot.limit[1])
    axis.set_xlabel(lines[0].x_label)
    axis.set_ylabel(plot.y_label)
    numbers = all(isinstance(x, int | float) for line in lines for x in line.x)
    if "x" in plot.log and numbers and all(x > 0 for line in lines for x in line.x):
        axis.set_xscale("log")
    if is_log:
        axis.set_yscale("log")
    axis.grid(alpha=0.3)
    axis.set_title(plot.title)
    if len(lines) > 1 or (isinstance(plot, Lines) and (plot.limit is not None or plot.guide)):
        figure.legend(loc="outside lower center", ncols=2, frameon=False)


def _guides(axis: Any, lines: Sequence[_Line], label: str) -> None:
    """In the colour of the line beside which they belong; one that all have in common is drawn
    once, in grey."""
    guided = [(number, line) for number, line in enumerate(lines) if line.guide]
    is_common = len({(tuple(line.x), tuple(line.guide)) for _, line in guided}) == 1
    for number, line in guided[:1] if is_common else guided:
        colour = GREY if is_common else COLOURS[number % len(COLOURS)]
        axis.plot(line.x, line.guide, color=colour, linestyle=":", linewidth=1.2)
    if guided:
        axis.plot([], [], color=GREY, linestyle=":", linewidth=1.2, label=label)
