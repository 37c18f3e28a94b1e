"""Do governance's tests bite? Each known way to get it wrong is planted in a copy, and the tests
must fail there.

    python scripts/plant_governance_bugs.py                all bugs, and which test noticed each
    python scripts/plant_governance_bugs.py --only NAME    one of them
    python scripts/plant_governance_bugs.py --worlds 8     which law of governed worlds did

How a bug is planted stands in `planting.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Final

if __package__ in (None, ""):  # As a file: the folder above is meant.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.planting import (
    Bug,
    Change,
    Verdict,
    options,
    plant,
    run_in,
    tell,
    verdict_of_tests,
)

TESTS: Final = (
    "tests/core/governance/test_votes.py",  # The quick ones first.
    "tests/core/governance/test_halts.py",
    "tests/core/governance/test_charters.py",
    "tests/core/governance/test_review.py",
    "tests/core/governance/test_phases.py",
    "tests/core/governance/test_canary.py",
    "tests/core/governance/test_tiers.py",
    "tests/core/governance/test_writing.py",
    "tests/core/governance/test_book.py",
    "tests/core/governance/test_found.py",
    "tests/core/replication/test_replica.py",
    "tests/core/governance/test_schedules.py",
)
COPIED: Final = (
    "pyproject.toml",
    "swarmllm/__init__.py",
    "swarmllm/__init__.pyi",
    "swarmllm/errors.py",
    "swarmllm/messages",
    "swarmllm/wire",
    "swarmllm/core",
    "swarmllm/testing/__init__.py",
    "swarmllm/testing/sealing.py",
    "tests/__init__.py",
    "tests/conftest.py",
    "tests/core",
    "tests/wire",
)

OUTCOME, MACHINE, PROGRESS, BOOK, ADMISSION, CHANGES, WRITING, TIERS, CASES, REPLICA = (
    f"swarmllm/core/governance/{name}.py"
    if name != "replica"
    else "swarmllm/core/replication/replica.py"
    for name in (
        *("outcome", "machine", "progress", "book", "admission", "changes", "writing"),
        *("tiers", "cases", "replica"),
    )
)
BUGS: Final[dict[str, Bug]] = {
    "anybody votes": (
        Change(ADMISSION, "if key not in _role(record, mandate):", "if False:"),
        Change(ADMISSION, "if signers[0] not in mandate.keys:", "if False:"),
        Change(
            OUTCOME,
            "votes = {key: yes for key, yes in case.votes.items() if key in mandate.voters}",
            "votes = dict(case.votes)",
        ),
    ),
    "one vote is enough": (
        Change(OUTCOME, "needs is not None and yes >= needs", "needs is not None and yes >= 1"),
    ),
    "signatures are not checked": (
        Change(ADMISSION, "good_signers(opened, frozenset(opened.signers), verify)", "pass"),
    ),
    "votes under another charter count": (
        Change(ADMISSION, "if record.charter_version != mandate.version:", "if False:"),
    ),
    "votes of another swarm count": (
        Change(ADMISSION, "if record.swarm != mandate.swarm:", "if False:"),
    ),
    "the first of two votes counts": (Change(CASES, "if len(found) == 1}", "}"),),
    "the lower id only wins if it comes first": (
        Change(OUTCOME, '-int.from_bytes(case.id, "big")', "0"),
    ),
    "who asks for a lower tier gets it": (Change(TIERS, "if asked > own:", "if asked != own:"),),
    "what is unknown is minor": (
        Change(
            TIERS,
            'return Tier.DEPLOY_MAJOR, "unknown to this version, so treated as deploy-major"',
            'return Tier.DEPLOY_MINOR, "unknown"',
        ),
    ),
    "bounds do not matter": (
        Change(TIERS, "if not within.low <= value <= within.high:", "if False:"),
    ),
    "all votes at once shorten the review": (
        Change(
            "swarmllm/core/governance/mandate.py",
            "return 0.0 if self.is_private else self.terms.review_h * 3_600.0",
            "return 0.0",
        ),
    ),
    "a restart forgets the review": (
        Change(PROGRESS, "Stopwatch(one.seen_s + away_s, now)", "Stopwatch(0.0, now)"),
    ),
    "time away counts whatever the machine did": (
        Change(
            "swarmllm/core/governance/clocks.py",
            "if not self.boot or boot != self.boot:",
            "if False:",
        ),
    ),
    "the review begins before the proposal is on disk": (
        Change(
            PROGRESS,
            "course = self.courses.setdefault(case.id, Course())\n            standing",
            "course = self.courses.setdefault(case.id, Course())\n"
            "            course.seen.start(around.now)\n            standing",
        ),
    ),
    "a halted node releases what has been reviewed": (
        Change(PROGRESS, "if around.halted:", "if False:"),
        Change(MACHINE, "if not self.obstacle and self.changes", "if self.changes"),
    ),
    "a halted node finishes what was under way": (
        Change(MACHINE, "if not self.obstacle and self.changes", "if self.changes"),
    ),
    "a halt takes nothing back": (Change(OUTCOME, "digest != self._ctl_digest", "False"),),
    "a halt takes everything back": (
        Change(OUTCOME, "found[: self._mandate.revert_changes]", "found"),
    ),
    "the next halt brings back what the last one took": (
        Change(
            OUTCOME,
            "ended.setdefault(digest, []).append(case)",
            "ended.setdefault(b'', []).append(case)",
        ),
    ),
    "a rotation leaves proposals open": (
        Change(
            "swarmllm/core/governance/registry.py",
            "and found.scope == before.scope:",
            ":",
        ),
    ),
    "in force before it is written down": (
        Change(MACHINE, "self._written = dict(done.in_force)", "pass"),
        Change(
            MACHINE,
            "self.changes.enact(self._written,",
            "self.changes.enact(self.changes.wanted,",
        ),
    ),
    "the ledger may lack it": (
        Change(WRITING, "return self.stored and not self.entries", "return self.stored"),
    ),
    "a damaged state is a new state": (
        Change(
            MACHINE,
            "self.damage = unreadable(str(fault))\n            self.registry.close(self.damage)",
            "pass",
        ),
    ),
    "an agent deploys in any phase": (
        Change(OUTCOME, "if by_agent and self._phase < AGENT_DEPLOYS_FROM:", "if False:"),
    ),
    "closing a phase may open one": (
        Change(OUTCOME, "phase = min(phase, closed)", "phase = closed"),
    ),
    "a phase opens below its size": (
        Change("swarmllm/core/governance/phases.py", "if known.experts < experts:", "if False:"),
        Change(
            "swarmllm/core/governance/phases.py",
            "if experts and days < terms.stable_days:",
            "if False:",
        ),
    ),
    "canaries are promoted whatever they found": (
        Change(OUTCOME, "if reports and 2 * sum(reports) >= len(reports):", "if False:"),
    ),
    "anybody reports on canaries": (
        Change(ADMISSION, "return frozenset(mandate.agents)", "return frozenset(mandate.keys)"),
        Change(
            OUTCOME,
            "for key, worse in case.reports.items() if key in self._mandate.agents]",
            "for key, worse in case.reports.items()]",
        ),
        Change(PROGRESS, "if any(key in agents for key in case.reports):", "if case.reports:"),
    ),
    "an author fills the book": (
        Change(
            BOOK,
            "if opened[author] >= OPEN_PER_AUTHOR_MAX:",
            "if opened[author] >= 10 * OPEN_PER_AUTHOR_MAX:",
        ),
    ),
    "an author withdraws what has passed": (
        Change(
            OUTCOME,
            "passed = needs is not None and yes >= needs and not stopped",
            "passed = needs is not None and yes >= needs and not stopped"
            " and proposal.author not in case.withdrawn_by",
        ),
    ),
    "what is void stays until its successor is written": (
        Change(CHANGES, "self._drop_void(outcome, at_ms)", "pass"),
    ),
    "a canary that restarts compares with nothing": (
        Change(PROGRESS, "course.before = one.before", "pass"),
    ),
    "a canary keeps out what agents found good": (
        Change(
            PROGRESS,
            "if any(key in agents for key in case.reports):",
            "if course.trial != 'worse' and any(key in agents for key in case.reports):",
        ),
    ),
    "a node looks for ever at what it keeps": (
        Change(PROGRESS, "expires_at if now < expires_at else math.inf", "expires_at"),
    ),
    "what an earlier charter started with stays": (
        Change(
            CHANGES,
            "sorted(self.live.keys() - self.wanted.keys() - written.keys())",
            "()",
        ),
    ),
    "an agent that reports both says nothing": (
        Change(
            CASES,
            "return {key: max(found) for key, found in said.items()}",
            "return {key: found[0] for key, found in said.items() if len(found) == 1}",
        ),
    ),
    "what was overtaken is in force unwritten": (
        Change(CHANGES, "back = None if is_new else new", "back = new"),
    ),
    "a phase opens below a later case unwritten": (
        Change(CHANGES, "if new[0] == old[0] and new[1] > old[1]:", "if False:"),
    ),
    "peers that differ say nothing": (
        Change(REPLICA, "and link.digest != self.digest", "and False"),
    ),
    "a flood is read": (Change(REPLICA, "if self.allowance < 1:", "if self.allowance < -1e9:"),),
}


# A failing schedule is not made smaller here: that takes minutes, and nobody reads it.
QUICK: Final = (
    Change(TESTS[-1], "PHASES = tuple(Phase)", "PHASES = (Phase.generate,)"),
    Change(TESTS[-1], "EXAMPLES = 40", "EXAMPLES = 15"),
)


WORLDS: Final = (
    *("anybody votes", "one vote is enough", "signatures are not checked"),
    *("votes under another charter count", "votes of another swarm count"),
    *("the first of two votes counts", "the lower id only wins if it comes first"),
    *("what is unknown is minor", "bounds do not matter", "all votes at once shorten the review"),
    *("a halt takes nothing back", "a halt takes everything back"),
    "the next halt brings back what the last one took",
    *("a halted node releases what has been reviewed", "in force before it is written down"),
    *("an agent deploys in any phase", "closing a phase may open one"),
    *("canaries are promoted whatever they found", "anybody reports on canaries"),
    *("an agent that reports both says nothing", "an author fills the book"),
    *("an author withdraws what has passed", "what was overtaken is in force unwritten"),
    "a phase opens below a later case unwritten",
    *("peers that differ say nothing", "what is void stays until its successor is written"),
    *("what an earlier charter started with stays", "a node looks for ever at what it keeps"),
)
"""Bugs that show themselves in a swarm, without a look into the machine."""
COPIED_FOR_WORLDS: Final = (
    *("swarmllm/__init__.py", "swarmllm/__init__.pyi", "swarmllm/errors.py"),
    *("swarmllm/messages", "swarmllm/wire", "swarmllm/core", "swarmllm/runtime"),
    *("swarmllm/testing/__init__.py", "swarmllm/testing/memory_ledger.py"),
    *("swarmllm/testing/operators.py", "swarmllm/testing/scripted_model.py"),
    *("swarmllm/testing/sealing.py", "swarmllm/testing/world", "sims/swarm.py"),
)


def verdict_of_worlds(bug: Bug, runs: int) -> Verdict:
    """Run governed worlds on a copy with the bug in it, until one breaks a law."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="swarmllm-bug-") as name:
        plant(bug, Path(name), COPIED_FOR_WORLDS)
        command = [sys.executable, "sims/swarm.py", "--governance", "--runs", str(runs)]
        done = run_in(Path(name), [*command, "--failures", "1", "--json"], PYTHONPATH=name)
    if done.returncode not in {0, 1} or not done.stdout:
        sys.exit(f"the worlds did not run:\n{done.stdout}{done.stderr}")
    said = json.loads(done.stdout)
    law = said["findings"][0]["law"] if said["findings"] else ""
    return Verdict(law, time.monotonic() - begun, f"{said['worlds']:3} worlds")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Plant bugs in copies of governance and see whether its tests notice."
    )
    parser.add_argument("--worlds", type=int, help="governed worlds of so many seeds, no tests")
    asked = options(parser, BUGS)
    if asked.worlds is not None:
        bugs = {name: BUGS[name] for name in WORLDS}
        return tell(bugs, asked.only, partial(verdict_of_worlds, runs=asked.worlds), width=90)
    verdict_on = partial(verdict_of_tests, copied=COPIED, tests=TESTS, quick=QUICK)
    return tell(BUGS, asked.only, verdict_on, width=60)


if __name__ == "__main__":
    sys.exit(main())
