"""The voters of `swarmllm demo --governance` and `--agent`: three keys that are thrown away, the
charter that they found a swarm with, and what they sign."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from swarmllm.adapters.keyfile import KeyFile, ephemeral_key
from swarmllm.adapters.record_files import render, sheet_of
from swarmllm.adapters.terms_file import render_terms, terms_path
from swarmllm.core.agent import charter as agent_charter
from swarmllm.core.agent.charter import USUAL, Grant
from swarmllm.core.governance.mandate import DEFAULTS, naming
from swarmllm.core.governance.tiers import Action
from swarmllm.core.halt.charter import charter_hash
from swarmllm.core.halt.state import HaltState, next_halt
from swarmllm.core.settings.setting import Setting
from swarmllm.errors import LocalError
from swarmllm.messages import Charter, Halt, Resume
from swarmllm.messages.governance import NO_EVIDENCE, GovernanceTerms, Proposal, Vote
from swarmllm.runtime.local_api.client import ask
from swarmllm.runtime.service.record import Record
from swarmllm.wire.codec import decode, encode
from swarmllm.wire.marks import marks_of
from swarmllm.wire.signed import key_id, open_record, sign_record

NAMES: Final = ("ann", "ben", "cy")
CANARY_S: Final = 3
REVIEW_H: Final = 1
DRILL_REASON: Final = 1
_VALUE: Final = struct.Struct(">HQ")


@dataclass
class Voters:
    """`agent`: the public key of the node whose reports on canaries count. `values` are the
    settings that their charter starts with, `phase` what it lets the agent do, and `grant` how
    much of it."""

    agent: bytes
    values: Mapping[Setting[Any], int] = field(default_factory=dict)
    phase: int = 1
    grant: Grant = USUAL
    keys: dict[str, KeyFile] = field(
        default_factory=lambda: {name: ephemeral_key() for name in NAMES}
    )

    @cached_property
    def terms(self) -> GovernanceTerms:
        return replace(
            DEFAULTS,
            agent=(self.agent,),
            canary_s=CANARY_S,
            review_h=REVIEW_H,
            phase=self.phase,
            ext=b"" if self.grant == USUAL else agent_charter.naming(self.grant),
            values=tuple(sorted(_VALUE.pack(one.code, n) for one, n in self.values.items())),
        )

    @cached_property
    def charter(self) -> bytes:
        everybody = tuple(sorted(key.public_key for key in self.keys.values()))
        roles = (everybody, everybody, everybody, everybody, ())
        ext = naming(self.terms)
        made = Charter(1, bytes(32), *roles, 2, 2, 3, 0, (), _now_ms(), 0, ext)
        return sign_record(made, [(k.public_key, k.sign) for k in list(self.keys.values())[:2]])

    @cached_property
    def state(self) -> HaltState:
        """Of a swarm that was never halted."""
        opened = open_record(self.charter)
        return HaltState(charter_hash(opened), (opened,))

    def write(self, file: Path) -> Path:
        """The charter for `join --charter`, with its terms beside it."""
        file.write_text(render([sheet_of(self.charter)]), encoding="ascii")
        terms_path(file).write_text(render_terms(self.terms), encoding="ascii")
        return file

    # --- orders -----------------------------------------------------------------------------------

    def halt(self, name: str) -> tuple[Halt, bytes]:
        key = self.keys[name]
        order = next_halt(self.state, key.public_key, DRILL_REASON, _now_ms())
        return order, sign_record(order, [(key.public_key, key.sign)])

    def resume(self, name: str, order: Halt, signers: Sequence[str]) -> bytes:
        lifts = marks_of({key_id(self.keys[name].public_key): order.seq})
        keys = [self.keys[signer] for signer in signers]
        record = Resume(order.swarm, 1, lifts, _now_ms())
        return sign_record(record, [(key.public_key, key.sign) for key in keys])

    # --- proposals and votes ----------------------------------------------------------------------

    async def propose(
        self, folder: Path, name: str, action: Action, why: str, evidence: bytes = NO_EVIDENCE
    ) -> str:
        """The id of a proposal that this voter has signed and the node of the folder has taken."""
        key = self.keys[name]
        asked = {"action": encode(action).hex(), "why": why, "evidence": evidence.hex()}
        draft = await ask(folder, "propose", key=key.public_key.hex(), **asked)
        record = decode(bytes.fromhex(str(draft["payload"])), (Proposal,))
        return await _submit(folder, record, key)

    async def propose_unknown(self, folder: Path, name: str, like: Action, raw: bytes) -> str:
        """A proposal of bytes that no node of this version can read, asked for as a suggestion. A
        node drafts none, so it is made of the draft of another."""
        key = self.keys[name]
        asked = {"action": encode(like).hex(), "why": "from a later version"}
        draft = await ask(folder, "propose", key=key.public_key.hex(), **asked)
        record = decode(bytes.fromhex(str(draft["payload"])), (Proposal,))
        return await _submit(folder, replace(record, action=raw, tier=1), key)

    async def vote(self, folder: Path, name: str, id: str) -> None:
        key = self.keys[name]
        draft = await ask(folder, "vote", key=key.public_key.hex(), id=id, yes=True)
        record = decode(bytes.fromhex(str(draft["payload"])), (Vote,))
        await _submit(folder, record, key)


async def _submit(folder: Path, record: Proposal | Vote, key: KeyFile) -> str:
    """Sign it and hand it over; its id. LocalError if the node refuses it."""
    signed = sign_record(record, [(key.public_key, key.sign)])
    answer: Record = await ask(folder, "submit", records=[signed.hex()])
    (outcome,) = answer["outcomes"]
    if outcome["outcome"] != "applied":
        raise LocalError(f"the node on {folder} did not take what was signed: {outcome['reason']}")
    if answer["fault"]:
        raise LocalError(
            f"the node on {folder} did not write down what was signed: {answer['fault']}"
        )
    return sha256(encode(record)).hexdigest()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
