"""`swarmllm models`: the models that a node can be given by name, those that are on this machine,
and how one gets here or goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from swarmllm.adapters.llama.demo import DemoCard, bundled, folder_of
from swarmllm.adapters.llama.gguf_parts import is_later_part
from swarmllm.adapters.llama.vocabulary import LLAMA3_FINGERPRINT
from swarmllm.adapters.models import library
from swarmllm.adapters.models.advice import advice_of
from swarmllm.adapters.models.catalog import (
    SMOLLM2_135M,
    SPECIALIST_BYTES,
    SPECIALISTS,
    specialist,
)
from swarmllm.cli.fetching import fetched
from swarmllm.cli.guard import FAILED, OK, run
from swarmllm.cli.output import (
    answer,
    complain,
    count,
    notice,
    print_record,
    shell_word,
    size,
)
from swarmllm.cli.probe import probe
from swarmllm.cli.screen import Line
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.model_reference import (
    EXPECTED,
    Auto,
    DemoExpert,
    HubModel,
    NoModel,
    NotAReference,
    OwnFile,
    Reference,
    SmolLM2,
    parse_reference,
)
from swarmllm.runtime.user_path import user_path

# Of one folder: each takes seconds to hash, and a folder of more is the wrong one.
FILES_MAX: Final = 1000
SHOWN: Final = {
    "model": "model",
    "name": "name",
    "source": "file",
    "n_params": "parameters",
    "size_bytes": "size",
    "context_max": "context",
    "vocabulary": "vocabulary",
    "sampling": "in a chat",  # How its makers advise to draw.
    "digest": "SHA-256",
}
VOCABULARIES: Final = {LLAMA3_FINGERPRINT: "LLaMA-3", SMOLLM2_135M.vocabulary: "SmolLM2"}

Row = dict[str, Any]


def list_models(config: Config, files: Sequence[str], *, as_json: bool) -> int:
    """Without files: the models that have names, those of the hub's cache, and the one of the
    settings. Exit code 1 if one of the files is unfit; the others are listed all the same."""
    references: list[Reference] = [OwnFile(path) for path in _gguf_files(files)]
    if not files:
        references = [SmolLM2(), *map(SmolLM2, sorted(SPECIALISTS))]
        references += [DemoExpert(card.name) for card in bundled()]
        references += library.all_of_hub()
        own = parse_reference(config.model)
        references += [own] if isinstance(own, OwnFile) else []
    rows, unfit = [], []
    for reference in references:
        try:
            rows.append(_row(reference, config))
        except LocalError as fault:
            if isinstance(reference, HubModel):
                notice(f"{fault}.")  # Other programs' files lie there too.
            else:
                unfit.append(str(fault))
    if as_json:
        for row in rows:
            print_record(row)
    else:
        answer().print(_table(rows))
        if answer().is_terminal:  # No program needs to be told.
            notice(f"Of its model's context, {_served(config)}.")
    for sentence in unfit:
        complain(sentence)
    return FAILED if unfit else OK


def show_model(config: Config, model: str, *, as_json: bool) -> int:
    reference = _reference(model)
    row, text = _row(reference, config), ""
    if isinstance(reference, DemoExpert):
        card = next(card for card in bundled() if card.name == reference.name)
        row["training"] = asdict(card)
        readme = folder_of(card.name) / "README.md"
        text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    if as_json:
        print_record({**row, "card": text})
        return OK
    from rich.markdown import Markdown  # Here, so that no other command waits for it.

    console = answer()
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    for name, heading in SHOWN.items():
        if row[name]:
            table.add_row(heading, Line(_shown(name, row[name], config)))
    console.print(table)
    if text:
        console.print()
        console.print(Markdown(text))
    return OK


def pull_model(config: Config, model: str, *, as_json: bool) -> int:
    """Fetch a model, or its newest version, so that a node starts at once and without a network."""
    reference = _reference(model)
    found: list[library.Found] = []

    async def body() -> int:
        found.append(await fetched(reference, config, as_json=as_json, newest=True))
        return OK

    code = run(body)
    if found:
        row = _row(reference, config)
        if as_json:
            print_record(row)
        else:
            answer().print(
                Line(f"{row['name']} is here: {row['source']} ({size(row['size_bytes'])})"),
                soft_wrap=True,
            )
            answer().print(
                Line(f"Serve it with: swarmllm join --model {shell_word(str(reference))}"),
                soft_wrap=True,
            )
    return code


def remove_model(config: Config, model: str, *, as_json: bool) -> int:
    """Take a fetched or expanded model off this machine. A node that runs with it goes on."""
    reference = _reference(model)
    if isinstance(reference, OwnFile):
        raise UsageError(
            f"{reference} is a file of yours, which swarmllm did not bring: delete it yourself"
        )
    freed = library.remove(reference, config.cache_dir)
    if not freed:
        raise LocalError(f"{reference} is not on this machine, so there is nothing to remove")
    if as_json:
        print_record({"event": "removed", "model": str(reference), "freed_bytes": freed})
    else:
        answer().print(Line(f"{reference} is removed; {size(freed)} are free again"))
        if reference == SmolLM2() and (made := _specialists_here(config)):
            notice(f"What was made of it stays, and goes by its name: {', '.join(made)}.")
    return OK


def _specialists_here(config: Config) -> list[str]:
    found = (
        (name, library.place_of(SmolLM2(name), config.cache_dir)) for name in sorted(SPECIALISTS)
    )
    return [f"{SmolLM2(name)} ({size(path.stat().st_size)})" for name, path in found if path]


# --- references -----------------------------------------------------------------------------------


def _reference(text: str) -> library.Named:
    """UsageError for what names no single model."""
    demos = [card.name for card in bundled()]
    if text in demos and not Path(text).exists():
        return DemoExpert(text)  # As the list shows it, less what is obvious.
    if text in {"demo", "llama3-demo"}:
        names = ", ".join(str(DemoExpert(name)) for name in demos)
        raise UsageError(f"say which demo expert: {names}")
    try:
        reference = parse_reference(text)
    except NotAReference as error:
        # A current folder that was removed is no wrong usage.
        kind = LocalError if isinstance(error.__cause__, FileNotFoundError) else UsageError
        raise kind(f"{text!r} is not {error.expected}") from error
    if isinstance(reference, Auto | NoModel):
        raise UsageError(f"{text!r} names no one model; give one of: {EXPECTED}")
    if isinstance(reference, SmolLM2) and reference.specialist:
        specialist(reference.specialist)
    if isinstance(reference, DemoExpert):
        folder_of(reference.name)
    return reference


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


# --- what is shown of one -------------------------------------------------------------------------


def _row(reference: library.Named | Reference, config: Config) -> Row:
    match reference:
        case OwnFile():
            return _file(reference, reference.path, config)
        case DemoExpert(name):
            return _demo(next(card for card in bundled() if card.name == name))
        case SmolLM2():
            return _smollm2(reference, config)
        case HubModel():
            path = library.place_of(reference, config.cache_dir)
            if path is None:
                raise LocalError(
                    f"{reference} is not on this machine; fetch it with "
                    f"`swarmllm models pull {shell_word(str(reference))}`"
                )
            return _file(reference, path, config)
        case _:
            raise AssertionError(f"{reference} is no model")


def _demo(card: DemoCard) -> Row:
    return {
        "event": "model",
        "model": str(DemoExpert(card.name)),
        "name": card.name,
        "source": "bundled",
        "here": True,
        "n_params": card.n_params,
        "size_bytes": (folder_of(card.name) / "model.npz").stat().st_size,
        "context_max": card.shape.context,
        "vocabulary": "LLaMA-3",
        "digest": card.gguf_sha256,
        "sampling": {},
    }


def _smollm2(reference: SmolLM2, config: Config) -> Row:
    path = library.place_of(reference, config.cache_dir)
    if path is not None:
        return _file(reference, path, config) | {"name": reference.specialist or SMOLLM2_135M.name}
    base = SMOLLM2_135M
    made_of_base = library.place_of(SmolLM2(), config.cache_dir) is not None
    source = f"not fetched yet: {size(base.wheel_bytes)} from the Python package index"
    return {
        "event": "model",
        "model": str(reference),
        "name": reference.specialist or base.name,
        "source": "not made yet: of smollm2, on first use" if made_of_base else source,
        "here": False,
        "n_params": base.n_params,
        "size_bytes": SPECIALIST_BYTES if reference.specialist else base.size_bytes,
        "context_max": base.context_max,
        "vocabulary": VOCABULARIES[base.vocabulary],
        "digest": "" if reference.specialist else base.sha256,
        "sampling": dict(base.sampling),
    }


def _file(reference: library.Named, path: Path, config: Config) -> Row:
    found, model = probe(path, config.cache_dir), str(reference)
    return {
        "event": "model",
        "model": model,
        "name": found["name"],
        "source": str(path),
        "here": True,
        "n_params": found["n_params"],
        "size_bytes": found["size_bytes"],
        "context_max": found["context_max"],
        "vocabulary": VOCABULARIES.get(found["vocab"], found["vocab"]),
        "digest": found["digest"],
        "sampling": dict(advice_of(library.Found(reference, path))),
    }


def _served(config: Config) -> str:
    return f"a node serves {config.context_max} tokens unless --context says otherwise"


def _shown(name: str, value: object, config: Config) -> str:
    match name, value:
        case "context_max", int():
            return f"{value} tokens; {_served(config)}"
        case "n_params", int():
            return count(value)
        case "sampling", dict():
            return ", ".join(f"{one.replace('_', ' ')} {much:g}" for one, much in value.items())
        case "size_bytes", int():
            return size(value)
        case _:
            return str(value)


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("model", overflow="fold")
    for heading in ("parameters", "size", "context"):
        table.add_column(heading, justify="right")
    table.add_column("vocabulary", no_wrap=True)
    table.add_column("here")
    for row in rows:
        vocabulary = str(row["vocabulary"])
        table.add_row(
            Line(row["model"]),
            count(row["n_params"]),
            size(row["size_bytes"]),
            str(row["context_max"]),
            Line(vocabulary if len(vocabulary) <= 12 else f"{vocabulary[:8]}…"),
            Line("yes", "green") if row["here"] else Line("no", "dim"),
        )
    return table
