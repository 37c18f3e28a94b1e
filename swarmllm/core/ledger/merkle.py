"""Merkle tree of an append-only log, after RFC 9162 (Certificate Transparency 2.0), section 2.1:
root, inclusion and consistency proofs, and their verification.

Our own code, and little: pymerkle is under the GPL and pins its dependencies, and what else there
is brings a store of its own. It is held to the published vectors of transparency-dev/merkle
(`tests/core/ledger/test_merkle.py`).

Nodes have coordinates: level 0 are the leaf hashes, and the node (level, index) is the root of the
2**level leaves from index * 2**level on. Complete ones never change; so a log that keeps them (one
more hash for each leaf) makes a proof of a million leaves from forty reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Final

Node = tuple[int, int]
"""(level, index) of a complete node."""
Read = Callable[[int, int], bytes]
"""The hash of a complete node."""

EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    return sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def peaks(size: int) -> list[Node]:
    """The complete nodes that a tree of so many leaves is made of, from left to right."""
    found, begin = [], 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            found.append((level, begin >> level))
            begin += 1 << level
    return found


class Frontier:
    """The right edge of a growing tree: all that is needed to append and to tell the root."""

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """`hashes` are those of `peaks(size)`."""
        assert len(hashes) == len(peaks(size)), f"{len(hashes)} peaks of {size} leaves"
        self.size = size
        self._peaks = list(hashes)

    def append(self, hashed: bytes) -> Iterator[tuple[int, int, bytes]]:
        """One more leaf, by its hash. Yields the nodes that it completes (level, index, hash), the
        leaf first; exhaust it."""
        level, index = 0, self.size
        self.size += 1
        yield level, index, hashed
        while index & 1:
            hashed = node_hash(self._peaks.pop(), hashed)
            level, index = level + 1, index >> 1
            yield level, index, hashed
        self._peaks.append(hashed)

    @property
    def peaks(self) -> tuple[bytes, ...]:
        return tuple(self._peaks)

    @property
    def root(self) -> bytes:
        return _folded(self._peaks)


def root_of(size: int, read: Read) -> bytes:
    """The root of the first `size` leaves."""
    return _folded([read(*node) for node in peaks(size)])


def _folded(hashes: Sequence[bytes]) -> bytes:
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def _subtree(begin: int, end: int, read: Read) -> bytes:
    """The root of the leaves from `begin` to `end`, where `begin` is a multiple of the smallest
    power of two that is not below their number."""
    return _folded([read(level, index + (begin >> level)) for level, index in peaks(end - begin)])


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_proof(index: int, size: int, read: Read) -> list[bytes]:
    """The audit path of leaf `index` among `size` leaves: the sibling of the leaf first."""
    assert 0 <= index < size, f"leaf {index} of {size}"
    begin, end = 0, size
    path: list[bytes] = []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(_subtree(middle, end, read))
            end = middle
        else:
            path.append(_subtree(begin, middle, read))
            begin = middle
    return path[::-1]


def consistency_proof(old: int, new: int, read: Read) -> list[bytes]:
    """That the first `old` of `new` leaves are the same in both trees; empty if the sizes are
    equal."""
    assert 0 < old <= new, f"{old} leaves of {new}"
    begin, end = 0, new
    path: list[bytes] = []
    while old < end:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(_subtree(middle, end, read))
            end = middle
        else:
            path.append(_subtree(begin, middle, read))
            begin = middle
    return [*([_subtree(begin, end, read)] if begin else []), *reversed(path)]


def verify_inclusion(
    index: int, size: int, hashed: bytes, proof: Sequence[bytes], root: bytes
) -> bool:
    """Whether the leaf with this hash is leaf `index` of the tree with this root (RFC 9162, section
    2.1.3.2)."""
    if not 0 <= index < size or not _are_hashes(hashed, root, *proof):
        return False
    at, last, found = index, size - 1, hashed
    for sibling in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node_hash(sibling, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the tree of `new` leaves begins with that of `old` (RFC 9162, section 2.1.4.2). The
    empty tree is refused: everything begins with it, and nothing can be proved of it."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    if not _are_hashes(old_root, new_root, *proof):
        return False
    path = [*([old_root] if old & (old - 1) == 0 else []), *proof]
    if not path:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    found_old = found_new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            found_old, found_new = node_hash(sibling, found_old), node_hash(sibling, found_new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found_new = node_hash(found_new, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and found_old == old_root and found_new == new_root


def _are_hashes(*values: bytes) -> bool:
    return all(len(value) == 32 for value in values)
