"""The contract of `runtime.ports.Ledger`: what every implementation does. Subclass it and give
`make`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmllm.core.ledger.entry import LedgerEntry, LedgerKind
from swarmllm.core.ledger.merkle import EMPTY_ROOT, Frontier, leaf_hash, verify_consistency
from swarmllm.messages import PeerId
from swarmllm.runtime.ledger_performer import leaf_of
from swarmllm.runtime.ports import Ledger, LedgerWrites

Make = Callable[[], Ledger]


def leaf(number: int) -> bytes:
    return leaf_of(LedgerEntry(LedgerKind.COMMAND, b"%d" % number), 1_790_000_000_000 + number)


class LedgerContract(ABC):
    @abstractmethod
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        """A function that makes one new, empty ledger at each call."""

    def test_a_new_ledger_is_the_empty_tree(self, make: Make) -> None:
        ledger = make()
        assert (ledger.size, ledger.root, ledger.note, ledger.heads()) == (0, EMPTY_ROOT, b"", {})

    def test_however_entries_are_grouped_the_tree_is_the_same_and_every_proof_holds(
        self, make: Make
    ) -> None:
        @settings(max_examples=15, deadline=None)
        @given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
        def check(groups: list[int]) -> None:
            ledger, plain, roots = make(), Frontier(), [EMPTY_ROOT]
            for size in groups:
                first = ledger.size
                leaves = tuple(leaf(first + at) for at in range(size))
                ledger.write(LedgerWrites(leaves))
                for one in leaves:
                    list(plain.append(leaf_hash(one)))
                    roots.append(plain.root)
                assert ledger.size == plain.size
                assert ledger.root == plain.root
            for old in range(1, ledger.size + 1):
                assert ledger.root_at(old) == roots[old]
                proof = ledger.prove(old, ledger.size)
                assert proof is not None
                assert verify_consistency(old, ledger.size, roots[old], roots[-1], proof)

        check()

    def test_of_more_entries_than_there_are_nothing_is_proved(self, make: Make) -> None:
        ledger = make()
        ledger.write(LedgerWrites((leaf(0), leaf(1))))
        assert ledger.prove(1, 3) is None
        assert ledger.prove(0, 2) is None
        assert ledger.root_at(3) is None

    def test_a_payload_is_found_again_and_another_is_not(self, make: Make) -> None:
        ledger = make()
        ledger.write(LedgerWrites((leaf(7), leaf(8))))
        assert [ledger.holds(b"%d" % at) for at in (7, 8, 9)] == [True, True, False]

    def test_the_last_checkpoint_and_the_heads_are_kept_and_an_empty_head_is_forgotten(
        self, make: Make
    ) -> None:
        ledger, one, other = make(), PeerId("one"), PeerId("other")
        ledger.write(LedgerWrites(checkpoints=((3, b"three"), (5, b"five"))))
        ledger.write(
            LedgerWrites(
                checkpoints=((4, b"four"),),
                cosignatures=((5, one, b"line"),),
                heads=((one, b"1"), (other, b"2")),
            )
        )
        ledger.write(LedgerWrites(heads=((one, b"3"), (other, b""))))
        assert (ledger.note, ledger.heads()) == (b"five", {one: b"3"})
