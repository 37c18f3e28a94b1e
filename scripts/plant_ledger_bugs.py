"""Do the ledger's tests bite? Each known way to get it wrong is planted in a copy, and the tests
must fail there.

    python scripts/plant_ledger_bugs.py                all bugs, and which test noticed each
    python scripts/plant_ledger_bugs.py --only NAME    one of them

How a bug is planted stands in `planting.py`.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Final

if __package__ in (None, ""):  # As a file: the folder above is meant.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.planting import Bug, Change, options, tell, verdict_of_tests

TESTS: Final = (
    "tests/core/ledger/test_merkle.py",
    "tests/wire/test_checkpoint.py",
    "tests/runtime/test_ledger_performer.py",
    "tests/core/ledger/test_witnesses.py",
    "tests/adapters/test_ledger.py",
)
COPIED: Final = (
    "pyproject.toml",
    "swarmllm",
    "tests/__init__.py",
    "tests/conftest.py",
    "tests/clock.py",
    "tests/contracts",
    "tests/core/__init__.py",
    "tests/core/ledger",
    "tests/adapters/__init__.py",
    "tests/adapters/test_ledger.py",
    "tests/runtime/__init__.py",
    "tests/runtime/test_ledger_performer.py",
    "tests/wire",
)
MERKLE, WITNESS, OWN, AUDIT = (
    f"swarmllm/core/ledger/{name}.py" for name in ("merkle", "witness", "own_log", "audit")
)
SQLITE, WRITER, NOTE = (
    "swarmllm/adapters/ledger.py",
    "swarmllm/runtime/ledger_performer.py",
    "swarmllm/wire/checkpoint.py",
)
BUGS: Final[dict[str, Bug]] = {
    "leaves and nodes are hashed alike": (
        Change(MERKLE, 'sha256(b"\\1" + left', 'sha256(b"\\0" + left'),
    ),
    "a proof may have hashes left over": (
        Change(MERKLE, "return last == 0 and found == root", "return found == root"),
    ),
    "the old root is not compared": (
        Change(
            MERKLE,
            "return last == 0 and found_old == old_root and found_new == new_root",
            "return last == 0 and found_new == new_root",
        ),
    ),
    "a longer log is believed without a proof": (
        Change(
            WITNESS,
            "return self._ask(at.peer, *pair, now)",
            "return self._accept(at.peer, shown) if is_own else self._ask(at.peer, *pair, now)",
        ),
    ),
    "a wrong proof is as good as a right one": (
        Change(
            WITNESS,
            "if not verify_consistency(",
            "if False and not verify_consistency(",
        ),
    ),
    "a shorter log is nothing": (
        Change(WITNESS, "if at.size < held.size and is_own:", "if False:"),
    ),
    "two roots of one size are nothing": (
        Change(WITNESS, "if at.size == held.size and at.root != held.root:", "if False:"),
    ),
    "a proof of a fork is not passed on": (
        Change(WITNESS, "self._neighbours if what == ALARM_FORKED else ()", "()"),
    ),
    "it is cosigned before it is on disk": (
        Change(
            WITNESS,
            "return [*effects, KeepHead(peer, shown.note)]",
            "kept.head, kept.next = shown, None\n"
            "        return [*effects, KeepHead(peer, shown.note), *self._cosign(peer, 0.0)]",
        ),
    ),
    "hearsay makes a witness keep a log": (
        Change(
            WITNESS,
            "return self._accept(at.peer, shown) if is_own else []",
            "return self._accept(at.peer, shown)",
        ),
    ),
    "a log can be worn out by what others show": (
        Change(WITNESS, "if not is_own and not kept.hearsay.take(now):", "if False:"),
    ),
    "who was watched long is forgotten first": (
        Change(WITNESS, "peer = min(gone)[2]", "peer = max(gone)[2]"),
    ),
    "silence is never doubted": (
        Change(WITNESS, "if wrong or kept.unproven >= PROOF_TRIES:", "if wrong:"),
    ),
    "a doubted log is cosigned again": (
        Change(WITNESS, "if at.peer in self.alarms: return []", "pass"),
    ),
    "an owner does not mind an old copy": (Change(OWN, "if at.size > self.size:", "if False:"),),
    "an owner does not ask whether its log grew from what it signed": (
        Change(OWN, "return [] if holds else self._doubted(_REWRITTEN)", "return []"),
    ),
    "a doubtful ledger is signed": (
        Change(OWN, "if self.fault or self._keeping or", "if self._keeping or"),
    ),
    "the end of a log is not missed": (Change(AUDIT, "if self._due:", "if False:"),),
    "the audit trusts the roots": (Change(AUDIT, "if one.root == self.root:", "if True:"),),
    "a group is not one transaction": (
        Change(SQLITE, 'self._connection.execute("BEGIN IMMEDIATE")', "pass"),
        Change(SQLITE, 'self._connection.execute("COMMIT")', "pass"),
    ),
    "what cannot be recorded is said to be": (
        Change(
            WRITER,
            "return Recorded(entry.kind, number, ok=False) if number else None",
            "return Recorded(entry.kind, number, ok=True) if number else None",
        ),
    ),
    "a halt is forgotten on a full disk": (
        Change(
            WRITER,
            "isinstance(one, AppendToLedger) and not one.number",
            "isinstance(one, AppendToLedger) and one.number",
        ),
    ),
    "a spoilt ledger is written upon": (Change(WRITER, "self._is_spoilt = True", "pass"),),
    "any witness's signature is good": (
        Change(
            NOTE,
            "verify(public_key, cosigned_bytes("
            "checkpoint, cosignature.at_s), cosignature.signature)",
            "True",
        ),
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Plant bugs in copies of the ledger and see whether its tests notice."
    )
    asked = options(parser, BUGS)
    verdict_on = partial(verdict_of_tests, copied=COPIED, tests=TESTS)
    return tell(BUGS, asked.only, verdict_on, width=60)


if __name__ == "__main__":
    sys.exit(main())
