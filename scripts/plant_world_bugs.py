"""Do the laws of the world bite? Each known way to get the node wrong is planted in a copy, and the
worlds of `scripts/check` must notice.

    python scripts/plant_world_bugs.py                  all bugs, and which law noticed each
    python scripts/plant_world_bugs.py --runs 200       with the worlds of seeds 0 to 199 instead
    python scripts/plant_world_bugs.py --only NAME      one of them

A bug is a replacement in one or more files. It must find its place exactly once: a bug that no
longer fits is a failure too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
COPIED: Final = (
    "swarmllm/__init__.py",
    "swarmllm/__init__.pyi",
    "swarmllm/errors.py",
    "swarmllm/messages",
    "swarmllm/wire",
    "swarmllm/core",
    "swarmllm/testing/__init__.py",
    "swarmllm/testing/operators.py",
    "swarmllm/testing/scripted_model.py",
    "swarmllm/testing/sealing.py",
    "swarmllm/testing/world",
    "sims/swarm.py",
)
TIMEOUT_S: Final = 900.0  # A loaded machine is no verdict.


@dataclass(frozen=True, slots=True)
class Change:
    path: str
    old: str
    new: str


REQUESTS, CAPACITY, CONTROL = (
    "swarmllm/core/decoding/requests.py",
    "swarmllm/core/capacity/table.py",
    "swarmllm/core/halt/machine.py",
)
DECODING, HALT, NODE = (
    "swarmllm/core/decoding/generation.py",
    "swarmllm/core/halt/state.py",
    "swarmllm/core/node.py",
)
MEMBERS, PATIENCE, POOL = (
    "swarmllm/core/decoding/members.py",
    "swarmllm/core/decoding/patience.py",
    "swarmllm/core/peers/pool.py",
)
ROSTER, SERVING = "swarmllm/core/peers/roster.py", "swarmllm/core/serving/admission.py"
BUGS: Final[dict[str, tuple[Change, ...]]] = {
    "a token is skipped on failover": (
        Change(
            DECODING,
            "        self._failovers += self._drop(peer)\n"
            "        self._standing.waits(peer, standing.LOST)",
            "        if self._drop(peer):\n            self._text.append(0)",
        ),
    ),
    "an answer of an earlier round counts": (
        Change(
            DECODING,
            "if question is None or reply.round != question.round:",
            "if question is None:",
        ),
    ),
    "a member that has the wrong text is not found out": (
        Change(
            "swarmllm/core/serving/batcher.py",
            "elif session.digests[order.base] != order.context_hash:",
            "elif False:",
        ),
        Change(
            MEMBERS,
            "        member.have = member.question.upto\n",
            "        member.have = member.question.upto + 1\n",
        ),
    ),
    "the round's deadline moves away": (
        Change(
            PATIENCE,
            "        self.deadline_at = min(self._latest_at, max(self.deadline_at,"
            " now + patience_s))\n",
            "",
        ),
        Change(
            PATIENCE,
            "            self.deadline_at = now\n",
            "            self.deadline_at = self._latest_at + 60\n",
        ),
        Change(
            PATIENCE,
            "if is_idle and not was_asked else ROUND_MAX_S",
            "if False else 10 * ROUND_MAX_S",
        ),
    ),
    "an answer that was halted can still be cancelled": (
        Change(
            REQUESTS,
            "return ended + [e for g in self.generations() for e in self._perform(g, g.halt(why))]",
            "return ended + [Emit(s) for g in self.generations() for s in g.halt(why)"
            " if not isinstance(s, Ask)]",
        ),
    ),
    "more answers than are allowed": (
        Change(
            REQUESTS,
            "len(self._generations) >= REQUESTS_MAX:",
            "len(self._generations) > REQUESTS_MAX:",
        ),
    ),
    "answers outlive their end": (
        Change(REQUESTS, "            self._by_session.pop(generation.session, None)\n", ""),
        Change(
            REQUESTS,
            "        if generation.ended:\n"
            "            self._generations.pop(generation.request, None)\n",
            "",
        ),
    ),
    "peers are asked before the kill switch lets them": (
        Change(
            ROSTER,
            "return not (self._control.may_serve(now)"
            " if peer == self.own else self._control.may_infer(peer, now))",
            "return True",
        ),
    ),
    "experts are asked for more than their context": (
        Change(POOL, "            if record.context_max >= tokens\n", ""),
    ),
    "records of the dead are believed for ever": (
        Change(CAPACITY, "if now < e.born_at + ttl_s or e.peer in self._connected)", "if ttl_s)"),
        Change(
            CAPACITY,
            "if now >= e.born_at + ttl_s and e.peer not in self._connected]:",
            "if now < 0]:",
        ),
        Change(
            CAPACITY,
            "        self._drop(peer)\n        self._tombstones.pop(peer, None)\n",
            "        return\n",
        ),
    ),
    "a peer may have one round too many": (
        Change(
            SERVING,
            "requester.rounds >= ROUNDS_PER_PEER_MAX",
            "requester.rounds > ROUNDS_PER_PEER_MAX",
        ),
    ),
    "a peer may have any number of sessions": (
        Change(
            SERVING,
            "and len(requester.sessions) >= SESSIONS_PER_PEER_MAX:",
            "and len(requester.sessions) < 0:",
        ),
    ),
    "a peer that is gone keeps its sessions": (
        Change(
            NODE,
            "return [*effects, *self._serving.lost(peer), *self._requests.lost(self._pool(now),"
            " peer)]\n\n"
            "    def _took",
            "return [*effects, *self._requests.lost(self._pool(now), peer)]\n\n    def _took",
        ),
    ),
    "it tells before it stops": (
        Change(
            CONTROL,
            "return [StopNow(obstacles), *told, EndStreams(",
            "return [*told, StopNow(obstacles), EndStreams(",
        ),
    ),
    "it starts before the resume is on disk": (
        Change(
            CONTROL,
            "if self.durable is not None and self.durable.reasons:",
            "if self.durable is None:",
        ),
        Change(
            CONTROL, "if not self.serves and self._saving.is_behind:", "if self.durable is None:"
        ),
    ),
    "it acknowledges before it is on disk": (
        Change(
            CONTROL,
            "if not link.ack_due or self.durable is None or self.durable.digest != self.digest:",
            "if not link.ack_due:",
        ),
    ),
    "a halt is not written down": (
        Change(
            CONTROL,
            "return [*self._flag(now, relay), *self._saving.save(self._state),"
            " Announce(HaltHeard(order, peer))]",
            "return [*self._flag(now, relay), Announce(HaltHeard(order, peer))]",
        ),
    ),
    "the older copy is loaded": (
        Change(
            "swarmllm/core/halt/state_file.py", "best = max(whole, key=", "best = min(whole, key="
        ),
    ),
    "a lost state is a new state": (
        Change(
            "swarmllm/core/halt/state_file.py",
            "Boot(HaltState(swarm, chain, lost=True), 0, remarks)",
            "Boot(HaltState(swarm, chain), 0, remarks)",
        ),
    ),
    "it serves without asking its peers": (
        Change(
            "swarmllm/core/halt/link.py",
            "self.done = self.done or alone",
            "self.done = True or alone",
        ),
    ),
    "nobody answers vectors": (
        Change(
            CONTROL,
            "for one in frames_of(missing(self._state, message))]",
            "for one in frames_of([])]",
        ),
    ),
    "orders are not passed on": (
        Change(CONTROL, "return [*self._flag(now, relay), ", "return [*self._flag(now), "),
        Change(CONTROL, "            self._gossip.add(opened.data, now)", "            pass"),
    ),
    "any signature is good": (
        Change(
            HALT,
            "signers = good_signers(opened, frozenset({by_id[halt.key]}), verify)",
            "signers = frozenset({by_id[halt.key]})",
        ),
    ),
    "one resume key is enough": (
        Change(HALT, "if len(signers) < charter.resume_threshold:", "if not signers:"),
    ),
    "a halted node computes": (
        Change(
            NODE,
            "case Score() if not self._roster.is_cleared(peer, now):",
            "case Score() if False:",
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """`law` is what the first world said that noticed; empty if none did."""

    law: str
    worlds: int
    seconds: float


def plant(bug: tuple[Change, ...], folder: Path) -> None:
    """Copy what the worlds need and put the bug in. SystemExit if it does not fit."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for change in bug:
        path = folder / change.path
        text = path.read_text(encoding="utf-8")
        if text.count(change.old) != 1:
            sys.exit(
                f"{change.path} has {text.count(change.old)} places that read {change.old!r};"
                " one is needed: mend the bug"
            )
        path.write_text(text.replace(change.old, change.new), encoding="utf-8")


def judge(bug: tuple[Change, ...], words: tuple[str, ...] = ("--check",)) -> Verdict:
    """Run the worlds on a copy with the bug in it. An empty bug must pass."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="swarmllm-bug-") as name:
        folder = Path(name)
        plant(bug, folder)
        command = [sys.executable, "sims/swarm.py", *words, "--failures", "1", "--json"]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": name}
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    if done.returncode not in {0, 1} or not done.stdout:
        sys.exit(f"the worlds did not run:\n{done.stdout}{done.stderr}")
    said = json.loads(done.stdout)
    law = said["findings"][0]["law"] if said["findings"] else ""
    return Verdict(law, said["worlds"], time.monotonic() - begun)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Plant bugs in copies of the node and see whether the laws of the world notice."
    )
    parser.add_argument(
        "--runs", type=int, help="worlds of the seeds from 0 on, instead of those of scripts/check"
    )
    parser.add_argument("--only", choices=sorted(BUGS), help="plant only this one")
    options = parser.parse_args()
    words = ("--check",) if options.runs is None else ("--runs", str(options.runs))
    missed = 0
    if options.only is None:
        clean = judge((), words)
        missed += bool(clean.law)
        print(f"{'no bug':<52} {clean.law or 'passes':<90} {clean.seconds:5.1f} s", flush=True)
    for name, bug in BUGS.items():
        if options.only in (None, name):
            verdict = judge(bug, words)
            missed += not verdict.law
            print(
                f"{name:<52} {verdict.law[:90] or 'NOT NOTICED':<90} {verdict.worlds:3} worlds"
                f" {verdict.seconds:5.1f} s",
                flush=True,
            )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
