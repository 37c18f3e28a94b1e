"""The report's pictures. Colours are Okabe and Ito's, which colour-blind readers can tell apart;
shapes and lines differ as well."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from swarmllm.adapters.llama.cache_file import replacing
from swarmllm.cli.eval.names import EXPERT, OURS, RUNNING, title_of
from swarmllm.cli.eval.report import Report
from swarmllm.cli.eval.texts import MIXED, SINGLE
from swarmllm.errors import MissingExtraError

BLACK, ORANGE, SKY, GREEN, BLUE, RED, PINK, GREY = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
    "#8A8A8A",
)
DPI: Final = 120
NATS: Final = "nats per token (lower is better)"


def require_matplotlib() -> None:
    """Before minutes of measuring, and not after them. UsageError, which names the extra, if there
    is none."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError("--out", "matplotlib", "plots")


def draw(report: Report, folder: Path) -> list[str]:
    """Write the pictures; their file names. OSError passes through."""
    require_matplotlib()
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    drawings: dict[str, Callable[[Any, Report], Any]] = {
        "scores.png": _scores,
        "adaptive.png": _adaptive,
        "alpha.png": _alpha,
    }
    if report.measured("after_switch"):
        drawings["switch.png"] = _switch
    settings: dict[Any, Any] = {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.facecolor": "white",
    }
    with pyplot.rc_context(settings):
        for name, drawing in drawings.items():
            figure = drawing(pyplot, report)
            with replacing(folder / name) as file:
                figure.savefig(file, format="png", dpi=DPI, bbox_inches="tight")
            pyplot.close(figure)
    return list(drawings)


def _scores(pyplot: Any, report: Report) -> Any:
    """Bars with intervals, one panel for each text kind."""
    texts = [text for text in report.kinds if text != SINGLE]
    methods = list(dict.fromkeys(score.method for score in report.scores))
    figure, axes = pyplot.subplots(
        1,
        len(texts),
        figsize=(3.2 + 3.0 * len(texts), 1.2 + 0.27 * len(methods)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, text in zip(axes[0], texts, strict=True):
        _bars(axis, report, text, methods)
    axes[0][0].set_yticks(
        range(len(methods)), [title_of(method, report.names) for method in methods]
    )
    axes[0][0].invert_yaxis()
    legend = [
        pyplot.Rectangle((0, 0), 1, 1, color=GREY), pyplot.Rectangle((0, 0), 1, 1, color=ORANGE),
        pyplot.Rectangle((0, 0), 1, 1, color=SKY), pyplot.Rectangle((0, 0), 1, 1, color=BLUE),
        pyplot.Rectangle((0, 0), 1, 1, facecolor="white", edgecolor=BLACK, hatch="//"),
    ]  # fmt: skip
    words = [
        "single expert",
        "baseline",
        "baseline that follows the text",
        "this project",
        "best single expert (dotted line)",
    ]
    figure.legend(legend, words, loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle("Nats per token, lower is better, with 95 % intervals (axes do not begin at 0)")
    return figure


def _bars(axis: Any, report: Report, text: str, methods: list[str]) -> None:
    """The panel of one text kind."""
    kind = report.kinds[text]
    for place, method in enumerate(methods):
        score = report.score(method, text)
        if score is None:
            continue
        best = method == kind.best_single
        axis.barh(
            place,
            score.nats.mean,
            color=_colour(method),
            height=0.72,
            hatch="//" if best else None,
            edgecolor="white",
        )
        ends = [[score.nats.mean - score.nats.low], [score.nats.high - score.nats.mean]]
        axis.errorbar(score.nats.mean, place, xerr=ends, color=BLACK, capsize=2, linewidth=1)
    left, right = _range(report, text)
    axis.set_xlim(left, right)
    for score in report.scores:
        if score.text != text or score.nats.mean <= right:
            continue
        axis.text(
            right,
            methods.index(score.method),
            f"{score.nats.mean:.1f} ▸ ",
            ha="right",
            va="center",
            color=BLACK,
            fontsize=9,
        )
    axis.axvline(
        report.kinds[text].estimate(kind.best_totals).mean,
        color=BLACK,
        linestyle=":",
        linewidth=1,
    )
    axis.set_title(f"{text} ({len(kind.answers)} documents)")
    axis.set_xlabel("nats per token")
    axis.grid(axis="x", alpha=0.3)


def _range(report: Report, text: str) -> tuple[float, float]:
    """What the axis shows. One expert on another's text, and the geometric mean, may be so far off
    that everything else would look alike: they do not widen it."""
    best_single = report.kinds[text].best_single
    near = [
        score.nats
        for score in report.scores
        if score.text == text
        and (
            score.method == best_single
            or not (score.method.startswith(EXPERT) or score.method == "geometric")
        )
    ]
    low, high = min(nats.low for nats in near), max(nats.high for nats in near)
    return max(0.0, low - 0.4 * (high - low)), high + 0.15 * (high - low)


def _colour(method: str) -> str:
    if method.startswith(EXPERT):
        return GREY
    if method == "label_oracle":
        return PINK
    return BLUE if method in OURS else SKY if method in RUNNING else ORANGE


def _adaptive(pyplot: Any, report: Report) -> Any:
    texts = [text for text in report.kinds if text in {MIXED, SINGLE}] or list(report.kinds)
    figure, axes = pyplot.subplots(
        1, len(texts), figsize=(5.2 * len(texts), 4.0), squeeze=False, layout="constrained"
    )
    styles = {"entropy": ("o", "-"), "excess": ("s", "--"), "random": ("x", ":")}
    words = {
        "entropy": "by entropy",
        "excess": "by entropy and excess surprise",
        "random": "at random",
    }
    for axis, text in zip(axes[0], texts, strict=True):
        for weights, colour, name in (
            ("em", BLUE, "EM frozen"),
            ("em_soft_bayes", RED, "EM, Soft-Bayes"),
        ):
            for signal, (marker, line) in styles.items():
                points = report.measured("adaptive_k", text=text, weights=weights, signal=signal)
                axis.plot(
                    [p["experts_asked"] for p in points],
                    [p["nats_per_token"] for p in points],
                    marker=marker,
                    linestyle=line,
                    color=colour,
                    markersize=5,
                    label=f"{name}, {words[signal]}",
                )
        best = report.kinds[text].estimate(report.kinds[text].best_totals).mean
        axis.axhline(best, color=GREY, linestyle="-.", linewidth=1, label="best single expert")
        axis.set_title(f"{text} text")
        axis.set_xlabel("experts asked per token (mean)")
        axis.set_ylabel(NATS)
        axis.grid(alpha=0.3)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle("Adaptive K: what a budget of experts buys")
    return figure


def _switch(pyplot: Any, report: Report) -> Any:
    figure, axis = pyplot.subplots(figsize=(7.2, 4.4), layout="constrained")
    styles = {
        "em": (BLUE, "o", "-"),
        "em_soft_bayes": (RED, "s", "-"),
        "uniform": (ORANGE, "^", "--"),
        "label_oracle": (BLACK, "x", ":"),
    }
    for method, (colour, marker, line) in styles.items():
        points = report.measured("after_switch", method=method)
        if not points:
            continue
        x = [p["tokens_after"] for p in points]
        axis.plot(
            x,
            [p["nats_per_token"] for p in points],
            color=colour,
            marker=marker,
            linestyle=line,
            label=title_of(method, report.names),
        )
        if method == "label_oracle":
            continue  # Its interval is wide and would hide the others.
        axis.fill_between(
            x,
            [p["ci95"][0] for p in points],
            [p["ci95"][1] for p in points],
            color=colour,
            alpha=0.12,
            linewidth=0,
        )
    axis.set_xlabel("tokens after the text switched its domain")
    axis.set_ylabel(NATS)
    axis.set_title("After a switch of domain (mixed texts; bands are 95 % intervals)")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure


def _alpha(pyplot: Any, report: Report) -> Any:
    texts = [text for text in report.kinds if text != SINGLE]
    names = report.names
    figure, axes = pyplot.subplots(
        1,
        len(texts),
        figsize=(1.6 + (1.0 + 0.62 * len(names)) * len(texts), 1.6 + 0.55 * len(names)),
        squeeze=False,
        layout="constrained",
    )
    image = None
    for axis, text in zip(axes[0], texts, strict=True):
        table = report.kinds[text].alpha()
        image = axis.imshow(table, vmin=0, vmax=1, cmap="cividis", aspect="auto")
        for i in range(table.shape[0]):
            for j in range(table.shape[1]):
                axis.text(
                    j,
                    i,
                    f"{table[i, j]:.2f}",
                    ha="center",
                    va="center",
                    color="white" if table[i, j] < 0.55 else "black",
                    fontsize=9,
                )
        axis.set_xticks(range(len(names) + 1), [*names, "ensemble"], rotation=40, ha="right")
        axis.set_yticks(range(len(names)), names if axis is axes[0][0] else [""] * len(names))
        axis.set_title(text)
    figure.colorbar(image, ax=axes[0].tolist(), label="alpha: share of drafts accepted")
    figure.suptitle("Acceptance between experts, and between each and the EM ensemble")
    return figure
