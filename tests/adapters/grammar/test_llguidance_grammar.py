"""Laws of grammars over a vocabulary: whatever is drawn under the mask is a text of the grammar,
and hostile sources are refused in one sentence."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmllm.adapters.grammar.grammars import Grammars
from swarmllm.adapters.grammar.llguidance_grammar import TokenTable, compile_grammar
from swarmllm.core.grammar import SOURCE_BYTES_MAX, GrammarSource
from swarmllm.core.tool_calls import Arguments, CallBegan, CallReader, Offer
from swarmllm.core.vocabulary import Vocabulary, ends_of
from swarmllm.errors import LocalError, UsageError

CONTROL, END = 300, 301


def vocabulary(spaced: bool = False) -> Vocabulary:
    """All bytes, some words (with a blank in front, as both families of tokenizers have them), and
    two control tokens. `spaced`: as SentencePiece, which puts a blank before a text."""
    words = [b'{"', b'":', b'",', b"true", b" the", b'"a', b"ab", b"}", b"10", b'":"', b'"}']
    pieces = [bytes([i]) for i in range(256)] + words
    pieces += [b""] * (END + 1 - len(pieces))
    return Vocabulary(
        fingerprint=bytes(31) + bytes([spaced]),
        bos=CONTROL,
        add_bos=True,
        eog=frozenset({END}),
        pieces=b"".join(pieces),
        ends=ends_of(pieces),
        space_prefix=spaced,
    )


TABLE = TokenTable(vocabulary())


def source(schema: object) -> GrammarSource:
    return GrammarSource("json_schema", json.dumps(schema))


def written(
    found: GrammarSource, seed: int, *, forces: bool = True, table: TokenTable = TABLE
) -> str:
    """A text drawn evenly from what is allowed; what is forced is written as it is told, or token
    by token."""
    rng = random.Random(seed)
    ids: list[int] = []
    constraint = compile_grammar(found, table).begin()
    while not constraint.is_done() and len(ids) < 3000:
        if forces and (forced := constraint.forced()):
            ids += forced
            constraint.commit(forced)
            continue
        allowed = constraint.allowed().ids().tolist()
        if constraint.may_end() and (not allowed or rng.random() < 0.3):
            break
        assert CONTROL not in allowed
        assert END not in allowed
        # Closing is preferred, so that texts end.
        closing = [i for i in allowed if i < 300 and table.tokens[i][:1] in (b'"', b"}", b"]")]
        token = rng.choice(closing if closing and rng.random() < 0.5 else allowed)
        ids.append(token)
        constraint.commit((token,))
    assert constraint.may_end()
    return b"".join(table.tokens[i] for i in ids).decode()


LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
        st.integers(-1000, 1000),
        st.integers(0, 500),
    ),
    st.builds(lambda size: {"type": "string", "maxLength": size}, st.integers(0, 12)),
    st.builds(
        lambda words: {"enum": words},
        st.lists(st.text(max_size=8) | st.integers(-99, 99), min_size=1, max_size=5),
    ),
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(
            lambda items, most: {"type": "array", "items": items, "maxItems": most},
            inner,
            st.integers(0, 3),
        ),
        st.builds(
            lambda parts: {
                "type": "object",
                "properties": parts,
                "required": sorted(parts),
                "additionalProperties": False,
            },
            st.dictionaries(st.sampled_from("abcde"), inner, min_size=1, max_size=3),
        ),
        st.builds(lambda ways: {"anyOf": ways}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=6,
)


@pytest.mark.parametrize(
    "bounds",
    [
        {"minimum": -(2**53) + 1, "maximum": 2**53 - 1},
        {"minimum": 0, "maximum": 2**63 - 1},
        {"exclusiveMinimum": 0, "maximum": 2**64 - 1},
    ],
    ids=str,
)
def test_the_bounds_that_other_languages_write_where_nobody_chose_one_are_taken(
    bounds: dict[str, int],
) -> None:
    schema = {"type": "integer", **bounds}
    for seed in range(20):
        jsonschema.validate(json.loads(written(source(schema), seed, forces=True)), schema)


@settings(max_examples=60, deadline=None)
@given(SCHEMAS, st.integers(0, 99), st.booleans())
def test_whatever_is_drawn_validates(schema: Any, seed: int, forces: bool) -> None:
    jsonschema.validate(json.loads(written(source(schema), seed, forces=forces)), schema)


def test_forced_tokens_say_what_asked_tokens_say() -> None:
    schema = {
        "type": "object",
        "properties": {"setting": {"const": "hedge_cost"}, "up": {"const": True}},
        "required": ["setting", "up"],
        "additionalProperties": False,
    }
    texts = {written(source(schema), seed, forces=f) for seed in range(4) for f in (True, False)}
    assert texts == {'{"setting":"hedge_cost","up":true}'}
    assert len(compile_grammar(source(schema), TABLE).begin().forced()) > 4


def test_other_kinds_and_vocabularies() -> None:
    spaced = TokenTable(vocabulary(spaced=True))
    for table in (TABLE, spaced):
        assert re.fullmatch(
            "(ab|ba){2,5}", written(GrammarSource("regex", "(ab|ba){2,5}"), 3, table=table)
        )
        lark = GrammarSource("lark", 'start: "x" ("+" "x")*')
        assert re.fullmatch(r"x(\+x)*", written(lark, 1, table=table))
        assert isinstance(json.loads(written(GrammarSource("json_object"), 5, table=table)), dict)


def test_a_control_token_is_never_allowed() -> None:
    lark = GrammarSource("lark", f"start: <[{CONTROL}]>")
    constraint = compile_grammar(lark, TABLE).begin()
    assert not len(constraint.allowed())
    with pytest.raises(LocalError, match="control token"):
        constraint.forced()


def nested(levels: int) -> str:
    return '{"items":' * levels + "{}" + "}" * levels


def doubling(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        found = {"allOf": [{"anyOf": [found, {"minLength": 1}]}, {"anyOf": [found, found]}]}
    return found


HOSTILE = {
    "empty": GrammarSource("regex", ""),
    "no kind": GrammarSource("prose", "a"),  # type: ignore[arg-type]
    "too long": GrammarSource("regex", "a" * (SOURCE_BYTES_MAX + 1)),
    "no JSON": GrammarSource("json_schema", "{nope"),
    "a list": GrammarSource("json_schema", "[]"),
    "deep": GrammarSource("json_schema", nested(5000)),
    "rather deep": GrammarSource("json_schema", nested(40)),
    "a giant enum": source({"enum": list(range(10_001))}),
    "exponential": source(doubling(6)),
    "refers to itself": source({"$ref": "#"}),
    "refers to the network": source({"$ref": "http://example.com/x"}),
    "a large multiple": source({"multipleOf": 99_991, "type": "integer"}),
    "a long text": source({"type": "string", "minLength": 10**7}),
    "a large number": source({"type": "integer", "minimum": -(10**30)}),
    "a pattern that repeats": source({"type": "string", "pattern": "(a?){300}a{300}"}),
    "a million": GrammarSource("regex", "a{1000000}"),
    "nested repeats": GrammarSource("regex", "(((a{100}){100}){100}){100}"),
    "look-around": GrammarSource("regex", "(?=a)b"),
    "an open group": GrammarSource("regex", "(("),
    "an unknown name": GrammarSource("lark", "start: foo"),
    "repeats in a grammar": GrammarSource("lark", "start: /(a{500}){500}/"),
}


@pytest.mark.parametrize("found", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_source_is_refused_in_one_sentence(found: GrammarSource) -> None:
    with pytest.raises(UsageError) as caught:
        compile_grammar(found, TABLE)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


async def _twice() -> None:
    grammars = Grammars()
    one = await grammars.compile(GrammarSource("regex", "a+"), vocabulary())
    assert await grammars.compile(GrammarSource("regex", "a+"), vocabulary()) is one
    assert await grammars.compile(GrammarSource("regex", "a*"), vocabulary()) is not one


def test_what_was_compiled_is_kept() -> None:
    trio.run(_twice)


OFFERED: Any = {
    "get": {"properties": {"city": {"type": "string", "maxLength": 9}}, "required": ["city"]},
    "now": {},
}


@pytest.mark.parametrize("least", [0, 1])
@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_what_begins_as_a_call_is_one_of_an_offered_tool_and_fits_its_schema(
    least: int, most: int, seed: int
) -> None:
    offer = Offer(tuple(OFFERED.items()), least, most)
    text = written(GrammarSource("tool_calls", offer.as_text()), seed)
    reader = CallReader()
    parts = reader.push(text) + reader.finish()
    names = [part.name for part in parts if isinstance(part, CallBegan)]
    assert least <= len(names) <= most
    for i, name in enumerate(names):
        calls = "".join(p.text for p in parts if isinstance(p, Arguments)) if i == 0 else "{}"
        if len(names) == 1:
            jsonschema.validate(json.loads(calls), OFFERED[name])


def test_a_text_that_writes_the_mark_has_begun_a_call() -> None:
    offer = Offer(tuple(OFFERED.items()))
    constraint = compile_grammar(GrammarSource("tool_calls", offer.as_text()), TABLE).begin()
    constraint.commit(list(b"so <tool_call>"))
    assert not constraint.may_end()
    forced = b"".join(TABLE.tokens[token] for token in constraint.forced())
    assert b'\n{"name": "'.startswith(forced[:11])
    assert forced


def test_the_bounds_of_schemas_hold_for_the_parameters_of_tools() -> None:
    wide = {"properties": {"a": {"type": "string", "pattern": "a{9999999}"}}}
    with pytest.raises(UsageError, match="repetitions"):
        compile_grammar(GrammarSource("tool_calls", Offer((("get", wide),)).as_text()), TABLE)
