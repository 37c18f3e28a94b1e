"""Additions to signed records are found among others that are unknown or cut off (WIRE-7)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.wire.ext import CHAT_DIGEST, addition, additions, chat_digest_in

parts = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=20)), max_size=4)


@given(parts)
def test_what_was_added_is_found_and_the_first_of_each_type_counts(
    added: list[tuple[int, bytes]],
) -> None:
    found = additions(b"".join(addition(kind, value) for kind, value in added))
    assert found == dict(reversed(added))


@given(st.binary(max_size=64))
def test_any_bytes_are_read(ext: bytes) -> None:
    assert sum(2 + len(value) for value in additions(ext).values()) <= len(ext)
    assert len(chat_digest_in(ext)) == 8


def test_a_chat_digest_of_another_length_is_none() -> None:
    assert chat_digest_in(addition(CHAT_DIGEST, b"12345678")) == b"12345678"
    assert chat_digest_in(addition(CHAT_DIGEST, b"1234567")) == bytes(8)
