"""An invite has one line, and a line that was touched anywhere is no invite.

Cites protocols/invite.md (INV)."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.errors import RemoteError
from swarmllm.messages.invite import Invite
from swarmllm.testing.operators import Operator, verify
from swarmllm.wire.identity import peer_id_of
from swarmllm.wire.invite import LINE_MAX, read_line, write_line
from tests import ROOT
from tests.wire.strategies import mutate, of_type

VECTORS = json.loads((ROOT / "protocols/vectors/invite.json").read_text(encoding="utf-8"))
WE = Operator("invite vectors")
LINES = [one["line"] for one in VECTORS["valid"]]


def never(public_key: bytes, message: bytes, signature: bytes) -> bool:
    raise AssertionError("a signature was looked at")


@pytest.mark.parametrize("case", VECTORS["valid"], ids=lambda case: case["name"])
def test_a_published_line_says_what_stands_beside_it(case: Any) -> None:  # INV-1, INV-2
    invite, peer = read_line(case["line"], verify)
    plain = {k: v.hex() if isinstance(v, bytes) else v for k, v in asdict(invite).items()}
    assert json.loads(json.dumps(plain)) == case["fields"]
    assert peer == VECTORS["peer"]
    assert write_line(invite, WE.public_key, WE.sign) == case["line"]


@pytest.mark.parametrize("case", VECTORS["invalid"], ids=lambda case: case["name"])
def test_a_published_line_that_is_no_invite_is_refused(case: Any) -> None:  # INV-1, INV-2
    with pytest.raises(RemoteError):
        read_line(case["line"], verify)


def test_the_longest_line_is_judged_before_it_is_decoded() -> None:  # INV-1
    assert VECTORS["line_max"] == LINE_MAX
    with pytest.raises(RemoteError, match=f"has {LINE_MAX + 1} characters"):
        read_line(LINES[0] + "A" * (LINE_MAX + 1 - len(LINES[0])), never)
    with pytest.raises(RemoteError, match="has 100000000 characters"):
        read_line("x" * 100_000_000, never)


@given(st.sampled_from(LINES), st.data())
def test_no_letter_can_be_another_one(line: str, data: st.DataObject) -> None:  # INV-2
    at = data.draw(st.integers(0, len(line) - 1))
    other = data.draw(st.characters().filter(lambda letter: letter != line[at]))
    with pytest.raises(RemoteError):
        read_line(line[:at] + other + line[at + 1 :], verify)


@given(st.sampled_from(LINES), st.integers(0, 2**32))
def test_an_injured_line_is_refused_and_raises_nothing_else(line: str, seed: int) -> None:
    injured = mutate(Random(seed), line.encode()).decode("latin-1")
    if injured != line:
        with pytest.raises(RemoteError):
            read_line(injured, verify)


@given(st.text(max_size=200))
def test_any_text_is_refused_and_raises_nothing_else(text: str) -> None:
    with pytest.raises(RemoteError):
        read_line("swarmllm:" + text, verify)


@given(of_type(Invite))
def test_what_is_written_is_read_again(invite: Invite) -> None:  # INV-1
    invite = replace(invite, name="friends", addrs=("/ip4/192.0.2.7/tcp/7339",))
    line = write_line(invite, WE.public_key, WE.sign)
    assert read_line(line, verify) == (invite, peer_id_of(WE.public_key))


def test_the_longest_invite_fits() -> None:  # INV-1
    invite, _ = read_line(LINES[1], verify)
    far = tuple(f"/dns4/{'x' * 145}/tcp/{port}" for port in range(7001, 7007))
    longest = replace(invite, addrs=far, issued_ms=2**62, expires_ms=2**62 + 1)
    assert len(write_line(longest, WE.public_key, WE.sign)) <= LINE_MAX
