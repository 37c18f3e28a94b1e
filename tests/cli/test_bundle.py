"""The bundle of a bug report: whole, listed, never in another file's place, and with nobody's
address, key or name in it."""

from __future__ import annotations

import json
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.assembly import LOG_FILE
from swarmllm.cli.bundle import parts_of, settings_of
from swarmllm.cli.redaction import Redaction
from swarmllm.runtime.config import Config
from tests.cli.command import run

PEER = "12D3KooWMCqGiCdfJvbDXYmu7xYvrBihm8aFCVKWHGuK6mmY29W3"
OTHER = "12D3KooWQ4XxPvVvdbjLPHoqNvpRvjYqzYGaBZVLYrJxJ6iU5nVA"
KEY = "sk-live-0123456789"
NAMES = ["versions.json", "settings.json", "doctor.json", "status.json", "metrics.txt", "log.jsonl"]


def redaction() -> Redaction:
    return Redaction(bytes(16), "/home/ann")


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        (f"lost {PEER}: closed", PEER),
        ("/ip4/203.0.113.7/tcp/7339", "203.0.113.7"),
        ("dialled 192.168.1.20, and 10.0.0.1.", "192.168.1.20"),
        ("and 10.0.0.1.", "10.0.0.1"),
        ("/ip6/2001:db8::1/tcp/1", "2001:db8::1"),
        ("[2001:db8::5]:7337", "2001:db8::5"),
        ("fe80::1%eth0 x", "fe80::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("02:42:ac:11:00:02", "02:42:ac"),
        ("/dns4/node.ann.example/tcp/1", "node.ann.example"),
        ("/dnsaddr/boot.example/p2p", "boot.example"),
        ("https://ann.example:8443/x", "ann.example"),
        ("wss://ann.example", "ann.example"),
        ("http://203.0.113.7:1/", "203.0.113.7"),
        ("/home/ann/models/x.gguf", "ann"),
        ("/home/bob/x", "bob"),
        ("/Users/bob/x", "bob"),
        ("authorization: Bearer abcdef", "abcdef"),
        (f"key {KEY} given", KEY),
        ("sha256:" + "ab" * 32, "abab"),
        ("-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----", "MC4C"),
    ],
)
def test_what_names_somebody_or_is_secret_is_taken_out(text: str, gone: str) -> None:
    assert gone not in redaction().text(text)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:7337 is free, as are 0.0.0.0 and ::1",
        "swarmllm 0.1.0, libp2p 0.8.1, trio 0.35.0",
        "took 12:34:56 in round 7:8",
        "http://localhost:7337/v1",
        "halted: order 3 by key 00112233",
        "std::vector",
    ],
)
def test_what_names_nobody_stays(text: str) -> None:
    assert redaction().text(text) == text


def test_one_peer_is_told_from_another_within_one_report_and_between_reports_nobody_is() -> None:
    one, same = redaction().text(f"{PEER} {PEER}").rsplit(" (", 1)
    assert one == f"({same}"
    assert redaction().text(PEER) != redaction().text(OTHER)
    assert redaction().text(PEER) != Redaction(bytes([1] * 16)).text(PEER)


@given(st.ip_addresses())
def test_no_address_stays_wherever_it_stands(address: Any) -> None:
    if address.is_loopback or address.is_unspecified:
        return
    for text in (f"to {address}, x", f"({address})", f'"{address}"', f"{address}"):
        assert str(address) not in redaction().text(text), text


def test_settings_are_told_without_keys_peers_and_names(tmp_path: Path) -> None:
    config = Config(
        tmp_path,
        tmp_path,
        swarm="annas-club",
        peers=(f"/ip4/203.0.113.7/tcp/1/p2p/{PEER}",),
        api_keys=("sha256:" + "ab" * 32,),
        api_hosts=("ann.example",),
        threads=3,
    )
    told = settings_of(config, redaction())
    text = json.dumps(told)
    assert told["threads"] == 3
    assert told["api_keys"] == "(1 of them)"
    for gone in ("annas-club", "203.0.113.7", PEER, "ab" * 8, "ann.example"):
        assert gone not in text


def test_the_log_is_told_without_those_whom_it_names(tmp_path: Path) -> None:
    line = json.dumps({"level": "warning", "message": f"strike against {PEER} at 203.0.113.7"})
    (tmp_path / LOG_FILE).write_text((line + "\n") * 600)
    parts = {one.name: one.data for one in parts_of(Config(tmp_path, tmp_path), [], redaction())}
    assert list(parts) == NAMES
    assert parts["log.jsonl"].count(b"\n") == 500
    assert b"strike against" in parts["log.jsonl"]
    assert PEER.encode() not in parts["log.jsonl"]
    assert b"203.0.113.7" not in parts["log.jsonl"]
    assert json.loads(parts["status.json"])["state"] == "none"


def test_the_command_lists_what_it_writes_and_overwrites_nothing(tmp_path: Path) -> None:
    file = tmp_path / "report.tar.gz"
    done = run(tmp_path, "doctor", "--bundle", str(file), "--json", SWARMLLM_API_KEYS=KEY)
    assert done.code == 0, done.err
    records = done.records()
    listed = {r["name"]: r["bytes"] for r in records if r["event"] == "bundle_part"}
    assert list(listed) == NAMES
    assert records[-1] == {**records[-1], "event": "bundle", "file": str(file)}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    held: dict[str, bytes] = {}
    with tarfile.open(file) as archive:
        for entry in archive.getmembers():
            found = archive.extractfile(entry)
            assert found is not None
            held[Path(entry.name).name] = found.read()
    assert {name: len(data) for name, data in held.items()} == listed
    assert KEY.encode() not in b"".join(held.values())
    assert {"python", "libp2p"} <= json.loads(held["versions.json"]).keys()
    assert "vocabulary" in {one["name"] for one in json.loads(held["doctor.json"])}
    before = file.read_bytes()
    again = run(tmp_path, "doctor", "--bundle", str(file))
    assert again.code == 1
    assert str(file) in again.sentence()
    assert again.out == ""  # Refused before anything is looked at.
    assert file.read_bytes() == before
