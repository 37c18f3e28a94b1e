"""Write the dialogues: which frames a client and a node exchange, on which stream, when.

    python scripts/make_dialogue_vectors.py            writes protocols/vectors/dialogues.json
    python scripts/make_dialogue_vectors.py --check    exits 1 if it is not up to date

A real `Node` is driven step by step with fixed keys, chance and clock, so every run writes the same
bytes. What libp2p and the network adapter do by themselves (pings, Goodbye, ending a connection) is
not the Node's, and not in here.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from swarmllm import messages as m
from swarmllm.adapters.keyfile import KeyFile
from swarmllm.core import effects as out
from swarmllm.core import inputs as put
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.halt.state import Applied, HaltState, validate
from swarmllm.core.halt.state_file import Boot
from swarmllm.core.node import Node, NodeConfig
from swarmllm.messages.goodbye import BREACH
from swarmllm.runtime.sealing import sealing_with
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.wire import context
from swarmllm.wire.codec import EXPERT_REQUESTS, decode
from swarmllm.wire.framing import frame

VECTORS = Path(__file__).resolve().parent.parent / "protocols" / "vectors"
PATH = VECTORS / "dialogues.json"
START_S = 10.0
ANY = {
    "Scores": ["queue_us", "compute_us"],
    "Shuffle": ["records", "ages"],
    "Shuffled": ["records", "ages"],
}
"""Fields that another implementation, or another machine, may fill otherwise."""
ASKING, ANSWERING, HALT = "client's expert stream", "node's expert stream", "control"
VOCABULARY = bytes(32)
EXPERT_KINDS = (
    m.Open,
    m.Score,
    m.ScoreAllowed,
    m.ScoreDraft,
    m.Close,
    m.Shuffle,
    m.Scores,
    m.Need,
    m.Busy,
    m.Refused,
    m.Shuffled,
    m.Halted,
)


def key_of(name: str) -> KeyFile:
    return KeyFile(
        Ed25519PrivateKey.from_private_bytes(sha256(f"swarmllm vectors: {name}".encode()).digest())
    )


NODE, CLIENT = key_of("dialogue node"), key_of("dialogue client")
HALTS: dict[str, Any] = json.loads((VECTORS / "halt.json").read_text(encoding="utf-8"))
RECORDS = {one["name"]: bytes.fromhex(one["hex"]) for one in HALTS["records"]}


def state_of(*names: str) -> HaltState:
    state = HaltState(bytes.fromhex(HALTS["swarm"]))
    for name in names:
        outcome = validate(state, RECORDS[name], NODE.verify)
        assert isinstance(outcome, Applied), name
        state = outcome.state
    return state


CALM, STOPPED = state_of("charter 1"), state_of("charter 1", "halt 1 seq 5")


def plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    return [plain(item) for item in value] if isinstance(value, tuple) else value


class Bench:
    """One node and one client, whose frames and what answers them are written down."""

    def __init__(self, state: HaltState = CALM, expert: bool = True) -> None:
        self.model = ScriptedModel("scripted", 1, context_max=64)
        self.now, self.steps = START_S, list[dict[str, Any]]()
        machine = HaltMachine(Boot(state, 1), NODE.public_key, NODE.verify, random.Random(1), 0)
        self.node = Node(
            NodeConfig(VOCABULARY),
            NODE.peer,
            1_000_000,
            random.Random(2),
            sealing_with(NODE),
            machine,
        )
        for effect in machine.start(0.0):
            if isinstance(effect, out.Persist):
                machine.persisted(effect.number, True, 0.0)
        self.give(put.TimerFired())
        if expert:
            self.give(put.EngineReady(self.model.card, self.model.load))

    def give(self, event: put.Input) -> None:
        for effect in self.node.handle(event, self.now):
            self._done(effect)

    def _done(self, effect: out.NodeEffect) -> None:
        match effect:
            case out.Send(message=message):
                asks = type(message) in EXPERT_REQUESTS and not isinstance(message, m.Halted)
                self.note("node", ANSWERING if asks else ASKING, message)
            case out.EndStreams(message=message):
                self.note("node", ASKING, message)
                self.note("node", ANSWERING, message)
            case out.SendFrame(message=told):
                self.note("node", HALT, told)
            case out.Relay(record=record, to=to) if CLIENT.peer in to:
                self.note("node", HALT, m.Records((record,)))
            case out.Penalise():
                self.steps.append({"at_ms": self.at_ms, "from": "node", "strike": True})
            case out.Hangup():
                self.steps.append({"at_ms": self.at_ms, "from": "node", "hangup": True})
            case out.Persist(number=number):
                self.give(put.Persisted(number, ok=True))
            case out.RunScore(order=order, key=key, request=request):
                self.give(put.Scored(order, self.model.score(key, request)))
            case _:
                pass

    @property
    def at_ms(self) -> int:
        return round((self.now - START_S) * 1000)

    def note(self, side: str, stream: str, message: Any) -> None:
        name = type(message).__name__
        step = {
            "at_ms": self.at_ms,
            "from": side,
            "stream": stream,
            "type": name,
            "any": ANY.get(name, []),
        }
        content = {f.name: plain(getattr(message, f.name)) for f in fields(message)}
        self.steps.append(step | {"fields": content, "hex": frame(message).hex()})

    def local(self, what: str) -> None:
        """Something that happens to the node without a frame."""
        self.steps.append({"at_ms": self.at_ms, "from": "world", "event": what})
        match what:
            case "connected":
                self.give(put.PeerConnected(CLIENT.peer))
            case "control stream open":
                self.give(put.ChannelOpened(CLIENT.peer))
            case "engine lost":
                self.give(put.EngineLost("killed"))
            case "owner stops":
                self.give(put.OwnerStops())
            case "the client's expert stream ended":
                self.give(put.AskingEnded(CLIENT.peer))
            case "cache lost":
                self.model.forget()
            case _:
                raise ValueError(f"unknown event {what!r}")

    def says(self, stream: str, framed: bytes) -> None:
        """The client writes one frame."""
        if stream == HALT:
            message: Any = decode(framed[4:], (m.HaltDigest, m.Vectors, m.Records, m.Ack))
            self.note("client", stream, message)
            self.give(put.FrameReceived(CLIENT.peer, framed[4:]))
        else:
            message = decode(framed[4:], EXPERT_KINDS)
            self.note("client", stream, message)
            self.give(put.Received(CLIENT.peer, message, len(framed)))

    def wait(self, until_ms: int) -> None:
        """Let the time come, with every deadline on the way."""
        until = START_S + until_ms / 1000
        while (at := self.node.next_deadline()) <= until:
            self.now = max(self.now, at)
            self.give(put.TimerFired())
        self.now = until


Line = tuple[str, Any]
GREETED: tuple[Line, ...] = (
    ("", "connected"),
    ("", "control stream open"),
    (HALT, m.HaltDigest(CALM.swarm, 1, CALM.digest)),
)
MODEL = ScriptedModel("scripted", 1).card.digest


def opening(model: bytes = MODEL, vocabulary: bytes = VOCABULARY) -> Line:
    return ASKING, m.Open(1, model, vocabulary, CALM.digest)


def score(
    number: int = 0,
    base: int = 0,
    tokens: tuple[int, ...] = (1, 2, 3),
    before: tuple[int, ...] = (),
) -> Line:
    digest = context.EMPTY
    for token in before:
        digest = context.extend(digest, token)
    return ASKING, m.Score(
        1, number, 0, base, digest, tokens, (len(tokens) - 1,), (), 8, 0, CALM.digest
    )


SCENES: dict[str, tuple[Callable[[], Bench], tuple[Line, ...]]] = {
    "first contact": (Bench, GREETED),
    "a question": (
        Bench,
        (*GREETED, opening(), score(), score(1, 3, (4,), (1, 2, 3)), (ASKING, m.Close(1))),
    ),
    "a cache that was lost": (
        Bench,
        (*GREETED, opening(), score(), ("", "cache lost"), score(1, 3, (4,), (1, 2, 3))),
    ),
    "no greeting: busy, then refused 7": (
        Bench,
        (("", "connected"), opening(), *(score(i) for i in range(9))),
    ),
    "refused 1: another model": (Bench, (*GREETED, opening(model=b"\1" * 32), score())),
    "refused 2: another vocabulary": (Bench, (*GREETED, opening(vocabulary=b"\1" * 32), score())),
    "refused 3: beyond the context": (Bench, (*GREETED, opening(), score(tokens=tuple(range(65))))),
    "refused 4: no such session": (Bench, (*GREETED, score())),
    "refused 5: no engine": (Bench, (*GREETED, opening(), ("", "engine lost"), score())),
    "the owner stops": (Bench, (*GREETED, opening(), ("", "owner stops"), score())),
    "a second asking stream": (
        Bench,
        (
            *GREETED,
            opening(),
            ("", "the client's expert stream ended"),
            score(),
            opening(),
            score(),
        ),
    ),
    "a shuffle": (Bench, (*GREETED, (ASKING, m.Shuffle(bytes(8), (), (), 4)))),
    "a shuffle of another swarm": (Bench, (*GREETED, (ASKING, m.Shuffle(b"\1" * 8, (), (), 4)))),
    "the client brings a halt": (
        Bench,
        (
            *GREETED[:2],
            (HALT, m.HaltDigest(STOPPED.swarm, 1, STOPPED.digest)),
            (HALT, STOPPED.vectors),
            (HALT, m.Records((RECORDS["halt 1 seq 5"],))),
        ),
    ),
    "a strike: a halt with a bad signature": (
        Bench,
        (*GREETED, (HALT, m.Records((RECORDS["halt 1 seq 6, signature bit flipped"],)))),
    ),
    "the client lacks a halt": (
        lambda: Bench(STOPPED),
        (*GREETED, (HALT, CALM.vectors), (HALT, m.Ack(STOPPED.digest))),
    ),
}
BREACHES: tuple[tuple[str, bytes, dict[str, Any]], ...] = (
    ("a wrong direction", frame(m.Busy(1, 1, 1)), {"goodbye": BREACH, "strikes": 1}),
    ("an unknown type", b"\0\0\0\3\x92\x7f\0", {"goodbye": BREACH, "strikes": 1}),
    ("no message", b"\0\0\0\3\xc1\xc1\xc1", {"goodbye": BREACH, "strikes": 1}),
    ("a length of zero", bytes(4), {"goodbye": BREACH, "strikes": 1}),
    (
        "a length beyond the bound",
        (m.FRAME_MAX + 1).to_bytes(4, "big"),
        {"goodbye": BREACH, "strikes": 1},
    ),
    ("half a frame, and then nothing", b"\0\0\0\3\x92", {"goodbye": BREACH, "strikes": 1}),
    (
        "a pong to no ping, then a ping",
        frame(m.Pong(1)) + frame(m.Ping(2)),
        {"strikes": 0, "answer": frame(m.Pong(2)).hex()},
    ),
)
"""What a client writes on its expert stream, and what it sees. A goodbye comes on the stream that
the node opened, and then the connection ends; without one it stays. The network adapter does this
and not the Node, so `tests/adapters/libp2p/test_dialogues.py` plays it on a line."""

WAIT_MS = 10  # Between two lines of the client.


def played(make: Callable[[], Bench], lines: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    """The steps of one dialogue; a line is a stream and a message or its frame, or no stream and an
    event."""
    bench = make()
    for number, (stream, what) in enumerate(lines):
        bench.wait(number * WAIT_MS)
        if stream:
            bench.says(stream, what if isinstance(what, bytes) else frame(what))
        else:
            bench.local(what)
    return bench.steps


def text() -> str:
    content = {
        "what": (
            "Dialogues of one client with one node. A step is a frame with its length (`hex`), its"
            " direction, its stream and its time since the start; or an `event` that comes with no"
            " frame; or a `strike` or `hangup` of the node. Fields named in `any` may differ."
            " `breaches`: what a client writes on its expert stream and what it sees. Control"
            " state: as in halt.json."
        ),
        "node": {
            "peer": NODE.peer,
            "seed": NODE.seed.hex(),
            "model_digest": MODEL.hex(),
            "vocab_fingerprint": VOCABULARY.hex(),
        },
        "client": {"peer": CLIENT.peer, "seed": CLIENT.seed.hex()},
        "dialogues": [{"name": name, "steps": played(*scene)} for name, scene in SCENES.items()],
        "breaches": [
            {"name": name, "hex": written.hex(), "sees": sees} for name, written, sees in BREACHES
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write or check the dialogues.")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if the file is out of date"
    )
    if parser.parse_args().check:
        if PATH.exists() and PATH.read_text(encoding="utf-8") == text():
            return 0
        print(f"{PATH.name} is out of date: run scripts/make_dialogue_vectors.py", file=sys.stderr)
        return 1
    PATH.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
