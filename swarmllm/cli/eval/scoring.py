"""Every model over every document: one model at a time, on all cores, and only what is not known
yet.

The cores take a document each, with one thread: a tiny model has too little work per layer for two
threads to share, and beside the matrix products there are half a million logits per token to be
searched, which one thread does. Models too large to be loaded several times get all threads in one
process.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from swarmllm.adapters.limits import cores
from swarmllm.adapters.llama.engine import environment
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.cli.eval.experts import Expert
from swarmllm.cli.eval.plan import Plan
from swarmllm.cli.eval.score_file import folder_in, is_there, place, prune
from swarmllm.cli.eval.shapes import LENGTH
from swarmllm.cli.eval.texts import Document
from swarmllm.errors import LocalError

LARGE_BYTES: Final = 1_000_000_000  # A model beyond this is loaded once.
WORDS_BYTES: Final = 2000  # Of a process that failed: its last words.
CONTEXT: Final = 2048  # Unless --context says otherwise, or the model was trained for less.

Advance = Callable[[str, int, int], None]
"""(model, documents done, documents in all)."""


@dataclass(frozen=True, slots=True)
class ScoredText:
    """Where the scores of each model for each document lie: `paths[document][model]`. `fresh`
    counts what had to be computed."""

    paths: tuple[tuple[Path, ...], ...]
    fresh: int


def context_of(expert: Expert, plan: Plan) -> int:
    return min(plan.context or CONTEXT, expert.context_max)


def score_all(
    experts: Sequence[Expert],
    documents: Sequence[Document],
    bos: int,
    plan: Plan,
    cache_dir: Path,
    advance: Advance,
) -> ScoredText:
    """LocalError if a model cannot be run or the cache not be written. Finished documents are kept
    whatever happens."""
    columns = [
        [place(cache_dir, e.digest, d.digest, bos, context_of(e, plan)) for d in documents]
        for e in experts
    ]
    try:
        folder_in(cache_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalError(
            f"cannot write {folder_in(cache_dir)} ({error.strerror}): choose another --cache-dir"
        ) from error
    prune(folder_in(cache_dir), [path for column in columns for path in column])
    fresh = 0
    for expert, column in zip(experts, columns, strict=True):
        missing = {
            path: document
            for path, document in zip(column, documents, strict=True)
            if not is_there(path)
        }
        done = len(column) - len(missing)
        advance(expert.name, done, len(column))
        for _ in _computed(
            expert, [(d, path) for path, d in missing.items()], bos, plan, cache_dir
        ):
            done += 1
            fresh += 1
            advance(expert.name, done, len(column))
    return ScoredText(tuple(zip(*columns, strict=True)), fresh)


def _computed(
    expert: Expert, wanted: Sequence[tuple[Document, Path]], bos: int, plan: Plan, cache_dir: Path
) -> Iterator[int]:
    threads = plan.threads or cores()
    workers = 1 if expert.size_bytes > LARGE_BYTES else max(1, min(threads, len(wanted)))
    options = _options(expert, plan, max(1, threads // workers), sessions=1)
    orders = [
        {
            "path": str(expert.path),
            "options": options.packed(),
            "bos": bos,
            "folder": str(folder_in(cache_dir)),
            "documents": [
                [i, d.tokens, str(path)]
                for i, (d, path) in enumerate(wanted)
                if i % workers == worker
            ],
        }
        for worker in range(workers)
    ]
    if wanted:
        yield from (record["done"] for record in _records(orders, options, expert))


def agree_with_itself(
    expert: Expert, tokens: Sequence[int], plan: Plan, *, exact: bool
) -> dict[str, Any]:
    """`shapes.compare` in a process of its own, with the engine's reproducible setting or with
    llama.cpp's defaults."""
    length = min(LENGTH, context_of(expert, plan) - 1, len(tokens) // 2)
    options = replace(
        _options(expert, plan, plan.threads or cores(), sessions=2), reproducible=exact
    )
    order = {
        "path": str(expert.path),
        "options": options.packed(),
        "folder": "",
        "shapes": list(tokens[:length]),
        "beside": list(tokens[length : 2 * length]),
    }
    return next(_records([order], options, expert))


def _options(expert: Expert, plan: Plan, threads: int, sessions: int) -> EngineOptions:
    return EngineOptions(
        context_max=context_of(expert, plan),
        sessions_max=sessions,
        sessions_exact=True,
        threads=threads,
        reproducible=True,  # A report can be made again, to the last digit.
    )


def _records(
    orders: Sequence[dict[str, Any]], options: EngineOptions, expert: Expert
) -> Iterator[dict[str, Any]]:
    """What the processes say, as it comes, until all have ended. LocalError as soon as one
    fails."""
    heard: queue.Queue[tuple[int, str]] = queue.Queue()

    def listen(index: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            heard.put((index, line))
        heard.put((index, ""))

    with _processes(orders, options) as running:
        for index, (process, _) in enumerate(running):
            threading.Thread(target=listen, args=(index, process), daemon=True).start()
        left = len(running)
        while left:
            index, line = heard.get()
            if line:
                record = json.loads(line)
                if "error" in record:
                    raise LocalError(record["error"])
                yield record
                continue
            left -= 1
            process, words = running[index]
            if (code := process.wait()) != 0:
                words.seek(0)
                lines = words.read()[-WORDS_BYTES:].decode(errors="replace").strip().splitlines()
                last = f" ({lines[-1]})" if lines else ""
                raise LocalError(
                    f"the process that ran {expert.name} ended with code {code}{last}: close other"
                    " programs if memory was short (code -9 says so), or leave this model out"
                )


_Running = tuple[subprocess.Popen[str], BinaryIO]
"""A process, and what it writes to standard error (a file: a pipe that nobody reads would stop it).
"""


@contextmanager
def _processes(
    orders: Sequence[dict[str, Any]], options: EngineOptions
) -> Iterator[list[_Running]]:
    with ExitStack() as files:
        found: list[_Running] = []
        try:
            for order in orders:
                words: BinaryIO = files.enter_context(tempfile.TemporaryFile())
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "swarmllm.cli.eval.scorer"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=words,
                    text=True,
                    env=environment(options),
                )
                found.append((process, words))
                assert process.stdin is not None
                with suppress(BrokenPipeError):  # Its exit code will tell.
                    process.stdin.write(json.dumps(order) + "\n")
                    process.stdin.close()
            yield found
        finally:
            for process, _ in found:
                process.kill()
                process.wait()
