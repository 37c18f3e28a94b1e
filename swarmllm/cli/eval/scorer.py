"""The process that runs a model over documents: `python -m swarmllm.cli.eval.scorer` with one JSON
order on standard input.

It says one line for each finished document and writes what it found itself, so nothing large
crosses the pipe, and whatever happens to it (or to whoever started it) every finished document is
kept. A model file comes from a stranger: what it breaks is this process only.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from swarmllm.adapters.limits import free_memory
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.cli.eval.score_file import ENTRIES, PROBE_EVERY, Scored, save
from swarmllm.cli.output import write_stdout
from swarmllm.core.serving.rows import Rows
from swarmllm.errors import LocalError, SwarmError
from swarmllm.wire.sparse import decode_list
from swarmllm.wire.sparse_encoding import encode_logits

CHUNK: Final = 64  # Rows of logits at once: `llama_api.OUTPUTS_MAX`.

Floats = npt.NDArray[np.float64]


def score(model: Any, tokens: Sequence[int], bos: int, context: int) -> Scored:
    """What the model gives to each token after BOS and those before it. A document longer than the
    context is read in windows: each later one begins with half a context of text that was scored
    before."""
    inputs = [bos, *tokens[:-1]]
    logprobs: list[float] = []
    lists: list[bytes] = []
    probes: list[tuple[float, float, float, float]] = []
    while (done := len(lists)) < len(inputs):
        begin = max(0, done - context // 2) if done else 0
        end = min(len(inputs), begin + context)
        model.forget(0, 0)
        for start in range(begin, end, CHUNK):
            stop = min(end, start + CHUNK)
            for position, row in _rows(model, inputs, begin, start, stop):
                if position < done:
                    continue
                logprob, data, probe = _describe(row, tokens[position], position % PROBE_EVERY == 0)
                logprobs.append(logprob)
                lists.append(data)
                probes += [probe] if probe else []
    tails, tv, nats, shift = np.array(probes).reshape(-1, 4).T
    return Scored(np.array(logprobs), tuple(lists), tails, tv, nats, shift)


def _rows(
    model: Any, inputs: Sequence[int], begin: int, start: int, stop: int
) -> list[tuple[int, npt.NDArray[np.float32]]]:
    """(position in the document, logits) of one chunk."""
    rows = Rows()
    for i in range(start, stop):
        rows.add(inputs[i], i - begin, 0, True)
    if len(rows.tokens) < model.rows_min:
        rows.add(0, stop - begin, 0, True)  # Company for a lone row, as in `Batcher`.
    logits = model.decode(rows)
    if len(rows.tokens) > stop - start:
        model.forget(0, stop - begin)
    return list(zip(range(start, stop), logits, strict=False))


def _describe(
    row: npt.NDArray[np.float32], target: int, probed: bool
) -> tuple[float, bytes, tuple[float, float, float, float] | None]:
    """Log-probability of the token that came, the list, and the errors of the list."""
    top = float(row.max())
    with np.errstate(under="ignore"):
        scale = top + float(np.log(np.exp(row - row.max()).sum(dtype=np.float64)))
    data = encode_logits(row, ENTRIES, 0)
    logprob = min(0.0, float(row[target]) - scale)
    return logprob, data, _errors(row, scale, data, target) if probed else None


def _errors(
    row: npt.NDArray[np.float32], scale: float, data: bytes, target: int
) -> tuple[float, float, float, float]:
    decoded = decode_list(data, ENTRIES, row.size)
    exact_logs = row[decoded.ids].astype(np.float64) - scale
    exact = np.exp(exact_logs)
    tail = max(0.0, 1.0 - float(exact.sum()))
    logs = decoded.logprobs.astype(np.float64)
    tv = 0.5 * (float(np.abs(exact - np.exp(logs)).sum()) + abs(tail - decoded.tail))
    nats = float((exact * (exact_logs - logs)).sum())
    if tail > 0 and decoded.tail > 0:
        nats += tail * float(np.log(tail / decoded.tail))
    at = np.flatnonzero(decoded.ids == target)
    shift = float(logs[at[0]] - exact_logs[at[0]]) if at.size else float("nan")
    return tail, tv, max(0.0, nats), shift


def main() -> None:
    # Ctrl-C goes to the whole group; whoever started us ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = json.loads(sys.stdin.readline())
    try:
        _work(order)
    except SwarmError as error:
        _say({"error": str(error)})
    except OSError as error:
        _say(
            {
                "error": (
                    f"cannot write {order['folder']} ({error.strerror}):"
                    " make room there or choose another --cache-dir"
                )
            }
        )
    except MemoryError:
        _say(
            {
                "error": (
                    f"not enough memory for {order['path']}:"
                    " choose a smaller --context or a smaller model"
                )
            }
        )


def _work(order: dict[str, Any]) -> None:
    from swarmllm.adapters.llama import llama_api
    from swarmllm.adapters.llama.gguf_file import read_model_file
    from swarmllm.adapters.llama.lease import Lease

    path = Path(order["path"])
    options = EngineOptions.unpacked(order["options"])
    file = read_model_file(path)
    llama_api.capture_log()
    llama_api.fitting_sessions(file, options, options.context_max, free_memory())
    lease = Lease.create()
    model = llama_api.LlamaModel(
        path, file, options, options.context_max, options.sessions_max, lease.abort_address
    )
    if model.vocab_size != file.vocab_size:
        raise LocalError(
            f"{path} lists {file.vocab_size} tokens and its model has {model.vocab_size}:"
            " choose another file"
        )
    if "shapes" in order:
        from swarmllm.cli.eval.shapes import compare

        _say(
            {
                "shapes": compare(model, order["shapes"], order["beside"], options.context_max),
                "exact": model.exact,
            }
        )
        return
    for index, tokens, out in order["documents"]:
        save(Path(out), score(model, tokens, order["bos"], options.context_max))
        _say({"done": index})


def _say(record: dict[str, Any]) -> None:
    try:
        write_stdout(json.dumps(record) + "\n")
    except BrokenPipeError:  # Nobody waits any more; what is finished is on disk.
        sys.exit(1)


if __name__ == "__main__":
    main()
