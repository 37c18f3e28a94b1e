"""The calls of `MeshLlm`: who may make them, within which bounds, and what an error is called in
gRPC. Each runs in one of grpcio's threads, and asks the service through the bridge.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from swarmllm.adapters.grpc_service import mesh_llm_pb2 as pb
from swarmllm.adapters.grpc_service.bridge import Bridge, ClosedError, LateError, Question
from swarmllm.adapters.grpc_service.messages import (
    experts_wanted,
    halt_params,
    halting_message,
    offer_message,
    offer_params,
    status_message,
    task_message,
    task_params,
)
from swarmllm.adapters.grpc_service.token_file import TOKEN_FILE, Token
from swarmllm.errors import SwarmError, UsageError
from swarmllm.runtime.service.halts import WAIT_MAX_S
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.visible import one_line

SERVICE: Final = pb.DESCRIPTOR.services_by_name["MeshLlm"]
UNARY_S: Final = 10.0  # For a call whose client set no deadline.
HALT_S: Final = WAIT_MAX_S + 5.0
# Calls that wait for acknowledgements at once. One more halts as well, and waits for none: a thread
# is always left that takes a halt in.
HALTS_WAITING_MAX: Final = 16
STREAMS_MAX: Final = (
    8  # Calls that are followed at once: each has a thread for as long as it lasts.
)
FOLLOW_S: Final = 24 * 3_600.0

Asked = TypeVar("Asked", bound=Message)
Context = grpc.ServicerContext


@dataclass(frozen=True, slots=True)
class _Bytes:
    """A request as it came, so that one which is no message is refused in our words."""

    raw: bytes

    def read(self, kind: type[Asked]) -> Asked:
        try:
            return kind.FromString(self.raw)
        except DecodeError as fault:
            raise UsageError(f"the request is no {kind.__name__}: {fault}") from fault


class Servicer:
    def __init__(self, bridge: Bridge, token: Token) -> None:
        self._bridge = bridge
        self._token = token
        self._streams = threading.BoundedSemaphore(STREAMS_MAX)
        self._halts = threading.BoundedSemaphore(HALTS_WAITING_MAX)

    def handler(self) -> grpc.GenericRpcHandler:
        """What the server is given."""
        unary = {"GetRouterStatus": self._router_status}
        streams: dict[str, Callable[[_Bytes, Context], Iterator[Message]]] = {
            "RegisterExpert": self._register_expert,
            "SubmitSelfTask": self._submit_self_task,
            "HaltMesh": self._halt_mesh,
        }
        assert {method.name for method in SERVICE.methods} == {*unary, *streams}
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: grpc.unary_unary_rpc_method_handler(_answering(call), _Bytes, _serialized)
            for name, call in unary.items()
        }
        methods |= {
            name: grpc.unary_stream_rpc_method_handler(_streaming(call), _Bytes, _serialized)
            for name, call in streams.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE.full_name, methods)

    # --- the calls --------------------------------------------------------------------------------

    def _router_status(self, request: _Bytes, context: Context) -> pb.GetRouterStatusResponse:
        most = experts_wanted(request.read(pb.GetRouterStatusRequest))
        found = list(self._records("mesh_status", {}, context, UNARY_S))
        return status_message(found[0], most)

    def _register_expert(
        self, request: _Bytes, context: Context
    ) -> Iterator[pb.RegisterExpertResponse]:
        asked = request.read(pb.RegisterExpertRequest)
        params = offer_params(asked)
        self._check_token(context)
        with self._following(context):
            for record in self._records("offer_expert", params, context, FOLLOW_S):
                yield offer_message(record, asked)

    def _submit_self_task(
        self, request: _Bytes, context: Context
    ) -> Iterator[pb.SubmitSelfTaskResponse]:
        params = task_params(request.read(pb.SubmitSelfTaskRequest))
        self._check_token(context)
        task: Record | None = None
        with self._following(context):
            for record in self._records("submit_self_task", params, context, FOLLOW_S):
                if record["event"] == "agent_task":
                    task = record
                assert task is not None, "a step of no task"
                yield task_message(task, None if record is task else record)

    def _halt_mesh(self, request: _Bytes, context: Context) -> Iterator[pb.HaltMeshResponse]:
        asked = request.read(pb.HaltMeshRequest)
        params = halt_params(asked)
        if asked.this_node_only:  # A signed order is its own right.
            self._check_token(context)
        context.send_initial_metadata(())  # It is taken, whatever it waits for.
        waits = self._halts.acquire(blocking=False)
        if not waits:
            params["wait_s"] = 0.0
        try:
            for record in self._records("halt_mesh", params, context, HALT_S):
                yield halting_message(record)
        finally:
            if waits:
                self._halts.release()

    # --- what they share --------------------------------------------------------------------------

    @contextmanager
    def _following(self, context: Context) -> Iterator[None]:
        """A call that may last for hours."""
        if not self._streams.acquire(blocking=False):
            raise _FullError(
                f"{STREAMS_MAX} calls are followed already; end one of them, or try again later"
            )
        try:
            context.send_initial_metadata(())
            yield
        finally:
            self._streams.release()

    def _records(
        self, op: str, params: dict[str, object], context: Context, usual_s: float
    ) -> Iterator[Record]:
        """Until the client's deadline, or so many seconds where it has none."""
        remaining = context.time_remaining()
        within_s = usual_s if remaining is None or math.isinf(remaining) else remaining
        question = Question(op, params)
        if not context.add_callback(lambda: self._bridge.cancel(question)):
            raise ClosedError  # The client has left already.
        yield from self._bridge.ask(question, time.monotonic() + min(within_s, usual_s))

    def _check_token(self, context: Context) -> None:
        given = [
            value
            for key, value in context.invocation_metadata()
            if key == "authorization" and isinstance(value, str)
        ]
        where = f"the token is in the file {TOKEN_FILE} of the node's data folder"
        if not given:
            raise _TokenError(
                f"this call changes what the node does and needs the metadata"
                f" 'authorization: Bearer TOKEN'; {where}"
            )
        if len(given) > 1 or not self._token.is_in(given[0]):
            raise _TokenError(
                f"that is not this node's token; {where}, and a new one at each start"
            )


class _TokenError(Exception):
    pass


class _FullError(Exception):
    pass


REFUSALS: Final = (SwarmError, ClosedError, LateError, _TokenError, _FullError)


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


def _answering(
    call: Callable[[_Bytes, Context], Message],
) -> Callable[[_Bytes, Context], Message]:
    def answer(request: _Bytes, context: Context) -> Message:
        try:
            return call(request, context)
        except REFUSALS as error:
            _refuse(error, context)

    return answer


def _streaming(
    call: Callable[[_Bytes, Context], Iterator[Message]],
) -> Callable[[_Bytes, Context], Iterator[Message]]:
    def answer(request: _Bytes, context: Context) -> Iterator[Message]:
        try:
            yield from call(request, context)
        except REFUSALS as error:
            _refuse(error, context)

    return answer


def _refuse(error: Exception, context: Context) -> NoReturn:
    code, sentence = grpc.StatusCode.FAILED_PRECONDITION, str(error)
    match error:
        case ClosedError():
            code, sentence = grpc.StatusCode.UNAVAILABLE, "this node is stopping; ask another one"
        case LateError():
            code = grpc.StatusCode.DEADLINE_EXCEEDED
            sentence = "the node did not answer before the deadline"
        case _TokenError():
            code = grpc.StatusCode.UNAUTHENTICATED
        case _FullError():
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
        case UsageError():
            code = grpc.StatusCode.INVALID_ARGUMENT
        case _:
            pass
    context.abort(code, one_line(sentence))
