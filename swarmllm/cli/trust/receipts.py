"""Receipts as files: written behind an answer, and looked at by anybody who has the models."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import trio

from swarmllm.adapters.atomic_file import read_bounded, refuse_existing, write_new
from swarmllm.adapters.llama.engine import LlamaEngine
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.operator_keys import verify as is_signed
from swarmllm.cli.client import NodeClient
from swarmllm.cli.fetching import fetched
from swarmllm.cli.generate import Keep
from swarmllm.cli.guard import OK, run
from swarmllm.cli.output import (
    answer,
    notice,
    print_record,
    print_record_async,
    short_peer,
)
from swarmllm.cli.screen import Line
from swarmllm.cli.waiting import Silence
from swarmllm.core.trust.comparison import Difference, compare_readings, mean
from swarmllm.core.trust.questions import questions
from swarmllm.core.trust.receipt import RECEIPT_BYTES_MAX, Signed, contradicted, read
from swarmllm.core.trust.suspicion import differs
from swarmllm.core.values import SessionKey
from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import (
    NO_HALT_DIGEST,
    SESSION_SEALED_MAX,
    TOKENS_MAX,
    PeerId,
    Scores,
    SessionRecord,
)
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import asking
from swarmllm.runtime.model_reference import NoModel, parse_reference
from swarmllm.runtime.service.json_events import record_of
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.service.request import TextRequest
from swarmllm.runtime.user_path import user_path
from swarmllm.wire.envelope import unseal

WHAT: Final = "the receipt"
WORD_EVERY_S: Final = 2.0


def wanted(request: TextRequest, file: str | None) -> tuple[TextRequest, Keep | None]:
    """The request with a name for its receipt, and what writes that to the file. LocalError if
    there is such a file."""
    if file is None:
        return request, None
    path, name = user_path(file), secrets.token_hex(16)
    refuse_existing(path, WHAT, " with --receipt")

    async def keep(client: NodeClient) -> None:
        async with client.node.call("receipt", {"name": name}) as records:
            async for record in records:
                data = str(record["receipt"]).encode()
                # It holds the whole text, and so is nobody else's to read.
                await trio.to_thread.run_sync(_write, path, data)
                notice(f"The receipt is in {path}; `swarmllm verify` looks at it.")

    return replace(request, receipt=name), keep


def _write(path: Path, data: bytes) -> None:
    write_new(path, data, WHAT, 0o600, option=" with --receipt")


@dataclass(frozen=True, slots=True)
class Look:
    """What came of looking at one signed session. `found` None: the model is not here."""

    file: Path
    signed: Signed
    found: tuple[Difference, ...] | None

    @property
    def is_wrong(self) -> bool:
        return self.found is not None and differs(self.found)

    def record(self) -> Record:
        said, record = self.signed.found, self.signed.record
        seen = None if not self.found else mean(self.found)
        return record_of(
            "session_verified",
            file=str(self.file),
            peer=self.signed.peer,
            digest=record.model_digest.hex(),
            rounds=record.rounds,
            tokens=len(said.text),
            lists=len(said.said),
            positions=len(self.found or ()),
            variation=None if seen is None else round(seen.variation, 4),
            nats=None if seen is None else round(seen.nats, 4),
            verdict=self.verdict(),
        )

    def verdict(self) -> str:
        if self.found is None:
            return "signed"
        if not self.found:
            return "nothing to compare"
        return "differs" if self.is_wrong else "agrees"

    def sentence(self) -> str:
        signed = f"{short_peer(self.signed.peer)} signed {self.signed.record.rounds} replies"
        model = self.signed.record.model_digest.hex()[:12]
        if not self.found:
            return f"{signed} of the model {model}; they were not compared with a model."
        seen = mean(self.found)
        verb = "differ from" if self.is_wrong else "agree with"
        return (
            f"{signed}, which {verb} the model {model}: total variation {seen.variation:.3f} at"
            f" {len(self.found)} positions."
        )


def verify(config: Config, files: Sequence[str], *, is_compared: bool, as_json: bool) -> int:
    """Look at receipts: signatures, hashes, whether they contradict each other, and, with a model,
    whether the lists are its. LocalError for what is wrong."""
    paths = [user_path(file) for file in files]
    looks: list[Look] = []
    with Silence(WHAT, every_s=WORD_EVERY_S) as silence:
        sessions = [(path, one) for path in paths for one in _read(path)]

        async def body() -> int:
            if is_compared:
                looks.extend(await _compared(config, sessions, silence))
            else:
                looks.extend(_uncompared(sessions))
            return OK

        run(body)
    _show(looks, as_json=as_json)
    for peer, _ in contradicted([one for _, one in sessions]):
        raise LocalError(
            f"{peer} has signed two replies to one question that contradict each other: it does not"
            " answer with the model that it claims"
        )
    wrong = [look for look in looks if look.is_wrong]
    if wrong:
        raise LocalError(
            f"{wrong[0].signed.peer} has signed lists that are not those of the model"
            f" {wrong[0].signed.record.model_digest.hex()[:12]}"
        )
    return OK


def _show(looks: Sequence[Look], *, as_json: bool) -> None:
    for look in looks:
        if as_json:
            print_record(look.record())
        else:
            answer().print(Line(look.sentence()))


def ask_holders(config: Config, files: Sequence[str], *, as_json: bool) -> int:
    """The same with other holders of the models, through the node that runs here. LocalError if
    they speak against an expert."""
    texts = []
    for path in map(user_path, files):
        _read(path)  # What proves nothing is asked of nobody.
        texts.append(read_bounded(path, RECEIPT_BYTES_MAX, WHAT).decode())
    found: list[Record] = []

    async def body() -> int:
        for text in texts:
            async with asking(config.data_dir, "verify", receipt=text) as records:
                async for record in records:
                    found.append(record)
                    if as_json:
                        await print_record_async(record)
                    else:
                        answer().print(Line(_opinion(record)))
        if len(texts) > 1:
            async with asking(config.data_dir, "accuse", receipts=texts) as records:
                async for record in records:
                    found.insert(0, record)
                    if as_json:
                        await print_record_async(record)
        return OK

    run(body)
    for record in found:
        if record["event"] == "expert_excluded":
            raise LocalError(f"{record['peer']} is excluded: {record['why']}")
        if record["against"] == record["peer"]:
            raise LocalError(
                f"{record['peer']} has signed lists that are not those of the model"
                f" {record['digest'][:12]}, as {len(record['by'])} others say"
            )
    return OK


def _opinion(record: Record) -> str:
    signed = f"{short_peer(record['peer'])} signed {record['rounds']} replies"
    model = record["digest"][:12]
    if not record["by"]:
        return f"{signed} of the model {model}; nobody else who has it could be asked."
    by = ", ".join(map(short_peer, record["by"]))
    return (
        f"{signed} of the model {model}: {record['verdict']}, as {by} answered; total variation"
        f" {record['variation']:.3f} at {record['positions']} positions."
    )


def _read(path: Path) -> tuple[Signed, ...]:
    data = read_bounded(path, RECEIPT_BYTES_MAX, WHAT)
    try:
        return read(data, _unseal)
    except RemoteError as fault:
        raise LocalError(f"{path} proves nothing: {fault}") from fault


def _unseal(sealed: bytes) -> tuple[PeerId, SessionRecord]:
    return unseal(sealed, (SessionRecord,), is_signed, SESSION_SEALED_MAX)


def _uncompared(sessions: Sequence[tuple[Path, Signed]]) -> list[Look]:
    return [Look(path, one, None) for path, one in sessions]


async def _compared(
    config: Config, sessions: Sequence[tuple[Path, Signed]], silence: Silence
) -> list[Look]:
    """With the model of the config, those sessions that are of it. LocalError if none is."""
    reference = parse_reference(config.model)
    if isinstance(reference, NoModel):
        raise LocalError("--model none is no model to compare with; name one, or leave it out")
    with silence.covered():
        file = await fetched(reference, config)
    silence.at("the model")
    longest = max(len(one.found.text) for _, one in sessions)
    options = EngineOptions(
        context_max=max(64, min(longest, TOKENS_MAX)),
        sessions_max=1,
        threads=config.threads,
        gpu_layers=config.gpu_layers,
        cache_dir=str(config.cache_dir),
    )
    async with LlamaEngine(file.path, options) as engine:
        digest = engine.card.digest
        if all(one.record.model_digest != digest for _, one in sessions):
            raise LocalError(
                f"no session of the receipt is of {file.path.name} ({digest.hex()[:12]}); give the"
                " model that its experts claim"
            )
        looks = []
        for number, (path, one) in enumerate(sessions):
            silence.at(f"what the model says of session {number + 1} of {len(sessions)}")
            is_of = one.record.model_digest == digest
            looks.append(
                Look(path, one, await _differences(engine, one, number) if is_of else None)
            )
        return looks


async def _differences(engine: LlamaEngine, signed: Signed, number: int) -> tuple[Difference, ...]:
    """At all kept positions that this engine has room for."""
    limit, size = min(TOKENS_MAX, engine.card.context_max), engine.card.vocab_size
    said = [one for one in signed.found.said if one.length <= limit]
    key = SessionKey(PeerId(""), number)
    found: list[Difference] = []
    for question in questions(said, signed.found.text[:limit], 0, NO_HALT_DIGEST):
        reply = await engine.score(key, question.score)
        if not isinstance(reply, Scores):
            raise LocalError(f"the model cannot score the text of the receipt ({reply})")
        found += (
            compare_readings(one.reading, reading, one.entries_max, one.follows)
            for one, reading in zip(question.said, question.read(reply, size), strict=True)
        )
    engine.close(key)
    return tuple(found)
