"""What audits may cost, whatever is earned and asked for in which order."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.trust.purse import (
    FIRST,
    FULL,
    LISTS_FIRST,
    LISTS_FULL,
    LISTS_RESERVE,
    LISTS_SHARE,
    SHARE,
    Purse,
)

TOKENS, LISTS = st.integers(0, 16_384), st.integers(0, 64)


@dataclass
class Ledger:
    """What went in and out. `credit`: of what was paid for audits that had begun."""

    purse: Purse = field(default_factory=Purse)
    tokens: float = FIRST
    lists: float = LISTS_FIRST
    urgent: float = 0.0

    def earn(self, tokens: int, lists: int) -> None:
        self.purse.earn(tokens, lists)
        self.tokens += SHARE * tokens
        self.lists += LISTS_SHARE * lists

    def pay(self, tokens: int, lists: int, is_urgent: bool) -> None:
        had = self.purse.left, self.purse.lists_left
        paid = self.purse.pay(tokens, lists, is_urgent=is_urgent)
        reserve = 0 if is_urgent else LISTS_RESERVE
        assert paid == (tokens <= had[0] and lists <= had[1] - reserve)
        assert (self.purse.left, self.purse.lists_left) == (
            (had[0] - tokens, had[1] - lists) if paid else had
        )
        if paid:
            self.tokens -= tokens
            self.lists -= lists


STEPS = st.lists(st.tuples(st.sampled_from(["earn", "some", "urgent"]), TOKENS, LISTS))


@given(STEPS)
def test_no_audit_is_begun_that_was_not_earned(steps: list[tuple[str, int, int]]) -> None:
    found = Ledger()
    for what, tokens, lists in steps:
        if what == "earn":
            found.earn(tokens, lists)
        else:
            found.pay(tokens, lists, what == "urgent")
        assert 0 <= found.purse.left <= min(FULL, found.tokens + 1e-6)
        assert 0 <= found.purse.lists_left <= min(LISTS_FULL, found.lists + 1e-6)


@given(STEPS)
def test_credit_is_bounded_and_the_next_audit_waits_until_it_is_earned(
    steps: list[tuple[str, int, int]],
) -> None:
    purse = Purse()
    for what, tokens, lists in steps:
        if what == "earn":
            purse.earn(tokens, lists)
        elif what == "urgent":
            purse.pay(tokens, lists, is_urgent=True)
        else:
            had = purse.left, purse.lists_left
            went_on = purse.go_on(tokens, lists)
            assert went_on or (purse.left, purse.lists_left) == had
        assert purse.left >= -FIRST - 16_384
        assert purse.lists_left >= -LISTS_RESERVE - 64
        is_in_debt = purse.left < 0 or purse.lists_left < 0
        assert not (is_in_debt and purse.pay(0, 0, is_urgent=True))


def test_one_that_was_begun_with_the_last_lists_goes_on() -> None:
    purse = Purse()
    while purse.pay(1, 10, is_urgent=True):
        pass
    assert purse.lists_left < 10
    assert purse.go_on(1, 10)
    assert not purse.pay(1, 10, is_urgent=True)
    purse.earn(0, 1000)
    assert purse.pay(1, 10, is_urgent=True)


def test_urgent_ones_are_paid_from_what_others_leave() -> None:
    purse = Purse()
    while purse.pay(1, 10, is_urgent=False):
        pass
    assert purse.lists_left == LISTS_RESERVE
    assert purse.pay(1, 10, is_urgent=True)
