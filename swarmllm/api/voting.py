"""A vote or a proposal over HTTP: the node drafts it, a voter's key that lies in the node's data
folder signs it in this process, and it is handed in like one of the command line, to the same
ledger.

Where the signature is made, and why there. A page could sign by itself, or send the key file. Then
the sealed key would be in a browser, and go to whatever listens on the port of the address that
somebody has opened; with the passphrase, which must be typed there anyway, that is the whole key.
So the key file stays where its owner has put it, in the folder `keys` of the data folder: that it
lies there is his consent, and no path comes from a request. The passphrase comes with one request,
over loopback, opens the key for one signature, and is not kept, logged or counted.

Three things have to come together: a request of this machine (`Guard.check_here`; an API key makes
up for none of them), the token of the data folder, and the passphrase. A page of elsewhere has none
of them, another user of this machine lacks two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import trio
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from swarmllm.adapters.operator_keys import PASSPHRASE_CHARS_MAX, OperatorKey, keys_in
from swarmllm.api.body import Body, object_of, read
from swarmllm.api.guard import Guard
from swarmllm.api.problem import Problem, invalid
from swarmllm.errors import LocalError
from swarmllm.messages.governance import WHY_MAX, Proposal, SetSetting, Vote
from swarmllm.runtime.config.pins import setting_of
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.service.service import Client
from swarmllm.wire.codec import decode, encode
from swarmllm.wire.envelope import Sign
from swarmllm.wire.signed import sign_record

B = TypeVar("B", bound=Body)
R = TypeVar("R", Vote, Proposal)
KEY_FOLDER: Final = "keys"  # In the data folder.
KEYS_MAX: Final = 16
TRIES_MAX: Final = 5  # Wrong passphrases in a row, ...
TRY_EVERY_S: Final = 60.0  # ... and then one in this time: 43,000 in a month.


class SignedBody(Body):
    """`key`: the id of the voter's key; left out: the node's own, which has a say in a private
    swarm."""

    key: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    passphrase: Annotated[str, Field(max_length=PASSPHRASE_CHARS_MAX)] | None = Field(
        default=None, repr=False
    )


class VoteBody(SignedBody):
    """The whole id of the proposal, for a vote is final."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    yes: bool


class ProposeBody(SignedBody):
    """A value of a setting. Without a report of a validation: it takes the votes of a major
    change, and `swarmllm propose` does more."""

    setting: Annotated[str, Field(max_length=64)]
    value: int
    why: Annotated[str, Field(min_length=1, max_length=WHY_MAX)]


@dataclass(slots=True)
class Tries:
    """How often a passphrase may be wrong."""

    left: float = TRIES_MAX
    at: float = 0.0

    def check(self, now: float) -> None:
        """Problem for one too many."""
        self.left = min(TRIES_MAX, self.left + (now - self.at) / TRY_EVERY_S)
        self.at = now
        if self.left < 1:
            raise Problem(
                429,
                f"the passphrase was wrong {TRIES_MAX} times; a further one is tried in a minute",
                code="rate_limit_exceeded",
            )

    def failed(self) -> None:
        self.left -= 1


@dataclass(slots=True)
class Voting:
    """`key_folder` None: no key of a voter is here."""

    client: Client
    guard: Guard
    key_folder: Path | None
    _tries: Tries = field(default_factory=Tries)
    _opening: trio.Lock = field(default_factory=trio.Lock)
    """One key at a time: each takes 128 MiB for a moment."""

    async def shown(self, request: Request) -> Record:
        """What the console says of it to this request: `here` if votes are taken from it, and the
        keys that could sign."""
        try:
            self.guard.check_here(request.headers, _peer(request))
        except Problem:
            return {"here": False, "keys": [], "faults": []}
        keys, faults = await self._keys()
        found = [{"id": key.id.hex(), "name": key.name} for key in keys]
        return {"here": True, "keys": found, "faults": faults}

    async def vote(self, request: Request) -> Response:
        """Takes one vote, and tells what has become of it and of its proposal."""
        body = await self._body(request, VoteBody)

        def is_wanted(vote: Vote) -> bool:
            return (vote.proposal.hex(), bool(vote.yes)) == (body.id, body.yes)

        told = await self._cast("vote", Vote, is_wanted, body, id=body.id, yes=body.yes)
        return JSONResponse({"event": "voted", "yes": body.yes, **told})

    async def propose(self, request: Request) -> Response:
        """Takes one proposal of a setting, and tells what it needs."""
        body = await self._body(request, ProposeBody)
        setting = setting_of(body.setting)
        if not setting.fits(body.value):
            low, high = setting.limits.low, setting.limits.high
            raise invalid("value", f"of {setting.key} can be {low} to {high}, not {body.value}")
        action = encode(SetSetting(setting.code, body.value))

        def is_wanted(made: Proposal) -> bool:
            return (made.action, made.why) == (action, body.why)

        asked = {"action": action.hex(), "why": body.why}
        told = await self._cast("propose", Proposal, is_wanted, body, **asked)
        return JSONResponse({"event": "proposed", **told})

    async def _body(self, request: Request, kind: type[B]) -> B:
        self.guard.check_here(request.headers, _peer(request))
        self.guard.check_token(request.headers)
        return read(kind, object_of(await request.body()))

    async def _cast(
        self, op: str, kind: type[R], is_wanted: Callable[[R], bool], body: SignedBody, **asked: Any
    ) -> Record:
        """Draft, sign, hand in; what became of it, and of its proposal."""
        key = None if body.key is None else await self._key(body.key)
        data, id = await self._signed(op, kind, is_wanted, key, body.passphrase or "", asked)
        taken = await self._one("submit", {"records": [data.hex()]})
        [outcome] = taken["outcomes"]
        if outcome["outcome"] == "refused":
            raise Problem(400, f"the node refused the {op}: {outcome['reason']}", code="refused")
        by = "this node" if key is None else key.name
        told = {"id": id, "signed_by": by, "peers": taken["peers"], "fault": taken["fault"]}
        return told | {"proposal": await self._one("proposal", {"id": id})}

    async def _signed(
        self,
        op: str,
        kind: type[R],
        is_wanted: Callable[[R], bool],
        key: OperatorKey | None,
        passphrase: str,
        asked: dict[str, Any],
    ) -> tuple[bytes, str]:
        """The record as it is handed in, and the id of its proposal. It is drafted twice, as by the
        command: nobody's passphrase is tried for what would be refused, and what is in force may
        have changed meanwhile."""

        async def drafted() -> tuple[R, Record]:
            draft = await self._one(op, asked)
            record = decode(bytes.fromhex(draft["payload"]), (kind,))
            assert is_wanted(record)  # What is signed is what was asked for.
            return record, draft

        if key is not None:
            asked = asked | {"key": key.public_key.hex()}
        record, draft = await drafted()
        if key is None:
            data = bytes.fromhex(draft["signed"])
        else:
            sign = await self._opened(key, passphrase)
            record, draft = await drafted()
            data = sign_record(record, [(key.public_key, sign)])
        return data, str(draft["id"] if op == "propose" else draft["proposal"]["id"])

    async def _opened(self, key: OperatorKey, passphrase: str) -> Sign:
        async with self._opening:
            self._tries.check(trio.current_time())
            try:
                return await trio.to_thread.run_sync(key.unseal, passphrase)
            except LocalError:
                self._tries.failed()
                raise Problem(
                    403,
                    f"the passphrase does not open the key {key.name}; type it again",
                    code="wrong_passphrase",
                    param="passphrase",
                ) from None

    async def _key(self, id: str) -> OperatorKey:
        keys, _ = await self._keys()
        for key in keys:
            if key.id.hex() == id:
                return key
        raise invalid(
            "key", f"is {id}, and no such key lies in the folder {KEY_FOLDER} of the node"
        )

    async def _keys(self) -> tuple[list[OperatorKey], list[str]]:
        """Those in the folder now, and what is wrong with the others."""
        if self.key_folder is None:
            return [], []
        return await trio.to_thread.run_sync(keys_in, self.key_folder, KEYS_MAX)

    async def _one(self, op: str, params: Mapping[str, object]) -> Record:
        async with self.client.call(op, params) as records:
            [record] = [record async for record in records]
        return record


def _peer(request: Request) -> str:
    return "" if request.client is None else request.client.host
