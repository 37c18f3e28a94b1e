"""Real processes: who says that it runs a model and runs another is found by audits, and asked no
more; those who run it are not."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest
import trio

from swarmllm.adapters.operator_keys import verify
from swarmllm.cli.processes import NodeProcess, open_fleet
from swarmllm.core.trust.receipt import read
from swarmllm.messages import SESSION_SEALED_MAX, PeerId, SessionRecord
from swarmllm.runtime.local_api.client import ask, asking
from swarmllm.runtime.service.record import Record
from swarmllm.testing.gguf_fixture import LARGER, SMALL, small_vocabulary, write_model
from swarmllm.wire.envelope import unseal
from tests.cli.command import run
from tests.e2e.replicas import ANSWER_S, MEET_S, START_S, arguments

pytestmark = pytest.mark.slow
ANSWERS_MAX = 30


async def write(node: NodeProcess, number: int) -> list[Record]:
    """The token records of one answer."""
    request: dict[str, Any] = {"prompt": f"The quick brown fox {number}", "k": 3, "max_tokens": 12}
    with trio.fail_after(ANSWER_S):
        async with asking(node.folder, "generate", **request, seed=number) as records:
            return [record async for record in records if record["event"] == "token"]


async def audits(node: NodeProcess) -> Record:
    return await ask(node.folder, "audits")


async def meet(node: NodeProcess, count: int) -> None:
    with trio.fail_after(MEET_S):
        while True:
            experts = (await ask(node.folder, "experts"))["experts"]
            if sum(one["connected"] for one in experts) >= count:
                return
            await trio.sleep(0.1)


def receipt_of_all(home: Path, asker: NodeProcess, model: Path, liar: str) -> None:
    """Of an answer in which the imposter took part: all have signed, and one has signed lies."""
    file = str(home / "receipt")
    words = "--data-dir", str(asker.folder), "-k", "3", "--max-tokens", "8", "--receipt", file
    assert run(home, "generate", "The quick", *words).code == 0
    again = run(home, "generate", "The quick", *words)
    assert "is there already" in again.sentence() or "exists" in again.sentence()
    assert run(home, "verify", file).code == 0
    found = run(home, "verify", file, "--model", str(model), "--json")
    assert found.code == 1
    assert liar in found.sentence()
    verdicts = {one["peer"]: one["verdict"] for one in found.records()}
    assert verdicts.pop(liar) == "differs"
    assert set(verdicts.values()) == {"agrees"}
    asked = run(home, "verify", file, "--ask", "--json", *words[:2])
    assert asked.code == 1
    assert liar in asked.sentence()
    verdicts = {one["peer"]: one["verdict"] for one in asked.records()}
    assert verdicts.pop(liar) == "differed"
    assert set(verdicts.values()) == {"agreed"}
    data = bytearray(Path(file).read_bytes())
    data[len(data) // 2] ^= 1
    (home / "spoilt").write_bytes(data)
    assert "proves nothing" in run(home, "verify", str(home / "spoilt")).sentence()


def _unseal(sealed: bytes) -> tuple[PeerId, SessionRecord]:
    return unseal(sealed, (SessionRecord,), verify, SESSION_SEALED_MAX)


def receipt_of_a_grammar(home: Path, asker: NodeProcess, model: Path, liar: str) -> None:
    """Tokens that a grammar allows may stand in nobody's list; then experts are asked about them
    alone. Those lists are signed and looked at as well."""
    file = str(home / "of a grammar")
    words = "-k", "3", "--max-tokens", "8", "--regex", "[0-9]{6}", "--receipt", file
    assert run(home, "generate", "The quick", "--data-dir", str(asker.folder), *words).code == 0
    sessions = {one.peer: one.found for one in read(Path(file).read_bytes(), _unseal)}
    assert any(said.allowed for found in sessions.values() for said in found.said)
    found = run(home, "verify", file, "--model", str(model), "--json").records()
    looked = {one["peer"]: one for one in found if one["event"] == "session_verified"}
    assert looked.keys() == sessions.keys()
    assert all(one["positions"] == one["lists"] for one in looked.values())
    # Whoever lies may be excluded by now, and have no part in it.
    assert {one["verdict"] for peer, one in looked.items() if peer != liar} == {"agrees"}
    asked = run(home, "verify", file, "--ask", "--json", "--data-dir", str(asker.folder)).records()
    assert {one["verdict"] for one in asked if one["peer"] != liar} == {"agreed"}


@pytest.mark.usefixtures("runs_tests_programs")
def test_an_imposter_is_excluded_and_nobody_else(tmp_path: Path) -> None:
    words = small_vocabulary()
    model = write_model(tmp_path / "model.gguf", SMALL, words)
    other = write_model(tmp_path / "other.gguf", LARGER, words)
    swarm = f"e2e-{secrets.token_hex(4)}"
    program = ("tests.e2e.imposter", str(model), "join")
    (tmp_path / "liars").mkdir()

    async def body() -> None:
        async with (
            open_fleet(tmp_path) as fleet,
            open_fleet(tmp_path / "liars", program) as liars,
        ):
            asker = await fleet.start("asker", arguments(other, swarm))
            address = (await asker.wait_for("listening", START_S))["addrs"][0]
            near = "--peer", address
            honest = [
                await fleet.start(f"honest {i}", arguments(model, swarm, *near)) for i in range(2)
            ]
            liar = await liars.start("liar", arguments(other, swarm, *near))
            for node in (*honest, liar):
                await node.wait_for("ready", START_S)
            await meet(asker, 3)
            await trio.to_thread.run_sync(receipt_of_all, tmp_path, asker, model, liar.peer)
            await trio.to_thread.run_sync(receipt_of_a_grammar, tmp_path, asker, model, liar.peer)
            excluded: set[str] = set()
            for number in range(ANSWERS_MAX):
                await write(asker, number)
                await trio.sleep(0.5)
                found = await audits(asker)
                excluded = {a["peer"] for a in found["accounts"] if a["excluded_until"]}
                if excluded:
                    break
            assert excluded == {liar.peer}, found
            assert any(one["signed"] and one["excluded"] for one in found["audits"])
            tokens = await write(asker, 99)
            assert liar.peer not in {e["peer"] for t in tokens for e in t["experts"]}
            (standing,) = (
                one["standing"]
                for one in (await ask(asker.folder, "experts"))["experts"]
                if one["peer"] == liar.peer
            )
            assert standing == "excluded"
            shown = await trio.to_thread.run_sync(
                lambda: run(tmp_path, "audits", "--data-dir", str(asker.folder), COLUMNS="200")
            )
            assert "excluded" in shown.out
            assert "differed" in shown.out

    trio.run(body)
