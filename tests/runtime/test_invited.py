"""An invite decides what it names, and nothing else may contradict it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scripts.invite_samples import ENDS_MS, INVITE, MADE_MS, SWARM
from swarmllm.errors import UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.invited import AHEAD_MAX_MS, Invited, pinned_by, read_invited
from swarmllm.testing.operators import Operator, verify
from swarmllm.wire.identity import peer_id_of
from swarmllm.wire.invite import write_line

WE = Operator("inviter")
CONFIG = Config(Path("/data"), Path("/cache"))


def invited(**changes: object) -> Invited:
    invite = replace(INVITE, **changes)  # type: ignore[arg-type]
    return read_invited(write_line(invite, WE.public_key, WE.sign), verify)


def test_space_round_a_line_does_no_harm_and_its_addresses_lead_to_the_signer() -> None:
    line = invited().line
    found = read_invited(f"  {line}\n", verify)
    assert found == invited()
    assert found.peer == peer_id_of(WE.public_key)
    assert found.addrs[0] == f"/ip4/203.0.113.7/tcp/7339/p2p/{found.peer}"


def test_a_line_that_was_changed_is_told_by_its_beginning() -> None:
    with pytest.raises(UsageError, match=r"the invite 'swarmllm:[\w-]{15}…' is cut short or was"):
        read_invited(invited().line[:-9], verify)
    with pytest.raises(UsageError, match=r"the invite 'https://example.org' does not begin with"):
        read_invited("https://example.org", verify)


def test_an_invite_is_good_from_its_making_to_its_end() -> None:
    for good_at in (MADE_MS - AHEAD_MAX_MS, MADE_MS, ENDS_MS - 1):
        invited().check_time(good_at)
    with pytest.raises(UsageError, match="ran out on 2026-09-28 14:13 UTC; ask for another"):
        invited().check_time(ENDS_MS)
    with pytest.raises(UsageError, match="was made on 2026-09-21 14:13 UTC, and here it is 1970"):
        invited().check_time(0)


def test_what_an_invite_names_is_pinned() -> None:
    found = pinned_by(CONFIG, invited())
    assert (found.swarm, found.charter) == ("friends", SWARM.hex())
    assert found.vocabulary == INVITE.vocabulary.hex()
    assert pinned_by(found, invited()) == found
    assert pinned_by(CONFIG, invited(vocabulary=b"")).vocabulary == "auto"


@pytest.mark.parametrize(
    ("setting", "value"),
    [("swarm", "others"), ("charter", "ab" * 32), ("charter", "/file"), ("vocabulary", "ab" * 8)],
)
def test_a_setting_that_contradicts_an_invite_is_told_with_both_values(
    setting: str, value: str
) -> None:
    config = replace(CONFIG, **{setting: value})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=f"the setting {setting} is '{value}', and the invite"):
        pinned_by(config, invited())
    kept = replace(invited(), kept_in=Path("/data/invite"))
    with pytest.raises(UsageError, match=r"joined .*/data/invite.* another folder"):
        pinned_by(config, kept)


def test_the_beginning_of_the_vocabulary_agrees_with_the_whole() -> None:
    config = replace(CONFIG, vocabulary=INVITE.vocabulary.hex()[:12])
    assert pinned_by(config, invited()).vocabulary == INVITE.vocabulary.hex()
