"""Names and addresses in records: exactly the characters of our own list, on every version of
everything."""

from __future__ import annotations

import importlib.util
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swarmllm.wire.names import ADDRESS_CHARACTERS, NAME_CHARACTERS, clip_name, is_address, is_name
from tests import ROOT

VECTORS = json.loads((ROOT / "protocols/vectors/names.json").read_text("utf-8"))


def test_the_published_vectors_say_what_the_code_does() -> None:  # CAP-16
    for kind, rule in (("names", is_name), ("addresses", is_address)):
        assert {text: rule(text) for text in VECTORS[kind]["valid"]} == dict.fromkeys(
            VECTORS[kind]["valid"], True
        )
        assert {text: rule(text) for text in VECTORS[kind]["invalid"]} == dict.fromkeys(
            VECTORS[kind]["invalid"], False
        )
    assert {text: clip_name(text, 12) for text in VECTORS["clipped to 12"]} == VECTORS[
        "clipped to 12"
    ]


@pytest.mark.parametrize("name", ["make_record_vectors"])
def test_the_published_vectors_are_up_to_date(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr("sys.argv", [name, "--check"])
    assert script.main() == 0


@given(st.characters())
@example("\U0001fae8")  # Printable on Python 3.12 and not on 3.11.
def test_a_character_counts_by_the_list_alone(letter: str) -> None:
    assert is_name(f"a{letter}b") == (letter in NAME_CHARACTERS)
    assert is_address(f"/{letter}") == (letter in ADDRESS_CHARACTERS)


@given(st.text(max_size=60), st.integers(1, 40))
@example("Llama\x1b[2J \ud800 名前 \u202eevil", 20)
@example(" " * 30 + "x", 3)
def test_what_is_clipped_is_a_name_or_nothing(text: str, size_max: int) -> None:  # CAP-16
    clipped = clip_name(text, size_max)
    assert len(clipped) <= size_max
    assert not clipped or is_name(clipped)
    if (
        is_name(text)
        and len(text) <= size_max
        and any(one.isascii() and one.isalnum() for one in text)
    ):
        assert clipped == text
