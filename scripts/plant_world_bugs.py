"""Do the laws of the world bite? Each known way to get the node wrong is planted in a copy, and the
worlds of `scripts/check` must notice.

    python scripts/plant_world_bugs.py                  all bugs, and which law noticed each
    python scripts/plant_world_bugs.py --runs 200       with the worlds of seeds 0 to 199 instead
    python scripts/plant_world_bugs.py --only NAME      one of them

How a bug is planted stands in `planting.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

if __package__ in (None, ""):  # As a file: the folder above is meant.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.planting import Bug, Change, Verdict, options, plant, run_in, tell

COPIED: Final = (
    "swarmllm/__init__.py",
    "swarmllm/__init__.pyi",
    "swarmllm/errors.py",
    "swarmllm/messages",
    "swarmllm/wire",
    "swarmllm/core",
    "swarmllm/testing/__init__.py",
    "swarmllm/testing/memory_ledger.py",
    "swarmllm/testing/operators.py",
    "swarmllm/testing/scripted_model.py",
    "swarmllm/testing/sealing.py",
    "swarmllm/testing/world",
    "sims/swarm.py",
)


REQUESTS, CAPACITY, MACHINE = (
    "swarmllm/core/decoding/requests.py",
    "swarmllm/core/capacity/table.py",
    "swarmllm/core/halt/machine.py",
)
DECODING, HALT, CLEARANCE = (
    "swarmllm/core/decoding/generation.py",
    "swarmllm/core/halt/state.py",
    "swarmllm/core/halt/clearance.py",
)
MEMBERS, PATIENCE, POOL = (
    "swarmllm/core/decoding/members.py",
    "swarmllm/core/decoding/patience.py",
    "swarmllm/core/peers/pool.py",
)
SERVING = "swarmllm/core/serving/admission.py"
BUGS: Final[dict[str, Bug]] = {
    "a token is skipped on failover": (
        Change(
            DECODING,
            "        self._failovers += self._experts.drop(peer, self._round.poll)\n"
            "        self._standing.waits(peer, standing.LOST)",
            "        if self._experts.drop(peer, self._round.poll):\n"
            "            self._text.append(0)",
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
        Change(
            REQUESTS,
            "if generation.ended:\n            self._generations.pop",
            "if False:\n            self._generations.pop",
        ),
    ),
    "peers are asked before the kill switch lets them": (
        Change(
            CLEARANCE,
            "return not (machine.may_serve(now) if peer == self._own"
            " else machine.may_infer(peer, now))",
            "return True",
        ),
    ),
    "experts are asked for more than their context": (
        Change(POOL, "if record.context_max >= tokens\n", "if True"),
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
            "and len(requester.sessions) >= SESSIONS_PER_PEER_MAX",
            "and len(requester.sessions) < 0",
        ),
    ),
    "a peer that is gone keeps its sessions": (
        Change(
            SERVING,
            "case Received(peer=peer) | AskingEnded(peer=peer) | PeerGone(peer=peer):",
            "case Received(peer=peer) | AskingEnded(peer=peer):",
        ),
    ),
    "it tells before it stops": (
        Change(
            MACHINE,
            "return [StopNow(obstacles), *told, EndStreams(",
            "return [*told, StopNow(obstacles), EndStreams(",
        ),
    ),
    "it starts before the resume is on disk": (
        Change(
            MACHINE,
            "if self.durable is not None and self.durable.reasons:",
            "if self.durable is None:",
        ),
        Change(
            MACHINE, "if not self.serves and self._saving.is_behind:", "if self.durable is None:"
        ),
    ),
    "it acknowledges before it is on disk": (
        Change(
            MACHINE,
            "if not link.ack_due or self.durable is None or self.durable.digest != self.digest:",
            "if not link.ack_due:",
        ),
    ),
    "a halt is not written down": (
        Change(
            MACHINE,
            "return [*self._flag(now, relay), *self._saving.save(self._state),"
            " Announce(HaltHeard(order, peer))]",
            "return [*self._flag(now, relay), Announce(HaltHeard(order, peer))]",
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
            MACHINE,
            "for one in frames_of(missing(self._state, message))]",
            "for one in frames_of([])]",
        ),
    ),
    "orders are not passed on": (
        Change(MACHINE, "*self._flag(now, relay),", "*self._flag(now),"),
        Change(MACHINE, "self._gossip.add(opened.data, now)", ""),
    ),
    "orders are passed on by whom they were given to alone": (
        Change(
            MACHINE,
            "relay = self._relay(opened.data, peer, is_live=isinstance(opened.record, Live))",
            """relay = self._relay(opened.data, peer, is_live=isinstance(opened.record, Live))
        if peer is not None:
            relay, passed_on = replace(relay, to=()), True""",
        ),
        Change(
            MACHINE,
            "passes = isinstance(outcome, Applied) and not isinstance(outcome.opened.record,"
            " Resume)",
            "passes = False",
        ),
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
            SERVING,
            "if not self._clearance.is_cleared(peer, now):",
            "if False:",
        ),
    ),
}


def verdict_on(bug: Bug, words: tuple[str, ...] = ("--check",)) -> Verdict:
    """Run the worlds on a copy with the bug in it. An empty bug must pass."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="swarmllm-bug-") as name:
        folder = Path(name)
        plant(bug, folder, COPIED)
        command = [sys.executable, "sims/swarm.py", *words, "--failures", "1", "--json"]
        done = run_in(folder, command, PYTHONPATH=name)
    if done.returncode not in {0, 1} or not done.stdout:
        sys.exit(f"the worlds did not run:\n{done.stdout}{done.stderr}")
    said = json.loads(done.stdout)
    law = said["findings"][0]["law"] if said["findings"] else ""
    return Verdict(law, time.monotonic() - begun, f"{said['worlds']:3} worlds")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Plant bugs in copies of the node and see whether the laws of the world notice."
    )
    parser.add_argument(
        "--runs", type=int, help="worlds of the seeds from 0 on, instead of those of scripts/check"
    )
    asked = options(parser, BUGS)
    words = ("--check",) if asked.runs is None else ("--runs", str(asked.runs))
    return tell(BUGS, asked.only, lambda bug: verdict_on(bug, words), width=90)


if __name__ == "__main__":
    sys.exit(main())
