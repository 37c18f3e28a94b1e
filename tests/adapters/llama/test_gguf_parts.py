"""A model in several files is one model: whichever part is named, all are read, counted and
digested."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import trio

from swarmllm.adapters.llama import gguf_parts
from swarmllm.adapters.llama.engine import LlamaEngine
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.llama.gguf_file import file_digest, read_model_file
from swarmllm.adapters.llama.gguf_format import header
from swarmllm.adapters.llama.gguf_parts import Hashing, digest_of, is_later_part, parts_of
from swarmllm.adapters.llama.tokenizer import read_tokenizer
from swarmllm.errors import LocalError
from swarmllm.testing.gguf_fixture import FixtureShape, write_model

SHAPE = FixtureShape(context=256)


def split(folder: Path, seed: int = 1) -> tuple[Path, ...]:
    folder.mkdir(exist_ok=True)
    first = write_model(folder / "m.gguf", FixtureShape(context=256, seed=seed), part_tensors=8)
    return parts_of(first)


def test_all_parts_are_found_from_any_of_them(tmp_path: Path) -> None:
    parts = split(tmp_path)
    assert [part.name for part in parts] == [f"m-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    assert all(parts_of(part) == parts for part in parts)


def test_a_split_model_says_of_itself_what_the_whole_one_says(tmp_path: Path) -> None:
    parts, whole = split(tmp_path), read_model_file(write_model(tmp_path / "whole.gguf", SHAPE))
    for part in parts:
        found = read_model_file(part)
        assert found.parts == parts
        assert found.size_bytes == sum(p.stat().st_size for p in parts)
        assert (found.n_params, found.vocab_fingerprint, found.kv_values, found.row_exact) == (
            whole.n_params,
            whole.vocab_fingerprint,
            whole.kv_values,
            whole.row_exact,
        )
        assert read_tokenizer(part)[1].digests()[0] == whole.vocab_fingerprint


def test_models_that_differ_in_a_later_part_only_have_other_digests(tmp_path: Path) -> None:
    parts, others = split(tmp_path / "a"), split(tmp_path / "b", seed=2)
    others[0].write_bytes(parts[0].read_bytes())  # The same vocabulary and the same first weights.
    digests = [file_digest(p[0], None, read_model_file(p[0]).parts) for p in (parts, others)]
    assert (
        digests[0] == hashlib.sha256(b"".join(p.read_bytes() for p in parts)).digest() != digests[1]
    )


def test_a_digest_is_remembered_until_any_part_changes(tmp_path: Path) -> None:
    parts, cache = split(tmp_path), tmp_path / "cache"
    first = digest_of(parts, cache)
    content = bytearray(parts[2].read_bytes())
    content[-1] ^= 1
    parts[2].write_bytes(content)
    os.utime(parts[2], ns=(0, 1))
    assert digest_of(parts, cache) == digest_of(parts, None) != first


def test_the_engine_loads_a_split_model_by_any_part(tmp_path: Path) -> None:
    parts = split(tmp_path)
    seen = set()

    async def main() -> None:
        for path in (parts[0], parts[1]):
            async with LlamaEngine(
                path, EngineOptions(context_max=64, sessions_max=1, threads=1)
            ) as engine:
                seen.add((engine.card.digest, engine.card.n_params))

    trio.run(main)
    assert seen == {(digest_of(parts, None), read_model_file(parts[0]).n_params)}


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_missing_part_is_named(tmp_path: Path, gone: int) -> None:
    parts = split(tmp_path)
    parts[gone].unlink()
    with pytest.raises(LocalError, match=rf"{parts[gone].name} is missing.*one of 3 parts"):
        read_model_file(parts[2 if gone != 2 else 0])


def test_a_part_under_another_name_is_told_its_own(tmp_path: Path) -> None:
    parts = split(tmp_path)
    renamed = parts[1].rename(tmp_path / "model.gguf")
    with pytest.raises(LocalError, match=r"model\.gguf is part 2 of 3.*-00002-of-00003\.gguf"):
        read_model_file(renamed)


def test_a_part_with_the_content_of_another_is_refused(tmp_path: Path) -> None:
    parts = split(tmp_path)
    parts[2].write_bytes(parts[1].read_bytes())
    with pytest.raises(LocalError, match=r"00003-of-00003\.gguf is part 2 of 3"):
        read_model_file(parts[0])


def test_a_part_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    parts = split(tmp_path)
    parts[1].write_bytes(parts[1].read_bytes()[:-1000])
    with pytest.raises(LocalError, match=r"00002-of-00003\.gguf is cut off"):
        read_model_file(parts[0])


@pytest.mark.parametrize(("number", "count"), [(0, 65_535), (3, 3), (7, 2), (-1, 2)])
def test_impossible_places_are_refused(tmp_path: Path, number: int, count: int) -> None:
    path = tmp_path / "m-00001-of-00003.gguf"
    content = header({"split.count": count, "split.no": max(0, number)}, [])
    path.write_bytes(
        content
        if number >= 0
        else content.replace(b"split.no\4\0\0\0" + bytes(4), b"split.no\5\0\0\0" + b"\xff" * 4)
    )
    with pytest.raises(LocalError, match=r"m-00001-of-00003\.gguf says that it is part"):
        parts_of(path)


def test_a_whole_model_may_be_named_like_a_part(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m-00001-of-00002.gguf", SHAPE)
    assert read_model_file(path).parts == (path,)


def test_a_folder_lists_a_split_model_once(tmp_path: Path) -> None:
    parts = split(tmp_path)
    assert [is_later_part(part) for part in parts] == [False, True, True]
    parts[0].unlink()
    assert not is_later_part(parts[1]), "otherwise nobody would hear that the first is missing"


def test_a_file_that_changes_while_it_is_digested_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(tmp_path / "a.gguf", SHAPE)
    stamp = gguf_parts._stamp

    def changing(seen: Path) -> list[str | int]:
        found = stamp(seen)
        os.utime(seen, ns=(0, 5))
        return found

    monkeypatch.setattr(gguf_parts, "_stamp", changing)
    with pytest.raises(LocalError, match=r"a\.gguf changed while it was read"):
        Hashing((path,), tmp_path / "cache").result()
    assert not (tmp_path / "cache").exists()


def test_a_file_that_cannot_be_read_to_its_end_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"gone\.gguf to its end \(No such file"):
        Hashing((tmp_path / "gone.gguf",), None).result()
