"""Checkpoints of a log, as signed notes: the text formats of C2SP (c2sp.org/signed-note,
c2sp.org/tlog-checkpoint and, for witnesses, c2sp.org/tlog-cosignature).

    swarmllm/ledger/12D3KooW...
    42
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — swarmllm/ledger/12D3KooW... Az3grlgtzPICa5OS8npVmf1Myq/5...
    — swarmllm/witness/12D3KooW... jWbPPwAAAABkGFDLEZMHwSRaJNiI...

The log is named after its node, whose peer id is its public key: whoever holds a checkpoint can
check it. The node's key signs other things as well; none of them begins like a note of ours.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from swarmllm.errors import RemoteError
from swarmllm.messages import LOG_SIZE_MAX, PeerId
from swarmllm.wire.ed25519 import is_sound
from swarmllm.wire.envelope import Sign, Verify
from swarmllm.wire.identity import public_key_of

LOG: Final = "swarmllm/ledger/"
WITNESS: Final = "swarmllm/witness/"
_ED25519, _COSIGNATURE = b"\1", b"\4"  # Signature types of signed-note.
_DASH: Final = "\N{EM DASH} "
# A note with so many signature lines is read whole; verifiers must accept 16.
SIGNATURES_MAX: Final = 64
# Bytes: a line has under 200.
COSIGNED_MAX: Final = 512 + SIGNATURES_MAX * 200
AT_MAX: Final = 2**63 - 1  # Seconds, of a cosignature.


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log's root at a size. `text` is what signatures are over."""

    peer: PeerId
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{LOG}{self.peer}\n{self.size}\n{_base64(self.root)}\n"


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint whose log has signed it. `lines` are the other signature lines, unread."""

    checkpoint: Checkpoint
    note: bytes
    """The text and the log's own line alone."""
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A witness saw this checkpoint at the Unix time `at_s`, and nothing of the log that
    contradicts it."""

    witness: PeerId
    at_s: int
    signature: bytes


def sign_checkpoint(checkpoint: Checkpoint, public_key: bytes, sign: Sign) -> bytes:
    """The note, signed by the log's own key."""
    name, text = LOG + checkpoint.peer, checkpoint.text
    line = _line(name, _key_id(name, _ED25519, public_key) + sign(text.encode()))
    return f"{text}\n{line}\n".encode()


def open_checkpoint(data: bytes, verify: Verify, size_max: int) -> SignedCheckpoint:
    """RemoteError if it is longer than `size_max` bytes, is no checkpoint of a log of ours, or is
    not signed by it. One form only: no extension lines, base64 in its one form, the log's line
    first."""
    if len(data) > size_max:
        raise RemoteError(f"checkpoint of {len(data)} bytes exceeds {size_max}")
    lines = _lines_of(data)
    if len(lines) < 5 or lines[3] or not lines[0].startswith(LOG):
        raise RemoteError("checkpoint: not an origin, a size, a root and a signature")
    if len(lines) - 4 > SIGNATURES_MAX:
        raise RemoteError(f"checkpoint with more than {SIGNATURES_MAX} signatures")
    peer = PeerId(lines[0][len(LOG) :])
    public_key = public_key_of(peer)
    size, root = lines[1], _bytes(lines[2], 32, "root")
    if not size.isascii() or not size.isdecimal() or len(size) > 10 or size != str(int(size)):
        raise RemoteError("checkpoint: the size is no decimal number")
    if not 1 <= int(size) <= LOG_SIZE_MAX:
        raise RemoteError(f"checkpoint of {size} entries; 1 to {LOG_SIZE_MAX} are possible")
    checkpoint = Checkpoint(peer, int(size), root)
    name = LOG + peer
    signed = _signature(lines[4], name, 68)
    if signed[:4] != _key_id(name, _ED25519, public_key):
        raise RemoteError("checkpoint: the first signature is not the log's own")
    if not is_sound(public_key, signed[4:]) or not verify(
        public_key, checkpoint.text.encode(), signed[4:]
    ):
        raise RemoteError(f"checkpoint of {peer}: bad signature")
    note = "\n".join(lines[:5]) + "\n"
    return SignedCheckpoint(checkpoint, note.encode(), tuple(lines[5:]))


def cosigned_bytes(checkpoint: Checkpoint, at_s: int) -> bytes:
    """What a witness signs."""
    return f"cosignature/v1\ntime {at_s}\n{checkpoint.text}".encode()


def cosign(checkpoint: Checkpoint, witness: PeerId, at_s: int, sign: Sign) -> Cosignature:
    return Cosignature(witness, at_s, sign(cosigned_bytes(checkpoint, at_s)))


def cosignature_line(cosignature: Cosignature) -> str:
    """The line for the note, without its end."""
    name = WITNESS + cosignature.witness
    key_id = _key_id(name, _COSIGNATURE, public_key_of(cosignature.witness))
    return _line(name, key_id + cosignature.at_s.to_bytes(8, "big") + cosignature.signature)


def is_good(cosignature: Cosignature, checkpoint: Checkpoint, verify: Verify) -> bool:
    public_key = public_key_of(cosignature.witness)
    return (
        0 <= cosignature.at_s <= AT_MAX
        and is_sound(public_key, cosignature.signature)
        and verify(public_key, cosigned_bytes(checkpoint, cosignature.at_s), cosignature.signature)
    )


def open_cosignature(line: str, checkpoint: Checkpoint, verify: Verify) -> Cosignature | None:
    """The cosignature in a signature line; None for a line of another kind of signer, which is no
    fault (signed-note). RemoteError if it has a witness's name and is not good: such a name says
    which key signs, so another key's line was touched."""
    if not line.startswith(_DASH + WITNESS):
        return None
    witness = PeerId(line[len(_DASH + WITNESS) :].partition(" ")[0])
    name = WITNESS + witness
    data = _signature(line, name, 76)
    if data[:4] != _key_id(name, _COSIGNATURE, public_key_of(witness)):
        raise RemoteError(f"cosignature of {witness}: of another key than its name says")
    found = Cosignature(witness, int.from_bytes(data[4:12], "big"), data[12:])
    if not is_good(found, checkpoint, verify):
        raise RemoteError(f"cosignature of {witness}: bad signature")
    return found


def with_lines(note: bytes, lines: Sequence[str]) -> bytes:
    """The note with more signature lines."""
    return note + "".join(line + "\n" for line in lines).encode()


def _lines_of(data: bytes) -> list[str]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise RemoteError("checkpoint: not UTF-8") from None
    if not text.endswith("\n") or any(letter < " " and letter != "\n" for letter in text):
        raise RemoteError("checkpoint: a control character, or no line end at the end")
    return text[:-1].split("\n")


def _line(name: str, data: bytes) -> str:
    return f"{_DASH}{name} {_base64(data)}"


def _signature(line: str, name: str, size: int) -> bytes:
    head = f"{_DASH}{name} "
    if not line.startswith(head):
        raise RemoteError(f"checkpoint: no signature of {name}")
    return _bytes(line[len(head) :], size, "signature")


def _bytes(text: str, size: int, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != size or _base64(data) != text:
        raise RemoteError(f"checkpoint: the {what} is not {size} bytes in base64")
    return data


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _key_id(name: str, kind: bytes, public_key: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + kind + public_key).digest()[:4]
