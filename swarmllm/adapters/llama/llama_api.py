"""llama.cpp behind five calls: load, decode one batch, forget, copy, close; with settings under
which one answer is one answer.

With `reproducible` a position gets the same logits, bit for bit, whether it was decoded alone,
beside other sessions, or in one prefill with a thousand others: replicas write the same text, and
so does a session that moved to another expert. llama.cpp does not promise that; measured on x86-64
(largest difference of a logit, models with logits of standard deviation 4):

    setting                                            F16      Q8_0     Q4_0    Q4_K_M
    llama.cpp's defaults                               0.057    0.50     0.87    0.74
    flash attention off                                0.017    0.23     0       0.57
    K cache F16, V cache BF16, flash attention on      0.018    0        0       0.43
    ... and no repacked weights, no tiled K-quant GEMM 0.018    0        0       0
    ... and never a single row in a product            0        0        0       0

Why these: with K and V of unequal types the CPU's flash attention takes neither its tiled path
(many rows) nor its split path (one row), but always the one that walks over the cells of a row in
order and skips masked ones; so neither the batch's shape nor what else is in the cache can matter,
as long as each session's cells lie in the order of positions. That is so with one cache stream per
sequence (`kv_unified` off); in a shared pool evictions break the order (0.4 with Q4_K_M). V is the
one in BF16 because half-precision V would be summed in half precision. Repacked weights and the
tiled GEMM have other kernels for one row, for 4 or 8, and for the rest. llamafile's GEMM takes over
from two rows on, and differs from the vector kernels for F32 and F16 (measured): hence `rows_min`.
The price, for models of 70 to 170 million weights: a decode step of a short context costs 0 to 10 %
more (Q4 and Q8; twice as much for F16 and F32, by the second row), one of 1,800 tokens up to 2.4
times as much; a prefill runs at 0.25 to 0.9 of the speed, least where K-quants or long contexts
would have had tiled kernels. So it is a setting, and off unless somebody wants it: the differences
are those between two machines of different kinds, and docs/performance.md says how large they are.
On a GPU the kernels depend on the batch's shape in ways nobody promises; there the setting has no
effect.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

import llama_cpp.llama_cpp as llama
import numpy as np
from numpy.typing import NDArray

from swarmllm.adapters import limits
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.llama.gguf_file import ModelFile
from swarmllm.adapters.llama.lease import abort_function
from swarmllm.adapters.llama.stepping import Stopped
from swarmllm.adapters.llama.threads import Threads
from swarmllm.core.serving.planning import OUTPUTS_MAX
from swarmllm.core.serving.rows import Rows
from swarmllm.core.wording import several
from swarmllm.errors import LocalError

CELLS_UNIT: Final = 256  # llama.cpp rounds a sequence's cells up to this.
LOG_LINES_MAX: Final = 40
LOG_LINE_BYTES_MAX: Final = 400
# Of the memory that is free; the rest is for everybody else, and for what we cannot foresee.
MEMORY_SHARE: Final = 0.8
# Compute buffers besides logits; generous for small models, noise for large ones.
SCRATCH_BYTES: Final = 64 << 20

ENABLED, AUTO, F16, BF16 = 1, -1, 1, 30  # llama_flash_attn_type and ggml_type.
LEVEL_ERROR: Final = 4  # ggml_log_level.
ABORTED: Final = 2  # llama_decode's result when the abort callback said so.


class EngineBroken(LocalError):
    """llama.cpp failed in a way that only a new process can heal."""


# --- the log --------------------------------------------------------------------------------------

_log: deque[tuple[int, str]] = deque(maxlen=LOG_LINES_MAX)


@llama.llama_log_callback  # type: ignore[untyped-decorator]
def _keep(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    line = text[:LOG_LINE_BYTES_MAX].decode(errors="replace").strip()
    if line and line != ".":
        _log.append((level, line))


def capture_log() -> None:
    """Keep llama.cpp's last lines here instead of printing them."""
    llama.llama_log_set(_keep, None)


def complaint() -> str:
    """The first line that llama.cpp logged as an error (what follows only passes it on), or the
    last line at all."""
    lines = [line for level, line in _log if level == LEVEL_ERROR][:1] or [
        line for _, line in _log
    ][-1:]
    return lines[0] if lines else "no message"


# --- memory ---------------------------------------------------------------------------------------


def session_bytes(model: ModelFile, context: int) -> int:
    """Cache of one session: K and V, two bytes a number, for one token more than the context (see
    `Batcher`)."""
    return -(-(context + 1) // CELLS_UNIT) * CELLS_UNIT * model.kv_values * 2 * 2


def fitting_sessions(
    model: ModelFile, options: EngineOptions, context: int, free: int | None
) -> int:
    """How many sessions fit into `free` bytes beside the model, at most `sessions_max`. LocalError
    if none does, or fewer than were insisted on."""
    if free is None:
        return options.sessions_max
    each = session_bytes(model, context)
    room = (
        int(free * MEMORY_SHARE)
        - model.size_bytes
        - 2 * OUTPUTS_MAX * model.vocab_size * 4
        - SCRATCH_BYTES
    )
    fit = min(options.sessions_max, room // each)
    if fit < (options.sessions_max if options.sessions_exact else 1):
        needed = (
            int(free * MEMORY_SHARE)
            - room
            + each * (options.sessions_max if options.sessions_exact else 1)
        ) / MEMORY_SHARE
        asked = options.sessions_max if options.sessions_exact else 1
        raise LocalError(
            f"not enough memory for {several(asked, 'session')} of {context} tokens with"
            f" {model.parts[0].name} ({model.name}):"
            f" about {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free; {_smaller(asked)}"
        )
    return fit


def _smaller(sessions: int) -> str:
    """What to do where memory is short."""
    fewer = ", fewer --sessions" if sessions > 1 else ""
    return f"choose a smaller --context{fewer} or a smaller model"


# --- the model ------------------------------------------------------------------------------------


def check_kind(path: Path, model: Any) -> None:
    """LocalError for a model that llama.cpp knows and that cannot continue texts here, or not go
    back in them."""
    if llama.llama_model_has_encoder(model) or not llama.llama_model_has_decoder(model):
        said = (
            "reads all of a text before it writes another (an encoder),"
            " and does not continue texts: choose a language model"
        )
    elif llama.llama_model_is_recurrent(model) or llama.llama_model_is_hybrid(model):
        said = (
            "is recurrent and cannot go back in a text, as answers of several experts need it:"
            " choose a model such as LLaMA"
        )
    elif llama.llama_model_is_diffusion(model):
        said = "writes by diffusion and not token by token: choose another model"
    else:
        return
    llama.llama_model_free(model)
    raise LocalError(f"the model in {path} {said}")


class LlamaModel:
    """A loaded model with one context of `sessions` sequences ("slots") of `cells` tokens each. One
    thread at a time calls it; it computes with as many as the options say, or, if it `adapts`, with
    at most as many."""

    def __init__(
        self,
        path: Path,
        file: ModelFile,
        options: EngineOptions,
        context: int,
        sessions: int,
        abort_address: int,
        *,
        adapts: bool = False,
    ) -> None:
        self.gpu = bool(llama.llama_supports_gpu_offload()) and options.gpu_layers != 0
        self.exact = options.reproducible and not self.gpu
        self.rows_min = 2 if self.exact and not file.row_exact else 1
        self.batch_max = options.batch_max
        self.outputs_max = max(OUTPUTS_MAX, sessions)
        self._model: Any = self._load(file.parts[0], options)
        self._context: Any = self._open(path, options, context, sessions, abort_address)
        self._memory = llama.llama_get_memory(self._context)
        self.cells = int(llama.llama_n_ctx_seq(self._context))
        self.vocab_size = int(llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model)))
        self.n_params = int(llama.llama_model_n_params(self._model))
        self._make_batch(max(options.batch_max, 2))
        self.threads = options.threads or limits.cores()  # Of the last batch.
        # Layers on a GPU do not wait for the processor's threads.
        self._choice = Threads(self.threads) if adapts and not self.gpu else None

    def _load(self, path: Path, options: EngineOptions) -> Any:
        params = llama.llama_model_default_params()
        params.n_gpu_layers = options.gpu_layers if self.gpu else 0
        params.use_extra_bufts = not self.exact
        model = llama.llama_model_load_from_file(os.fsencode(path), params)
        if not model:
            raise LocalError(
                f"llama.cpp cannot load {path} ({complaint()}): choose another file,"
                " or a newer llama-cpp-python if the model is newer"
            )
        check_kind(path, model)
        return model

    def _open(
        self, path: Path, options: EngineOptions, context: int, sessions: int, abort_address: int
    ) -> Any:
        params = llama.llama_context_default_params()
        params.n_seq_max = sessions
        params.n_ctx = -(-(context + 1) // CELLS_UNIT) * CELLS_UNIT * sessions
        params.n_batch = params.n_ubatch = max(options.batch_max, 2)
        params.n_outputs_max = self.outputs_max
        params.n_outputs_max_per_seq = 0
        params.n_threads = params.n_threads_batch = options.threads or limits.cores()
        params.kv_unified = False
        params.no_perf = True
        params.flash_attn_type = ENABLED if self.exact else AUTO
        params.type_k, params.type_v = F16, BF16 if self.exact else F16
        params.abort_callback = llama.ggml_abort_callback(abort_function())
        params.abort_callback_data = abort_address
        opened = llama.llama_init_from_model(self._model, params)
        if not opened:
            raise LocalError(
                f"llama.cpp cannot open {several(sessions, 'session')} of {context} tokens for"
                f" {path} ({complaint()}): {_smaller(sessions)}"
            )
        return opened

    def _make_batch(self, rows: int) -> None:
        """A llama_batch over numpy arrays, so that filling it is four assignments whatever its
        size."""
        self._tokens, self._positions = np.zeros(rows, np.int32), np.zeros(rows, np.int32)
        self._slots, self._outputs = np.zeros(rows, np.int32), np.zeros(rows, np.int8)
        self._counts = np.ones(rows, np.int32)
        places = self._slots.ctypes.data + 4 * np.arange(rows, dtype=np.uint64)
        self._slot_places = places.astype(np.uint64)
        batch = llama.llama_batch()
        for field, array in (
            ("token", self._tokens),
            ("pos", self._positions),
            ("n_seq_id", self._counts),
            ("seq_id", self._slot_places),
            ("logits", self._outputs),
        ):
            kind = dict(llama.llama_batch._fields_)[field]
            setattr(batch, field, ctypes.cast(ctypes.c_void_p(array.ctypes.data), kind))
        self._batch = batch

    def decode(self, rows: Rows) -> NDArray[np.float32]:
        """Compute one batch; float32[wanted rows, vocab_size], valid until the next call.

        Raises Stopped if the lease ended it, EngineBroken if llama.cpp failed.
        """
        count = len(rows.tokens)
        self._batch.n_tokens = count
        self._tokens[:count] = rows.tokens
        self._positions[:count] = rows.positions
        self._slots[:count] = rows.slots
        self._outputs[:count] = rows.outputs
        if self._choice is not None:
            self._use(self._choice.choose(count))
        begun = time.perf_counter()
        result = llama.llama_decode(self._context, self._batch)
        seconds = time.perf_counter() - begun
        if result == ABORTED:
            raise Stopped
        if result != 0:
            raise EngineBroken(
                f"llama.cpp failed to decode {count} tokens (code {result}: {complaint()}):"
                " the engine starts anew"
            )
        if self._choice is not None:
            self._choice.took(count, seconds)
        wanted = int(self._outputs[:count].sum())
        if wanted == 0:
            return np.empty((0, self.vocab_size), np.float32)
        address = llama.llama_get_logits(self._context)
        return np.ctypeslib.as_array(address, (wanted, self.vocab_size))

    def _use(self, threads: int) -> None:
        if threads != self.threads:
            self.threads = threads
            llama.llama_set_n_threads(self._context, threads, threads)

    def forget(self, slot: int, start: int) -> None:
        """Drop the slot's positions from `start` on."""
        llama.llama_memory_seq_rm(self._memory, slot, start, -1)

    def copy(self, source: int, target: int) -> None:
        """Make `target` hold what `source` holds."""
        llama.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def close(self) -> None:
        llama.llama_free(self._context)
        llama.llama_model_free(self._model)
