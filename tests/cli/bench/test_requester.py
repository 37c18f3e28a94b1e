"""What `swarmllm bench --only requester` measures."""

from __future__ import annotations

from swarmllm.cli.bench import requester


def test_a_token_is_measured_with_each_number_of_experts_and_a_position_with_drafts() -> None:
    found = list(requester.measure(20, lambda _: None))
    *strict, drafted = found
    assert [one.parameters["k"] for one in strict] == [1, 2, 4]
    assert all(one.value > 0 for one in found)
    assert drafted.parameters["k"] == 4
    positions = drafted.parameters["positions"]
    assert isinstance(positions, int)
    assert positions > 1
