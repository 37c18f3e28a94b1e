"""A node takes an invite once, keeps it, and lets no line lead it where a stranger's record could
not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scripts.invite_samples import INVITE
from swarmllm.adapters.record_files import render, sheet_of
from swarmllm.assembly.invite import INVITE_FILE, accepted
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.invited import now_ms
from swarmllm.testing.operators import Founders, Operator
from swarmllm.testing.scripted_text import ScriptedText
from swarmllm.wire.identity import peer_id_of
from swarmllm.wire.invite import write_line
from tests.core.halt.support import STATE, linked, running

WE = Operator("inviter")
PEER = peer_id_of(WE.public_key)
GLOBAL = "/ip4/192.5.5.241/tcp/7339"


def line(**changes: object) -> str:
    """An invite made now, good for an hour."""
    made = {"issued_ms": now_ms(), "expires_ms": now_ms() + 3_600_000, "addrs": (GLOBAL,)}
    return write_line(replace(INVITE, **(made | changes)), WE.public_key, WE.sign)  # type: ignore[arg-type]


def config(folder: Path, invite: str = "", listen: str = "0.0.0.0") -> Config:
    return Config(folder, folder, invite=invite, listen_host=listen)


def test_the_inviter_is_a_peer_to_begin_with(tmp_path: Path) -> None:
    found = accepted(config(tmp_path, line()))
    assert found.config.peers == (f"{GLOBAL}/p2p/{PEER}",)
    assert found.config.swarm == INVITE.name
    assert found.remarks == ()
    pin = found.pin()
    assert pin is not None
    assert pin.named is not None
    assert (pin.swarm, pin.named.version, pin.named.hash) == (INVITE.swarm, 1, INVITE.swarm)


def test_whom_the_addresses_lead_to_is_told_when_it_is_of_another_swarm(tmp_path: Path) -> None:
    joined = accepted(config(tmp_path, line()))
    same, other = running(STATE), replace(STATE, swarm=bytes(32))
    assert joined.strangers(linked(same, PEER)) == ()
    (told,) = joined.strangers(linked(running(STATE), PEER, state=other))
    assert told.startswith(f"{PEER} is of swarm 0000000000000000, and its invite names")
    assert joined.strangers(running(STATE)) == ()  # It is not there.
    assert accepted(config(tmp_path)).strangers(same) == ()


def test_a_model_of_another_vocabulary_is_told_before_anybody_hears_of_us(tmp_path: Path) -> None:
    text = ScriptedText()
    with pytest.raises(UsageError, match="so they could not answer together; choose another one"):
        accepted(config(tmp_path, line())).check_vocabulary(text)
    for fingerprint in (b"", text.vocabulary.fingerprint):
        accepted(config(tmp_path, line(vocabulary=fingerprint))).check_vocabulary(text)
    accepted(config(tmp_path)).check_vocabulary(text)


def test_without_an_invite_nothing_changes(tmp_path: Path) -> None:
    plain = config(tmp_path)
    assert accepted(plain).config == plain
    accepted(plain).keep()
    assert not (tmp_path / INVITE_FILE).exists()


def test_the_next_start_needs_no_line_even_when_it_has_run_out(tmp_path: Path) -> None:
    old = line(issued_ms=0, expires_ms=1)
    with pytest.raises(UsageError, match="ran out"):
        accepted(config(tmp_path, old))
    first = line()
    accepted(config(tmp_path, first)).keep()
    (tmp_path / INVITE_FILE).write_text(old)
    again = accepted(config(tmp_path))
    assert again.config.peers == (f"{GLOBAL}/p2p/{PEER}",)
    assert accepted(config(tmp_path, old)).config.swarm == INVITE.name


def test_a_folder_that_has_joined_takes_invites_to_its_own_swarm_alone(tmp_path: Path) -> None:
    accepted(config(tmp_path, line())).keep()
    moved = accepted(config(tmp_path, line(addrs=("/ip4/192.5.5.242/tcp/7339",))))
    assert moved.config.peers[0].startswith("/ip4/192.5.5.242/")
    with pytest.raises(UsageError, match=r"this folder has joined .*; use another folder"):
        accepted(config(tmp_path, line(swarm=bytes(32), charter_hash=bytes(32))))
    with pytest.raises(UsageError, match=r"the setting swarm is 'others', .*joined"):
        accepted(replace(config(tmp_path), swarm="others"))


def test_a_kept_invite_that_was_touched_is_refused(tmp_path: Path) -> None:
    (tmp_path / INVITE_FILE).write_bytes(b"swarmllm:\xff")
    with pytest.raises(UsageError, match="is cut short"):
        accepted(config(tmp_path))
    (tmp_path / INVITE_FILE).write_bytes(b"x" * 100_000)
    with pytest.raises(LocalError):
        accepted(config(tmp_path))


@pytest.mark.parametrize(
    ("addr", "why"),
    [
        ("/ip4/127.0.0.1/tcp/7339", "a loopback address"),
        ("/ip4/169.254.169.254/tcp/7339", "metadata"),
        ("/ip4/192.5.5.241/tcp/22", "port 22 is one of system services"),
        ("/dns4/swarm.example/tcp/22", "port 22 is one of system services"),
        ("/ip4/10.255.255.254/tcp/7339", "a private address on a network"),
        ("/ip4/192.5.5.241/udp/7339", "it is not a multiaddr"),
    ],
)
def test_an_invite_does_not_make_a_node_knock_on_doors(
    tmp_path: Path, addr: str, why: str
) -> None:  # INV-6
    with pytest.raises(UsageError, match=f"leads nowhere from here: .*{why}"):
        accepted(config(tmp_path, line(addrs=(addr,))))
    found = accepted(config(tmp_path, line(addrs=(addr, GLOBAL))))
    assert found.config.peers == (f"{GLOBAL}/p2p/{PEER}",)
    assert why in found.remarks[0]


def test_a_name_at_which_dns_has_whole_addresses_is_looked_up(tmp_path: Path) -> None:  # INV-6
    named = "/dnsaddr/swarm.example"
    found = accepted(config(tmp_path, line(addrs=(named,))))
    assert found.config.peers == found.names == (f"{named}/p2p/{PEER}",)
    assert found.remarks == ()
    assert accepted(config(tmp_path, line())).names == ()
    owners = replace(config(tmp_path, line(addrs=(named,))), peers=found.names)
    assert accepted(owners).names == (), "the owner has given the same one"


def test_a_time_outside_the_calendar_is_one_sentence_too(tmp_path: Path) -> None:
    far = 1 << 62
    with pytest.raises(UsageError, match=f"was made on {far} ms, and here it is 20"):
        accepted(config(tmp_path, line(issued_ms=far, expires_ms=far + 1)))


RELAY = "/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp/p2p-circuit"


def test_what_leads_through_a_relay_is_dialled_if_the_relay_may_be(tmp_path: Path) -> None:  # INV-6
    through = (GLOBAL + RELAY, "/ip4/127.0.0.1/tcp/7339" + RELAY)
    found = accepted(config(tmp_path, line(addrs=through)))
    assert found.circuits == (f"{GLOBAL}{RELAY}/p2p/{PEER}",)
    assert found.config.peers == ()
    assert "a loopback address" in found.remarks[0]


def test_the_file_of_the_charter_agrees_with_an_invite_to_its_swarm(tmp_path: Path) -> None:
    we, file = Founders("invited"), tmp_path / "charter"
    file.write_text(render([sheet_of(we.charter)]))
    given = replace(
        config(tmp_path, line(swarm=we.swarm, charter_hash=we.swarm)), charter=str(file)
    )
    pin = accepted(given).pin()
    assert pin is not None
    assert (pin.swarm, pin.records) == (we.swarm, (we.charter,))
    assert pin.named is not None
    with pytest.raises(UsageError, match="the setting charter is"):
        accepted(replace(given, invite=line()))


def test_names_are_dialled_and_loopback_from_loopback(tmp_path: Path) -> None:  # INV-6
    for addr, listen in (
        ("/dns4/swarm.example/tcp/7339", "0.0.0.0"),
        ("/ip4/127.0.0.1/tcp/7339", "127.0.0.1"),
    ):
        found = accepted(config(tmp_path, line(addrs=(addr,)), listen))
        assert found.config.peers == (f"{addr}/p2p/{PEER}",)
