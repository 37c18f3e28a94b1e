"""Every question that a client can put to a node, without a transport: an operation with its
parameters in, records out.

    async with service.call("generate", {"prompt": "Once", "k": 3}) as records:
        async for record in records: ...

The local socket (`local_api`), gRPC and a command's own node are thin callers of this. `generate`
gives `weighed`, `token`, `notice` and at last `end`; `status`, `experts`, `audits`, `metrics`,
`invite` and `shutdown` give one record; `events` tells of experts and peers until the caller
leaves; the kill switch's operations are in `halts`, those of governance in `governance`, those of
programs that manage nodes in `mesh`, those of the agent and of the node's expert in `agent`. What
cannot be answered is raised as a UsageError, LocalError or HaltedError.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from types import TracebackType
from typing import Final, Protocol, Self

import trio

from swarmllm.core.settings.holder import Settings
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.config.pins import setting_of
from swarmllm.runtime.service import inviting, mesh, metrics, trust_fields
from swarmllm.runtime.service.agent import OPS as AGENT_OPS
from swarmllm.runtime.service.agent import AgentService
from swarmllm.runtime.service.governance import OPS as GOVERNANCE_OPS
from swarmllm.runtime.service.governance import GovernanceService
from swarmllm.runtime.service.halts import OPS as HALT_OPS
from swarmllm.runtime.service.halts import HaltService
from swarmllm.runtime.service.inviting import InviteService
from swarmllm.runtime.service.json_events import (
    Stopping,
    end_record,
    experts_record,
    life_record,
    part_record,
    record_of,
    settings_record,
    starting_record,
    status_record,
)
from swarmllm.runtime.service.ledgers import OPS as LEDGER_OPS
from swarmllm.runtime.service.ledgers import LedgerService
from swarmllm.runtime.service.local_node import LocalNode
from swarmllm.runtime.service.record import NO_PARAMS, Record
from swarmllm.runtime.service.request import DEFAULTS, TextRequest, parse_request
from swarmllm.runtime.service.validation import OPS as VALIDATION_OPS
from swarmllm.runtime.service.validation import ValidationService


class Client(Protocol):
    """Whatever puts questions to a node: the service itself, or a transport to one."""

    def call(
        self, op: str, params: Mapping[str, object] = NO_PARAMS
    ) -> AbstractAsyncContextManager[AsyncIterator[Record]]:
        """One question; its records are iterated over within the block. Leaving the block early
        ends the answer."""


class Call:
    """One question being answered. Iterate over it once, within `async with`, which ends the answer
    when the block is left."""

    def __init__(self, records: Callable[[Call], AsyncGenerator[Record]]) -> None:
        self._records = records(self)
        self._is_cancelled = False
        self._end: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Ask for no more of a text; its `end` record still comes. Nothing for other operations,
        which leaving the block ends."""
        self._is_cancelled = True
        if self._end is not None:
            self._end()

    def when_cancelled(self, end: Callable[[], None]) -> None:
        """For whoever answers: what `cancel` does. It is called at once if that was before."""
        self._end = end
        if self._is_cancelled:
            end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Record:
        return await anext(self._records)

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._records.aclose()


class Service:
    """The questions that one node answers. While it is still starting only `status`, `experts`,
    `settings`, `metrics` and `shutdown` are answered at once, the others when it has started."""

    def __init__(self, defaults: TextRequest = DEFAULTS, settings: Settings | None = None) -> None:
        """`defaults`: what `generate` takes where a client gives nothing. `settings`: the node's;
        None: the defaults."""
        self.node: LocalNode | None = None
        self.http = ""
        """The address of the HTTP API; empty: there is none."""
        self._defaults = defaults
        self._settings = settings or Settings()
        self._halts: HaltService | None = None
        self._governance: GovernanceService | None = None
        self._validation: ValidationService | None = None
        self._ledgers: LedgerService | None = None
        self._agent: AgentService | None = None
        self._invites: InviteService | None = None
        self._open = trio.Event()
        self._shutdown = trio.Event()
        self._ops: Final[
            dict[str, Callable[[Mapping[str, object], Call], AsyncGenerator[Record]]]
        ] = {
            "generate": self._generate,
            "count": self._count,
            "status": self._status,
            "experts": self._experts,
            "audits": lambda _, __: trust_fields.answer(self.node),
            "receipt": lambda params, _: trust_fields.receipt(self.wait_started, params),
            "verify": lambda params, _: trust_fields.verify(self.wait_started, params),
            "accuse": lambda params, _: trust_fields.accuse(self.wait_started, params),
            "settings": self._show_settings,
            "metrics": lambda _, __: metrics.answer(self.node),
            "events": self._events,
            "invite": lambda params, _: inviting.answer(
                self.wait_started, lambda: self._inviting, params
            ),
            "shutdown": self._ask_shutdown,
        }

    def open(
        self,
        node: LocalNode,
        halts: HaltService | None = None,
        governance: GovernanceService | None = None,
        validation: ValidationService | None = None,
        ledgers: LedgerService | None = None,
        agent: AgentService | None = None,
        invites: InviteService | None = None,
    ) -> None:
        """The node has started. None: it has no kill switch or ledger, or takes no part in
        governance or in validations, or offers no expert for good."""
        self.node = node
        self._halts = halts
        self._governance = governance
        self._validation = validation
        self._ledgers = ledgers
        self._agent = agent
        self._inviting = invites
        self._open.set()

    @property
    def ops(self) -> tuple[str, ...]:
        return (
            *self._ops,
            *sorted(HALT_OPS | GOVERNANCE_OPS | VALIDATION_OPS | LEDGER_OPS | AGENT_OPS | mesh.OPS),
        )

    def call(self, op: str, params: Mapping[str, object] = NO_PARAMS) -> Call:
        """Nothing happens before the first record is asked for; an unknown `op` or a wrong
        parameter is a UsageError then."""
        if op in HALT_OPS:
            return Call(lambda _: self._halt(op, params))
        if op in GOVERNANCE_OPS:
            return Call(lambda _: self._govern(op, params))
        if op in VALIDATION_OPS:
            return Call(lambda _: self._validate(op, params))
        if op in LEDGER_OPS:
            return Call(lambda _: self._log(op, params))
        if op in mesh.OPS:
            return Call(lambda _: self._manage(op, params))
        if op in AGENT_OPS:
            return Call(lambda _: self._ask_agent(op, params))
        answer = self._ops.get(op)
        if answer is None:
            return Call(lambda _: self._unknown(op))
        return Call(lambda call: answer(params, call))

    async def wait_shutdown(self) -> None:
        """Until a client asks for the node to stop."""
        await self._shutdown.wait()

    async def wait_started(self) -> LocalNode:
        """Until `open` was called."""
        await self._open.wait()
        assert self.node is not None
        return self.node

    # --- the operations ---------------------------------------------------------------------------

    async def _unknown(self, op: str) -> AsyncGenerator[Record]:
        raise UsageError(f"the node knows no op {op[:40]!r}; it knows {', '.join(self.ops)}")
        yield  # It is a generator all the same.

    async def _status(self, _: Mapping[str, object], __: Call) -> AsyncGenerator[Record]:
        found = starting_record() if self.node is None else status_record(self.node.status())
        yield found | {"http": self.http}

    async def _experts(self, _: Mapping[str, object], __: Call) -> AsyncGenerator[Record]:
        yield experts_record(() if self.node is None else self.node.experts())

    async def _show_settings(self, params: Mapping[str, object], _: Call) -> AsyncGenerator[Record]:
        key, *others = params.values() or [None]
        if others or (params and not isinstance(params.get("key"), str)):
            raise UsageError(
                "settings takes the field 'key', the name of one setting, or no field for all"
            )
        wanted = None if key is None else setting_of(str(key))
        views = [view for view in self._settings.view() if wanted in {None, view.setting}]
        yield settings_record("starting" if self.node is None else "running", views)

    async def _manage(self, op: str, params: Mapping[str, object]) -> AsyncGenerator[Record]:
        async with aclosing(mesh.call(self, op, params)) as records:
            async for record in records:
                yield record

    async def _ask_shutdown(self, _: Mapping[str, object], __: Call) -> AsyncGenerator[Record]:
        try:
            yield life_record(Stopping("asked to"))
        finally:  # Also if the client has left: it has asked.
            self._shutdown.set()

    async def _events(self, _: Mapping[str, object], __: Call) -> AsyncGenerator[Record]:
        node = await self.wait_started()
        with node.events() as events:
            async for event in events:
                yield life_record(event)

    async def _generate(self, params: Mapping[str, object], call: Call) -> AsyncGenerator[Record]:
        request = parse_request(params, self._defaults)
        request.check()  # A mistake is told at once, also while the node is still starting.
        node = await self.wait_started()
        async with node.answer(request) as answer:
            call.when_cancelled(answer.cancel)
            while (part := await answer.next_part()) is not None:
                yield part_record(part)
        assert answer.result is not None
        yield end_record(answer.result)

    async def _count(self, params: Mapping[str, object], _: Call) -> AsyncGenerator[Record]:
        if set(params) != {"messages"}:
            raise UsageError("count takes the field 'messages', a conversation, and no other")
        request = parse_request(params)
        node = await self.wait_started()
        yield record_of("count", tokens=await node.count_tokens(request.messages))

    async def _halt(self, op: str, params: Mapping[str, object]) -> AsyncGenerator[Record]:
        await self.wait_started()
        if self._halts is None:
            raise LocalError(
                "this node runs without a kill switch; ask one that `swarmllm join` started"
            )
        async with aclosing(self._halts.call(op, params)) as records:
            async for record in records:
                yield record

    async def _govern(self, op: str, params: Mapping[str, object]) -> AsyncGenerator[Record]:
        await self.wait_started()
        if self._governance is None:
            raise LocalError(
                "this node runs without governance; ask one that `swarmllm join` started"
            )
        async for record in self._governance.call(op, params):
            yield record

    async def _validate(self, op: str, params: Mapping[str, object]) -> AsyncGenerator[Record]:
        await self.wait_started()
        if self._validation is None:
            raise LocalError(
                "this node takes no part in validations; ask one that `swarmllm join` started"
            )
        async for record in self._validation.call(op, params):
            yield record

    async def _log(self, op: str, params: Mapping[str, object]) -> AsyncGenerator[Record]:
        await self.wait_started()
        if self._ledgers is None:
            raise LocalError("this node keeps no ledger; ask one that `swarmllm join` started")
        async for record in self._ledgers.call(op, params):
            yield record

    async def _ask_agent(self, op: str, params: Mapping[str, object]) -> AsyncGenerator[Record]:
        await self.wait_started()
        if self._agent is None:
            raise LocalError("this node has no agent; ask one that `swarmllm join` started")
        async with aclosing(self._agent.call(op, params)) as records:
            async for record in records:
                yield record
