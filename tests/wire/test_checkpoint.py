"""Checkpoints and cosignatures have one form, that of C2SP, and no other bytes pass for one. Cites
protocols/ledger.md (LED)."""

from __future__ import annotations

import base64
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.errors import RemoteError
from swarmllm.messages import LOG_SIZE_MAX, NOTE_MAX
from swarmllm.testing.operators import Operator, verify
from swarmllm.wire import checkpoint as made
from swarmllm.wire.checkpoint import (
    SIGNATURES_MAX,
    Checkpoint,
    Cosignature,
    cosign,
    cosignature_line,
    is_good,
    open_checkpoint,
    open_cosignature,
    sign_checkpoint,
    with_lines,
)
from swarmllm.wire.identity import peer_id_of

LOG, WITNESS = Operator("log"), Operator("witness")
PEER, WITNESS_PEER = peer_id_of(LOG.public_key), peer_id_of(WITNESS.public_key)
AT = Checkpoint(PEER, 7, sha256(b"root").digest())
NOTE = sign_checkpoint(AT, LOG.public_key, LOG.sign)
LINE = cosignature_line(cosign(AT, WITNESS_PEER, 1_790_000_000, WITNESS.sign))

# The example of c2sp.org/signed-note.
VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = (
    "This is an example message.\n",
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=",
)


def test_key_ids_and_signatures_are_those_of_the_published_example() -> None:  # LED-7
    name, key_id, key = VKEY.split("+")
    data = base64.b64decode(key)
    text, line = EXAMPLE
    signature = base64.b64decode(line)
    assert made._key_id(name, data[:1], data[1:]).hex() == key_id == signature[:4].hex()
    assert verify(data[1:], text.encode(), signature[4:])


@given(st.integers(1, LOG_SIZE_MAX), st.binary(min_size=32, max_size=32))
def test_what_was_signed_is_read_again(size: int, root: bytes) -> None:  # LED-6
    at = Checkpoint(PEER, size, root)
    note = sign_checkpoint(at, LOG.public_key, LOG.sign)
    assert len(note) <= NOTE_MAX
    found = open_checkpoint(note, verify, NOTE_MAX)
    assert (found.checkpoint, found.note, found.lines) == (at, note, ())
    origin, shown, *_ = note.decode().split("\n")
    assert (origin, shown) == (f"swarmllm/ledger/{PEER}", str(size))


@given(st.data())
def test_no_change_of_any_byte_passes(data: st.DataObject) -> None:  # LED-7
    at = data.draw(st.integers(0, len(NOTE) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda value: value != NOTE[at]))
    changed = NOTE[:at] + bytes([other]) + NOTE[at + 1 :]
    with pytest.raises(RemoteError):
        open_checkpoint(changed, verify, NOTE_MAX)


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(RemoteError):
        open_checkpoint(data, verify, NOTE_MAX)
    with pytest.raises(RemoteError):
        open_checkpoint(NOTE[:-1] + data[:10] + b"x", verify, NOTE_MAX)


def test_what_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(RemoteError, match="exceeds"):
        open_checkpoint(NOTE * 3, verify, NOTE_MAX)
    many = with_lines(NOTE, ["— somebody AAAA"] * SIGNATURES_MAX)
    with pytest.raises(RemoteError, match="more than"):
        open_checkpoint(many, verify, len(many))


def test_a_cosignature_is_read_again_and_says_who_and_when() -> None:  # LED-8
    signed = open_checkpoint(with_lines(NOTE, [LINE]), verify, 2 * NOTE_MAX)
    assert signed.lines == (LINE,)
    found = open_cosignature(LINE, AT, verify)
    assert found is not None
    assert (found.witness, found.at_s) == (WITNESS_PEER, 1_790_000_000)
    assert LINE.startswith(f"— swarmllm/witness/{WITNESS_PEER} ")


def test_a_cosignature_is_good_for_its_checkpoint_its_time_and_its_witness_alone() -> None:
    good = cosign(AT, WITNESS_PEER, 5, WITNESS.sign)
    assert is_good(good, AT, verify)
    assert not is_good(good, replace(AT, size=8), verify)
    assert not is_good(replace(good, at_s=6), AT, verify)
    assert not is_good(replace(good, witness=PEER), AT, verify)
    with pytest.raises(RemoteError, match="bad signature"):
        open_cosignature(cosignature_line(replace(good, at_s=6)), AT, verify)


def test_lines_of_others_are_ignored_as_signed_note_says() -> None:  # LED-7
    assert open_cosignature("— somebody.example AAAA", AT, verify) is None


def test_a_witness_name_says_its_key_so_another_key_is_a_fault() -> None:  # LED-8
    other = cosignature_line(cosign(AT, WITNESS_PEER, 5, WITNESS.sign))
    head, _, data = other.rpartition(" ")
    changed = bytearray(base64.b64decode(data))
    changed[0] ^= 1
    with pytest.raises(RemoteError, match="another key than its name says"):
        open_cosignature(f"{head} {base64.b64encode(changed).decode()}", AT, verify)
    with pytest.raises(RemoteError, match="another key than its name says"):
        open_cosignature(other.replace(WITNESS_PEER, PEER), AT, verify)


def test_a_signature_of_a_log_is_none_of_a_witness_and_the_reverse() -> None:  # LED-9
    assert not is_good(Cosignature(PEER, 5, LOG.sign(AT.text.encode())), AT, verify)
    name = f"swarmllm/ledger/{PEER}"
    key_id = made._key_id(name, b"\1", LOG.public_key)
    assert made._line(name, key_id + LOG.sign(AT.text.encode())) in NOTE.decode()
    line = made._line(name, key_id + LOG.sign(made.cosigned_bytes(AT, 5)))
    with pytest.raises(RemoteError, match="bad signature"):
        open_checkpoint(f"{AT.text}\n{line}\n".encode(), verify, NOTE_MAX)
