"""A halt takes back the agent's last changes, each once, and nothing that is not the agent's. Cites
protocols/halt.md (HALT)."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.agent.change_log import CHANGES_MAX, Journal, unpack
from swarmllm.core.settings.setting import Setting
from swarmllm.core.settings.table import EXPERTS, EXTRA
from swarmllm.errors import LocalError


def written(*changes: tuple[Setting[Any], int, int]) -> Journal:
    journal = Journal()
    for at, (setting, old, new) in enumerate(changes):
        journal.record(setting, old, new, at)
    return journal


K = EXPERTS


def test_the_last_changes_are_taken_back_newest_first() -> None:  # HALT-28
    journal = written((K, 3, 4), (EXTRA, 1, 2), (K, 4, 5))
    taken = journal.revert_last(3)
    assert [(one.setting, one.old) for one in taken] == [(K, 4), (EXTRA, 1), (K, 3)]
    values = {K: 5, EXTRA: 2}
    for one in taken:
        values[one.setting] = one.old
    assert values == {K: 3, EXTRA: 1}


def test_a_change_is_taken_back_once() -> None:  # HALT-28
    journal = written((K, 3, 4), (K, 4, 5), (K, 5, 6), (K, 6, 7))
    assert [one.number for one in journal.revert_last(2)] == [4, 3]
    assert journal.revert_last(2) == []
    assert unpack(journal.pack()).revert_last(2) == []
    journal.record(K, 5, 8, 9)
    assert [one.number for one in journal.revert_last(2)] == [5]


def test_reverting_none_or_more_than_there_are_is_no_fault() -> None:
    journal = written((K, 3, 4))
    assert journal.revert_last(0) == []
    assert len(journal.revert_last(16)) == 1
    assert Journal().revert_last(3) == []


def test_a_value_out_of_bounds_is_not_written_down() -> None:
    journal = Journal()
    for old, new in ((0, 3), (3, 65)):
        with pytest.raises(LocalError, match=r"answer\.experts cannot be"):
            journal.record(K, old, new, 0)
    assert journal.changes == ()


changes = st.lists(
    st.tuples(st.sampled_from([K, EXTRA]), st.integers(1, 4), st.integers(1, 4)), max_size=20
)


@given(changes, st.lists(st.integers(0, 5), max_size=4))
def test_a_journal_comes_back_as_it_was(
    rows: list[tuple[Setting[Any], int, int]], reverts: list[int]
) -> None:
    journal = written(*rows)
    for count in reverts:
        journal.revert_last(count)
    again = unpack(journal.pack())
    assert again.changes == journal.changes
    assert again.record(K, 1, 2, 0) == journal.record(K, 1, 2, 0)


@given(st.data())
def test_a_damaged_journal_sets_nothing(data: st.DataObject) -> None:
    packed = written((K, 3, 4), (EXTRA, 1, 2)).pack()
    at = data.draw(st.integers(0, len(packed) - 1))
    injured = packed[:at] + bytes((packed[at] ^ data.draw(st.integers(1, 255)),)) + packed[at + 1 :]
    for broken in (injured, packed[:at], packed + b"\0", b""):
        with pytest.raises(LocalError, match="journal"):
            unpack(broken)


def test_an_entry_out_of_bounds_is_refused_even_with_a_good_checksum() -> None:
    journal = written((K, 3, 4))
    body = bytearray(journal.pack()[:-32])
    body[-26] = 99  # The lowest byte of the code: 1 + 8 + 8 + 8 + 1 bytes from the end.
    with pytest.raises(LocalError, match="is no setting"):
        unpack(bytes(body) + sha256(bytes(body)).digest())


def test_the_oldest_go_first_and_numbers_are_never_used_again() -> None:
    journal = written(*[(K, 3, 4)] * (CHANGES_MAX + 5))
    assert len(journal.changes) == CHANGES_MAX
    assert (journal.changes[0].number, journal.changes[-1].number) == (6, CHANGES_MAX + 5)
    assert len(unpack(journal.pack()).changes) == CHANGES_MAX
