"""Write governance's test vectors: terms, actions and their tiers, records that are taken or
refused, digests, and what is in force by them.

    python scripts/make_governance_vectors.py            writes protocols/vectors/governance.json
    python scripts/make_governance_vectors.py --check    exits 1 if it is not up to date

The keys are made from the names of those who hold them, so every run writes the same bytes, and
nobody should use them.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # As a file: the folder above is meant.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.make_halt_vectors import FIRST, private_of, public_of, role, seed_of, sign, verify
from swarmllm.core.governance.admission import GOVERNING, Admitted, admit
from swarmllm.core.governance.book import Book
from swarmllm.core.governance.held_out import HeldOut, digest_of, held_out_in, pinning
from swarmllm.core.governance.mandate import DEFAULTS, Mandate, mandate_of, naming
from swarmllm.core.governance.tiers import decide, read_action
from swarmllm.core.halt.charter import Rejected, charter_hash
from swarmllm.core.halt.state import HaltState
from swarmllm.core.settings.table import BY_CODE, EXPERTS, EXTRA
from swarmllm.messages import governance as g
from swarmllm.messages.declare import domain_of
from swarmllm.wire.codec import encode
from swarmllm.wire.signed import key_id, open_record, sign_record

PATH = Path(__file__).resolve().parent.parent / "protocols" / "vectors" / "governance.json"
VOTERS, AGENTS = ("voter 1", "voter 2", "voter 3"), ("agent 1", "agent 2")
NAMES = (*VOTERS, *AGENTS, "stranger")
NO_DIGEST, EVIDENCE = bytes(8), sha256(b"a validation report").digest()
BEFORE_HALT, AFTER_HALT = bytes(range(8)), bytes(range(8, 16))

TERMS = replace(DEFAULTS, agent=role(*AGENTS))
CHARTER = replace(FIRST, voter=role(*VOTERS), ext=naming(TERMS))
STATE = HaltState(
    charter_hash(open_record(sign(CHARTER, "root 1", "root 2"))),
    (open_record(sign(CHARTER, "root 1", "root 2")),),
)


def mandate() -> Mandate:
    found = mandate_of(STATE.swarm, STATE.charters, TERMS)
    assert isinstance(found, Mandate)
    return found


# --- records --------------------------------------------------------------------------------------


def by(record: Any, *names: str) -> bytes:
    return sign_record(record, [(public_of(name), private_of(name).sign) for name in names])


def proposal(action: Any, name: str = "voter 1", **more: Any) -> g.Proposal:
    made = g.Proposal(
        STATE.swarm,
        1,
        key_id(public_of(name)),
        1,
        3,
        action if isinstance(action, bytes) else encode(action),
        g.NO_BASE,
        1,
        BEFORE_HALT,
        EVIDENCE,
        "rounds wait less",
        1_790_000_000_000,
    )
    return replace(made, **more)


def id_of(made: g.Proposal) -> bytes:
    return sha256(encode(made)).digest()


def vote(made: g.Proposal, name: str, yes: int = 1, **more: Any) -> g.Vote:
    record = g.Vote(STATE.swarm, 1, id_of(made), key_id(public_of(name)), yes, 1_790_000_000_000)
    return replace(record, **more)


def withdrawal(made: g.Proposal, name: str) -> g.Withdrawal:
    key = key_id(public_of(name))
    return g.Withdrawal(STATE.swarm, 1, id_of(made), key, 1_790_000_000_000)


def report(made: g.Proposal, name: str, worse: int) -> g.CanaryReport:
    key = key_id(public_of(name))
    costs = (40, 60, 52_000, 48_000, 1_790_000_000_000)
    return g.CanaryReport(STATE.swarm, 1, id_of(made), key, worse, *costs)


FIVE = proposal(g.SetSetting(EXPERTS.code, 5))
SIX = proposal(g.SetSetting(EXPERTS.code, 6), "voter 2")
SEVEN = proposal(g.SetSetting(EXPERTS.code, 7), base=id_of(FIVE), height=2, seq=2)
OUTSIDE = proposal(g.SetSetting(EXPERTS.code, EXPERTS.bounds.high + 1))
UNKNOWN = proposal(b"\x91\x7f", tier=0)
BY_AGENT = proposal(g.SetSetting(EXTRA.code, 1), "agent 1")
BACK = proposal(g.Revert(id_of(SEVEN)), "voter 3")


def records() -> dict[str, bytes]:
    """Name -> record, by whom it says; every one is taken by a node under the charter."""
    made: dict[str, bytes] = {
        "five": by(FIVE, "voter 1"),
        "six": by(SIX, "voter 2"),
        "seven": by(SEVEN, "voter 1"),
        "outside": by(OUTSIDE, "voter 1"),
        "unknown": by(UNKNOWN, "voter 1"),
        "by an agent": by(BY_AGENT, "agent 1"),
        "back": by(BACK, "voter 3"),
        "five withdrawn": by(withdrawal(FIVE, "voter 1"), "voter 1"),
        "five is fine": by(report(FIVE, "agent 1", 0), "agent 1"),
        "five is worse": by(report(FIVE, "agent 2", 1), "agent 2"),
        "five is worse by the same": by(report(FIVE, "agent 1", 1), "agent 1"),
        "no to five by voter 2": by(vote(FIVE, "voter 2", 0), "voter 2"),
    }
    for name, one in (
        *(("five", FIVE), ("six", SIX), ("seven", SEVEN), ("outside", OUTSIDE)),
        *(("unknown", UNKNOWN), ("by an agent", BY_AGENT), ("back", BACK)),
    ):
        for voter in VOTERS:
            made[f"yes to {name} by {voter}"] = by(vote(one, voter), voter)
    return made


def refused() -> dict[str, bytes]:
    """Name -> record that is not taken, whatever its signer's strike."""
    good = by(FIVE, "voter 1")
    six = by(SIX, "voter 2")
    twisted = six[:-1] + bytes((six[-1] ^ 1,))
    return {
        "nothing": b"",
        "cut short": good[:-1],
        "a byte too many": good + b"\0",
        "too long": good + bytes(g.PROPOSAL_RECORD_MAX),
        "a bad signature": twisted,
        "two signatures": by(FIVE, "voter 1", "voter 2"),
        "signed by another than it names": by(FIVE, "voter 2"),
        "by a stranger": by(replace(FIVE, author=key_id(public_of("stranger"))), "stranger"),
        "a vote by an agent": by(vote(FIVE, "agent 1"), "agent 1"),
        "a report by a voter": by(report(FIVE, "voter 1", 0), "voter 1"),
        "a withdrawal by another agent": by(withdrawal(FIVE, "agent 1"), "agent 1"),
        "another swarm": by(replace(FIVE, swarm=bytes(32)), "voter 1"),
        "another charter": by(replace(FIVE, charter_version=2), "voter 1"),
        "a vote before its proposal": by(vote(SIX, "voter 1"), "voter 1"),
        "a halt record": sign(CHARTER, "root 1", "root 2"),
    }


SCENES = {
    "one vote": ("five", "yes to five by voter 1"),
    "two votes": ("five", "yes to five by voter 1", "yes to five by voter 3"),
    "two votes, one of which is void": (
        *("five", "yes to five by voter 1", "yes to five by voter 2", "no to five by voter 2"),
    ),
    "two on one base": (
        *("five", "yes to five by voter 1", "yes to five by voter 2"),
        *("six", "yes to six by voter 1", "yes to six by voter 2"),
    ),
    "one after the other": (
        *("five", "yes to five by voter 1", "yes to five by voter 2"),
        *("seven", "yes to seven by voter 1", "yes to seven by voter 2"),
    ),
    "and back": (
        *("five", "yes to five by voter 1", "yes to five by voter 2"),
        *("seven", "yes to seven by voter 1", "yes to seven by voter 2"),
        *("back", "yes to back by voter 1", "yes to back by voter 2"),
    ),
    "withdrawn before it passed": ("five", "five withdrawn", "yes to five by voter 2"),
    "withdrawn after it passed": (
        *("five", "yes to five by voter 2", "yes to five by voter 3", "five withdrawn"),
    ),
    "a canary finds it worse": (
        *("five", "yes to five by voter 2", "yes to five by voter 3"),
        *("five is fine", "five is worse"),
    ),
    "an agent finds it both": (
        *("five", "yes to five by voter 2", "yes to five by voter 3"),
        *("five is fine", "five is worse by the same"),
    ),
    "outside its bounds": ("outside", *(f"yes to outside by {voter}" for voter in VOTERS)),
    "unknown": ("unknown", *(f"yes to unknown by {voter}" for voter in VOTERS)),
    "by an agent in phase 0": (
        "by an agent",
        *(f"yes to by an agent by {voter}" for voter in VOTERS),
    ),
}


def scene(names: tuple[str, ...], ctl_digest: bytes) -> dict[str, Any]:
    """What is in force once all of it is released, and how each proposal stands."""
    made, book = records(), Book(mandate(), BY_CODE, verify)

    def outcome_with(also: Any) -> Any:
        everything = [*book.cases, *(case.id for case in also)]
        return book.outcome(everything, ctl_digest, also)

    for name in names:
        taken = book.take([made[name]], outcome_with)
        assert taken.news, (name, taken)
    outcome = outcome_with(())
    packed = b"".join(name + digest for name, digest in sorted(book.groups().items()))
    return {
        "records": list(names),
        "ctl_digest": ctl_digest.hex(),
        "settings": {str(code): value for code, value in sorted(outcome.values.items())},
        "phase": outcome.phase,
        "set_digest": sha256(packed).digest()[:8].hex(),
        "proposals": {
            id.hex(): {
                "tier": int(standing.decision.tier),
                "escalated": standing.decision.escalated,
                "yes": standing.yes,
                "no": standing.no,
                "needs": standing.needs,
                "passed": standing.passed,
                "withdrawn": standing.is_withdrawn,
                "void": bool(standing.void),
                "group_digest": book.cases[id].digest.hex(),
            }
            for id, standing in sorted(outcome.standings.items())
        },
    }


def actions() -> list[dict[str, Any]]:
    high = EXPERTS.bounds.high
    made: list[Any] = [
        g.Observe(0),
        g.Suggest(encode(g.Observe(0))),
        g.SandboxTest(encode(g.Observe(0))),
        g.SetSetting(EXPERTS.code, high),
        g.SetSetting(EXPERTS.code, high + 1),
        g.SetSetting(EXPERTS.code, EXPERTS.limits.high + 1),
        g.SetSetting(65_535, 0),
        g.SetBounds(EXPERTS.code, 1, high),
        g.OpenPhase(2),
        g.ClosePhase(0),
        g.SetFeature("speculation", 1),
        g.SetDefaultModel("hf:owner/model/file.gguf", bytes(32)),
        g.Revert(bytes(32)),
    ]
    packed = [*map(encode, made), b"\x91\x7f", encode(made[0]) + b"\0", b"lift the halt"]
    found = []
    for data in packed:
        for has_evidence in (True, False):
            decision = decide(read_action(data), 0, has_evidence, BY_CODE, _bounds)
            found.append(
                {
                    "hex": data.hex(),
                    "type": type(read_action(data)).__name__,
                    "evidence": has_evidence,
                    "tier": int(decision.tier),
                    "can_be_done": decision.can_be_done,
                }
            )
    return found


def _bounds(code: int) -> Any:
    return BY_CODE[code].bounds if code in BY_CODE else None


def text() -> str:
    """The whole file."""
    made = records()
    ask = mandate()
    strikes = {}
    for name, data in refused().items():
        found = admit(data, ask, lambda _record, _id: False, verify)
        strikes[name] = isinstance(found, Rejected) and found.penalise
        is_late = name in ("a vote before its proposal", "a withdrawal by another agent")
        assert isinstance(found, Rejected) or is_late, name
        strikes[name] = strikes[name] or name == "a withdrawal by another agent"
    assert all(
        isinstance(admit(data, ask, lambda _r, _i: False, verify), Admitted)
        for data in made.values()
    )
    content = {
        "what": (
            "Governance. `records` are taken by a node under `charter`; `refused` are not, each as"
            ' the only record after "five", and `strike` says whether that is counted against'
            " who sent it. `scenes` say what is in force once all proposals in them are released."
            " `actions` have their tier with the settings' own bounds. Keys come from the seeds."
            " `held_out` has the digest of texts, and what the `ext` of a charter pins: null for"
            " nothing, empty for what cannot be read, so that no report will do."
        ),
        "keys": {
            name: {
                "seed": seed_of(name).hex(),
                "public_key": public_of(name).hex(),
                "key": key_id(public_of(name)).hex(),
            }
            for name in NAMES
        },
        "domains": {kind.__name__: domain_of(kind).decode() for kind in GOVERNING},
        "charter": sign(CHARTER, "root 1", "root 2").hex(),
        "terms": encode(TERMS).hex(),
        "scope": ask.scope.hex(),
        "held_out": held_out(),
        "actions": actions(),
        "records": [{"name": name, "hex": data.hex()} for name, data in made.items()],
        "refused": [
            {"name": name, "hex": data.hex(), "strike": strikes[name]}
            for name, data in refused().items()
        ],
        "scenes": [{"name": name, **scene(names, BEFORE_HALT)} for name, names in SCENES.items()]
        + [{"name": "after a halt", **scene(SCENES["one after the other"], AFTER_HALT)}],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


TEXTS = {"code": ("def f():", "return 1\n"), "prose": ("Once upon a time", "né en été")}


def held_out() -> dict[str, Any]:
    """The digest of some texts, and what an `ext` with an addition of type 5 pins."""
    digest = digest_of(TEXTS)
    named = pinning(HeldOut("news 2026", digest))
    exts = {
        "beside terms": CHARTER.ext + named,
        "alone": named,
        "none": CHARTER.ext,
        "no name": pinning(HeldOut("", digest)),
        "a name that cannot be printed": pinning(HeldOut("a\n", digest)),
        "no UTF-8": bytes((5, 18)) + digest + b"\xff\xfe",
        "too short": bytes((5, 4)) + bytes(4),
        "a name of 13 bytes": bytes((5, 29)) + digest + b"a" * 13,
    }
    pins = []
    for name, ext in exts.items():
        held = held_out_in(ext)
        said = None if held is None else {"name": held.name, "digest": held.digest.hex()}
        pins.append({"name": name, "ext": ext.hex(), "pins": said})
    return {"texts": TEXTS, "digest": digest.hex(), "pins": pins}


def main() -> int:
    parser = argparse.ArgumentParser(description="Write or check governance's test vectors.")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if the file is out of date"
    )
    if parser.parse_args().check:
        if PATH.exists() and PATH.read_text(encoding="utf-8") == text():
            return 0
        print(
            f"{PATH.name} is out of date: run scripts/make_governance_vectors.py", file=sys.stderr
        )
        return 1
    PATH.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
