"""The vectors of protocols/ledger.md, valid and invalid, are what this code makes and takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarmllm.adapters.ledger_files import check_proof, read_proof
from swarmllm.core.ledger.audit import Audit, read_leaf
from swarmllm.core.ledger.merkle import leaf_hash, verify_consistency, verify_inclusion
from swarmllm.errors import RemoteError
from swarmllm.messages import LedgerAlarm
from swarmllm.testing.operators import verify
from swarmllm.wire.checkpoint import COSIGNED_MAX, open_checkpoint, open_cosignature
from swarmllm.wire.signed import good_signers, open_signed
from tests import ROOT

VECTORS = json.loads((ROOT / "protocols/vectors/ledger.json").read_text(encoding="utf-8"))


def data(texts: list[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


def test_leaves_and_their_hashes() -> None:  # LED-1, LED-3
    for one in VECTORS["leaves"]:
        leaf = bytes.fromhex(one["leaf"])
        assert read_leaf(leaf).kind == one["kind"]
        assert leaf_hash(leaf).hex() == one["hash"]


@pytest.mark.parametrize("good", [True, False])
def test_inclusion_proofs(good: bool) -> None:  # LED-3
    for one in VECTORS["inclusion" if good else "inclusion_invalid"]:
        leaf, root = bytes.fromhex(one["leaf_hash"]), bytes.fromhex(one["root"])
        found = verify_inclusion(one["index"], one["size"], leaf, data(one["proof"]), root)
        assert found is good, one


@pytest.mark.parametrize("good", [True, False])
def test_consistency_proofs(good: bool) -> None:  # LED-3
    for one in VECTORS["consistency" if good else "consistency_invalid"]:
        roots = bytes.fromhex(one["old_root"]), bytes.fromhex(one["new_root"])
        found = verify_consistency(one["old"], one["new"], *roots, data(one["proof"]))
        assert found is good, one


def test_the_checkpoint_is_valid_and_stands_for_the_leaves() -> None:  # LED-6, LED-8
    one = VECTORS["checkpoint"]
    signed = open_checkpoint(one["cosigned"].encode(), verify, COSIGNED_MAX)
    assert (signed.checkpoint.size, signed.checkpoint.root.hex()) == (one["size"], one["root"])
    assert (signed.checkpoint.peer, signed.note.decode()) == (one["peer"], one["note"])
    [line] = signed.lines
    found = open_cosignature(line, signed.checkpoint, verify)
    assert found is not None
    assert (found.witness, found.at_s) == (one["witness"], one["cosigned_at_s"])
    audit = Audit([signed.checkpoint])
    for leaf in VECTORS["leaves"]:
        audit.leaf(bytes.fromhex(leaf["leaf"]))
    assert (audit.faults(), audit.vouched) == ((), one["size"])


@pytest.mark.parametrize("one", VECTORS["checkpoint"]["invalid"], ids=lambda one: one["why"])
def test_checkpoints_that_are_none(one: dict[str, str]) -> None:  # LED-6, LED-7
    with pytest.raises(RemoteError):
        open_checkpoint(one["note"].encode(), verify, COSIGNED_MAX)


def test_the_alarm_is_signed_by_its_witness() -> None:  # LED-16
    one = VECTORS["alarm"]
    opened = open_signed(bytes.fromhex(one["record"]), (LedgerAlarm,))
    signer = bytes.fromhex(one["signer"])
    assert good_signers(opened, frozenset({signer}), verify) == {signer}
    assert opened.record.what == one["what"]


def test_the_proof_of_an_entry_says_all_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "entry.tlog-proof"
    path.write_text(VECTORS["tlog_proof"], encoding="utf-8")
    proof = read_proof(path)
    assert check_proof(proof, verify).checkpoint.peer == VECTORS["checkpoint"]["peer"]
    assert proof.leaf.hex() == VECTORS["leaves"][proof.number]["leaf"]
