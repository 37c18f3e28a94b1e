"""Every view of a command, with a stranger's text wherever a stranger's text can stand. Each
returns what came out at the terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

import trio

from swarmllm.adapters.operator_keys import OperatorKey
from swarmllm.cli import doctor, join_view, models, output
from swarmllm.cli.bench import report as bench_report
from swarmllm.cli.bench.report import Measurement
from swarmllm.cli.checks import Verdict
from swarmllm.cli.client import NodeClient
from swarmllm.cli.demo_cast import Prompt
from swarmllm.cli.demo_view import DemoView
from swarmllm.cli.eval import tables
from swarmllm.cli.generate import ShownAnswer
from swarmllm.cli.inspect import experts_table, status_view
from swarmllm.cli.join_view import JoinView
from swarmllm.cli.operators import halt, keys, local, publishing
from swarmllm.cli.operators.publishing import Delivery
from swarmllm.cli.rounds import RoundTable
from swarmllm.cli.settings_view import setting_view, settings_table
from swarmllm.cli.trust.views import audits_view
from swarmllm.core.halt.state import HaltState
from swarmllm.core.settings.holder import Change, Settings
from swarmllm.core.settings.table import EXPERTS
from swarmllm.errors import LocalError, SwarmError
from swarmllm.runtime import logs
from swarmllm.runtime.config import Config
from swarmllm.runtime.service.json_events import settings_record
from swarmllm.runtime.service.record import NO_PARAMS, Record
from swarmllm.runtime.service.request import TextRequest
from tests.cli.terminal import Terminal, screen_on

View = Callable[[str], str]
CONFIG: Final = Config(data_dir=Path("data"), cache_dir=Path("cache"))


@contextmanager
def terminal() -> Iterator[Terminal]:
    """Everything that is written goes to one terminal, as it does for a person."""
    both = Terminal()

    def console(**_: Any) -> object:
        return screen_on(both)

    places = [
        module
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").startswith("swarmllm.cli")
    ]
    patches: list[Any] = [
        mock.patch.object(sys, "stdout", both),
        mock.patch.object(sys, "stderr", both),
    ]
    patches += [
        mock.patch.object(place, name, console)
        for place in places
        for name in ("people", "answer")
        if name in vars(place)
    ]
    for patch in patches:
        patch.start()
    try:
        yield both
    finally:
        for patch in reversed(patches):
            patch.stop()


def printed(made: Callable[[str], object]) -> View:
    """A view that is a renderable."""

    def view(text: str) -> str:
        with terminal() as both:
            screen_on(both).print(made(text))
        return both.getvalue()

    return view


def done(action: Callable[[str], object], *, raises: tuple[type[SwarmError], ...] = ()) -> View:
    """A view that writes by itself. An error of ours is told as the guard tells it."""

    def view(text: str) -> str:
        with terminal() as both:
            try:
                action(text)
            except raises as fault:
                output.complain(str(fault))
        return both.getvalue()

    return view


# --- records with a stranger's words --------------------------------------------------------------


def expert(text: str, *, local: bool = False) -> Record:
    return {
        "peer": f"12D3KooW{text}",
        "model": text,
        "n_params": 1e9,
        "tokens_per_s": 12.0,
        "queue_depth": 0,
        "sessions_free": 1,
        "sessions_max": 4,
        "domains": [text],
        "addrs": [text],
        "started": 0.0,
        "connected": False,
        "local": local,
        "resting": False,
        "round_ms": 4.2,
        "expected_ms": 5.0,
        "prompts": 3,
        "merit_nats": 0.1,
        "trust": 0.5,
        "standing": "new",
        "why": "known for 1.0 days, 2 valid audits lately",
        "share": 0.5,
    }


def audits(text: str) -> Record:
    account = {"peer": text, "digest": text, "standing": "doubted", "why": text, "trust": 0.5}
    audit = {"at": 1.0, "peer": text, "model": text, "verdict": "differed", "against": text}
    audit |= {"by": [text], "variation": 0.4, "nats": None, "signed": True}
    said = {"accounts": [account], "audits": [audit], "time": 100.0}
    return said | {"tokens_for_answers": 1, "tokens_for_audits": 2}


def status(text: str) -> Record:
    return {
        "event": "status",
        "time": 100.0,
        "state": "running",
        "peer": "12D3KooW",
        "swarm": text,
        "uptime_s": 3.0,
        "model": {
            "model": text,
            "n_params": 1e9,
            "context_max": 512,
            "vocab_size": 512,
            "vocab": text,
            "chat": text,
            "domains": [text],
        },
        "has_chat_template": True,
        "load": {"queue_depth": 0, "sessions_free": 1, "sessions_max": 4, "tokens_per_s": 3.0},
        "addrs": [text],
        "reach": {"kind": text, "says": text},
        "peers": [text],
        "halted": [text],
        "experts": [expert(text), expert("own", local=True)],
        "answers_open": 0,
        "rounds_served_open": 0,
        "troubles": [text],
        "records_dropped": 1,
        "records_refused": 1,
        "saves_failed": 0,
        "crowding": {"evicted": 1, "unread_exceeded": 1, "unread_given_way": 1},
        "relay": {"circuits": 1, "carried_bytes": 1},
        "punching": {"tried": 1, "punched": 1},
        "ledger": {
            "size": 3,
            "checkpoint": 2,
            "witnesses": [text],
            "watched": {text: 4},
            "alarms": {text: text},
            "fault": text,
        },
    }


def token(text: str) -> Record:
    use = {
        "peer": f"12D3KooW{text}",
        "model": text,
        "weight": 0.9,
        "bytes": 400,
        "rtt_ms": 2.0,
        "used": True,
    }
    return {
        "event": "token",
        "index": 0,
        "id": 7,
        "text": text,
        "round_ms": 4.0,
        "k": 1,
        "agreement": 0.8,
        "experts": [use],
    }


def weighed(text: str) -> Record:
    one = {"peer": text, "model": text, "nats_per_token": 2.0, "share": 0.5, "kept": True}
    return {"event": "weighed", "known": 1, "experts": [one, one | {"kept": False}]}


def end(text: str, reason: str = "length") -> Record:
    counts = {
        "tokens": 1,
        "prompt_tokens": 1,
        "seconds": 1.0,
        "tokens_per_s": 1.0,
        "bytes_per_expert_per_token": 400.0,
    }
    error = {"error": f"a peer says: {text}"} if reason == "error" else {}
    return {
        "event": "end",
        "reason": reason,
        "text": text,
        **counts,
        "experts_per_token": 1.0,
        "seed": 7,
        **error,
    }


LIFE: Final = {
    "starting": {"swarm", "data_dir"},
    "model_ready": {"model"},
    "warning": {"text"},
    "peer_lost": {"reason"},
    "expert_found": {"model"},
    "expert_lost": {"reason"},
    "log_doubted": {"reason"},
    "serving_paused": {"reason"},
}
NUMBERS: Final = {"n_params": 1e9, "context_max": 512, "seconds": 1.0, "tokens_per_s": 20.0}


# --- join -----------------------------------------------------------------------------------------


def joined(record: Callable[[str], Record]) -> Callable[[str], object]:
    def show(text: str) -> None:
        view = JoinView(output.people(), ask_with=f" --data-dir {text}", is_first_run=True)
        with mock.patch.object(
            join_view.log, "error", side_effect=AssertionError("the view failed")
        ):
            # Of experts it tells once it knows which is its own.
            view.tell({"event": "ready", "peer": "ours", "invite": ""})
            view.tell(record(text))
            view.close()
        assert not view._faults

    return show


def refreshed(text: str) -> None:
    view = JoinView(output.people(), ask_with="", is_first_run=False)
    view.refresh(status(text))
    view.close()
    assert not view._faults


def life(event: str, text: str) -> Record:
    return {"event": event, "peer": "12D3KooW", **dict.fromkeys(LIFE[event], text), **NUMBERS}


# --- answers --------------------------------------------------------------------------------------


class FakeClient:
    peer = "12D3KooWown"

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    @asynccontextmanager
    async def call(
        self, op: str, params: Mapping[str, object] = NO_PARAMS
    ) -> AsyncIterator[AsyncIterator[Record]]:
        async def parts() -> AsyncIterator[Record]:
            for record in self._records:
                yield record

        yield parts()


def answered(
    text: str, *, as_json: bool = False, verbose: bool = False, reason: str = "length"
) -> None:
    """In one piece, and again with every character in a token of its own."""
    records = [
        weighed(text),
        token(text),
        *map(token, text),
        {"event": "notice", "text": text},
        {"event": "text", "text": text},
    ]
    client = FakeClient([*records, end(text, reason)])
    trio.run(
        ShownAnswer(
            NodeClient(client, client.peer), output.people(), as_json=as_json, verbose=verbose
        ).run,
        TextRequest(prompt="x"),
    )


# --- the others -----------------------------------------------------------------------------------


def demonstrated(text: str) -> None:
    view = DemoView(output.answer(), as_json=False)
    node = SimpleNamespace(name=text, pid=7, peer="12D3KooW", found=lambda _: None, records=[])
    view.rounds = RoundTable({f"12D3KooW{text}": text}, "12D3KooWown")
    view.chapter(text)
    view.say(text)
    view.token(token(text))
    view.other({"event": "notice", "text": text})
    view.text(Prompt(text, 5), end(text), [token(text)], "12D3KooWown")
    view.stopped([(node, text, 1.0, end(text, text))])  # type: ignore[list-item]
    view.killed(node)  # type: ignore[arg-type]
    view.checked("name", True, text)
    view.checked(text, False, "detail")
    with view.board([node], [text]), view.waiting(text):  # type: ignore[list-item]
        pass
    view.summary(1.0)


def examined(text: str) -> None:
    def found(_: Config) -> Verdict:
        return Verdict("warn", text, text)

    def refused(_: Config) -> Verdict:
        raise LocalError(text)

    def broken(_: Config) -> Verdict:
        raise ValueError(text)

    with mock.patch.object(doctor, "CHECKS", (("one", found), ("two", refused), ("three", broken))):
        doctor.examine(CONFIG, as_json=False)


def model_row(text: str) -> dict[str, Any]:
    facts = {"n_params": 1e9, "size_bytes": 5, "context_max": 512, "here": True}
    return {
        "event": "model",
        "model": text,
        "name": text,
        "source": text,
        "vocabulary": text,
        "digest": text,
        "sampling": {"temperature": 0.2},
        **facts,
    }


def setting(text: str) -> Record:
    """As the swarm has changed it: the proposal's words may be in it."""
    settings = Settings()
    settings.set(EXPERTS, 5, Change(text, 1_000))
    (row,) = (r for r in settings_record("running", settings.view())["settings"] if r["changed_by"])
    return dict(row)


def listed(text: str) -> None:
    with (
        mock.patch.object(models, "_gguf_files", return_value=[text]),
        mock.patch.object(models, "_file", return_value=model_row(text)),
    ):
        models.list_models(CONFIG, ["x"], as_json=False)


def listed_unfit(text: str) -> None:
    with (
        mock.patch.object(models, "_gguf_files", return_value=[text]),
        mock.patch.object(models, "_file", side_effect=LocalError(f"the file says {text}")),
    ):
        models.list_models(CONFIG, ["x"], as_json=False)


def shown_model(text: str) -> None:
    with mock.patch.object(models, "_file", return_value=model_row(text)):
        models.show_model(CONFIG, "x.gguf", as_json=False)


def halted(text: str) -> object:
    standing: Any = SimpleNamespace(where=text, state=HaltState(bytes(32)))
    order = {"key": text, "seq": 1, "reason": text, "issued": 1.0}
    record = {
        "halted": [text],
        "swarm": text,
        "standing": [order],
        "charter": None,
        "peers": [text],
        "acknowledged": [],
    }
    flags = {"running": True, "durable": False, "stopped_here": True, "lost": False}
    return halt._status_table(standing, {**record, **flags})


def refused(text: str) -> None:
    outcome = {"outcome": "refused", "reason": text}
    publishing.told(Delivery((outcome, outcome), 1, 0, 1.0), "The order", as_json=False)


def imported(text: str) -> None:
    sheet = SimpleNamespace(record=SimpleNamespace(version=1))
    halt._outcomes([sheet], [{"outcome": "refused", "reason": text}], as_json=False)  # type: ignore[list-item]


def told_key(text: str) -> None:
    keys._tell(OperatorKey(text, bytes(32), b"", Path(f"/{text}")), as_json=False)


def stopped(text: str) -> None:
    running = [{"halted": [text], "event": "halt_status"}]
    with mock.patch.object(local, "ask_node", return_value=running):
        local.start(CONFIG, as_json=False)


def benched(text: str) -> object:
    return bench_report.table([Measurement(text, 1.0, "ms", 1.0, {text: text}, 1.0)])


def evaluated(text: str) -> object:
    cut = {"text": text, "expert": text, "tail_mean": 0.1, "tail_p95": 0.1}
    other = {"tv_mean": 0.1, "nats_mean": 0.1, "value": 0.1}
    report = SimpleNamespace(measured=lambda name, **_: [cut] if name == "truncation" else [other])
    return tables._lists(report)  # type: ignore[arg-type]


def traced(text: str) -> None:
    try:
        raise ValueError(text) from KeyError(text)
    except ValueError as fault:
        output.trace(fault)


def record_of(text: str) -> logging.LogRecord:
    try:
        raise ValueError(text)
    except ValueError:
        return logging.LogRecord(
            "swarmllm.net", logging.INFO, "", 0, "%s said %r", (text, text), sys.exc_info()
        )


def logged(text: str) -> str:
    """The line of node.log as `cat` would show it."""
    return logs.JsonLines().format(record_of(text))


def stray(text: str) -> str:
    return logs.OneLine().format(record_of(text))


VIEWS: Final[dict[str, View]] = {
    "status": printed(lambda text: status_view(status(text))),
    "experts": printed(lambda text: experts_table([expert(text)], 100.0)),
    "audits": printed(lambda text: audits_view(audits(text))),
    "settings": printed(lambda text: settings_table([setting(text)])),
    "settings show": printed(lambda text: setting_view(setting(text))),
    "join: state": done(refreshed),
    **{f"join: {event}": done(joined(partial(life, event))) for event in LIFE},
    "join: listening": done(joined(lambda text: {"event": "listening", "addrs": [text]})),
    "join: halted": done(joined(lambda text: {"event": "halted", "reasons": [text]})),
    "join: ready": done(joined(lambda text: {"event": "ready", "peer": text, "invite": text})),
    "join: progress": done(
        joined(
            lambda text: {"event": "progress", "what": text, "done": 1, "total": 2, "unit": "bytes"}
        )
    ),
    "generate": done(answered),
    "generate -v": done(partial(answered, verbose=True)),
    "generate --json": done(partial(answered, as_json=True)),
    "generate, ended by an error": done(partial(answered, reason="error"), raises=(LocalError,)),
    "demo": done(demonstrated),
    "doctor": done(examined),
    "models list": done(listed),
    "models list, unfit": done(listed_unfit),
    "models show": done(shown_model),
    "halt status": printed(halted),
    "halt publish, refused": done(refused, raises=(SwarmError,)),
    "halt import": done(imported),
    "keys show": done(told_key),
    "start, still halted": done(stopped, raises=(SwarmError,)),
    "bench": printed(benched),
    "eval": printed(evaluated),
    "an error": done(lambda text: output.complain(f"a peer says: {text}")),
    "a notice": done(lambda text: output.notice(f"a peer says: {text}")),
    "a traceback": done(traced),
    "node.log": logged,
    "a stray log line": stray,
}
