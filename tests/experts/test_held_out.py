"""The bundled held-out text loads, and is in no expert's training text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import make_held_out
from scripts.demo_corpus import HELD_OUT_BOOKS, read_code, read_prose
from scripts.demo_ops import documents, is_validation
from scripts.make_held_out import PIECE_CHARS, PIECES, pieces, spread
from swarmllm.adapters.llama.demo import bundled_folder

DOMAINS = ("code", "ops", "prose")


def records(domain: str) -> list[dict[str, str]]:
    path = bundled_folder() / "held_out" / f"{domain}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_files_load(domain: str) -> None:
    found = records(domain)
    assert len(found) == PIECES
    assert (
        len({record["id"] for record in found})
        == len({record["text"] for record in found})
        == PIECES
    )
    for record in found:
        assert set(record) == {"id", "text"}
        assert record["id"].startswith(f"{domain}/")
        assert PIECE_CHARS // 3 <= len(record["text"]) <= PIECE_CHARS


def test_they_are_small_and_explained() -> None:
    folder = bundled_folder() / "held_out"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 400_000
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert all(f"{domain}.jsonl" in text for domain in DOMAINS)
    assert "licence" in text.lower()


def test_no_code_of_it_is_trained_on() -> None:
    """By the split of the interpreter that runs this test, whichever files it has."""
    held = {
        record["id"].removeprefix("code/").rsplit("#")[0]: record["text"]
        for record in records("code")
    }
    sources = list(read_code(Path()))
    assert not {source.name for source in sources if source.train} & set(held)
    for source in sources:
        assert not any(text in source.train for text in held.values())
    assert any(source.valid for source in sources)


def test_no_swarm_of_it_is_trained_on() -> None:
    held = records("ops")
    worlds = {int(record["id"].removeprefix("ops/world-").rsplit("#")[0]) for record in held}
    assert all(map(is_validation, worlds))
    neighbours = {world + step for world in sorted(worlds)[:3] for step in (-1, 1)}
    for document in documents(worlds=max(neighbours) + 1, only=neighbours.__contains__):
        assert not any(document.text in record["text"] for record in held)


@pytest.fixture(name="books")
def _books(tmp_path: Path) -> Path:
    """Four made-up books of 400 different paragraphs each; two of them go by held-out names."""
    for title in ("one", "two", *sorted(HELD_OUT_BOOKS)[:2]):
        paragraphs = [
            f"In chapter {n} of {title} nothing happened, "
            + "and then nothing again, " * 12
            + "as before."
            for n in range(400)
        ]
        (tmp_path / f"{title}.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")
    return tmp_path


def test_held_out_books_are_never_trained_on(books: Path) -> None:
    for source in read_prose(books):
        assert bool(source.valid) is (source.name in HELD_OUT_BOOKS)
        assert bool(source.train) is (source.name not in HELD_OUT_BOOKS)


def test_no_prose_of_it_is_trained_on(books: Path) -> None:
    sources = list(read_prose(books))
    assert [source.name for source in sources] == sorted(
        ["one", "two", *sorted(HELD_OUT_BOOKS)[:2]]
    )
    found = spread([(source.name, source.valid) for source in sources], 6)
    assert len(found) == 6
    for _, text in found:
        paragraphs = text.split("\n\n")
        assert not any(paragraph in source.train for paragraph in paragraphs for source in sources)
        assert any(text in source.valid for source in sources)
        assert paragraphs[-1].endswith("as before.")


def test_pieces_are_apart_and_end_at_paragraphs(books: Path) -> None:
    text = next(source.train for source in read_prose(books) if source.train)
    found = pieces(text)
    assert len(found) > 20
    at = 0
    for piece in found:
        at = text.index(piece, at) + len(piece)
        assert len(piece) <= PIECE_CHARS
        assert text[at : at + 2] in ("\n\n", "")


@pytest.mark.parametrize(
    "text", ["", "short", "x" * 20_000, "\n" * 20_000, "line\n" * 2_000, "word " * 2_000]
)
def test_no_text_is_cut_without_end(text: str) -> None:
    assert all(len(piece) <= PIECE_CHARS for piece in pieces(text))


def test_texts_come_evenly() -> None:
    texts = [
        (f"t{i:03}", "\n\n".join(f"{i}.{n} " + "word " * 40 for n in range(40))) for i in range(100)
    ]
    names = [name.split("#")[0] for name, _ in spread(texts, 10)]
    assert names == [f"t{i:03}" for i in range(0, 100, 10)]
    few = [name.split("#")[0] for name, _ in spread(texts[:3], 6)]
    assert few == ["t000", "t000", "t001", "t001", "t002", "t002"]


def test_too_little_text_is_said(
    books: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (books / f"{min(HELD_OUT_BOOKS)}.txt").write_text("short", encoding="utf-8")
    (books / f"{sorted(HELD_OUT_BOOKS)[1]}.txt").write_text("short", encoding="utf-8")
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["make_held_out", "--prose", str(books), "--out", str(out)])
    with pytest.raises(SystemExit, match=r"pieces of prose where 32 are wanted"):
        make_held_out.main()
    assert not list(out.glob("*.jsonl"))


def test_few_texts_give_pieces_from_all_over_them() -> None:
    """Of a whole book not only the beginning."""
    text = "\n\n".join(f"{n} " + "word " * 40 for n in range(1000))
    numbers = [int(name.split("#")[1]) for name, _ in spread([("a", text), ("b", text)], 8)]
    first = sorted(numbers)[::2]
    assert first == sorted(numbers)[1::2]
    quarters = [number * 4 // len(pieces(text)) for number in first]
    assert quarters == [0, 1, 2, 3]


def test_prose_of_it_is_of_whole_books_that_are_held_out() -> None:
    books = {record["id"].removeprefix("prose/").rsplit("#")[0] for record in records("prose")}
    assert books == HELD_OUT_BOOKS
