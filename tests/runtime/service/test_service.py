"""The service without a transport, and that the local socket adds nothing to it and loses nothing
of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.halt.charter import Pin
from swarmllm.core.settings.holder import Change, Settings
from swarmllm.core.settings.table import EXPERTS, EXTRA, SETTINGS
from swarmllm.core.values import SAMPLING, USUAL_SAMPLING, Sampling
from swarmllm.errors import LocalError, SwarmError, UsageError
from swarmllm.runtime.local_api.client import SocketClient
from swarmllm.runtime.local_api.server import serve
from swarmllm.runtime.service.halts import OPS as HALT_OPS
from swarmllm.runtime.service.halts import HaltService
from swarmllm.runtime.service.record import NO_PARAMS, Record
from swarmllm.runtime.service.request import (
    DEFAULTS,
    FIELDS,
    TextRequest,
    breadth_of,
    params_of,
    parse_request,
)
from swarmllm.runtime.service.service import Call, Client, Service
from swarmllm.testing.operators import Founders
from tests.runtime.little_swarm import LittleSwarm, little_swarm


class Noted(Service):
    """Remembers each record that it gave, and the error with which it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Record] = []
        self.error: SwarmError | None = None

    def call(self, op: str, params: Mapping[str, object] = NO_PARAMS) -> Call:
        inner = super().call(op, params)

        async def noted(call: Call) -> AsyncGenerator[Record]:
            call.when_cancelled(inner.cancel)
            try:
                async with inner:
                    async for record in inner:
                        self.given.append(record)
                        yield record
            except SwarmError as error:
                self.error = error
                raise

        return Call(noted)


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        with trio.fail_after(30):
            await body()

    trio.run(limited)


def opened(service: Service, swarm: LittleSwarm) -> None:
    one = swarm.members[0]
    halts = (
        None
        if one.orders is None
        else HaltService(one.driver, one.orders, lambda: one.local.view().peers)
    )
    service.open(one.local, halts)


async def records_of(
    client: Client, op: str, params: Mapping[str, object] = NO_PARAMS
) -> list[Record]:
    async with client.call(op, params) as records:
        return [record async for record in records]


QUESTIONS: list[tuple[str, dict[str, object]]] = [
    ("status", {}),
    ("experts", {}),
    ("shutdown", {}),
    (
        "generate",
        {
            "prompt": "hello",
            "k": 2,
            "max_tokens": 6,
            "seed": 3,
            "temperature": 0.5,
            "penalty_last": 9,
        },
    ),
    ("generate", {"prompt": "hello", "stop": ["\N{SNOWMAN}"], "max_tokens": 2}),
    ("halt_status", {}),
    ("halt_export", {}),
    ("halt_publish", {"records": ["00"], "wait_s": 0}),
    ("stop_here", {}),
    ("start_here", {}),
]
WRONG: list[tuple[str, dict[str, object]]] = [
    ("dance", {}),
    ("generate", {}),
    ("generate", {"prompt": "x", "colour": "red"}),
    ("generate", {"prompt": "x", "top_p": 0}),
    ("halt_publish", {"records": []}),
    ("proposals", {}),  # These nodes take no part in governance.
]


@pytest.mark.parametrize(("op", "params"), [*QUESTIONS, *WRONG], ids=str)
@pytest.mark.parametrize("pin", [Founders().pin, None], ids=["halts", "none"])
def test_the_socket_gives_record_for_record_what_the_service_gives(
    tmp_path: Path, op: str, params: dict[str, object], pin: Pin | None
) -> None:
    async def body() -> None:
        service = Noted()
        async with (
            little_swarm([7, 7], delay_s=0.001, service_s=0.001, pin=pin) as swarm,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(partial(serve, service, tmp_path, fallback=tmp_path / "s"))
            await swarm.wait_met()
            opened(service, swarm)
            got: list[Record] = []
            error: SwarmError | None = None
            try:
                async with SocketClient(tmp_path).call(op, params) as records:
                    async for record in records:
                        got.append(record)
            except SwarmError as raised:
                error = raised
            assert got == service.given
            assert (type(error), str(error)) == (type(service.error), str(service.error))
            assert got or error is not None
            fails = (op, params) in WRONG or (pin is None and op in HALT_OPS)
            assert (error is not None) == fails
            nursery.cancel_scope.cancel()

    run(body)


def test_the_service_answers_without_any_transport() -> None:
    async def body() -> None:
        service = Service()
        assert (await records_of(service, "status"))[0]["state"] == "starting"
        async with little_swarm([7, 7], delay_s=0.001, service_s=0.001) as swarm:
            await swarm.wait_met()
            opened(service, swarm)
            assert (await records_of(service, "status"))[0]["peer"] == swarm.members[0].peer
            records = await records_of(
                service, "generate", {"prompt": "hello", "k": 2, "max_tokens": 4}
            )
            assert [r["event"] for r in records] == ["weighed", *["token"] * 4, "end"]
            with pytest.raises(LocalError, match="without a kill switch"):
                await records_of(service, "halt_status")
            with pytest.raises(UsageError, match=r"no op 'dance'.*generate.*halt_status"):
                await records_of(service, "dance")

    run(body)


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_cancelled_text_still_has_its_end(when: str) -> None:
    async def body() -> None:
        service = Service()
        async with little_swarm([7, 7], delay_s=0.001, service_s=0.001) as swarm:
            await swarm.wait_met()
            opened(service, swarm)
            async with service.call("generate", {"prompt": "hello", "max_tokens": 4000}) as call:
                if when == "during":
                    await anext(call)
                call.cancel()
                assert [record async for record in call][-1]["reason"] == "cancelled"

    run(body)


def test_who_leaves_early_ends_the_answer() -> None:
    async def body() -> None:
        service = Service()
        async with little_swarm([7, 7], delay_s=0.001, service_s=0.001) as swarm:
            await swarm.wait_met()
            opened(service, swarm)
            async with service.call("generate", {"prompt": "hello", "max_tokens": 4000}) as call:
                await anext(call)
                assert swarm.members[0].local.view().answers_open
            while swarm.members[0].local.view().answers_open:  # The time limit is the test.
                await trio.lowlevel.checkpoint()

    run(body)


def test_an_order_to_stop_holds_even_if_the_client_has_gone() -> None:
    async def body() -> None:
        service = Service()
        async with service.call("shutdown") as call:
            assert (await anext(call))["event"] == "stopping"
        await service.wait_shutdown()

    run(body)


# --- the settings of the swarm --------------------------------------------------------------------


async def asked(service: Service, params: Mapping[str, object] = NO_PARAMS) -> Record:
    async with service.call("settings", params) as records:
        return await anext(records)


def test_settings_are_shown_as_they_are_now() -> None:
    async def body() -> None:
        settings = Settings(pins={EXTRA: 2})
        service = Service(settings=settings)
        settings.set(EXPERTS, 5, Change("a proposal", 1_000))
        settings.set(EXTRA, 3, Change("a proposal", 2_000))
        record = await asked(service)
        assert record["state"] == "starting"
        rows = {row["key"]: row for row in record["settings"]}
        assert list(rows) == list(SETTINGS)
        experts, extra = rows["answer.experts"], rows["router.hedging_extra"]
        assert (experts["value"], experts["of_swarm"], experts["pinned"]) == (5, 5, False)
        assert (experts["changed_by"], experts["changed"]) == ("a proposal", 1.0)
        assert (extra["value"], extra["of_swarm"], extra["pinned"]) == (2, 3, True)
        assert rows["router.blur"]["changed_by"] is None
        assert (await asked(service, {"key": "router.blur"}))["settings"] == [rows["router.blur"]]

    run(body)


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"key": "router.blurr"}, r"did you mean router\.blur"),
        ({"key": 3}, "takes the field 'key'"),
        ({"name": "router.blur"}, "takes the field 'key'"),
        ({"key": "router.blur", "more": 1}, "takes the field 'key'"),
    ],
)
def test_a_wrong_question_about_settings_is_refused(params: dict[str, object], why: str) -> None:
    async def body() -> None:
        with pytest.raises(UsageError, match=why):
            await asked(Service(), params)

    run(body)


# --- requests -------------------------------------------------------------------------------------


def test_every_parameter_of_the_sampling_is_a_field_of_a_request_and_arrives() -> None:
    assert set(SAMPLING) <= set(FIELDS)
    for name, parameter in SAMPLING.items():
        value = parameter.kind(parameter.high)
        request = parse_request({"prompt": "x", name: value})
        assert getattr(request.drawn(), name) == value
        request.check()
        with pytest.raises(UsageError, match=name):
            parse_request({"prompt": "x", name: parameter.kind(parameter.high + 1)}).check()
        with pytest.raises(UsageError, match=name):
            parse_request({"prompt": "x", name: "much"})


def test_what_is_left_out_is_as_the_node_is_set() -> None:
    defaults = TextRequest("", k=7, extra=2, quality=0.5, sampling={"temperature": 0.1})
    request = parse_request({"prompt": "x", "top_k": 4}, defaults)
    assert request == TextRequest(
        "x", k=7, extra=2, quality=0.5, sampling={"temperature": 0.1, "top_k": 4}
    )
    assert parse_request({"prompt": "x"}) == TextRequest("x")
    settings = Settings(values={EXPERTS: 5})
    assert breadth_of(TextRequest("x"), settings) == {"k": 5, "extra": 1, "quality": 1.0}
    assert breadth_of(request, settings) == {"k": 7, "extra": 2, "quality": 0.5}
    assert Sampling(temperature=0.8, top_p=0.95) == USUAL_SAMPLING
    assert replace(DEFAULTS.drawn(), seed=0) == USUAL_SAMPLING


def test_of_a_chat_the_options_given_win_then_the_models_advice_then_the_defaults() -> None:
    advice = {"temperature": 0.2, "top_p": 0.9}
    chat = parse_request({"messages": [{"role": "user", "content": "Hello"}], "top_p": 0.5})
    assert replace(chat.drawn(advice), seed=0) == Sampling(temperature=0.2, top_p=0.5)
    assert replace(chat.drawn(), seed=0) == Sampling(temperature=0.8, top_p=0.5)
    text = parse_request({"prompt": "Once", "temperature": None})
    assert replace(text.drawn(advice), seed=0) == USUAL_SAMPLING, "advice is for chats"


def test_the_embedders_call_has_the_defaults_of_every_other_way() -> None:
    async def body() -> None:
        async with little_swarm([7], delay_s=0.001, service_s=0.001) as swarm:
            local = swarm.members[0].local
            assert local.generate("x")._request == TextRequest("x")
            given = local.generate("x", k=1, penalty_last=9, top_k=3, stop="end")._request
            assert given == TextRequest(
                "x", k=1, sampling={"penalty_last": 9, "top_k": 3}, stop=("end",)
            )
            with pytest.raises(UsageError, match="no field 'colour'"):
                local.generate("x", colour=3)

    run(body)


samplings = st.fixed_dictionaries(
    {},
    optional={
        name: st.integers(0, 9) if row.kind is int else st.floats(row.low, row.high)
        for name, row in SAMPLING.items()
    },
)
requests = st.builds(
    TextRequest,
    st.text(),
    k=st.integers(),
    quality=st.floats(0, 1),
    domain=st.text(),
    turns=st.lists(st.integers()).map(tuple),
    sampling=samplings,
    seed=st.none() | st.integers(),
    stop=st.lists(st.text()).map(tuple),
)


@given(requests)
def test_a_request_comes_back_from_its_parameters(request_: TextRequest) -> None:
    params: dict[str, Any] = params_of(request_)
    assert set(params) == set(FIELDS)
    assert parse_request(params) == request_
