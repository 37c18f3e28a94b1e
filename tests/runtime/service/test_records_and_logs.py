"""What other programs parse, and what users paste into bug reports: exact names, and never a word
of a prompt."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from swarmllm.core.events import (
    ExpertFound,
    ExpertLost,
    ExpertUse,
    LogDoubted,
    NotLetIn,
    PeerSeen,
    ServingPaused,
    ServingResumed,
    TokenChosen,
)
from swarmllm.core.values import EngineLoad, ModelCard
from swarmllm.errors import UsageError
from swarmllm.messages import NO_HALT_DIGEST, CapacityRecord, PeerId
from swarmllm.runtime import logs
from swarmllm.runtime.service import json_events as records
from swarmllm.runtime.service.answer import Notice, Piece
from swarmllm.runtime.service.result import Result
from swarmllm.runtime.visible import one_line
from tests.clock import under_mock_clock
from tests.runtime.little_swarm import little_swarm

PEER = PeerId("12D3KooW")
CARD = ModelCard("prose", bytes(32), bytes(32), 128_256, 6_000_000, 512, ("prose",))
CAPACITY = CapacityRecord(
    1, 1, "prose", bytes(32), bytes(32), 6_000_000, 512, 160, 0, 4, 16, (), (), NO_HALT_DIGEST
)


def test_a_token_record_is_as_documented() -> None:
    use = ExpertUse(PEER, "prose", 0.41, 438, 0.0022, True)
    record = records.part_record(
        Piece(" The", TokenChosen(1, 0, 1820, -0.25, 0, 3, 0.0041, (use,), 0.83))
    )
    assert isinstance(record.pop("time"), float)
    assert record.pop("logprob") == -0.25
    assert record == {
        "event": "token",
        "index": 0,
        "id": 1820,
        "text": " The",
        "round": 0,
        "k": 3,
        "round_ms": 4.1,
        "shared": 1,
        "experts": [
            {
                "peer": PEER,
                "model": "prose",
                "weight": 0.41,
                "bytes": 438,
                "rtt_ms": 2.2,
                "used": True,
            }
        ],
        "agreement": 0.83,
    }


def test_an_end_record_is_as_documented() -> None:
    record = records.end_record(Result("length", "text", 64, 9, 1.9, 7, 431.0, 2.5, 1, 0))
    assert isinstance(record.pop("time"), float)
    assert record == {
        "event": "end",
        "reason": "length",
        "tokens": 64,
        "prompt_tokens": 9,
        "text": "text",
        "seconds": 1.9,
        "tokens_per_s": 33.68,
        "bytes_per_expert_per_token": 431.0,
        "experts_per_token": 2.5,
        "failovers": 1,
        "local_only_tokens": 0,
        "rounds": 0,
        "drafted": 0,
        "accepted": 0,
        "seed": 7,
    }
    assert (
        records.end_record(Result("error", "", 0, 9, 1.0, 7, 0.0, 0.0, 0, 0, "why"))["error"]
        == "why"
    )


@pytest.mark.parametrize(
    ("event", "name", "fields"),
    [
        (records.Starting("/data", "private"), "starting", {"data_dir", "swarm"}),
        (
            records.Progress("expanding", 1, 2, "bytes"),
            "progress",
            {"what", "done", "total", "unit"},
        ),
        (
            records.ModelReady(CARD, 1.0, 20.0),
            "model_ready",
            {"model", "vocab", "vocab_size", "chat", "n_params", "digest", "context_max", "domains"}
            | {"seconds", "tokens_per_s", "file"},
        ),
        (records.Listening(("/ip4/127.0.0.1/tcp/1",)), "listening", {"addrs"}),
        (records.Warned("port taken"), "warning", {"text"}),
        (records.Ready(PEER, "unix:/x", "/ip4"), "ready", {"peer", "api", "invite", "http"}),
        (records.Stopping("asked to"), "stopping", {"reason"}),
        (records.Stopped(), "stopped", set()),
        (PeerSeen(PEER, True), "peer_found", {"peer"}),
        (PeerSeen(PEER, False, "reset"), "peer_lost", {"peer", "reason"}),
        (
            ExpertFound(PEER, CAPACITY),
            "expert_found",
            {"peer", "model", "n_params", "context_max", "tokens_per_s"},
        ),
        (ExpertLost(PEER, "reset"), "expert_lost", {"peer", "reason"}),
        (LogDoubted(PEER, "forked"), "log_doubted", {"peer", "reason"}),
        (ServingPaused("busy"), "serving_paused", {"reason"}),
        (ServingResumed(), "serving_resumed", set()),
        (NotLetIn("used up"), "not_let_in", {"reason"}),
    ],
)
def test_life_records_have_the_documented_names_and_fields(
    event: records.Life, name: str, fields: set[str]
) -> None:
    record = records.life_record(event)
    assert record["event"] == name
    assert set(record) == {"event", "time", *fields}
    json.dumps(record, allow_nan=False)


def test_other_records_can_be_told_apart() -> None:
    assert records.part_record(Notice("fewer"))["event"] == "notice"
    assert records.part_record(Piece("held", None))["event"] == "text"
    error = records.error_record(UsageError("no"))
    assert (error["event"], error["message"], error["exit_code"]) == ("error", "no", 2)
    assert records.starting_record()["state"] == "starting"
    assert EngineLoad(1, 2, 3, 4.0)


# --- logs -----------------------------------------------------------------------------------------


def test_a_log_line_has_time_level_and_event_and_the_terminal_stays_clean(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with logs.writing(tmp_path / "node.log", "info"):
        logging.getLogger("swarmllm.driver").info("hello %d", 5)
        logging.getLogger("libp2p.host").info("chatter")
        logging.getLogger("libp2p.host").warning("trouble")
    logging.getLogger("swarmllm.driver").info("afterwards")
    lines = [json.loads(line) for line in (tmp_path / "node.log").read_text().splitlines()]
    assert [(line["level"], line["event"], line["message"]) for line in lines] == [
        ("info", "swarmllm.driver", "hello 5"),
        ("warning", "libp2p.host", "trouble"),
    ]
    assert all(line["time"] > 1e9 for line in lines)
    assert capfd.readouterr() == ("", "")


def test_a_log_stays_bounded_whatever_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES_MAX", 20_000)
    with logs.writing(tmp_path / "node.log", "info"):
        for _ in range(200):
            logging.getLogger("swarmllm.x").info("y" * 100_000)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < 25_000


def test_a_full_disk_loses_lines_and_nothing_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with logs.writing(tmp_path / "node.log", "info"):
        handler = next(
            h for h in logging.getLogger("swarmllm").handlers if isinstance(h, logs.BoundedFile)
        )
        full = open("/dev/full", "w")  # noqa: SIM115  It cannot even be closed without an error.
        before = handler.setStream(full)
        logging.getLogger("swarmllm.x").warning("z" * 10_000)
        assert handler.lost >= 1
        assert before is not None
        handler.setStream(before)
        with pytest.raises(OSError, match="No space"):
            full.close()
    assert capfd.readouterr() == ("", "")


def test_a_disk_that_is_full_when_a_node_leaves_is_no_fault(tmp_path: Path) -> None:
    with logs.writing(tmp_path / "node.log", "info"):
        handler = next(
            h for h in logging.getLogger("swarmllm").handlers if isinstance(h, logs.BoundedFile)
        )
        before = handler.setStream(open("/dev/full", "w"))  # noqa: SIM115  Closed by the handler.
        assert before is not None
        before.close()
        logging.getLogger("swarmllm.x").warning("said on a full disk")
    assert handler.lost >= 2


def test_the_tail_of_a_log_reads_like_sentences(tmp_path: Path) -> None:
    with logs.writing(tmp_path / "node.log", "info"):
        for i in range(30):
            logging.getLogger("swarmllm.x").info("line %d", i)
    found = logs.tail(tmp_path / "node.log", 3)
    assert [line.split(" ", 1)[1] for line in found] == [
        f"info swarmllm.x: line {i}" for i in (27, 28, 29)
    ]
    assert logs.tail(tmp_path / "absent") == []


CANARY = "canarybird"


def test_no_log_holds_a_word_of_a_prompt_or_an_answer(tmp_path: Path) -> None:
    said: list[str] = []

    async def body() -> None:
        async with little_swarm([7, 7, 7]) as swarm:
            await swarm.wait_met()
            answer = swarm.members[0].local.generate(CANARY * 3, k=3, max_tokens=30, temperature=0)
            async for piece in answer:
                if piece.index == 5:
                    swarm.members[1].kill()
                if piece.index == 10:
                    swarm.members[2].freeze()
            assert answer.result is not None
            said.append(answer.result.text)

    with logs.writing(tmp_path / "node.log", "debug"):
        logging.getLogger("swarmllm.test").debug("the log is on")
        under_mock_clock(body)()
    written = (tmp_path / "node.log").read_text()
    assert "the log is on" in written
    assert CANARY not in written
    assert str(list(CANARY.encode()))[1:20] not in written
    assert said[0][:8] not in written


@pytest.mark.parametrize(
    "text",
    ["\x1b]52;c;eA==\x07", "\x9b2J", "a\nb\r\nc", "\u202ex\u2028y", "\U000e0041", "\x7f", "[/x]"],
)
def test_what_peers_sent_is_one_line_of_a_log_and_acts_on_no_terminal(
    tmp_path: Path, text: str
) -> None:
    """In the message, in its arguments and in an exception; exact, once parsed."""
    log = logging.getLogger("swarmllm.net")
    with logs.writing(tmp_path / "node.log", "info"):
        log.info("said %s", text)
        log.info(text)
        try:
            raise ValueError(text)
        except ValueError:
            log.exception("failed")
    raw = (tmp_path / "node.log").read_bytes().decode()
    assert one_line(raw.replace("\n", "")) == raw.replace("\n", "")
    messages = [json.loads(line)["message"] for line in raw.split("\n") if line]
    assert messages[:2] == [f"said {text}", text]
    assert len(messages) == 3
    assert text in messages[2]
    assert all(one_line(line) == line for line in logs.tail(tmp_path / "node.log"))


def test_a_record_whose_values_cannot_be_shown_is_told_of_all_the_same(tmp_path: Path) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RecursionError

    with logs.writing(tmp_path / "node.log", "info"):
        logging.getLogger("swarmllm.x").info("peer %s", Broken())
        logging.getLogger("swarmllm.x").info("too few %s %s", 1)  # noqa: PLE1206  That is what is tried.
        logging.getLogger("swarmllm.x").info(Broken())
    messages = [
        json.loads(line)["message"] for line in (tmp_path / "node.log").read_text().splitlines()
    ]
    assert messages == [
        "peer %s (its values cannot be shown: RecursionError)",
        "too few %s %s (its values cannot be shown: TypeError)",
        "Broken (its values cannot be shown: RecursionError)",
    ]
