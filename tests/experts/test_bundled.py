"""llama.cpp gives, for every bundled expert, the logits that torch gave for the weights as shipped.

Two comparisons, because two things can be wrong. The arithmetic of the model (layout of heads,
rotary position, bias dimension, order of tensors) is compared in float32, where only the order of
additions differs. The file that really runs has Q8_0 weights, for which llama.cpp also rounds each
activation to 8 bits (a 254th of the largest of 32 neighbours, at most): there the tolerance is what
such rounding can do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from llama_cpp import Llama, llama_get_logits_ith

from scripts.demo_family import EXPERTS
from swarmllm.adapters.llama.demo import (
    DemoCard,
    bundled,
    bundled_folder,
    dequantize,
    folder_of,
    load_compact,
)
from swarmllm.adapters.llama.demo_gguf import DemoGguf
from swarmllm.adapters.llama.expansion import expand
from swarmllm.adapters.llama.gguf_format import F32, TensorSpec, Value, header, padding
from swarmllm.adapters.llama.vocabulary import LLAMA3_SIZE, load_tables

Floats = npt.NDArray[np.float32]
NAMES = [card.name for card in bundled()]

SHIPPED_MAX = 40_000_000  # Bytes: what a package may weigh that everybody downloads.
# Logits reach 40 and float32 has 24 bits, so additions in another order cost about 1e-5; measured
# 2e-5.
F32_TOLERANCE = 2e-4
# The worst of 256 logits; see above. Measured at most 0.2, where logits differ by 15 among each
# other ...
Q8_TOLERANCE = 0.4
Q8_RMS = 0.1  # ... and this is what they are off together.
# Rows without training have one weight: its product is as inexact as that one activation.
UNUSED_RELATIVE = 0.05
UNUSED_MASS_MAX = 6e-3  # 126,700 rows at exp(-17), where they take most.


@dataclass(frozen=True)
class Expected:
    """torch's word on the last position of one prompt."""

    prompt: list[int]
    ids: npt.NDArray[np.int32]
    logits: Floats
    log_z: float
    argmax: int
    gap: float
    unused_mass: float


def expected_of(name: str) -> list[Expected]:
    with np.load(folder_of(name) / "vectors.npz") as archive:
        return [
            Expected(
                prompt=archive[f"{i}/prompt"].tolist(),
                ids=archive[f"{i}/ids"],
                logits=archive[f"{i}/logits"],
                log_z=float(archive[f"{i}/log_z"]),
                argmax=int(archive[f"{i}/argmax"]),
                gap=float(archive[f"{i}/gap"]),
                unused_mass=float(archive[f"{i}/unused_mass"]),
            )
            for i in range(sum(key.endswith("/prompt") for key in archive.files))
        ]


def last_logits(path: Path, prompts: list[list[int]], size: int) -> Iterator[Floats]:
    """What llama.cpp gives at the end of each prompt."""
    with closing(
        Llama(str(path), n_ctx=64, n_batch=64, n_threads=1, type_k=F32, type_v=F32, verbose=False)
    ) as model:
        for prompt in prompts:
            model.reset()
            model.eval(prompt)
            yield np.ctypeslib.as_array(llama_get_logits_ith(model.ctx, -1), (size,)).copy()


@pytest.fixture(name="expanded", scope="module")
def _expanded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("expanded")
    return lambda name: expand(name, folder)


def float32_tensors(path: Path, gguf: DemoGguf, ids: npt.NDArray[np.int64]) -> dict[str, Floats]:
    """Every tensor of an expanded file as float32; of the two tables only the rows of `ids`."""
    data = np.memmap(path, np.uint8, "r")
    at = len(data) - sum(spec.size_bytes + len(padding(spec.size_bytes)) for spec in gguf.tensors)
    found: dict[str, Floats] = {}
    for spec in gguf.tensors:
        raw = data[at : at + spec.size_bytes]
        if spec.type == F32:
            found[spec.name] = raw.view(np.float32)
        else:
            rows: npt.NDArray[np.uint8] = raw.reshape(spec.shape[0], -1)
            found[spec.name] = dequantize(
                np.array(rows[ids] if spec.shape[0] == LLAMA3_SIZE else rows)
            )
        at += spec.size_bytes + len(padding(spec.size_bytes))
    return found


def write_float32(path: Path, name: str, ids: npt.NDArray[np.int64], out: Path) -> None:
    """The same model in float32 over some of its ids, without a vocabulary."""
    model = load_compact(folder_of(name))
    shape = model.card.shape
    found = float32_tensors(path, DemoGguf(model, load_tables()), ids)
    specs = [TensorSpec(key, value.shape, F32) for key, value in found.items()]
    metadata: dict[str, Value] = {
        "general.architecture": "llama",
        "general.name": name,
        "llama.vocab_size": len(ids),
        "llama.context_length": shape.context,
        "llama.embedding_length": shape.dim,
        "llama.block_count": shape.layers,
        "llama.feed_forward_length": shape.hidden,
        "llama.rope.dimension_count": shape.dim // shape.heads,
        "llama.rope.freq_base": shape.rope_base,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.kv_heads,
        "llama.attention.layer_norm_rms_epsilon": shape.norm_eps,
        "tokenizer.ggml.model": "no_vocab",
    }
    with out.open("wb") as file:
        file.write(header(metadata, specs))
        for value in found.values():
            file.write(np.ascontiguousarray(value).tobytes() + padding(value.nbytes))


def test_there_are_experts_of_two_domains() -> None:
    assert {domain for card in bundled() for domain in card.domains} >= {"prose", "code"}


@pytest.mark.parametrize("card", bundled(), ids=NAMES)
def test_every_expert_is_the_one_in_the_table(card: DemoCard) -> None:
    made = EXPERTS[card.name]
    assert (card.shape, card.domains, card.summary) == (made.shape, (made.domain,), made.summary)


def test_all_of_it_is_small() -> None:
    assert (
        sum(path.stat().st_size for path in bundled_folder().rglob("*") if path.is_file())
        < SHIPPED_MAX
    )


@pytest.mark.parametrize("name", NAMES)
def test_float32_logits_are_torchs(
    name: str, expanded: Callable[[str], Path], tmp_path: Path
) -> None:
    wanted = expected_of(name)
    active = load_compact(folder_of(name)).active_ids
    ids = np.unique(
        np.concatenate(
            [active, *(vector.ids for vector in wanted), *(np.array(v.prompt) for v in wanted)]
        )
    )
    row = {token: i for i, token in enumerate(ids.tolist())}
    write_float32(expanded(name), name, ids, tmp_path / "float32.gguf")
    prompts = [[row[token] for token in vector.prompt] for vector in wanted]
    for vector, logits in zip(
        wanted, last_logits(tmp_path / "float32.gguf", prompts, len(ids)), strict=True
    ):
        error = np.abs(logits[[row[token] for token in vector.ids.tolist()]] - vector.logits).max()
        assert error < F32_TOLERANCE
        if vector.gap > 2 * F32_TOLERANCE:
            assert ids[int(logits.argmax())] == vector.argmax


@pytest.mark.parametrize("name", NAMES)
def test_logits_of_the_file_that_runs_are_torchs(
    name: str, expanded: Callable[[str], Path]
) -> None:
    wanted = expected_of(name)
    active = load_compact(folder_of(name)).active_ids
    results = last_logits(expanded(name), [vector.prompt for vector in wanted], LLAMA3_SIZE)
    for vector, logits in zip(wanted, results, strict=True):
        own = np.isin(vector.ids, active)
        error = np.abs(logits[vector.ids] - vector.logits)
        assert error[own].max() < Q8_TOLERANCE
        assert np.sqrt(np.square(error[own]).mean()) < Q8_RMS
        assert (error[~own] / np.abs(vector.logits[~own])).max() < UNUSED_RELATIVE
        exact = logits.astype(np.float64)
        log_z = float(np.logaddexp.reduce(exact))
        assert abs(log_z - vector.log_z) < Q8_TOLERANCE
        if vector.gap > 2 * Q8_TOLERANCE:
            assert int(logits.argmax()) == vector.argmax
        exact[active] = -np.inf
        assert np.exp(exact - log_z).sum() < UNUSED_MASS_MAX
        assert vector.unused_mass < UNUSED_MASS_MAX


@pytest.mark.parametrize("name", NAMES)
def test_prompts_have_words_without_rows(name: str) -> None:
    """Otherwise the rows made of pieces would be tested by nothing."""
    active = set(load_compact(folder_of(name)).active_ids.tolist())
    assert any(set(vector.prompt) - active for vector in expected_of(name))
    assert any(vector.gap > 2 * Q8_TOLERANCE for vector in expected_of(name))


@pytest.mark.parametrize("card", bundled(), ids=NAMES)
def test_cards_say_what_the_file_is(card: DemoCard, expanded: Callable[[str], Path]) -> None:
    assert hashlib.sha256(expanded(card.name).read_bytes()).hexdigest() == card.gguf_sha256
    text = (folder_of(card.name) / "README.md").read_text(encoding="utf-8")
    for words in (
        card.gguf_sha256,
        f"{card.nats_per_token:.3f} nats",
        f"{card.n_params:,}",
        "## Sample",
        "## Licence",
    ):
        assert words in text
