"""The picture of `swarmllm demo --agent`: tokens/s before and after the change, side by side, and
the same as a line of text each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from swarmllm.adapters.llama.cache_file import replacing
from swarmllm.errors import LocalError, MissingExtraError

COLOURS: Final = ("#D55E00", "#009E73")  # Okabe and Ito's; the titles tell the two apart as well.
GREY: Final = "#555555"
DPI: Final = 120
BARS: Final = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Load:
    """Answers that were asked for during `seconds`; when each of their tokens came, in seconds."""

    title: str
    seconds: float
    tokens: Sequence[float]

    @property
    def rate(self) -> float:
        return len(self.tokens) / self.seconds

    def counts(self) -> list[int]:
        """Tokens of each whole second."""
        whole = int(self.seconds)
        return [sum(int(at) == second for at in self.tokens) for second in range(whole)]


def lines_of(loads: Sequence[Load]) -> list[str]:
    """A bar for each second of each load, all on one scale."""
    most = max((count for load in loads for count in load.counts()), default=0) or 1
    top = len(BARS) - 1
    # A second with a token is never shown as one without.
    return ["".join(BARS[-(-count * top // most)] for count in load.counts()) for load in loads]


def check_picture(file: Path) -> None:
    """Before minutes of showing, and not after them. UsageError without matplotlib, LocalError for
    a file that cannot be there."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError("--out", "matplotlib", "plots")
    if file.is_dir():
        raise LocalError(f"{file} is a folder; give the name of a file for the picture with --out")


def draw(loads: Sequence[Load], file: Path) -> None:
    """LocalError if it cannot be written."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context({"font.size": 10, "figure.facecolor": "white"}):
        figure, axes = pyplot.subplots(
            1, len(loads), figsize=(8, 3.4), sharey=True, layout="constrained", squeeze=False
        )
        for place, load in enumerate(loads):
            _panel(axes[0][place], load, COLOURS[place % len(COLOURS)])
        axes[0][0].set_ylabel("tokens/s")
        try:
            with replacing(file) as partial:
                figure.savefig(partial, dpi=DPI, format="png")
        except OSError as error:
            raise LocalError(f"cannot write the picture {file} ({error.strerror})") from error
        finally:
            pyplot.close(figure)


def _panel(axes: Any, load: Load, colour: str) -> None:
    counts = load.counts()
    axes.bar([second + 0.5 for second in range(len(counts))], counts, 0.9, color=colour)
    axes.axhline(load.rate, color=GREY, linewidth=1, linestyle="--")
    axes.set(title=f"{load.title}: {load.rate:.1f} tokens/s", xlabel="seconds", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
