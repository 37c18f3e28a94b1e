"""What is kept of an owner's choices for the node's expert is read as it was written, or not at
all."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmllm.adapters.expert_file import FILE, OwnersChoice, read_choice, write_choice
from swarmllm.errors import LocalError


def test_what_was_said_last_is_read(tmp_path: Path) -> None:
    assert read_choice(tmp_path) == OwnersChoice()
    for choice in (OwnersChoice("smollm2:code", is_offered=False), OwnersChoice("/tmp/ü.gguf")):
        write_choice(tmp_path, choice)
        assert read_choice(tmp_path) == choice
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "found",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'{"model": 1, "is_offered": true}',
        b'{"model": "hf:x", "is_offered": true}',
        b'{"model": "", "is_offered": "no"}',
        b'{"model": "", "is_offered": true, "more": 1}',
        b"\xff",
        b"[" * 10_000,
    ],
)
def test_a_file_that_says_nothing_of_it_is_named(tmp_path: Path, found: bytes) -> None:
    (tmp_path / FILE).write_bytes(found)
    with pytest.raises(LocalError, match=f"{FILE} does not say which expert"):
        read_choice(tmp_path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b" " * 20_000)
    with pytest.raises(LocalError, match=FILE):
        read_choice(tmp_path)
