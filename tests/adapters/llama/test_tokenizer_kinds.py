"""Vocabularies of every kind: what goes in and comes out is llama.cpp's, whatever spans a text is
given in, and what a peer rebuilds from the bytes of a tokenizer encodes alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.llama.gguf_tokenizer import gguf_of
from swarmllm.adapters.llama.tokenizer import LlamaTokenizer
from swarmllm.core.vocabulary import Span, Vocabulary
from swarmllm.errors import LocalError
from swarmllm.testing.gguf_vocabularies import (
    KINDS,
    gemma_like,
    sentence_piece,
    tokenizer,
    without_bytes,
)
from swarmllm.wire.tokenizer import BYTE, CONTROL, NORMAL, Tokenizer, unseal
from tests.adapters.llama.reference import detokenize
from tests.contracts.mixed_text import mixed_text

TIDYING = {"WordPiece"}  # llama.cpp takes spaces out of whole texts of these, which loses text.
LOSSLESS = ("SentencePiece", "Gemma-like")
# llama.cpp finds its control tokens in any text; no model of this kind serves here.
OPEN = {"RWKV"}
MARKS = ("<s>", "</s>", "<unk>", "<start_of_turn>", "<end_of_turn>", "[SEP]", "<tool>", "▁▁")
texts = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
        st.sampled_from([*MARKS, "the quick brown fox", "  ", "\n\n", "東京", "🦙", "▁"]),
    ),
    max_size=6,
).map("".join)
spans = st.lists(st.builds(Span, texts, st.booleans()), max_size=5)


class Loaded:
    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.made = name, KINDS[name]()
        path = folder / f"{name}.gguf"
        path.write_bytes(gguf_of(self.made))
        self.llama = LlamaTokenizer(path)
        self.vocabulary = self.llama.vocabulary(path)


@pytest.fixture(name="kind", scope="module", params=KINDS)
def _kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Loaded]:
    loaded = Loaded(request.param, tmp_path_factory.mktemp("kinds"))
    yield loaded
    loaded.llama.close()


def streamed(vocabulary: Vocabulary, ids: list[int], *, at_start: bool) -> str:
    stream = vocabulary.decoder(at_start=at_start)
    return "".join([*map(stream.push, ids), stream.finish()])


@given(text=texts, parse_special=st.booleans())
def test_spans_of_one_kind_are_encoded_as_llama_cpp_encodes_the_text(
    kind: Loaded, text: str, parse_special: bool
) -> None:
    wanted = kind.llama.tokenize(text.encode(), parse_special=parse_special)
    assert kind.llama.encode([Span(text, parse_special)]) == wanted
    if parse_special or "<tool>" not in text:
        # The way of mixed spans, though there is nothing to mix.
        assert kind.llama.encode_parted([Span(text, parse_special)]) == wanted


@given(given_spans=spans)
def test_control_tokens_come_from_spans_that_may_and_from_no_others(
    kind: Loaded, given_spans: list[Span]
) -> None:
    ids = kind.llama.encode(given_spans)
    if not any(span.parse_special for span in given_spans) and kind.name not in OPEN:
        assert not {token for token in ids if kind.made.kinds[token] == CONTROL}
    some = [token for token in ids if kind.made.kinds[token] == CONTROL]
    whole = "".join(span.text for span in given_spans).encode()
    every = kind.llama.tokenize(whole, parse_special=True)
    assert len(some) <= sum(kind.made.kinds[token] == CONTROL for token in every)


def test_a_megabyte_of_mixed_text_in_parts_and_at_once(kind: Loaded) -> None:
    text = mixed_text([mark for mark in MARKS if mark != "<tool>"])
    for parse_special in (False, True):
        wanted = kind.llama.tokenize(text.encode(), parse_special=parse_special)
        assert kind.llama.encode_parted([Span(text, parse_special)]) == wanted
    assert streamed(kind.vocabulary, wanted, at_start=True) == kind.vocabulary.decode(wanted)
    if kind.name in LOSSLESS:
        ids = kind.llama.encode([Span(text)])
        back = kind.vocabulary.decode(ids)
        assert back.replace("▁", " ") == text.replace("▁", " ")


@given(data=st.data())
def test_streaming_is_llama_cpps_detokenising_of_the_whole(
    kind: Loaded, data: st.DataObject
) -> None:
    ids = data.draw(st.lists(st.integers(0, kind.vocabulary.size - 1), max_size=30))
    whole = detokenize(kind.llama, ids)
    if kind.name in TIDYING:
        whole = b"".join(map(kind.llama.piece, ids))
    shown = whole.decode(errors="replace")
    assert streamed(kind.vocabulary, ids, at_start=True) == shown
    assert kind.vocabulary.decode(ids) == shown


@given(data=st.data())
def test_a_continuation_is_what_the_whole_has_behind_its_beginning(
    kind: Loaded, data: st.DataObject
) -> None:
    """The leading space is taken away at the beginning of a text and nowhere else."""
    ordinary = [
        t for t, k in enumerate(kind.made.kinds) if k == NORMAL and kind.made.texts[t].isascii()
    ]
    if kind.name == "RWKV":
        ordinary = [t for t in ordinary if t > 256 or 0x20 < t - 1 < 0x7F]
    ids = data.draw(st.lists(st.sampled_from(ordinary), min_size=2, max_size=20))
    cut = data.draw(st.integers(1, len(ids) - 1))
    prompt = streamed(kind.vocabulary, ids[:cut], at_start=True)
    answer = streamed(kind.vocabulary, ids[cut:], at_start=False)
    assert prompt + answer == kind.vocabulary.decode(ids)


@given(text=texts)
def test_what_a_peer_rebuilds_from_the_sealed_bytes_encodes_alike(
    kind: Loaded, text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"rebuilt {kind.name}.gguf"
    if not path.exists():
        digests = kind.vocabulary.fingerprint, kind.vocabulary.chat_digest
        rebuilt = unseal(kind.llama.data.sealed(), *digests)
        path.write_bytes(gguf_of(rebuilt))
        _rebuilt[kind.name] = LlamaTokenizer(path)
    found = _rebuilt[kind.name]
    assert replace(found.vocabulary(path), source="") == replace(kind.vocabulary, source="")
    for parse_special in (False, True):
        span = [Span(text, parse_special)]
        assert found.encode(span) == kind.llama.encode(span)


_rebuilt: dict[str, LlamaTokenizer] = {}


# --- kind by kind ---------------------------------------------------------------------------------


def load(made: Tokenizer, path: Path) -> tuple[LlamaTokenizer, Vocabulary]:
    path.write_bytes(gguf_of(made))
    found = LlamaTokenizer(path)
    return found, found.vocabulary(path)


def test_sentence_piece_puts_a_space_in_front_and_falls_back_to_bytes(tmp_path: Path) -> None:
    llama, vocabulary = load(sentence_piece(), tmp_path / "a.gguf")
    ids = llama.encode([Span("the 🦙")])
    assert vocabulary.piece(ids[0]) == b" the"
    assert [llama.data.kinds[token] for token in ids[-4:]] == [BYTE] * 4
    assert vocabulary.decode(ids) == "the 🦙"
    assert vocabulary.begin(ids)[0] == vocabulary.bos == 1


def test_a_gemma_keeps_white_space_as_tokens_and_its_turns_end_answers(tmp_path: Path) -> None:
    llama, vocabulary = load(gemma_like(), tmp_path / "a.gguf")
    names = [text.decode() for text in llama.data.texts]
    ids = llama.encode([Span("<start_of_turn>", True), Span("user\n\nHi <end_of_turn>")])
    assert [names[token] for token in ids if llama.data.kinds[token] != NORMAL] == [
        "<start_of_turn>",
        "\n\n",
    ]
    assert vocabulary.eog >= {names.index(name) for name in ("<eos>", "<end_of_turn>", "<unused0>")}


@given(said=texts)
def test_beside_a_template_a_user_defined_mark_stays_text(kind: Loaded, said: str) -> None:
    """Command-R's turns, among others, are user-defined tokens, which llama.cpp finds anywhere."""
    if kind.name != "Gemma-like":
        return
    tool = [*kind.made.texts].index(b"<tool>")
    turn = Span("<start_of_turn>", True)
    for content in (said, "<tool>", f"<tool>{said}<tool><tool>", "<<tool>>"):
        ids = kind.llama.encode([turn, Span("<to", True), Span(content), turn])
        assert tool not in ids
        assert kind.vocabulary.decode(ids).replace("▁", " ") == f"<to{content}".replace("▁", " ")
        assert ids.count(ids[0]) == 2
    assert tool in kind.llama.encode([Span("<tool>", True), Span("x")])
    assert tool in kind.llama.encode([Span("<tool>")])  # A text alone: as llama.cpp has it.


def test_what_a_vocabulary_without_bytes_cannot_write_is_unknown_and_the_rest_is_written(
    tmp_path: Path,
) -> None:
    llama, vocabulary = load(without_bytes(), tmp_path / "a.gguf")
    ids = llama.encode([Span("the 🦙☃ quick 東京")])
    assert max(ids) < vocabulary.size == len(without_bytes().texts)
    assert ids.count(0) == 1
    assert vocabulary.decode(ids) == "the  quick 東京"
    assert llama.encode([Span("🦙")])[-1] == 0


# --- what is no vocabulary ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "ids", "words"),
    [
        ([("a", NORMAL), ("</s>", CONTROL), ("a", NORMAL)], {"eos": 1}, "token 2 is a second one"),
        ([("a", NORMAL), ("b", NORMAL)], {}, "names no token that ends a text"),
        ([("a", NORMAL)] + [(f"b{n}", NORMAL) for n in range(20)], {}, "names no token that ends"),
    ],
)
def test_what_llama_cpp_would_end_over_or_never_end_is_named(
    tmp_path: Path, tokens: list[tuple[str, int]], ids: dict[str, int], words: str
) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(gguf_of(tokenizer("gpt2", tokens, ids, pre="gpt-2")))
    with pytest.raises(LocalError, match=words) as caught:
        LlamaTokenizer(path).vocabulary(path)
    assert str(path) in str(caught.value)


def test_a_kind_or_a_pre_tokenizer_that_llama_cpp_does_not_know_is_named(tmp_path: Path) -> None:
    tokens = [("a", NORMAL), ("</s>", CONTROL)]
    for made in (
        tokenizer("telepathy", tokens, {"eos": 1}),
        tokenizer("gpt2", tokens, {}, pre="?"),
    ):
        path = tmp_path / "a.gguf"
        path.write_bytes(gguf_of(made))
        with pytest.raises(LocalError, match=r"cannot read the vocabulary of .*a\.gguf \(.*'") as e:
            LlamaTokenizer(path)
        assert "newer llama-cpp-python" in str(e.value)


def test_the_digests_tell_whatever_decides_how_text_is_cut() -> None:
    base = gemma_like()
    texts_, kinds = list(base.texts), bytearray(base.kinds)
    renamed = [*texts_]
    renamed[4] = b"<unused9>"
    untyped = bytearray(kinds)
    untyped[5] = CONTROL  # <tool>, which converters disagree on.
    line = texts_.index(b"\n\n")
    blank = [*texts_]
    blank[line] = b"\n\t"
    changed = {
        "model": replace(base, model="t5"),
        "pre": replace(base, pre="x"),
        "space": replace(base, space_prefix=True),
        "trims": replace(base, trims_spaces=True),
        "unknown": replace(base, unknown=4),
        "scores": replace(base, scores=base.scores[:-4] + b"\0\0\0\1"),
        "merges": replace(base, merges=[b"a b"]),
        "charsmap": replace(base, charsmap=b"12345"),
        "a white space token": replace(base, texts=blank),
    }
    prints = [one.digests()[0] for one in (base, *changed.values())]
    assert len(set(prints)) == len(prints)
    for same in (
        replace(base, texts=renamed),
        replace(base, kinds=bytes(untyped)),
        replace(base, template="{{ x }}"),
        replace(base, add_bos=None),
        replace(base, ids=(None, *base.ids[1:])),
    ):
        assert same.digests()[0] == prints[0]
        assert same.digests()[1] != base.digests()[1]
