"""A vote over HTTP: the node drafts it, a voter's key that lies in the node's data folder signs it
in this process, and it is handed in like one of `swarmllm vote`, to the same ledger.

Where the signature is made, and why there. A page could sign by itself, or send the key file. Then
the sealed key would be in a browser, and go to whatever listens on the port of the address that
somebody has opened; with the passphrase, which must be typed there anyway, that is the whole key.
So the key file stays where its owner has put it, in the folder `keys` of the data folder: that it
lies there is his consent, and no path comes from a request. The passphrase comes with one request,
over loopback, opens the key for one signature, and is not kept, logged or counted.

Three things have to come together: a request of this machine (`Guard.check_here`: an API key is not
asked for here and does not help), the token of the data folder, and the passphrase. A page of
elsewhere has none of them, another user of this machine lacks two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import trio
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from swarmllm.adapters.operator_keys import PASSPHRASE_CHARS_MAX, OperatorKey, keys_in
from swarmllm.api.body import Body, object_of, read
from swarmllm.api.guard import Guard
from swarmllm.api.problem import Problem, invalid
from swarmllm.errors import LocalError
from swarmllm.messages.governance import Vote
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.service.service import Client
from swarmllm.wire.codec import decode
from swarmllm.wire.envelope import Sign
from swarmllm.wire.signed import sign_record

KEY_FOLDER: Final = "keys"  # In the data folder.
KEYS_MAX: Final = 16
TRIES_MAX: Final = 5  # Wrong passphrases in a row, ...
TRY_EVERY_S: Final = 60.0  # ... and then one in this time: 43,000 in a month.


class VoteBody(Body):
    """`key`: the id of the voter's key; left out: the node's own, which votes in a private swarm.
    The whole id of the proposal, for a vote is final."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    yes: bool
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    passphrase: Annotated[str, Field(max_length=PASSPHRASE_CHARS_MAX)] | None = Field(
        default=None, repr=False
    )


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
        self.guard.check_here(request.headers, _peer(request))
        self.guard.check_token(request.headers)
        body = read(VoteBody, object_of(await request.body()))
        key = None if body.key is None else await self._key(body.key)
        data = await self._signed(body, key)
        taken = await self._one("submit", {"records": [data.hex()]})
        [outcome] = taken["outcomes"]
        if outcome["outcome"] == "refused":
            raise Problem(400, f"the node refused the vote: {outcome['reason']}", code="refused")
        proposal = await self._one("proposal", {"id": body.id})
        by = "this node" if key is None else key.name
        told = {"yes": body.yes, "signed_by": by, "peers": taken["peers"], "fault": taken["fault"]}
        return JSONResponse({"event": "voted", "id": body.id, **told, "proposal": proposal})

    async def _signed(self, body: VoteBody, key: OperatorKey | None) -> bytes:
        """The vote as it is handed in. It is drafted twice, as by the command: nobody's passphrase
        is tried for what would be refused, and what is in force may have changed meanwhile."""
        asked: dict[str, object] = {"id": body.id, "yes": body.yes}
        if key is None:
            draft = await self._one("vote", asked)
            _wanted(draft, body)
            return bytes.fromhex(draft["signed"])
        asked["key"] = key.public_key.hex()
        _wanted(await self._one("vote", asked), body)
        sign = await self._opened(key, body.passphrase or "")
        vote = _wanted(await self._one("vote", asked), body)
        return sign_record(vote, [(key.public_key, sign)])

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


def _wanted(draft: Record, body: VoteBody) -> Vote:
    """What is signed is what was asked for."""
    vote = decode(bytes.fromhex(draft["payload"]), (Vote,))
    assert (vote.proposal.hex(), bool(vote.yes)) == (body.id, body.yes)
    return vote


def _peer(request: Request) -> str:
    return "" if request.client is None else request.client.host
