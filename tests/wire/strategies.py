"""Random messages, drawn from the bounds in `swarmllm.messages` by another route than the codec's
own."""

from __future__ import annotations

from dataclasses import fields, replace
from random import Random
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from swarmllm.messages import (
    ANSWER_ENTRIES_MAX,
    LOG_SIZE_MAX,
    SEQ_MAX,
    Charter,
    LedgerProof,
    LedgerProofWanted,
    Range,
    Resume,
    Score,
    ScoreAllowed,
    ScoreDraft,
    Scores,
    Shuffle,
    Shuffled,
    Signed,
    Size,
    Vectors,
)
from swarmllm.messages import governance as g
from swarmllm.messages.invite import INVITE_LIFE_MAX_MS, TICKET_BYTES, Invite
from swarmllm.messages.membership import Membership
from swarmllm.wire.codec import CODES
from swarmllm.wire.token_set import TokenSet, encode_set

_LETTERS = st.characters(exclude_categories=("Cc", "Cs", "Cf", "Zl", "Zp"))


def _values(annotation: Any) -> st.SearchStrategy[Any]:
    assert get_origin(annotation) is Annotated
    base, bound = get_args(annotation)
    if isinstance(bound, Range):
        edges = st.sampled_from((bound.low, bound.high))
        return st.one_of(st.integers(bound.low, bound.high), edges)
    assert isinstance(bound, Size)
    if base is bytes:
        return st.binary(min_size=bound.low, max_size=min(bound.high, max(bound.low, 300)))
    if base is str:
        return st.text(_LETTERS, min_size=bound.low, max_size=bound.high).filter(
            lambda s: len(s.encode()) <= bound.high
        )
    item = get_args(base)[0]
    return st.lists(_values(item), min_size=bound.low, max_size=min(bound.high, 40)).map(tuple)


@st.composite
def of_type(draw: st.DrawFn, kind: type) -> Any:
    """A valid message of one type."""
    hints = get_type_hints(kind, include_extras=True)
    message: Any = kind(**{f.name: draw(_values(hints[f.name])) for f in fields(kind)})
    if isinstance(message, ScoreAllowed):
        ids = draw(st.sets(st.integers(0, (1 << 20) - 1), min_size=1, max_size=40))
        return replace(
            message,
            base=min(message.base, (1 << 20) - len(message.tokens)),
            answer=(draw(st.integers(0, len(message.tokens) - 1)),),
            targets=(),
            allowed=encode_set(TokenSet.of(ids, 1 << 20)),
        )
    if isinstance(message, ScoreDraft):
        most = (1 << 20) - len(message.tokens) - message.steps
        last = len(message.tokens) - 1
        return replace(message, base=min(message.base, most), answer=(last,), targets=())
    if isinstance(message, Score):
        count = len(message.tokens)
        answer = draw(
            st.sets(
                st.integers(0, count - 1),
                max_size=min(64, ANSWER_ENTRIES_MAX // message.entries_max),
            )
        )
        targets = draw(st.sets(st.integers(0, count - 2))) if count > 1 else set()
        base = min(message.base, (1 << 20) - count)
        message = replace(
            message, base=base, answer=tuple(sorted(answer)), targets=tuple(sorted(targets))
        )
    if isinstance(message, Shuffle | Shuffled):
        message = replace(
            message,
            ages=message.ages[: len(message.records)],
            records=message.records[: len(message.ages)],
        )
    if isinstance(message, Scores):
        message = replace(message, target_logprobs=message.target_logprobs * 2)
    if isinstance(message, LedgerProofWanted | LedgerProof):
        old, new = sorted(draw(st.sets(st.integers(1, LOG_SIZE_MAX), min_size=2, max_size=2)))
        message = replace(message, old=old, new=new)
    return governance_message(draw, halt_message(draw, message))


def governance_message(draw: st.DrawFn, message: Any) -> Any:
    """Bounds the right way up, lists in order, and bases where there is something to build on."""
    match message:
        case g.SetBounds(low=low, high=high):
            return replace(message, low=min(low, high), high=max(low, high))
        case g.Proposal(height=height, base=base):
            return replace(message, base=g.NO_BASE if height == 1 else base[:-1] + b"\1")
        case g.SetSummary(groups=groups):
            return replace(message, groups=_rising(groups, 16))
        case g.SetWanted(names=names):
            return replace(message, names=_rising(names, 8))
        case g.GovernanceTerms(agent=agent, bounds=bounds, values=values):
            found = {one[:2]: one[:2] + b"".join(sorted((one[2:10], one[10:]))) for one in bounds}
            started = {one[:2]: one for one in values}
            return replace(
                message,
                agent=tuple(sorted(set(agent))),
                bounds=tuple(found[key] for key in sorted(found)),
                values=tuple(started[key] for key in sorted(started)),
            )
        case _:
            return message


def _rising(packed: bytes, size: int) -> bytes:
    whole = {packed[at : at + 8]: packed[at : at + size] for at in range(0, len(packed), size)}
    return b"".join(whole[name] for name in sorted(whole) if len(whole[name]) == size)


def marks(draw: st.DrawFn, count_max: int = 16, count_min: int = 0) -> tuple[bytes, ...]:
    """Entries of a version vector: key ids that rise strictly, each with a seq."""
    ids = draw(st.sets(st.binary(min_size=16, max_size=16), min_size=count_min, max_size=count_max))
    return tuple(key + draw(st.integers(1, SEQ_MAX)).to_bytes(8, "big") for key in sorted(ids))


def halt_message(draw: st.DrawFn, message: Any) -> Any:
    """Control messages with their lists in order, without repetition, and thresholds that can be
    reached."""
    match message:
        case Signed(signatures=signatures):
            return replace(
                message, signatures=tuple(sorted({one[:32]: one for one in signatures}.values()))
            )
        case Resume():
            return replace(message, lifts=marks(draw, count_min=1))
        case Vectors(charter_version=version, charter_hash=hashed):
            known = version > 0
            halts, lifts = (marks(draw), marks(draw)) if known else ((), ())
            return replace(
                message,
                charter_hash=hashed[:-1] + b"\1" if known else bytes(32),
                halts=halts,
                lifts=lifts,
            )
        case Invite(issued_ms=issued, charter_version=version, swarm=swarm):
            return replace(
                message,
                vocabulary=draw(st.sampled_from((b"", bytes(range(32))))),
                ticket=draw(st.sampled_from((b"", bytes(range(TICKET_BYTES))))),
                charter_hash=swarm if version == 1 else message.charter_hash,
                expires_ms=min(2**63 - 1, issued // 2 + draw(st.integers(1, INVITE_LIFE_MAX_MS))),
                issued_ms=issued // 2,
            )
        case Membership(issued_ms=issued):
            later = draw(st.integers(1, INVITE_LIFE_MAX_MS))
            return replace(message, issued_ms=issued // 2, expires_ms=issued // 2 + later)
        case Charter(version=version, prev_hash=before):
            roles: dict[str, Any] = {
                role: tuple(sorted(set(getattr(message, role))))
                for role in ("root", "halt", "resume", "voter", "beacon")
            }
            return replace(
                message,
                **roles,
                prev_hash=bytes(32) if version == 1 else before[:-1] + b"\1",
                lift_base=() if version == 1 else marks(draw, 32),
                root_threshold=min(message.root_threshold, len(roles["root"])),
                resume_threshold=min(message.resume_threshold, len(roles["resume"])),
                beacon_ttl_s=message.beacon_ttl_s if roles["beacon"] else 0,
            )
        case _:
            return message


messages = st.sampled_from(sorted(CODES, key=CODES.__getitem__)).flatmap(of_type)


def mutate(rng: Random, data: bytes) -> bytes:
    """One to three small injuries: what a fuzzer without feedback does."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(found) + 1)
        match rng.randrange(6):
            case 0 if at < len(found):
                found[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(found):
                found[at] = rng.choice(
                    (0, 1, 0x7F, 0x80, 0x90, 0xC0, 0xC1, 0xC4, 0xCA, 0xCC, 0xCF, 0xD9, 0xDC, 0xFF)
                )
            case 2:
                found[at:at] = rng.randbytes(rng.randint(1, 9))
            case 3:
                del found[at : at + rng.randint(1, 9)]
            case 4:
                del found[at:]
            case _:
                begin = rng.randrange(len(found) + 1)
                found[at:at] = found[begin : begin + rng.randint(1, 20)]
    return bytes(found)
