"""Laws of the Merkle tree: the published vectors of Certificate Transparency, proofs of every leaf
and every pair of sizes, and no mutant of a proof that passes."""

from __future__ import annotations

import json
import random
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    peaks,
    root_of,
    verify_consistency,
    verify_inclusion,
)

VECTORS = json.loads((Path(__file__).parent / "ct_vectors.json").read_text())
# The leaves and roots of the reference tree of Certificate Transparency (RFC 6962's test tree).
CT_LEAVES = [
    bytes.fromhex(text)
    for text in (
        *("", "00", "10", "2021", "3031", "40414243"),
        *("5051525354555657", "606162636465666768696a6b6c6d6e6f"),
    )
]
CT_ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


class Tree:
    """A log in memory that keeps every complete node."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.frontier = Frontier()
        self.roots = [EMPTY_ROOT]
        for leaf in leaves:
            for level, index, hashed in self.frontier.append(leaf_hash(leaf)):
                self.nodes[level, index] = hashed
            self.roots.append(self.frontier.root)

    def read(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, as it is written there."""
    if len(leaves) <= 1:
        return leaf_hash(leaves[0]) if leaves else sha256(b"").digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(by_definition(leaves[:split]), by_definition(leaves[split:]))


def hashes(values: list[str] | None) -> list[bytes]:
    return [b64decode(value) for value in values or []]


@pytest.mark.parametrize("probe", VECTORS["inclusion"], ids=lambda one: one["name"])
def test_published_inclusion_proofs(probe: dict[str, Any]) -> None:
    found = verify_inclusion(
        probe["leafIdx"],
        probe["treeSize"],
        b64decode(probe["leafHash"] or ""),
        hashes(probe["proof"]),
        b64decode(probe["root"] or ""),
    )
    assert found != probe["wantErr"], probe["desc"]


@pytest.mark.parametrize("probe", VECTORS["consistency"], ids=lambda one: one["name"])
def test_published_consistency_proofs(probe: dict[str, Any]) -> None:
    found = verify_consistency(
        probe["size1"],
        probe["size2"],
        b64decode(probe["root1"] or ""),
        b64decode(probe["root2"] or ""),
        hashes(probe["proof"]),
    )
    # Of the empty tree there is nothing to prove: others accept it, this log never signs it.
    assert found == (not probe["wantErr"] and probe["size1"] > 0), probe["desc"]


def test_there_are_vectors_of_both_kinds_good_and_bad() -> None:
    assert {
        (kind, probe["wantErr"]) for kind in ("inclusion", "consistency") for probe in VECTORS[kind]
    } == {(kind, bad) for kind in ("inclusion", "consistency") for bad in (False, True)}


def test_the_reference_tree_has_the_published_roots() -> None:
    tree = Tree(CT_LEAVES)
    assert {size: root.hex() for size, root in enumerate(tree.roots)} == CT_ROOTS


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_a_frontier_has_the_root_of_the_definition_at_every_size(leaves: list[bytes]) -> None:
    tree = Tree(leaves)
    for size, root in enumerate(tree.roots):
        assert root == by_definition(leaves[:size])
        assert root == root_of(size, tree.read)
        again = Frontier(size, [tree.read(*node) for node in peaks(size)])
        assert again.root == root


def test_every_proof_of_every_size_passes_and_no_mutant_of_one_does() -> None:
    sizes, rng = 34, random.Random(1)
    tree = Tree([bytes([at]) for at in range(sizes)])
    proved = refused = 0
    for size in range(1, sizes + 1):
        for index in range(size):
            proof = inclusion_proof(index, size, tree.read)
            hashed, root = leaf_hash(bytes([index])), tree.roots[size]
            assert verify_inclusion(index, size, hashed, proof, root)
            proved += 1
            for mutant in mutants(proof, rng):
                assert not verify_inclusion(index, size, hashed, mutant, root)
                refused += 1
            assert not verify_inclusion(index, size, leaf_hash(b"other"), proof, root)
            # A leaf has one place, and a proof is of one place.
            assert not any(
                verify_inclusion(other, size, hashed, proof, root)
                for other in range(size)
                if other != index
            )
        for old in range(1, size + 1):
            proof = consistency_proof(old, size, tree.read)
            roots = tree.roots[old], tree.roots[size]
            assert verify_consistency(old, size, *roots, proof)
            proved += 1
            for mutant in mutants(proof, rng):
                assert not verify_consistency(old, size, *roots, mutant)
                refused += 1
            if old < size:
                assert not verify_consistency(old, size, roots[1], roots[0], proof)
                assert not verify_consistency(old, size, roots[0], leaf_hash(b"x"), proof)
                assert not verify_consistency(old, size, leaf_hash(b"x"), roots[1], proof)
    assert proved == 2 * sizes * (sizes + 1) // 2
    assert refused > 8 * proved


def mutants(proof: list[bytes], rng: random.Random) -> list[list[bytes]]:
    """Each of them differs from the proof."""
    found = [[*proof, bytes(32)], [bytes(32), *proof]]
    if not proof:
        return found
    found += [proof[1:], proof[:-1], [*proof, proof[-1]]]
    for at in range(len(proof)):
        flipped = bytearray(proof[at])
        flipped[rng.randrange(32)] ^= 1 << rng.randrange(8)
        found.append([*proof[:at], bytes(flipped), *proof[at + 1 :]])
        found.append([*proof[:at], *proof[at + 1 :]])
        found.append([*proof[:at], proof[at][:31], *proof[at + 1 :]])
    for at in range(len(proof) - 1):
        if proof[at] != proof[at + 1]:
            found.append([*proof[:at], proof[at + 1], proof[at], *proof[at + 2 :]])
    return found


@given(st.integers(1, 2**30), st.data())
def test_a_proof_reads_no_more_than_twice_the_depth_of_complete_nodes(
    size: int, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, size - 1))
    reads: list[tuple[int, int]] = []

    def read(level: int, at: int) -> bytes:
        assert (at + 1) << level <= size, "a node that is not complete"
        reads.append((level, at))
        return bytes(32)

    inclusion_proof(index, size, read)
    consistency_proof(index + 1, size, read)
    assert len(reads) <= 4 * size.bit_length()
