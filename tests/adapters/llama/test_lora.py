"""Adapters are taken whole or refused, and merging them does what llama.cpp does with them while it
runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.llama.expansion import sidecar
from swarmllm.adapters.llama.gguf_tensors import GgufTensors
from swarmllm.adapters.llama.lora_adapter import (
    ADAPTER_BYTES_MAX,
    Adapter,
    AdapterCard,
    adapter_bytes,
    load_adapter,
    load_card,
)
from swarmllm.adapters.llama.lora_expansion import ADAPTER_FILE, merge_folder, place_of
from swarmllm.adapters.llama.lora_merge import MergedGguf, product
from swarmllm.errors import LocalError
from swarmllm.testing.gguf_fixture import FixtureShape, write_model

RANK = 4
CHANGED = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def write_base(folder: Path, kind: str = "f32") -> Path:
    return write_model(folder / f"base-{kind}.gguf", FixtureShape(kind=kind))


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def made_adapter(base: Path, spread: float = 0.15, seed: int = 5) -> Adapter:
    """Random factors for every matrix of every layer."""
    rng, tensors = np.random.default_rng(seed), GgufTensors(base)

    def factor(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
        return rng.normal(0, spread, shape).astype(np.float16)

    factors = {}
    for name in tensors.by_name:
        if name.endswith(tuple(f"{part}.weight" for part in CHANGED)):
            out, width = tensors.shape(name)
            factors[name] = (factor(RANK, width), factor(out, RANK))
    card = AdapterCard(
        name="tiny-code",
        summary="A tiny model with another hat",
        domains=("code",),
        licence="MIT",
        rank=RANK,
        alpha=8.0,
        base_sha256=sha256_of(base),
    )
    return Adapter(card, factors)


def save(folder: Path, adapter: Adapter) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ADAPTER_FILE).write_bytes(adapter_bytes(adapter))
    return folder


def merged_file(folder: Path, base: Path, adapter: Adapter) -> Path:
    path = folder / "merged.gguf"
    path.write_bytes(b"".join(MergedGguf(GgufTensors(base), adapter).stream()))
    return path


# --- the file ----------------------------------------------------------------------------------


def test_an_adapter_is_read_as_it_was_written(tmp_path: Path) -> None:
    adapter = made_adapter(write_base(tmp_path))
    data = adapter_bytes(adapter)
    assert adapter_bytes(adapter) == data
    path = save(tmp_path / "a", adapter) / ADAPTER_FILE
    found = load_adapter(path)
    assert found.card == adapter.card == load_card(path)
    assert set(found.factors) == set(adapter.factors)
    for name, pair in adapter.factors.items():
        for mine, theirs in zip(found.factors[name], pair, strict=True):
            assert mine.dtype == np.float16
            assert np.array_equal(mine, theirs)


def _no_pair(adapter: Adapter) -> Adapter:
    return replace(adapter, factors={})


def _one_rank_less(adapter: Adapter) -> Adapter:
    name = min(adapter.factors)
    a, b = adapter.factors[name]
    return replace(adapter, factors={**adapter.factors, name: (a, b[:, 1:].copy())})


def _infinite(adapter: Adapter) -> Adapter:
    name = max(adapter.factors)
    a, b = adapter.factors[name]
    a = a.copy()
    a[1, 2] = np.inf
    return replace(adapter, factors={**adapter.factors, name: (a, b)})


def _with(**changes: object) -> Callable[[Adapter], Adapter]:
    return lambda adapter: replace(adapter, card=replace(adapter.card, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_no_pair, "ranks"),
        (_one_rank_less, "factors of shapes"),
        (_infinite, "not finite"),
        (_with(alpha=float("nan")), "alpha is nan"),
        (_with(alpha=0.0), "alpha is 0.0"),
        (_with(name=""), "general.name is ''"),
        (_with(name="a\x1b[2Jb"), r"general.name is 'a\\x1b"),
        (_with(summary="x" * 1000), "general.description"),
        (_with(base_sha256="no digest"), "base_sha256"),
        (_with(domains=tuple("abcdefghijklmnopqrst")), "tags"),
    ],
)
def test_a_strange_adapter_is_refused(
    tmp_path: Path, spoil: Callable[[Adapter], Adapter], said: str
) -> None:
    adapter = made_adapter(write_base(tmp_path))
    path = save(tmp_path / "a", spoil(adapter)) / ADAPTER_FILE
    with pytest.raises(LocalError, match=said) as error:
        load_adapter(path)
    assert str(path) in str(error.value)


def test_a_model_is_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"general\.type is None, not 'adapter'"):
        load_adapter(write_base(tmp_path))


def test_a_file_that_is_far_too_large_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a", made_adapter(write_base(tmp_path))) / ADAPTER_FILE
    with path.open("r+b") as file:
        file.truncate(ADAPTER_BYTES_MAX + 1)
    with pytest.raises(LocalError, match="more than 64 MiB"):
        load_adapter(path)


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return adapter_bytes(made_adapter(write_base(tmp_path_factory.mktemp("data"))))


@given(at=st.integers(0, 4000), value=st.integers(0, 255), cut=st.none() | st.integers(0, 4000))
def test_damage_gives_one_clear_error_or_an_adapter(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int, value: int, cut: int | None
) -> None:
    spoilt = bytearray(data)
    spoilt[at] = value
    path = tmp_path_factory.mktemp("spoilt") / ADAPTER_FILE
    path.write_bytes(spoilt[:cut])
    try:
        found = load_adapter(path)
    except LocalError as error:
        said = str(error)
    else:
        said = str(path)
        assert all(np.isfinite(f).all() for pair in found.factors.values() for f in pair)
    assert str(path) in said


# --- merging -----------------------------------------------------------------------------------


def test_the_product_is_that_of_the_matrices() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.normal(size=shape).astype(np.float16) for shape in ((RANK, 96), (64, RANK)))
    wanted = 0.5 * b.astype(np.float64) @ a.astype(np.float64)
    assert np.abs(product(a, b, 0.5) - wanted).max() < 1e-5


@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0", "q4_0"])
def test_a_merged_file_holds_base_plus_product(tmp_path: Path, kind: str) -> None:
    base = write_base(tmp_path, kind)
    adapter = made_adapter(base)
    before, after = GgufTensors(base), GgufTensors(merged_file(tmp_path, base, adapter))
    assert [t.name for t in after.header.tensors] == [t.name for t in before.header.tensors]
    for name in before.by_name:
        weights = before.plain(name)
        if name in adapter.factors:
            a, b = (f.astype(np.float32) for f in adapter.factors[name])
            weights += (2.0 * b @ a).astype(np.float32)
        found = after.plain(name)
        # Q8_0 rounds to 1/127 of the largest weight of a block.
        assert np.abs(found - weights).max() <= np.abs(weights).max() / 127
        if weights.ndim == 1 or (kind == "q8_0" and name not in adapter.factors):
            assert np.array_equal(found, before.plain(name))


def test_a_merged_file_keeps_the_vocabulary_and_says_who_it_is(tmp_path: Path) -> None:
    base = write_base(tmp_path)
    adapter = made_adapter(base)
    before, after = GgufTensors(base), GgufTensors(merged_file(tmp_path, base, adapter))
    for key, value in before.metadata.items():
        if key.startswith(("tokenizer.", "llama.")):
            assert after.metadata[key] == value, key
    assert after.metadata["general.name"] == "tiny-code"
    assert after.metadata["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
    assert after.header.size == MergedGguf(before, adapter).size_bytes


def logits(
    model: Path, lora: Path | None = None
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """float32[24, vocabulary] by llama.cpp after each of 24 tokens."""
    from llama_cpp import Llama

    llama = Llama(
        str(model),
        lora_path=str(lora) if lora else None,
        n_ctx=64,
        n_threads=1,
        logits_all=True,
        verbose=False,
    )
    llama.eval([7 * i % 200 for i in range(24)])
    found = np.array(llama.scores[:24], np.float32)
    llama.close()
    return found


def test_merging_is_what_llama_cpp_does_with_the_adapter(tmp_path: Path) -> None:
    """An independent reader of the same adapter file: its scale, its orientation, its names."""
    base = write_base(tmp_path)
    adapter = made_adapter(base)
    file = save(tmp_path / "a", adapter) / ADAPTER_FILE
    without, applied = logits(base), logits(base, file)
    merged = logits(merged_file(tmp_path, base, adapter))
    changed = np.abs(applied - without).mean()
    assert changed > 1.0
    assert np.abs(applied - merged).mean() < changed / 20


# --- in the cache ------------------------------------------------------------------------------


def finished(base: Path, adapter: Adapter) -> Adapter:
    digest = hashlib.sha256()
    for data in MergedGguf(GgufTensors(base), adapter).stream():
        digest.update(data)
    return replace(adapter, card=replace(adapter.card, merged_sha256=digest.hexdigest()))


def test_a_specialist_is_merged_once_and_has_its_digest(tmp_path: Path) -> None:
    base = write_base(tmp_path)
    adapter = finished(base, made_adapter(base))
    folder = save(tmp_path / "tiny", adapter)
    seen: list[tuple[int, int]] = []
    path = merge_folder(folder, base, tmp_path / "cache", lambda *done: seen.append(done))
    assert sha256_of(path) == adapter.card.merged_sha256
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)
    again = merge_folder(folder, base, tmp_path / "cache", lambda *_: pytest.fail("made twice"))
    assert again == path == place_of(folder, tmp_path / "cache")


def test_another_base_is_refused(tmp_path: Path) -> None:
    adapter = made_adapter(write_base(tmp_path))
    folder = save(tmp_path / "tiny", adapter)
    other = write_base(tmp_path, "f16")
    with pytest.raises(LocalError, match="was made for the base model with SHA-256"):
        merge_folder(folder, other, tmp_path / "cache")


def test_an_adapter_of_another_shape_is_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path)
    larger = write_model(tmp_path / "larger.gguf", FixtureShape(dim=128))
    adapter = made_adapter(larger)
    with pytest.raises(LocalError, match="made for another model"):
        MergedGguf(GgufTensors(base), adapter)


def test_a_merged_file_that_comes_out_otherwise_is_not_kept(tmp_path: Path) -> None:
    base = write_base(tmp_path)
    adapter = made_adapter(base)
    wrong = replace(adapter, card=replace(adapter.card, merged_sha256="0" * 64))
    folder = save(tmp_path / "tiny", wrong)
    with pytest.raises(LocalError, match="would be another model than everyone else's"):
        merge_folder(folder, base, tmp_path / "cache")
    path = place_of(folder, tmp_path / "cache")
    assert not path.exists()
    assert not sidecar(path).exists()
