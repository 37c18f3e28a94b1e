"""The number of threads follows what is quicker, and costs little to find out."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from swarmllm.adapters.llama.threads import Threads

Machine = Callable[[int, int], float]
"""(rows, threads): seconds of a batch."""


def idle(rows: int, threads: int) -> float:
    """All cores are there; a batch of one row is bound by memory, the others are not."""
    return 0.0055 if rows == 1 and threads > 1 else 0.006 if rows == 1 else 0.004 * rows / threads


def busy(rows: int, threads: int) -> float:
    """Only one core is there: threads wait for each other."""
    return 0.006 * rows * (1 if threads == 1 else 4)


def shared(rows: int, threads: int) -> float:
    """Half of the cores are there."""
    return 0.01 * rows / threads if threads <= 8 else 0.05 * rows


def computes(threads: Threads, machine: Machine, rows: int, steps: int) -> list[int]:
    """The numbers of threads that so many batches were computed with."""
    used = []
    for _ in range(steps):
        used.append(threads.choose(rows))
        threads.took(rows, machine(rows, used[-1]))
    return used


def test_an_idle_machine_gives_all_its_threads_but_for_a_trial_now_and_then() -> None:
    for rows in (1, 8, 16, 300):
        used = computes(Threads(2), idle, rows, 200)
        assert used[:10] == [2] * 10
        assert used.count(1) <= 6
        assert used[-1] == 2


def test_a_busy_machine_gets_one_thread_and_an_idle_one_all_again() -> None:
    threads = Threads(2)
    assert computes(threads, busy, 16, 100)[13:].count(2) <= 3
    assert computes(threads, idle, 16, 4000)[-100:].count(1) <= 4


def test_a_machine_that_gets_busy_is_noticed_within_some_batches() -> None:
    threads = Threads(2)
    computes(threads, idle, 16, 300)
    assert computes(threads, busy, 16, 30)[8:].count(2) <= 1


def test_a_machine_that_is_slower_with_any_number_of_threads_is_tried_once() -> None:
    threads = Threads(2)
    computes(threads, idle, 16, 100)
    assert computes(threads, lambda rows, n: 5 * idle(rows, n), 16, 60).count(1) <= 3


def test_a_machine_that_gets_a_little_slower_is_noticed_within_some_seventy_batches() -> None:
    threads = Threads(2)
    computes(threads, idle, 16, 300)
    crowded = {1: 0.04, 2: 0.06}
    assert computes(threads, lambda _, n: crowded[n], 16, 120)[-50:].count(2) <= 2


@pytest.mark.parametrize("seed", range(20))
def test_batches_that_something_else_held_up_prove_nothing(seed: int) -> None:
    rng = random.Random(seed)

    def disturbed(rows: int, threads: int) -> float:
        return idle(rows, threads) * (5 if rng.random() < 0.1 else 1)

    assert computes(Threads(2), disturbed, 16, 1000).count(1) <= 20


def test_what_is_between_one_thread_and_all_is_found() -> None:
    threads = Threads(16)
    assert computes(threads, shared, 16, 4000)[-200:].count(8) >= 180


def test_batches_of_other_sizes_know_nothing_of_each_other() -> None:
    threads = Threads(2)
    computes(threads, busy, 1, 100)
    assert threads.choose(1) == 1
    assert threads.choose(16) == 2


def test_no_more_threads_than_are_allowed() -> None:
    for most in (1, 3, 5):
        used = computes(Threads(most), busy, 4, 500) + computes(Threads(most), idle, 4, 500)
        assert set(used) <= set(range(1, most + 1))
