"""Models as proposers for scripts/agent_study.py: they rank what a search could propose.

The prompt is the observation as a table, in the words of the `ops` expert's training text
(scripts/ops_told.py), and then a change. What may follow is one of three words for what would come
of it, and the change that is likeliest to be called better is the model's proposal. Several experts
are pooled token by token, with weights that the prompt has taught the gate, as for any user.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from scripts.ops_told import VERDICTS, change_text, question
from swarmllm.adapters.datadir import default_folders
from swarmllm.adapters.llama import llama_api
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.llama.gguf_file import read_model_file
from swarmllm.adapters.llama.lease import Lease
from swarmllm.adapters.llama.tokenizer import LlamaTokenizer
from swarmllm.cli.eval.experts import load_experts
from swarmllm.core.agent.proposers import Situation, rungs_of, suggestion_of
from swarmllm.core.agent.suggestion import Suggestion
from swarmllm.core.decoding.gate import em, floored
from swarmllm.core.serving.rows import Rows
from swarmllm.core.settings.setting import Setting

EXPERTS: Final = ("ops", "code", "prose", "prose-small")
CONTEXT: Final = 1024
CHUNK: Final = 64

Floats = npt.NDArray[np.float64]


class Model:
    """One bundled expert, with the cache of one text."""

    def __init__(self, path: Path) -> None:
        llama_api.capture_log()
        options = EngineOptions(context_max=CONTEXT, sessions_max=1, sessions_exact=True, threads=1)
        file = read_model_file(path)
        self._lease = Lease.create()
        self._model = llama_api.LlamaModel(
            path, file, options, CONTEXT, 1, self._lease.abort_address
        )
        self._held: list[int] = []

    def logprobs(
        self, prompt: Sequence[int], head: Sequence[int], tails: Sequence[Sequence[int]]
    ) -> list[Floats]:
        """For each tail float64[len(head + tail)]: of each of these tokens after the prompt and
        those before it. The head is read once."""
        self._hold(prompt)
        heads = self._read(head, len(prompt))
        known = picked(np.concatenate([self._last, heads[:-1]]), head)
        found, end = [], len(prompt) + len(head)
        for tail in tails:
            rows = [heads[-1:]] + ([self._read(tail[:-1], end)] if len(tail) > 1 else [])
            found.append(np.concatenate([known, picked(np.concatenate(rows), tail)]))
            self._model.forget(0, end)
        self._model.forget(0, len(prompt))
        return found

    def evidence(self, prompt: Sequence[int]) -> Floats:
        """float64[len(prompt) - 1]: of each token of the prompt but the first."""
        self._hold(prompt)
        return self._evidence

    def _hold(self, prompt: Sequence[int]) -> None:
        if list(prompt) == self._held:
            return
        self._model.forget(0, 0)
        rows = self._read(prompt, 0)
        self._last, self._evidence = rows[-1:], picked(rows[:-1], prompt[1:])
        self._held = list(prompt)

    def _read(self, tokens: Sequence[int], at: int) -> npt.NDArray[np.float32]:
        found = []
        for start in range(0, len(tokens), CHUNK):
            rows = Rows()
            for place, token in enumerate(tokens[start : start + CHUNK], at + start):
                rows.add(token, place, 0, True)
            found.append(self._model.decode(rows).copy())
        return np.concatenate(found)


def picked(rows: npt.NDArray[np.float32], tokens: Sequence[int]) -> Floats:
    top = rows.max(axis=1, keepdims=True)
    scale = top[:, 0] + np.log(np.exp(rows - top).sum(axis=1, dtype=np.float64))
    found: Floats = rows[np.arange(len(tokens)), list(tokens)] - scale
    return found


@lru_cache(maxsize=len(EXPERTS))
def model_of(name: str) -> tuple[Model, LlamaTokenizer]:
    (found,) = load_experts([f"llama3-demo:{name}"], default_folders().cache_dir, lambda _: None)
    return Model(found.path), LlamaTokenizer(found.path)


class Pool:
    """Some experts, pooled as the gate would."""

    def __init__(self, experts: tuple[str, ...]) -> None:
        loaded = [model_of(name) for name in experts]
        self._models = [model for model, _ in loaded]
        self._tokenizer = loaded[0][1]

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.tokenize(text.encode())

    def score(self, prompt: str, changes: Sequence[str]) -> list[float]:
        """The log-probability of each change to be called better, rather than one of the others."""
        tokens = self.encode(prompt)
        table = np.stack([model.evidence(tokens) for model in self._models], axis=1)
        prior = np.full(len(self._models), 1 / len(self._models))
        weights = np.log(floored(em(table, prior)))
        verdicts = [self.encode(f" {verdict}") for verdict in VERDICTS]
        place = VERDICTS.index("better")
        found = []
        for change in changes:
            head = self.encode(change)
            each = [model.logprobs(tokens, head, verdicts) for model in self._models]
            logs = np.array(
                [
                    np.logaddexp.reduce(
                        [w + one[n] for w, one in zip(weights, each, strict=True)]
                    ).sum()
                    for n in range(len(verdicts))
                ]
            )
            found.append(float(logs[place] - np.logaddexp.reduce(logs)))
        return found


class ModelProposer:
    """`calls`: how often the models were asked. One ranking serves while the observation is the
    same."""

    def __init__(self, name: str, pool: Pool) -> None:
        self.name = name
        self.calls = 0
        self._pool = pool
        self._prompt = ""
        self._ranked: list[tuple[Setting[Any], int]] = []

    def propose(self, situation: Situation, rng: random.Random) -> Suggestion | None:
        del rng
        prompt = question(situation.observation)
        if prompt != self._prompt:
            self._prompt, self._ranked = prompt, self._rank(prompt, situation)
        for setting, value in self._ranked:
            if situation.is_new(setting, value) and situation.can_show(setting, value):
                return suggestion_of(situation, setting, value, "the likeliest for the model", ())
        return None

    def ranking(self, situation: Situation) -> list[tuple[Setting[Any], int]]:
        """All that a search could propose, the likeliest first."""
        return self._rank(question(situation.observation), situation)

    def _rank(self, prompt: str, situation: Situation) -> list[tuple[Setting[Any], int]]:
        self.calls += 1
        wanted = [
            (setting, value)
            for setting, rungs in rungs_of(situation).items()
            for value in rungs
            if value != situation.value(setting) and situation.can_show(setting, value)
        ]
        changes = [change_text(one.key, situation.value(one), value) for one, value in wanted]
        scores = self._pool.score(prompt, changes)
        order = sorted(range(len(wanted)), key=lambda place: -scores[place])
        return [wanted[place] for place in order]
