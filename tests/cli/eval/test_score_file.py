"""What was computed is kept whole or not at all, and never without end."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from swarmllm.cli.eval.score_file import Scored, folder_in, is_there, load, place, prune, save


def _scored(length: int = 20) -> Scored:
    rng = np.random.default_rng(length)
    lists = tuple(
        bytes(rng.integers(0, 256, rng.integers(8, 40), dtype=np.uint8)) for _ in range(length)
    )
    probes = rng.random((4, -(-length // 8)))
    probes[3, 0] = np.nan
    return Scored(-rng.random(length), lists, *probes)


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    ours = _scored()
    save(tmp_path / "a.scores", ours)
    theirs = load(tmp_path / "a.scores")
    assert theirs is not None
    assert theirs.lists == ours.lists
    for name in ("logprobs", "tails", "wire_tv", "wire_nats", "target_shift"):
        assert np.array_equal(getattr(theirs, name), getattr(ours, name), equal_nan=True)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "absent"])
def test_a_damaged_file_is_not_there(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.scores"
    save(path, _scored())
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "absent":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2 if damage == "cut" else 0])
    assert load(path) is None
    assert not is_there(path)


def test_whatever_decides_the_numbers_decides_the_place(tmp_path: Path) -> None:
    base = ("model", "document", 1, 512)
    others = [
        ("other", "document", 1, 512),
        ("model", "other", 1, 512),
        ("model", "document", 2, 512),
        ("model", "document", 1, 256),
    ]
    places = {place(tmp_path, *args) for args in [base, *others]}
    assert len(places) == 5
    assert {p.parent for p in places} == {folder_in(tmp_path)}


def test_the_folder_is_bounded_and_what_is_needed_now_stays(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.scores" for i in range(6)]
    for age, path in enumerate(paths):
        path.write_bytes(bytes(100))
        os.utime(path, (1000 + age, 1000 + age))
    (tmp_path / ".0.scores.x.part").write_bytes(bytes(50))
    assert prune(tmp_path, [paths[0]], bytes_max=300) == 300
    assert [path for path in paths if path.exists()] == [paths[0], paths[4], paths[5]]
    assert not list(tmp_path.glob(".*.part"))
    assert prune(tmp_path, paths, bytes_max=0) == 300
