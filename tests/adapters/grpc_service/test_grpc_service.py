"""The gRPC service of a whole node: a generated client over loopback, the node's own parts behind
it, and doubles of network and engine only."""

from __future__ import annotations

import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
import trio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from scripts.make_mesh_stubs import NAMES, PACKAGE, compiled
from swarmllm.adapters.grpc_service.server import CALLS_MAX, REQUEST_BYTES_MAX
from swarmllm.adapters.grpc_service.token_file import TOKEN_FILE
from swarmllm.adapters.record_files import render, sheet_of
from swarmllm.assembly import open_node
from swarmllm.errors import LocalError, MissingExtraError
from swarmllm.runtime.local_api.client import ask
from swarmllm.runtime.service.json_events import Life, ServiceOpened
from swarmllm.runtime.service.local_node import LocalNode
from swarmllm.testing.memory_network import MemorySwarm
from swarmllm.testing.operators import Founders
from tests.adapters.grpc_service.client import TIMEOUT_S, bearer, connected, pb, refused
from tests.assembly.test_assembly import Loading, config_in, parts_on, run, scripted

T = TypeVar("T")
WE = Founders()
SERVICE = "swarmllm.mesh.v1.MeshLlm"


@dataclass
class Served:
    """A node with its service. Calls are made in threads, for grpcio's client waits in them."""

    node: LocalNode
    address: str
    folder: Path

    async def call(self, body: Callable[[Any], T]) -> T:
        def made() -> T:
            with connected(self.address) as stub:
                return body(stub)

        return await trio.to_thread.run_sync(made)


def charter_in(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "charter"
    file.write_text(render([sheet_of(WE.charter)]), encoding="ascii")
    return file


@asynccontextmanager
async def served(
    folder: Path,
    wire: MemorySwarm,
    *,
    charter: bool = False,
    expert: bool = True,
    agent: bool = False,
) -> AsyncIterator[Served]:
    told: list[Life] = []
    config = replace(config_in(folder), grpc_port=0, agent=agent)
    if charter:
        config = replace(config, charter=str(charter_in(folder)))
    parts = parts_on(wire, scripted() if expert else None)
    async with open_node(config, tell=told.append, parts=parts) as node:
        (opened,) = [one for one in told if isinstance(one, ServiceOpened)]
        yield Served(node, opened.address, config.data_dir)


def status(stub: Any, **fields: object) -> Any:
    return stub.GetRouterStatus(pb.GetRouterStatusRequest(**fields), timeout=TIMEOUT_S)


def halting(stub: Any, metadata: list[tuple[str, str]] | None = None, **fields: object) -> Any:
    request = pb.HaltMeshRequest(**fields)
    return stub.HaltMesh(request, timeout=TIMEOUT_S, metadata=metadata)


# --- what is asked ----------------------------------------------------------------------------


def test_the_status_names_the_experts_and_what_holds_them(tmp_path: Path) -> None:
    async def body() -> None:
        async with MemorySwarm() as wire, served(tmp_path / "a", wire) as one:
            async with open_node(config_in(tmp_path / "b"), parts=parts_on(wire, scripted(8))):
                assert await one.node.wait_ready(2, TIMEOUT_S) == 2
                found = await one.call(status)
                fewer = await one.call(partial(status, experts_max=1))
        assert found.router_id == one.node.peer
        assert (found.health, found.online_expert_count) == (pb.HEALTH_SERVING, 2)
        assert sorted(found.online_expert_ids) == sorted(e.expert_id for e in found.experts)
        assert [e.local for e in found.experts].count(True) == 1
        assert all(e.model_name == "m" and len(e.model_digest) == 32 for e in found.experts)
        assert not any(e.HasField("round_ms") for e in found.experts)  # None was asked yet.
        assert (len(fewer.experts), fewer.experts_left_out) == (1, 1)
        assert (found.phase, list(found.halted)) == (0, [])

    run(body)


def test_a_signed_order_halts_the_swarm_without_a_token(tmp_path: Path) -> None:
    async def body() -> None:
        async with MemorySwarm() as wire, served(tmp_path / "a", wire, charter=True) as one:
            async with served(tmp_path / "b", wire, charter=True) as two:
                assert await one.node.wait_ready(2, TIMEOUT_S) == 2
                answer = one.node.generate("hello", k=1, max_tokens=4_000)
                assert await answer.next_part() is not None
                order = partial(halting, records=[WE.halt()], wait_seconds=30, requester_id="ann")
                said = await one.call(lambda stub: list(order(stub)))
                await answer.aclose()
                assert two.node.view().halted
                again = await one.call(status)
                replayed = await one.call(
                    lambda stub: list(halting(stub, records=[WE.halt()], wait_seconds=0))
                )
        first, *_, last = said
        assert first.halted
        assert first.reasons
        assert first.streams_stopped >= 1  # The answer; and a round, if one was on its way.
        assert [o.outcome for o in first.outcomes] == [pb.RecordOutcome.OUTCOME_APPLIED]
        assert [s.acknowledged_by for s in said[1:-1]] == [two.node.peer]
        assert (last.peers_told, last.peers_acknowledged) == (1, 1)
        assert again.health == pb.HEALTH_HALTED
        assert [o.outcome for o in replayed[0].outcomes] == [pb.RecordOutcome.OUTCOME_KNOWN]

    run(body)


def test_an_order_that_nobody_may_give_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    forged = Founders("others").halt()

    async def body() -> None:
        async with MemorySwarm() as wire, served(tmp_path, wire, charter=True) as one:
            said = await one.call(lambda stub: list(halting(stub, records=[forged])))
            assert [o.outcome for o in said[0].outcomes] == [pb.RecordOutcome.OUTCOME_REFUSED]
            assert said[0].outcomes[0].reason
            assert not said[-1].halted
            assert one.node.view().halted == ()

    run(body)


def test_this_node_alone_is_stopped_by_whoever_has_its_token(tmp_path: Path) -> None:
    async def body() -> None:
        async with MemorySwarm() as wire, served(tmp_path, wire) as one:
            stop = partial(halting, this_node_only=True)

            def refused_stop(
                stub: Any, metadata: list[tuple[str, str]] | None = None
            ) -> tuple[grpc.StatusCode, str]:
                return refused(lambda: stop(stub, metadata))

            code, sentence = await one.call(refused_stop)
            assert (code, "grpc.token" in sentence) == (grpc.StatusCode.UNAUTHENTICATED, True)
            for wrong in ("Bearer " + "0" * 64, "Basic x", "Bearer ", "Bearer"):
                metadata = [("authorization", wrong)]
                code, _ = await one.call(partial(refused_stop, metadata=metadata))
                assert code == grpc.StatusCode.UNAUTHENTICATED
            twice = [*bearer(one.folder), ("authorization", "Bearer other")]
            code, _ = await one.call(partial(refused_stop, metadata=twice))
            assert code == grpc.StatusCode.UNAUTHENTICATED
            assert one.node.view().halted == ()
            (said,) = await one.call(lambda stub: list(stop(stub, bearer(one.folder))))
            assert said.halted
            assert one.node.view().halted
            # As told to the owner, who alone starts it again.
            assert (await ask(one.folder, "start_here"))["halted"] == []

    run(body)


def test_the_token_is_its_owners_alone_and_another_at_each_start(tmp_path: Path) -> None:
    async def once() -> str:
        async with MemorySwarm() as wire, served(tmp_path, wire, expert=False) as one:
            file = one.folder / TOKEN_FILE
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            return file.read_text(encoding="ascii")

    assert trio.run(once) != trio.run(once)
    assert not (tmp_path / "data" / TOKEN_FILE).exists()


# --- the expert and the agent -------------------------------------------------------------------


def test_an_expert_is_taken_back_and_offered_again_and_reported_on(tmp_path: Path) -> None:
    def calls(stub: Any, folder: Path, peer: str) -> None:
        def register(**fields: object) -> Any:
            request = pb.RegisterExpertRequest(**fields)
            return stub.RegisterExpert(request, timeout=TIMEOUT_S, metadata=bearer(folder))

        (taken,) = register(withdraw=True)
        assert (taken.success, taken.registered) == (True, False)
        (again,) = register(
            expert_id=peer, model_name="m", max_batch_size=10_000, tokenizer="ABCDEF"
        )
        assert (again.success, again.registered, again.router_id) == (True, True, peer)
        assert (again.model_name, again.health) == ("m", pb.HEALTH_SERVING)
        assert len(again.model_digest) == 32
        assert "sessions, and not 10000" in again.message
        assert "vocabulary" in again.message
        reports = register(report_seconds=1)
        assert [next(reports).message != "", next(reports).message] == [True, ""]
        reports.cancel()
        for fields, names in (
            ({"expert_id": "12D3KooWother"}, "expert_id"),
            ({"model_name": "hf:another"}, "hf:another"),
            ({"model_name": "x" * 501}, "model"),
            ({"report_seconds": 3_601}, "report_s"),
            ({"tokenizer": "a" * 65}, "tokenizer"),
        ):
            code, sentence = refused(lambda fields=fields: register(**fields))  # type: ignore[misc]
            assert (code, names in sentence) == (grpc.StatusCode.INVALID_ARGUMENT, True), sentence
        request = pb.RegisterExpertRequest(withdraw=True)
        code, _ = refused(lambda: stub.RegisterExpert(request, timeout=TIMEOUT_S))
        assert code == grpc.StatusCode.UNAUTHENTICATED

    async def body() -> None:
        async with MemorySwarm() as wire, served(tmp_path, wire) as one:
            await one.call(lambda stub: calls(stub, one.folder, one.node.peer))
            assert one.node.view().card is not None  # It goes on using it.

    run(body)


def test_a_task_is_queued_for_whoever_has_the_token(tmp_path: Path) -> None:
    def calls(stub: Any, folder: Path) -> None:
        def submit(metadata: list[tuple[str, str]] | None, **fields: object) -> Any:
            request = pb.SubmitSelfTaskRequest(**fields)
            return stub.SubmitSelfTask(request, timeout=TIMEOUT_S, metadata=metadata)

        asked = {"task_type": pb.TASK_TYPE_WRITE_TEST, "task_description": "what breaks it?"}
        code, _ = refused(lambda: submit(None, **asked))
        assert code == grpc.StatusCode.UNAUTHENTICATED
        (task,) = submit(bearer(folder), priority=3, **asked)
        assert (task.accepted, task.action_tier, task.domain) == (True, 2, "scheduling")
        assert task.task_digest == sha256(b"what breaks it?").digest()
        assert (task.proposal_id, task.step) == (b"", "")
        for fields, names in (
            ({}, "task_type"),
            ({"task_type": 99}, "99"),
            (asked | {"priority": 10}, "priority"),
            (asked | {"domain": "kitchen"}, "kitchen"),
            (asked | {"task_description": "x" * 513}, "513 bytes"),
            (asked | {"deadline_seconds": 2**31}, "30 days"),
        ):
            code, sentence = refused(lambda fields=fields: submit(bearer(folder), **fields))  # type: ignore[misc]
            assert (code, names in sentence) == (grpc.StatusCode.INVALID_ARGUMENT, True), sentence

    async def body() -> None:
        async with MemorySwarm() as wire, served(tmp_path, wire, agent=True) as one:
            await one.call(lambda stub: calls(stub, one.folder))
            (task,) = (await ask(one.folder, "agent_tasks"))["tasks"]
            assert (task["type"], task["priority"]) == ("write_test", 3)

    run(body)


def test_where_the_agent_is_off_a_task_is_refused_with_what_would_help(tmp_path: Path) -> None:
    def submit(stub: Any, folder: Path) -> Any:
        request = pb.SubmitSelfTaskRequest(task_type=pb.TASK_TYPE_TUNE_SCHEDULER)
        return stub.SubmitSelfTask(request, timeout=TIMEOUT_S, metadata=bearer(folder))

    async def body() -> None:
        async with MemorySwarm() as wire, served(tmp_path, wire) as one:
            code, sentence = await one.call(lambda stub: refused(lambda: submit(stub, one.folder)))
        assert (code, "--agent" in sentence) == (grpc.StatusCode.FAILED_PRECONDITION, True)

    run(body)


# --- what is wrong ----------------------------------------------------------------------------

BAD: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, "records"),
    ({"records": [b"x"], "this_node_only": True}, "not both"),
    ({"records": [b"x"] * 129}, "at most 128"),
    ({"records": [b"x" * 4_097]}, "at most 4096"),
    ({"records": [b"x"], "wait_seconds": 61}, "wait_s"),
    ({"records": [b"x"], "wait_seconds": float("nan")}, "wait_s"),
    ({"records": [b"x"], "requester_id": "x" * 65}, "requester_id"),
    ({"records": [b"x"], "reason": "x" * 201}, "reason"),
)


def test_what_is_out_of_bounds_is_named_and_costs_nothing(tmp_path: Path) -> None:
    invalid = grpc.StatusCode.INVALID_ARGUMENT

    def calls(folder: Path, stub: Any, address: str) -> None:
        for fields, names in BAD:
            code, sentence = refused(lambda fields=fields: halting(stub, bearer(folder), **fields))  # type: ignore[misc]
            assert (code, names in sentence) == (invalid, True), sentence
        code, sentence = refused(lambda: status(stub, experts_max=4_097))
        assert (code, "4097" in sentence) == (invalid, True), sentence
        with grpc.insecure_channel(address) as channel:
            raw: Any = channel.unary_unary(f"/{SERVICE}/GetRouterStatus")
            code, sentence = refused(lambda: raw(b"\xff\xff", timeout=TIMEOUT_S))
            assert (code, "GetRouterStatusRequest" in sentence) == (invalid, True), sentence
            code, _ = refused(lambda: raw(bytes(REQUEST_BYTES_MAX + 1), timeout=TIMEOUT_S))
            assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
            unknown: Any = channel.unary_unary(f"/{SERVICE}/Nothing")
            assert refused(lambda: unknown(b"", timeout=TIMEOUT_S))[0] is (
                grpc.StatusCode.UNIMPLEMENTED
            )
        assert status(stub).router_id

    async def body() -> None:
        async with MemorySwarm() as wire, served(tmp_path, wire, expert=False) as one:
            await one.call(lambda stub: calls(one.folder, stub, one.address))
            assert one.node.view().halted == ()

    run(body)


@asynccontextmanager
async def starting(folder: Path, wire: MemorySwarm, loading: Loading) -> AsyncIterator[str]:
    """The address of a node that is still loading its model; it is closed with the block."""
    told: list[Life] = []
    closing = trio.Event()

    async def node() -> None:
        config = replace(config_in(folder), grpc_port=0)
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel, scope)
            async with open_node(config, tell=told.append, parts=parts_on(wire, loading.open())):
                await closing.wait()

    async def cancel(scope: trio.CancelScope) -> None:
        await closing.wait()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(node)
        await loading.begun.wait()
        yield next(one.address for one in told if isinstance(one, ServiceOpened))
        closing.set()


def health_of(address: str, service: str = "") -> int:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        return int(stub.Check(request, timeout=TIMEOUT_S).status)


def test_while_the_model_is_loading_the_service_says_so_and_an_order_waits(tmp_path: Path) -> None:
    """Until the caller's deadline; or until the node leaves, which ends the call."""
    codes: list[grpc.StatusCode] = []

    def asked_meanwhile(address: str) -> None:
        assert health_of(address) == health_pb2.HealthCheckResponse.NOT_SERVING
        with connected(address) as stub:
            assert status(stub).health == pb.HEALTH_STARTING
            request = pb.HaltMeshRequest(records=[WE.halt()])
            code, _ = refused(lambda: stub.HaltMesh(request, timeout=0.1))
            assert code == grpc.StatusCode.DEADLINE_EXCEEDED

    def left_waiting(address: str, taken: trio.Event) -> None:
        with connected(address) as stub:
            call = halting(stub, records=[WE.halt()])
            call.initial_metadata()  # The node has the call.
            trio.from_thread.run_sync(taken.set)
            codes.append(refused(lambda: call)[0])

    async def body() -> None:
        taken = trio.Event()
        async with MemorySwarm() as wire, trio.open_nursery() as nursery:
            async with starting(tmp_path, wire, Loading()) as address:
                await trio.to_thread.run_sync(asked_meanwhile, address)
                nursery.start_soon(trio.to_thread.run_sync, left_waiting, address, taken)
                await taken.wait()
        assert codes == [grpc.StatusCode.UNAVAILABLE]

    run(body)


def test_two_hundred_calls_at_once_are_all_answered(tmp_path: Path) -> None:
    def calls(stub: Any) -> list[Any]:
        request = pb.GetRouterStatusRequest()
        begun = [stub.GetRouterStatus.future(request, timeout=TIMEOUT_S) for _ in range(200)]
        return [one.result() for one in begun]

    async def body() -> None:
        async with MemorySwarm() as wire, served(tmp_path, wire) as one:
            found = await one.call(calls)
        assert {reply.router_id for reply in found} == {one.node.peer}

    run(body)
    assert CALLS_MAX > 200  # What is beyond that is refused, and not kept waiting.


def test_health_and_reflection_are_what_generic_tools_expect(tmp_path: Path) -> None:
    def described(address: str) -> tuple[set[str], set[str], int]:
        with grpc.insecure_channel(address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            file = database.FindFileContainingSymbol(SERVICE)
            methods = {method.name for one in file.service for method in one.method}
            return set(database.get_services()), methods, health_of(address, SERVICE)

    async def body() -> None:
        async with MemorySwarm() as wire, served(tmp_path, wire, expert=False) as one:
            services, methods, health = await trio.to_thread.run_sync(described, one.address)
        assert services >= {SERVICE, "grpc.health.v1.Health"}
        assert methods == {
            method.name for method in pb.DESCRIPTOR.services_by_name["MeshLlm"].methods
        }
        assert health == health_pb2.HealthCheckResponse.SERVING

    run(body)


def test_a_taken_port_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    async def body() -> None:
        async with MemorySwarm() as wire, served(tmp_path / "a", wire, expert=False) as one:
            port = int(one.address.rpartition(":")[2])
            config = replace(config_in(tmp_path / "b"), grpc_port=port)
            with pytest.raises(LocalError, match=f"port {port} of 127.0.0.1"):
                async with open_node(config, parts=parts_on(wire)):
                    pytest.fail("two nodes share a port")

    run(body)


def test_without_its_packages_the_setting_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "grpc_reflection.v1alpha", None)
    monkeypatch.delitem(sys.modules, "swarmllm.adapters.grpc_service.server")

    async def body() -> None:
        async with MemorySwarm() as wire:
            config = replace(config_in(tmp_path), grpc_port=0)
            with pytest.raises(MissingExtraError, match=r"grpcio-reflection.*swarmllm\[grpc\]"):
                async with open_node(config, parts=parts_on(wire)):
                    pytest.fail("it serves without grpcio")

    run(body)


def test_the_messages_are_those_of_the_definition(tmp_path: Path) -> None:
    made = compiled(tmp_path)
    assert made == {name: (PACKAGE / name).read_text(encoding="utf-8") for name in NAMES}
