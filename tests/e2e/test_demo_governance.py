"""`swarmllm demo --governance --json` shows what it claims to show, with three real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import run

pytestmark = pytest.mark.slow

DEADLINE_S = 280.0
CHECKS = [
    "one_charter_everywhere",
    "a_suggestion_is_only_shown",
    "one_vote_is_not_enough",
    "a_canary_tries_it_first",
    "promoted_after_the_canary",
    "the_router_does_as_was_voted",
    "an_unknown_action_ends_at_deploy_major",
    "a_large_change_waits",
    "three_changes_are_in_force",
    "in_force_after_its_review",
    "a_halt_takes_three_changes_back",
    "halted_nothing_is_put_into_force",
    "resumed_by_two",
    "clean_farewell",
    "a_ledger_is_whole",
    "an_edited_entry_is_found",
]


def test_three_nodes_are_changed_by_votes_and_by_nothing_else(tmp_path: Path) -> None:
    done = run(tmp_path, "demo", "--governance", "--json", deadline_s=DEADLINE_S)
    records = done.records()
    checks = [record for record in records if record["event"] == "check"]
    assert [check for check in checks if not check["ok"]] == []
    assert [check["name"] for check in checks] == CHECKS
    assert records[-1]["event"] == "summary"
    assert records[-1]["ok"]
    assert done.code == 0
