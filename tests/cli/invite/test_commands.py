"""What can be typed about invites: lengths of time, lines that are none, and a line in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner

from scripts.invite_samples import ENDS_MS, INVITE, MADE_MS
from swarmllm.cli.app import app
from swarmllm.cli.invite import commands
from swarmllm.cli.invite.commands import drawn, duration_s
from swarmllm.errors import UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.invited import now_ms
from swarmllm.testing.operators import Operator
from swarmllm.wire.identity import peer_id_of
from swarmllm.wire.invite import LINE_MAX, write_line
from tests.cli.command import Finished

WE: Final = Operator("inviter")
OLD: Final = write_line(INVITE, WE.public_key, WE.sign)
BLOCKS: Final = "█▀▄ "


def typed(*words: str) -> Finished:
    done = CliRunner().invoke(app, list(words))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Finished(done.exit_code, done.stdout, done.stderr)


def fresh(**changes: object) -> str:
    made = {"issued_ms": now_ms(), "expires_ms": now_ms() + 3_600_000}
    return write_line(replace(INVITE, **(made | changes)), WE.public_key, WE.sign)  # type: ignore[arg-type]


def test_lengths_of_time_are_written_with_their_unit() -> None:
    assert [duration_s(text) for text in ("30m", "12h", " 7d ")] == [1_800, 43_200, 604_800]
    for text in ("7", "d", "0d", "-1d", "7w", "1.5h", "7d7d", "1234567d", ""):
        with pytest.raises(UsageError, match="is no length of time"):
            duration_s(text)
    for text in ("367d", "999999h"):
        with pytest.raises(UsageError, match=f"--expires '{text}' is too long; .* good for 366d"):
            duration_s(text)


@pytest.mark.parametrize("line", [fresh()[:-1], fresh()[:60] + "X" + fresh()[61:], "swarmllm:foo"])
def test_what_was_pasted_badly_is_told_without_a_decoders_words(line: str) -> None:
    done = typed("invite", "show", line)
    assert done.code == 2
    assert done.sentence().endswith(
        "is cut short or was changed on its way; copy the whole line again, or ask for another one"
    )


@pytest.mark.parametrize(
    ("uses", "said"),
    [(None, "UTC. Others"), (1, "for 1 node to join while"), (3, "for 3 nodes to join while")],
)
def test_it_is_told_how_long_and_for_how_many_an_invite_is_good(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    uses: int | None,
    said: str,
) -> None:
    record = {"line": OLD, "remarks": [], "expires_ms": ENDS_MS, "uses": uses}
    monkeypatch.setattr(commands, "_asked", lambda *_: record)
    commands.make_invite(Config(tmp_path, tmp_path), "7d", uses, is_drawn=False, as_json=False)
    assert said in capsys.readouterr().err


def test_a_line_is_told_in_words_also_when_it_has_run_out() -> None:
    done = typed("invite", "show", OLD)
    assert done.code == 0
    assert "friends" in done.out
    assert "it has run out" in done.out
    assert peer_id_of(WE.public_key) in done.out
    (record,) = typed("invite", "show", OLD, "--json").records()
    assert record["swarm_id"] == INVITE.swarm.hex()
    assert (record["issued_ms"], record["expires_ms"]) == (MADE_MS, ENDS_MS)
    assert (record["expired"], record["closed"]) == (True, False)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (OLD, "ran out on 2026-09-28 14:13 UTC; ask for another one"),
        (fresh()[:-5], "is cut short or was changed on its way"),
        (fresh(issued_ms=now_ms() + 86_400_000, expires_ms=now_ms() + 90_000_000), "here it is"),
        ("swarmllm:" + "A" * LINE_MAX, f"and has at most {LINE_MAX} characters"),
        ("12D3KooW", "is not the line of an invite, which begins with swarmllm:"),
        (fresh(addrs=("/ip4/127.0.0.1/tcp/7339",)), "leads nowhere from here"),
        (fresh(addrs=("/dns4/swarm.example/tcp/7339",), name="others"), "the setting swarm is"),
    ],
)
def test_a_line_that_cannot_be_joined_with_is_one_sentence_and_wrong_usage(
    tmp_path: Path, line: str, why: str
) -> None:
    data = str(tmp_path / "data")
    done = typed("join", line, "--model", "none", "--swarm", "friends", "--data-dir", data)
    assert done.code == 2
    assert why in done.sentence()


def test_two_invites_are_one_too_many(tmp_path: Path) -> None:
    done = typed("join", fresh(), "--invite", fresh(), "--data-dir", str(tmp_path))
    assert (done.code, "two invites were given" in done.sentence()) == (2, True)


def test_no_node_no_invite(tmp_path: Path) -> None:
    done = typed("invite", "--data-dir", str(tmp_path))
    assert done.code == 1
    assert "swarmllm join" in done.sentence()
    done = typed("invite", "--expires", "7", "--data-dir", str(tmp_path))
    assert (done.code, "write it as 30m, 12h or 7d" in done.sentence()) == (2, True)


def test_a_usual_invite_fits_a_terminal_as_a_code() -> None:
    rows = drawn(OLD).splitlines()
    assert len(rows[0]) <= 80
    assert set("".join(rows)) <= set(BLOCKS)
