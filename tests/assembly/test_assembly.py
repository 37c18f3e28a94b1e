"""The composition root over doubles: the order of the start, the ends, and what goes wrong in
between."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from swarmllm.adapters.datadir import DataDir
from swarmllm.adapters.keyfile import KeyFile, ephemeral_key
from swarmllm.adapters.ledger import LedgerFile
from swarmllm.adapters.operator_keys import verify
from swarmllm.adapters.store import SqliteStore
from swarmllm.assembly import LEDGER_FILE, Parts, network_options, open_node
from swarmllm.core.ledger import own_log
from swarmllm.core.ledger.audit import read_leaf
from swarmllm.core.ledger.entry import LedgerKind
from swarmllm.core.ledger.part import LedgerView
from swarmllm.core.peers.dialling import Dialling
from swarmllm.core.peers.saving import SAVED_PEERS
from swarmllm.errors import LocalError
from swarmllm.messages import LEDGER
from swarmllm.runtime.config import Config
from swarmllm.runtime.driver import Driver
from swarmllm.runtime.local_api.client import NoNodeError, ask
from swarmllm.runtime.ports import Engine, Network, halt_channel, ledger_channel
from swarmllm.runtime.service.json_events import (
    Life,
    Listening,
    ModelReady,
    Ready,
    Starting,
    Stopped,
    Stopping,
    Warned,
)
from swarmllm.runtime.service.local_node import LocalNode
from swarmllm.testing.memory_network import MemorySwarm
from swarmllm.testing.memory_store import MemoryStore
from swarmllm.testing.scripted_engine import ScriptedEngine
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.scripted_text import ScriptedText
from tests.runtime.puppet import Puppet


def config_in(folder: Path) -> Config:
    return Config(data_dir=folder / "data", cache_dir=folder / "cache", model="none")


def parts_on(
    wire: MemorySwarm,
    engine: AbstractAsyncContextManager[Engine] | None = None,
    *,
    lan: bool = True,
) -> Parts:
    def network(keyring: KeyFile, driver: Driver) -> AbstractAsyncContextManager[Network]:
        channels = (
            halt_channel(driver, driver.charter_swarm),
            ledger_channel(driver.door(LEDGER)),
        )
        return wire.network(keyring.peer, lan=lan, channels=channels)

    return Parts(engine=engine, text=ScriptedText(frozenset()), network=network)


def scripted(seed: int = 7) -> ScriptedEngine:
    return ScriptedEngine(ScriptedModel("m", seed), service_s=0.001)


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        with trio.fail_after(60):
            await body()

    trio.run(limited)


def test_a_node_tells_its_life_in_order_and_answers(tmp_path: Path) -> None:
    told: list[Life] = []

    async def body() -> None:
        async with (
            MemorySwarm() as wire,
            open_node(
                config_in(tmp_path), tell=told.append, parts=parts_on(wire, scripted())
            ) as node,
        ):
            assert isinstance(told[-1], Ready)
            assert (await ask(tmp_path / "data", "status"))["peer"] == node.peer
            text = "".join(
                [piece.text async for piece in node.generate("hello", k=1, max_tokens=5)]
            )
            assert text

    run(body)
    kinds = [
        type(event)
        for event in told
        if isinstance(event, Starting | ModelReady | Listening | Ready | Stopping | Stopped)
    ]
    assert kinds == [Starting, ModelReady, Listening, Ready, Stopping, Stopped]
    assert type(told[0]) is Starting
    assert type(told[-1]) is Stopped


def test_a_node_without_an_expert_asks_others(tmp_path: Path) -> None:
    async def body() -> None:
        async with (
            MemorySwarm() as wire,
            open_node(config_in(tmp_path / "a"), parts=parts_on(wire, scripted())),
        ):
            asking = config_in(tmp_path / "b")
            async with open_node(asking, parts=parts_on(wire)) as node:
                assert await node.wait_ready(1) == 1
                answer = node.generate("hello", k=1, max_tokens=5)
                assert len([piece async for piece in answer]) == 5

    run(body)


def test_a_second_node_on_the_same_folder_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    async def body() -> None:
        async with MemorySwarm() as wire, open_node(config_in(tmp_path), parts=parts_on(wire)):
            with pytest.raises(LocalError, match=r"in use by another node.*data_dir="):
                async with open_node(config_in(tmp_path), parts=parts_on(wire)):
                    pass
            assert (await ask(tmp_path / "data", "status"))["state"] == "running"

    run(body)


def test_the_identity_outlives_the_node(tmp_path: Path) -> None:
    async def once() -> str:
        async with (
            MemorySwarm() as wire,
            open_node(config_in(tmp_path), parts=parts_on(wire)) as node,
        ):
            return node.peer

    assert trio.run(once) == trio.run(once)


class Loading:
    """An engine that takes until `loaded`, and may then fail."""

    def __init__(self, failure: LocalError | None = None) -> None:
        self.begun = trio.Event()
        self.loaded = trio.Event()
        self.failure = failure

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Engine]:
        self.begun.set()
        await self.loaded.wait()
        if self.failure is not None:
            raise self.failure
        async with scripted() as engine:
            yield engine


def test_while_the_model_is_loading_the_socket_answers_and_the_network_has_not_heard_of_us(
    tmp_path: Path,
) -> None:
    async def body() -> None:
        async with MemorySwarm() as wire, trio.open_nursery() as nursery:
            loading, closing = Loading(), trio.Event()

            async def node() -> None:
                async with open_node(config_in(tmp_path), parts=parts_on(wire, loading.open())):
                    await closing.wait()

            nursery.start_soon(node)
            await loading.begun.wait()
            assert (await ask(tmp_path / "data", "status"))["state"] == "starting"
            assert wire.networks == {}
            loading.loaded.set()
            while (await ask(tmp_path / "data", "status"))["state"] == "starting":
                await trio.lowlevel.checkpoint()
            assert len(wire.networks) == 1
            closing.set()

    run(body)


def test_a_shutdown_while_starting_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    async def body() -> None:
        async with MemorySwarm() as wire, trio.open_nursery() as nursery:
            loading = Loading()

            async def node() -> None:
                with pytest.raises(LocalError, match="before it had started"):
                    async with open_node(config_in(tmp_path), parts=parts_on(wire, loading.open())):
                        pytest.fail("it started")

            nursery.start_soon(node)
            await loading.begun.wait()
            await ask(tmp_path / "data", "shutdown")

    run(body)


def test_a_shutdown_of_a_running_node_is_passed_to_who_runs_it(tmp_path: Path) -> None:
    async def body() -> None:
        async with (
            MemorySwarm() as wire,
            open_node(config_in(tmp_path), parts=parts_on(wire)) as node,
        ):
            await ask(tmp_path / "data", "shutdown")
            await node.wait_stopped()
        with pytest.raises(NoNodeError):
            await ask(tmp_path / "data", "status")

    run(body)


def test_what_goes_wrong_inside_comes_out_as_itself(tmp_path: Path) -> None:
    told: list[Life] = []

    async def body() -> None:
        async with MemorySwarm() as wire:
            loading = Loading(LocalError("no such model"))
            loading.loaded.set()
            with pytest.raises(LocalError, match="no such model"):
                async with open_node(config_in(tmp_path), parts=parts_on(wire, loading.open())):
                    pass
            with pytest.raises(ZeroDivisionError):
                async with open_node(
                    config_in(tmp_path), tell=told.append, parts=parts_on(wire, scripted())
                ):
                    raise ZeroDivisionError
            # Nothing is left behind that would be in the way of the next start.
            async with open_node(config_in(tmp_path), parts=parts_on(wire, scripted())):
                pass

    run(body)
    assert type(told[-1]) is Stopped


def test_another_vocabulary_than_the_swarms_is_refused(tmp_path: Path) -> None:
    async def body() -> None:
        async with MemorySwarm() as wire:
            parts = replace(parts_on(wire, scripted()), text=None)
            with pytest.raises(LocalError, match="another vocabulary"):
                async with open_node(config_in(tmp_path), parts=parts):
                    pass

    run(body)


def test_peers_of_the_last_run_are_dialled_without_anybodys_help(tmp_path: Path) -> None:
    async def body() -> None:
        async with (
            MemorySwarm() as wire,
            open_node(config_in(tmp_path / "a"), parts=parts_on(wire, scripted(), lan=False)) as a,
        ):
            book = Dialling(ephemeral_key().peer, random.Random(1))
            book.found(a.peer, a.addrs, 0.0)
            folder = tmp_path / "b" / "data"
            folder.mkdir(parents=True, mode=0o700)
            with SqliteStore(DataDir(folder).store_file, notice=pytest.fail) as store:
                store.save(SAVED_PEERS, book.save())
            async with open_node(config_in(tmp_path / "b"), parts=parts_on(wire, lan=False)) as b:
                assert await b.wait_ready(1) == 1

    run(body)


def test_a_node_that_stops_soon_after_it_has_met_a_peer_finds_it_again(tmp_path: Path) -> None:
    async def body() -> None:
        async with (
            MemorySwarm() as wire,
            open_node(config_in(tmp_path / "a"), parts=parts_on(wire, scripted())),
        ):
            async with open_node(config_in(tmp_path / "b"), parts=parts_on(wire)) as b:
                assert await b.wait_ready(1) == 1
            async with open_node(config_in(tmp_path / "b"), parts=parts_on(wire, lan=False)) as b:
                assert await b.wait_ready(1) == 1

    run(body)


def test_offline_means_loopback_only(tmp_path: Path) -> None:
    peer = ephemeral_key().peer
    near, far = f"/ip4/127.0.0.1/tcp/1/p2p/{peer}", f"/ip4/203.0.113.7/tcp/1/p2p/{peer}"
    named = f"/dns4/example.org/tcp/1/p2p/{peer}"
    config = replace(config_in(tmp_path), offline=True, peers=(near, far, named))
    keyring = ephemeral_key()
    options = network_options(config, keyring, Driver(Puppet(), keyring, MemoryStore()))
    assert options.listen == ("/ip4/127.0.0.1/tcp/7339",)
    assert options.bootstrap == (near,)
    assert not options.lan
    online = network_options(
        replace(config, offline=False), keyring, Driver(Puppet(), keyring, MemoryStore())
    )
    assert online.listen == ("/ip4/0.0.0.0/tcp/7339", "/ip6/::/tcp/7339")
    assert online.bootstrap == (near, far, named)
    assert online.lan


async def ledger_when(node: LocalNode, is_so: Callable[[LedgerView], bool]) -> LedgerView:
    with trio.fail_after(30):
        while True:
            [view] = [one for one in node.view().parts if isinstance(one, LedgerView)]
            if is_so(view):
                return view
            await trio.sleep(0.02)


def test_two_nodes_witness_each_others_ledgers_and_the_files_prove_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_log, "CHECKPOINT_AFTER_S", 0.05)

    async def body() -> None:
        async with (
            MemorySwarm() as wire,
            open_node(config_in(tmp_path / "a"), parts=parts_on(wire)) as one,
            open_node(config_in(tmp_path / "b"), parts=parts_on(wire)) as other,
        ):
            for node, witness in ((one, other), (other, one)):
                await ledger_when(node, lambda view, who=witness.peer: who in view.witnesses)  # type: ignore[misc]
            one.stop_here()
            await ledger_when(one, lambda view: view.checkpoint >= 3 and bool(view.witnesses))

    run(body)
    with LedgerFile(tmp_path / "a" / "data" / LEDGER_FILE) as file:
        kinds = [read_leaf(leaf).kind for _, leaf in file.leaves()]
        assert kinds[0] == LedgerKind.CHARTER
        assert {*kinds[1:]} == {LedgerKind.HALTED, LedgerKind.COMMAND}
        audit, wrong = file.audit(verify)
        assert (audit.vouched, wrong) == (file.size, ())
        assert file.cosigned(file.size)


def test_a_node_whose_ledger_was_edited_says_so_and_can_still_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_log, "CHECKPOINT_AFTER_S", 0.05)
    path, told = tmp_path / "data" / LEDGER_FILE, list[Life]()

    async def first() -> None:
        async with MemorySwarm() as wire, open_node(config_in(tmp_path), parts=parts_on(wire)) as n:
            await ledger_when(n, lambda view: view.checkpoint >= 1)

    async def second() -> None:
        async with (
            MemorySwarm() as wire,
            open_node(config_in(tmp_path), tell=told.append, parts=parts_on(wire)) as node,
        ):
            view = await ledger_when(node, lambda view: bool(view.fault))
            assert "swarmllm ledger verify" in view.fault
            node.stop_here()
            assert node.view().halted

    run(first)
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TRIGGER entry_stays")
        other.execute("UPDATE entry SET leaf = X'00' WHERE number = 0")
        other.commit()
    run(second)
    assert [event.text for event in told if isinstance(event, Warned)]
