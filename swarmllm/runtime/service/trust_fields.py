"""The records that tell what a node thinks of experts, and by what audits."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

import trio

from swarmllm.core.peers.view import ExpertView, NodeView
from swarmllm.core.trust.audits import REPLY_S, TrustView
from swarmllm.core.trust.case import Finding, Verdict
from swarmllm.core.trust.comparison import Difference, mean
from swarmllm.core.trust.history import Audit
from swarmllm.core.trust.receipt import Signed, contradicted
from swarmllm.core.trust.reputation import Account, Key
from swarmllm.core.trust.sessions import SIGN_S
from swarmllm.core.trust.standing import described
from swarmllm.errors import LocalError, RemoteError, UsageError
from swarmllm.runtime.service.record import Record

if TYPE_CHECKING:
    from swarmllm.runtime.service.local_node import LocalNode


SIGNED_WITHIN_S: Final = SIGN_S + 2.0
LOOK_EVERY_S: Final = 0.05
CONTRADICTED: Final = "it has signed two replies to one question that contradict each other"
OPINION_WITHIN_S: Final = 5 * REPLY_S  # Four holders at most are asked.


async def answer(node: LocalNode | None) -> AsyncGenerator[Record]:
    """One record; of a node that is still starting (None) there is nothing to tell."""
    fields = audits_fields(None if node is None else node.view())
    yield {"event": "audits", "time": round(time.time(), 3), **fields}


async def receipt(
    wait_started: Callable[[], Awaitable[LocalNode]], params: Mapping[str, object]
) -> AsyncGenerator[Record]:
    """The receipt of an answer that has ended, when its experts have signed or have had time to.
    LocalError if none did."""
    name = params.get("name")
    if not isinstance(name, str) or len(params) != 1:
        raise UsageError("receipt takes the field 'name', which the answer was asked with")
    node = await wait_started()
    with trio.move_on_after(SIGNED_WITHIN_S):
        while (found := _trust_in(node)) is not None and found.receipts.waits(name):  # noqa: ASYNC110  It tells when asked.
            await trio.sleep(LOOK_EVERY_S)
    found = _trust_in(node)
    data = b"" if found is None else found.receipts.of(name)
    if not data:
        raise LocalError(
            "no expert of another node has signed its part of this answer, so there is no receipt;"
            " `swarmllm experts` shows who could"
        )
    yield {"event": "receipt", "time": round(time.time(), 3), "receipt": data.decode()}


async def accuse(
    wait_started: Callable[[], Awaitable[LocalNode]], params: Mapping[str, object]
) -> AsyncGenerator[Record]:
    """Exclude each expert that has signed a contradiction in these receipts, a record each; what is
    brought is looked at here, and nobody is believed."""
    texts = params.get("receipts")
    if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
        raise UsageError("accuse takes the field 'receipts', a list of the texts of some")
    node = await wait_started()
    trust = _trust_in(node)
    if trust is None:
        raise LocalError("this node audits nobody; ask one that `swarmllm join` started")
    try:
        signed = [
            one
            for text in texts
            for one in await trio.to_thread.run_sync(trust.receipts.read, text.encode())
        ]
    except RemoteError as fault:
        raise LocalError(f"a receipt proves nothing: {fault}") from fault
    for peer, digest in await trio.to_thread.run_sync(contradicted, signed):
        await node.exclude(peer, digest, CONTRADICTED)
        yield {
            "event": "expert_excluded",
            "time": round(time.time(), 3),
            "peer": peer,
            "digest": digest.hex(),
            "why": CONTRADICTED,
        }


async def verify(
    wait_started: Callable[[], Awaitable[LocalNode]], params: Mapping[str, object]
) -> AsyncGenerator[Record]:
    """What other holders of their models say of the signed sessions of a receipt, one record
    each. LocalError for what is no receipt."""
    text = params.get("receipt")
    if not isinstance(text, str) or len(params) != 1:
        raise UsageError("verify takes the field 'receipt', the text of one")
    node = await wait_started()
    trust = _trust_in(node)
    if trust is None:
        raise LocalError("this node audits nobody; ask one that `swarmllm join` started")
    try:
        signed = await trio.to_thread.run_sync(trust.receipts.read, text.encode())
    except RemoteError as fault:
        raise LocalError(f"the receipt proves nothing: {fault}") from fault
    for one in signed:
        yield await _opinion(node, one)


async def _opinion(node: LocalNode, signed: Signed) -> Record:
    number = await node.bring_receipt(signed)
    found: Finding | None = None
    with trio.move_on_after(OPINION_WITHIN_S):
        while found is None and (trust := _trust_in(node)) is not None:
            await trio.sleep(LOOK_EVERY_S)
            found = trust.opinions.of(number)
    seen = mean(found.found) if found is not None and found.found else None
    return {
        "event": "session_verified",
        "time": round(time.time(), 3),
        "peer": signed.peer,
        "digest": signed.record.model_digest.hex(),
        "rounds": signed.record.rounds,
        "verdict": str(Verdict.NOBODY if found is None else found.verdict),
        "against": None if found is None else found.against,
        "by": [] if found is None else list(found.by),
        "positions": 0 if found is None else len(found.found),
        **_difference(seen),
    }


def _trust_in(node: LocalNode) -> TrustView | None:
    return next((part for part in node.view().parts if isinstance(part, TrustView)), None)


def standing_fields(view: ExpertView) -> Record:
    """What this node thinks of an expert; None throughout where it judges nobody."""
    found = view.standing
    if found is None:
        return {"trust": None, "standing": None, "why": None}
    return {"trust": round(found.trust, 3), "standing": str(found.word), "why": found.why}


def audits_fields(view: NodeView | None) -> Record:
    """The last audits since the node has started, oldest first, and what is kept of each expert.
    `tokens_for_answers` and `tokens_for_audits`: what experts have computed since then."""
    parts = () if view is None else view.parts
    found = next((part for part in parts if isinstance(part, TrustView)), None)
    if found is None:
        return {"audits": [], "accounts": [], "tokens_for_answers": 0, "tokens_for_audits": 0}
    return {
        "audits": [_audit(one) for one in found.audits],
        "accounts": [_account(*one, found.now_s) for one in found.accounts],
        "tokens_for_answers": found.earned,
        "tokens_for_audits": found.spent,
    }


def _audit(one: Audit) -> Record:
    return {
        "at": round(one.at_s, 3),
        "peer": one.expert,
        "model": one.model,
        "digest": one.model_digest.hex(),
        "verdict": str(one.verdict),
        "against": one.against,
        "by": list(one.by),
        "positions": one.positions,
        **_difference(one.mean),
        "signed": one.is_signed,
        "excluded": one.is_excluded,
        "tokens": one.tokens,
    }


def _difference(one: Difference | None) -> Record:
    if one is None:
        return {"variation": None, "nats": None, "ranks": None}
    return {"variation": round(one.variation, 4), "nats": round(one.nats, 4), "ranks": one.ranks}


def _account(key: Key, account: Account, trust: float, now_s: float) -> Record:
    standing = described(account, trust, now_s)
    return {
        "peer": key[0],
        "digest": key[1].hex(),
        "standing": str(standing.word),
        "why": standing.why,
        "trust": round(trust, 3),
        "since": round(account.since_s, 3),
        "valid": round(account.valid, 2),
        "failed": round(account.failed, 2),
        "disputed": round(account.disputed, 2),
        "unsigned": round(account.unsigned, 2),
        "suspicion_nats": round(account.suspicion, 2),
        "excluded_until": round(account.excluded_until_s, 3) or None,
    }
