"""The contract of `runtime.ports.Store`: what every implementation does. Subclass it and give
`make`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.errors import LocalError
from swarmllm.runtime.ports import KEY_BYTES_MAX, VALUE_BYTES_MAX, Store

Make = Callable[[], Store]


class StoreContract(ABC):
    @abstractmethod
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        """A function that makes one new, empty store at each call."""

    def test_what_was_never_saved_is_none(self, make: Make) -> None:
        assert make().load("absent") is None

    def test_the_last_value_saved_is_loaded_and_keys_are_apart(self, make: Make) -> None:
        store = make()
        store.save("a", b"1")
        store.save("b", b"2")
        store.save("a", b"3")
        assert (store.load("a"), store.load("b")) == (b"3", b"2")

    def test_stores_are_apart(self, make: Make) -> None:
        one, other = make(), make()
        one.save("a", b"1")
        assert other.load("a") is None

    def test_any_values_come_back_byte_for_byte(self, make: Make) -> None:
        store = make()
        keys = st.text(
            st.characters(exclude_categories=["Cs"]), min_size=1, max_size=KEY_BYTES_MAX // 4
        )

        @given(st.dictionaries(keys, st.binary(max_size=300), max_size=6))
        def check(values: dict[str, bytes]) -> None:
            for key, value in values.items():
                store.save(key, value)
            assert {key: store.load(key) for key in values} == values

        check()

    def test_an_empty_value_is_not_an_absent_one(self, make: Make) -> None:
        store = make()
        store.save("a", b"")
        assert store.load("a") == b""

    def test_a_value_at_the_bound_is_kept_and_one_byte_more_is_refused_and_changes_nothing(
        self, make: Make
    ) -> None:
        store = make()
        largest = bytes(VALUE_BYTES_MAX)
        store.save("a", largest)
        with pytest.raises(LocalError, match=str(VALUE_BYTES_MAX + 1)):
            store.save("a", largest + b"x")
        assert store.load("a") == largest

    @pytest.mark.parametrize("key", ["", "k" * (KEY_BYTES_MAX + 1), "ü" * (KEY_BYTES_MAX // 2 + 1)])
    def test_a_key_outside_its_bounds_is_refused(self, make: Make, key: str) -> None:
        store = make()
        with pytest.raises(LocalError):
            store.save(key, b"1")
        with pytest.raises(LocalError):
            store.load(key)
