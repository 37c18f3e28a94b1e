"""One entry of the ledger in one line."""

from __future__ import annotations

from swarmllm.cli.ledger.entries import Entry


def test_what_says_nothing_is_left_out_and_a_count_of_none_stays() -> None:
    fields = {"prev_hash": "0" * 64, "expires_ms": 0, "beacon_ttl_s": 0, "version": 0, "name": "x"}
    assert Entry(0, "charter", 0, b"", "Charter", fields, ()).words() == "version 0, name x"
