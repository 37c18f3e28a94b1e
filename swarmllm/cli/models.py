"""`swarmllm models`: the bundled experts and any GGUF files, with what decides whether they fit the
swarm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.markdown import Markdown
from rich.table import Table

from swarmllm.adapters.llama.demo import DemoCard, bundled, folder_of
from swarmllm.adapters.llama.gguf_parts import is_later_part
from swarmllm.adapters.llama.vocabulary import LLAMA3_FINGERPRINT
from swarmllm.cli.guard import FAILED, OK
from swarmllm.cli.output import answer, complain, count, print_record, size
from swarmllm.cli.probe import probe
from swarmllm.cli.screen import Line
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.user_path import user_path

DEMO: Final = "demo:"
# Of one folder: each takes seconds to hash, and a folder of more is the wrong one.
FILES_MAX: Final = 1000


def list_models(config: Config, files: Sequence[str], *, as_json: bool) -> int:
    """Exit code 1 if one of the files named is unfit; the others are listed all the same."""
    rows = [_demo(card) for card in bundled()]
    unfit = []
    for path in _gguf_files(files or _known(config)):
        try:
            rows.append(_file(path, config))
        except LocalError as fault:
            unfit.append(str(fault))
    if as_json:
        for row in rows:
            print_record(row)
    else:
        answer().print(_table(rows))
    for sentence in unfit:
        complain(sentence)
    return FAILED if unfit else OK


def show_model(config: Config, model: str, *, as_json: bool) -> int:
    if model == "demo":
        raise UsageError(
            f"say which demo expert: {', '.join(DEMO + card.name for card in bundled())}"
        )
    if any(card.name == model for card in bundled()) and not Path(model).exists():
        model = DEMO + model  # As the list shows it, less what is obvious.
    if not model.startswith(DEMO):
        row, text = _file(user_path(model), config), ""
    else:
        name = model.removeprefix(DEMO)
        folder = folder_of(name)
        card = next(card for card in bundled() if card.name == name)
        row = {**_demo(card), "training": asdict(card)}
        text = (
            (folder / "README.md").read_text(encoding="utf-8")
            if (folder / "README.md").is_file()
            else ""
        )
    if as_json:
        print_record({**row, "card": text})
        return OK
    console = answer()
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    for name in (
        "model",
        "source",
        "n_params",
        "size_bytes",
        "context_max",
        "vocabulary",
        "digest",
    ):
        table.add_row(name.replace("_", " "), Line(_shown(name, row[name])))
    console.print(table)
    if text:
        console.print()
        console.print(Markdown(text))
    return OK


def _known(config: Config) -> list[str]:
    """The file that the settings name, if they name one."""
    return (
        [config.model]
        if config.model not in {"demo", "none"} and not config.model.startswith(DEMO)
        else []
    )


def _gguf_files(names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        path = user_path(name)
        if not path.is_dir():
            yield path
            continue
        found = sorted(file for file in path.rglob("*.gguf") if not is_later_part(file))
        if len(found) > FILES_MAX:
            raise UsageError(
                f"{path} holds {len(found)} GGUF files, more than {FILES_MAX};"
                " name a folder further down"
            )
        yield from found


def _demo(card: DemoCard) -> dict[str, Any]:
    return {
        "event": "model",
        "model": DEMO + card.name,
        "source": "bundled",
        "n_params": card.n_params,
        "size_bytes": (folder_of(card.name) / "model.npz").stat().st_size,
        "context_max": card.shape.context,
        "vocabulary": "LLaMA-3",
        "matches": True,
        "digest": card.gguf_sha256,
    }


def _file(path: Path, config: Config) -> dict[str, Any]:
    found = probe(path, config.cache_dir)
    matches = found["vocab"] == LLAMA3_FINGERPRINT
    return {
        "event": "model",
        "model": found["name"],
        "source": str(path),
        "n_params": found["n_params"],
        "size_bytes": found["size_bytes"],
        "context_max": found["context_max"],
        "vocabulary": "LLaMA-3" if matches else found["vocab"],
        "matches": matches,
        "digest": found["digest"],
    }


def _shown(name: str, value: object) -> str:
    match name, value:
        case "n_params", int():
            return count(value)
        case "size_bytes", int():
            return size(value)
        case _:
            return str(value)


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("model", overflow="fold")
    table.add_column("parameters", justify="right")
    table.add_column("size", justify="right")
    table.add_column("context", justify="right")
    table.add_column("vocabulary")
    table.add_column("digest")
    for row in rows:
        name = row["model"] if row["source"] == "bundled" else row["source"]
        fits = (
            Line("LLaMA-3", style="green")
            if row["matches"]
            else Line(f"other ({row['vocabulary'][:8]}…)", style="yellow")
        )
        table.add_row(
            Line(name),
            count(row["n_params"]),
            size(row["size_bytes"]),
            str(row["context_max"]),
            fits,
            f"{row['digest'][:12]}…",
        )
    return table
