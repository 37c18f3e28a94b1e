"""Text comes in as it is, and whatever keeps it from that is one sentence that names the place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarmllm.cli.eval.corpora import bundled_corpora, read_corpus
from swarmllm.errors import LocalError, UsageError


def test_records_files_and_folders_are_read(tmp_path: Path) -> None:
    lines = [
        json.dumps({"id": "one", "text": "a\u2028b"}, ensure_ascii=False),
        "",
        json.dumps({"text": "c"}),
        json.dumps({"id": 3, "text": " "}),
    ]
    (tmp_path / "some.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.py").write_text("import os\n")
    (tmp_path / "deep" / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "c.txt").write_text("no")
    assert [(p.id, p.text) for p in read_corpus("x", tmp_path / "some.jsonl")] == [
        ("one", "a\u2028b"),
        ("3", "c"),
    ]
    assert [p.text for p in read_corpus("x", tmp_path)] == ["import os\n", "a\u2028b", "c"]
    assert [p.id for p in read_corpus("x", tmp_path / "deep")] == ["b.py"]


def test_any_single_file_that_is_named_is_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("hello")
    assert [p.text for p in read_corpus("x", tmp_path / "notes")] == ["hello"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"text": "fine"}\n{"text": \n', "line 2: not JSON"),
        (b'{"id": 1}\n', 'line 1: not an object with a "text"'),
        (b"[1]\n", "line 1: not an object"),
        (b'{"text": 7}\n', "line 1: not an object"),
        (b'{"text": "\xff"}\n', "not UTF-8 text (byte 10 is 0xFF)"),
        (b"\n \n", "'x' is empty"),
        (b"", "'x' is empty"),
    ],
)
def test_broken_records_are_named_by_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "some.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_corpus("x", path)
    assert says in str(caught.value)
    assert "some.jsonl" in str(caught.value)


def test_a_missing_corpus_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_corpus("x", tmp_path / "absent")
    with pytest.raises(UsageError, match="'x' is empty"):
        read_corpus("x", tmp_path)


def test_without_held_out_text_the_user_is_told_how_to_name_some(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="--corpus"):
        bundled_corpora(tmp_path)
    (tmp_path / "prose.jsonl").write_text("")
    assert bundled_corpora(tmp_path) == {"prose": tmp_path / "prose.jsonl"}
