"""What the console says of a vote before it is given, and who may give it."""

from __future__ import annotations

from typing import Any, Final

import pytest

from swarmllm.api.console.views import after_no, after_yes, can_propose, can_vote, voted_here
from swarmllm.core.governance.mandate import Tier
from tests.api.console.records import KEY_ID, everything

ANN: Final = {"id": KEY_ID, "name": "ann"}
BOB: Final = {"id": "0b" * 16, "name": "bob"}
OWN: Final = {"id": "", "name": "this node"}


def proposal(**more: Any) -> dict[str, Any]:
    found = everything()["proposals"]["proposals"][0]
    return {**found, "yes": [], "no": [], "double": [], **more}


def governance(**more: Any) -> dict[str, Any]:
    return {**everything()["governance"], "obstacle": "", **more}


def voting(*keys: dict[str, str], here: bool = True) -> dict[str, Any]:
    return {"here": here, "keys": list(keys), "faults": []}


def test_a_key_here_of_a_voter_who_has_not_voted_may_vote_on_what_is_open() -> None:
    both = voting(ANN, BOB)
    assert can_vote(proposal(), both, governance(), private=False) == [ANN]
    assert can_vote(proposal(), both, governance(voters=[]), private=False) == []
    assert can_vote(proposal(), voting(ANN, here=False), governance(), private=False) == []
    assert can_vote(proposal(), both, governance(obstacle="halted"), private=False) == []
    for said in ("yes", "no", "double"):
        assert can_vote(proposal(**{said: [KEY_ID]}), both, governance(), private=False) == []
    for more in ({"state": "enacted"}, {"needs": None}):
        assert can_vote(proposal(**more), both, governance(), private=False) == []


def test_a_voters_key_here_may_propose() -> None:
    assert can_propose(voting(ANN, BOB), governance(), private=False) == [ANN]
    assert can_propose(voting(), governance(), private=True) == [OWN]
    assert can_propose(voting(ANN), governance(obstacle="halted"), private=False) == []
    assert can_propose(voting(ANN, here=False), governance(), private=False) == []


def test_in_a_private_swarm_the_node_may_once() -> None:
    assert can_vote(proposal(), voting(), governance(), private=True) == [OWN]
    assert can_vote(proposal(yes=["ab"]), voting(), governance(), private=True) == []
    assert can_vote(proposal(), voting(here=False), governance(), private=True) == []


def test_what_a_key_here_has_said_is_shown() -> None:
    assert voted_here(proposal(no=[KEY_ID]), voting(ANN, BOB)) == [("ann", "no")]
    assert voted_here(proposal(yes=["ab" * 16]), voting(ANN, BOB)) == []


@pytest.mark.parametrize(
    ("more", "terms", "told"),
    [
        ({"needs": 2}, {}, "still needs 1 vote,"),
        ({"needs": 3}, {}, "still needs 2 votes,"),
        ({"needs": 1}, {}, "passes: a canary tries it for 1 h"),
        ({"needs": 1}, {"canary_s": 0.0}, "at once"),
        ({"needs": 1, "tier": int(Tier.DEPLOY_MAJOR)}, {}, "after 1 d of review"),
        ({"needs": 1, "tier": int(Tier.DEPLOY_MAJOR)}, {"review_s": 0.0}, "at once"),
    ],
    ids=str,
)
def test_a_vote_for_it_says_what_it_does(more: Any, terms: Any, told: str) -> None:
    assert told in after_yes(proposal(**more), governance(**terms))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "2 of the 2 other voters"),
        ({"no": ["ab"]}, "cannot pass any more: 1 voter is left"),
        ({"double": ["ab"]}, "cannot pass any more: 1 voter is left"),
        ({"no": ["ab", "cd"]}, "cannot pass any more: 0 voters are left"),
    ],
    ids=str,
)
def test_a_vote_against_it_says_what_it_does(more: Any, told: str) -> None:
    assert told in after_no(proposal(**more), governance())
