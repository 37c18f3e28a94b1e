"""Do the kill switch's tests bite? Each known way to get it wrong is planted in a copy, and the
tests must fail there.

    python scripts/plant_halt_bugs.py                all bugs, and which test noticed each
    python scripts/plant_halt_bugs.py --machine      only the test that draws random schedules
    python scripts/plant_halt_bugs.py --only NAME    one of them

How a bug is planted stands in `planting.py`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

if __package__ in (None, ""):  # As a file: the folder above is meant.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.planting import Bug, Change, Verdict, options, tell, verdict_of_tests

TESTS: Final = (
    "tests/core/halt/test_charter.py",  # The quick ones first.
    "tests/core/halt/test_state_file.py",
    "tests/core/halt/test_machine.py",
    "tests/core/halt/test_links.py",
    "tests/core/halt/test_waking.py",
    "tests/core/halt/test_gossip.py",
    "tests/core/halt/test_state.py",
    "tests/core/halt/test_schedules.py",
)
MACHINE_TESTS: Final = TESTS[-1:]
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
)
SCHEDULES: Final = "tests/core/halt/test_schedules.py"
SCHEDULES_MAX: Final = 600  # With --machine, where nothing else can notice.


HALT, MACHINE, FILE = (
    "swarmllm/core/halt/state.py",
    "swarmllm/core/halt/machine.py",
    "swarmllm/core/halt/state_file.py",
)
BUGS: Final[dict[str, Bug]] = {
    "one epoch instead of vectors": (
        Change(
            HALT,
            "if halt.seq > self.lifts.get(halt.key, 0))",
            "if halt.seq > max(self.lifts.values(), default=0))",
        ),
    ),
    "no threshold": (
        Change(HALT, "if len(signers) < charter.resume_threshold:", "if not signers:"),
    ),
    "one signer counted twice": (
        Change("swarmllm/messages/bounds.py", "all(one < two for", "all(one <= two for"),
        Change(
            HALT,
            "if len(signers) < charter.resume_threshold:",
            "if len(opened.signatures) < charter.resume_threshold:",
        ),
    ),
    "no persistence": (
        Change(
            MACHINE,
            "return [*self._flag(now, relay), *self._saving.save(self._state),"
            " Announce(HaltHeard(order, peer))]",
            "return [*self._flag(now, relay), Announce(HaltHeard(order, peer))]",
        ),
    ),
    "lift by a stale charter": (
        Change(
            HALT, "if resume.charter_version < charter.version:", "if resume.charter_version < 0:"
        ),
    ),
    "expiry refuses a halt": (
        Change(
            HALT,
            "    if halt.seq <= state.highs.get(halt.key, 0):",
            "    if 0 < charter.expires_ms < halt.issued_ms:\n"
            '        return Rejected("expired", penalise=False)\n'
            "    if halt.seq <= state.highs.get(halt.key, 0):",
        ),
    ),
    "lifts outlive their charter": (
        Change(HALT, "halts=halts, resumes=())", "halts=halts, resumes=state.resumes)"),
    ),
    "the new root quorum alone rotates": (
        Change(
            "swarmllm/core/halt/charter.py",
            "_signature_fault(opened, (current, charter), verify)",
            "_signature_fault(opened, (charter,), verify)",
        ),
    ),
    "a lost state is a new state": (
        Change(
            FILE,
            "Boot(HaltState(swarm, chain, lost=True), 0, remarks)",
            "Boot(HaltState(swarm, chain), 0, remarks)",
        ),
    ),
    # No world notices: the copies differ only after a crash between two writes, of which the node
    # has told nobody yet.
    "the older copy is loaded": (Change(FILE, "best = max(whole, key=", "best = min(whole, key="),),
    "a corrupt copy hides the whole one": (
        Change(
            FILE,
            "for name, data in ((FIRST_COPY, first), (SECOND_COPY, second))]",
            "for name, data in ((FIRST_COPY, first),)]",
        ),
    ),
    "starts before the resume is on disk": (
        Change(
            MACHINE,
            "if self.durable is not None and self.durable.reasons:",
            "if self.durable is None:",
        ),
        Change(
            MACHINE, "if not self.serves and self._saving.is_behind:", "if self.durable is None:"
        ),
    ),
    "a resume overtakes the halt on its way to the disk": (
        Change(
            MACHINE, "if not self.serves and self._saving.is_behind:", "if self.durable is None:"
        ),
    ),
    "acknowledges before it is on disk": (
        Change(
            MACHINE,
            "if not link.ack_due or self.durable is None or self.durable.digest != self.digest:",
            "if not link.ack_due:",
        ),
    ),
    "the budget drops halts": (
        Change(MACHINE, "if not within and not is_urgent(self._state, data):", "if not within:"),
    ),
    "many peers may together ask for anything": (
        Change(
            "swarmllm/core/halt/link.py",
            "rate = min(FRAMES_PER_S, NODE_FRAMES_PER_S / links)",
            "rate = FRAMES_PER_S",
        ),
    ),
    "halts beyond the budget are taken for noise": (
        Change("swarmllm/core/halt/link.py", "return frame[1:2] == _RECORDS_CODE", "return False"),
    ),
    "serves without asking its peers": (
        Change(
            "swarmllm/core/halt/link.py",
            "self.done = self.done or alone",
            "self.done = True or alone",
        ),
    ),
    "gossip trusts that the streams were enough": (
        Change(
            MACHINE,
            "all_have_it = connected <= len(self._links) == len(self.acknowledged)",
            "all_have_it = True",
        ),
    ),
    "gossip forgets peers without a halt stream": (
        Change(
            MACHINE,
            "all_have_it = connected <= len(self._links) ==",
            "all_have_it = len(self._links) ==",
        ),
    ),
    "who wakes goes on at once": (
        Change(
            MACHINE,
            "self._waking = Sync(started_at=now)",
            "self._waking = Sync(started_at=now, done=True)",
        ),
    ),
    "who wakes believes what was said before": (
        Change(MACHINE, "link.digest = None  # What it said before is old.", "pass"),
    ),
    "who wakes and is halted waits": (
        Change(
            MACHINE, "not self._waking.done and not self.halted and", "not self._waking.done and"
        ),
    ),
    "the digest forgets lifts": (
        Change(
            HALT,
            "sha256(_DIGEST_DOMAIN + encode(vectors)).digest()[:8]",
            "sha256(_DIGEST_DOMAIN + encode(replace(vectors, lifts=()))).digest()[:8]",
        ),
    ),
}


def verdict_on(bug: Bug, tests: tuple[str, ...] = TESTS) -> Verdict:
    """Run the tests on a copy with the bug in it. An empty bug must pass."""
    # A failing schedule is not made smaller here: that takes minutes, and nobody reads it.
    quick = [Change(SCHEDULES, "PHASES = tuple(Phase)", "PHASES = (Phase.generate,)")]
    if tests == MACHINE_TESTS:
        quick.append(Change(SCHEDULES, "EXAMPLES = 60", f"EXAMPLES = {SCHEDULES_MAX}"))
    return verdict_of_tests(bug, COPIED, tests, tuple(quick))


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Plant bugs in copies of the kill switch and see whether its tests notice."
    )
    parser.add_argument(
        "--machine", action="store_true", help="run only the test that draws random schedules"
    )
    asked = options(parser, BUGS)
    tests = MACHINE_TESTS if asked.machine else TESTS
    return tell(BUGS, asked.only, lambda bug: verdict_on(bug, tests), width=60)


if __name__ == "__main__":
    sys.exit(main())
