"""The rolling hash: one for each prefix, and another for another prefix. Cites protocols/expert.md
(EXPERT)."""

from __future__ import annotations

from hashlib import blake2b

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.messages import VOCABULARY_MAX
from swarmllm.wire.context import EMPTY, digests, extend

tokens = st.lists(st.integers(0, VOCABULARY_MAX - 1), max_size=30)


@given(tokens)
def test_one_digest_for_each_prefix(given_tokens: list[int]) -> None:  # EXPERT-7
    found = digests(given_tokens)
    assert len(found) == len(given_tokens) + 1
    assert found[0] == EMPTY == bytes(8)
    for i, token in enumerate(given_tokens):
        assert found[i + 1] == extend(found[i], token)
        assert digests(given_tokens[: i + 1])[-1] == found[i + 1]


@given(tokens, st.data())
# EXPERT-7
def test_a_changed_token_changes_every_later_digest(
    given_tokens: list[int], data: st.DataObject
) -> None:
    if not given_tokens:
        return
    at = data.draw(st.integers(0, len(given_tokens) - 1))
    changed = [*given_tokens]
    changed[at] = (changed[at] + data.draw(st.integers(1, VOCABULARY_MAX - 1))) % VOCABULARY_MAX
    before, after = digests(given_tokens), digests(changed)
    assert before[: at + 1] == after[: at + 1]
    assert all(a != b for a, b in zip(before[at + 1 :], after[at + 1 :], strict=True))


def test_the_digest_is_blake2b_of_digest_and_token() -> None:  # EXPERT-7
    assert (
        extend(EMPTY, 128_000)
        == blake2b(bytes(8) + (128_000).to_bytes(4, "big"), digest_size=8).digest()
    )
