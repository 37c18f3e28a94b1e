"""An identity is made once, whole and private; anything unfit in its place is named and never
replaced."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.keyfile import KeyFile, ephemeral_key, load_or_create_key
from swarmllm.errors import LocalError
from swarmllm.runtime.ports import Keyring
from swarmllm.wire.identity import peer_id_of, public_key_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "identity.pem"


def _pem(
    key: Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    password: bytes | None = None,
) -> bytes:
    lock = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)


def _put(path: Path, data: bytes, mode: int = 0o600) -> None:
    path.write_bytes(data)
    path.chmod(mode)


def test_the_same_file_is_the_same_peer(path: Path) -> None:
    first, second = load_or_create_key(path), load_or_create_key(path)
    assert first.peer == second.peer == peer_id_of(first.public_key)
    assert public_key_of(first.peer) == first.public_key
    assert first.seed == second.seed
    assert (
        Ed25519PrivateKey.from_private_bytes(first.seed).public_key().public_bytes_raw()
        == first.public_key
    )


def test_a_new_file_is_private_whatever_the_umask_and_leaves_nothing_beside_it(path: Path) -> None:
    before = os.umask(0)
    try:
        load_or_create_key(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name]


def test_a_new_key_is_flushed_before_it_is_named_and_its_name_after(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def recording_fsync(fd: int) -> None:
        steps.append(
            "flush folder"
            if stat.S_ISDIR(os.fstat(fd).st_mode)
            else f"flush {os.fstat(fd).st_size > 0}"
        )
        fsync(fd)

    def recording_replace(source: Path, target: Path) -> None:
        steps.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "replace", recording_replace)
    load_or_create_key(path)
    assert steps == ["flush True", "name", "flush folder"]


def test_a_failed_write_leaves_no_key_and_no_leftover(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LocalError, match="disk is full"):
        load_or_create_key(path)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601, 0o777])
def test_a_key_that_others_can_reach_is_refused_with_its_mode_and_the_remedy(
    path: Path, mode: int
) -> None:
    load_or_create_key(path)
    path.chmod(mode)
    with pytest.raises(LocalError) as caught:
        load_or_create_key(path)
    for part in (str(path), f"mode {mode:03o}", f"chmod 600 {path}"):
        assert part in str(caught.value)
    path.chmod(0o600)
    load_or_create_key(path)


def test_an_unreadable_key_is_refused_with_the_remedy(path: Path) -> None:
    load_or_create_key(path)
    path.chmod(0)
    with pytest.raises(LocalError) as caught:
        load_or_create_key(path)
    for part in (str(path), "mode 000", f"chmod 600 {path}"):
        assert part in str(caught.value)


def test_a_key_that_may_only_be_read_is_fine(path: Path) -> None:
    peer = load_or_create_key(path).peer
    path.chmod(0o400)
    assert load_or_create_key(path).peer == peer


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_key_is_refused(path: Path) -> None:
    load_or_create_key(path)
    os.chown(path, 12_345, -1)
    with pytest.raises(LocalError, match="belongs to user 12345"):
        load_or_create_key(path)


_WRONG: dict[str, Callable[[], bytes]] = {
    "is empty": lambda: b"",
    "truncated": lambda: _pem(Ed25519PrivateKey.generate())[:60],
    "truncated or not": lambda: os.urandom(200),
    "of type RSA": lambda: _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    "needs Ed25519": lambda: _pem(ec.generate_private_key(ec.SECP256R1())),
    "passphrase": lambda: _pem(Ed25519PrivateKey.generate(), b"secret"),
    "larger than": lambda: b"-" * 10_000,
}


@pytest.mark.parametrize("says", _WRONG)
def test_a_wrong_file_is_named_and_left_as_it_is(path: Path, says: str) -> None:
    data = _WRONG[says]()
    _put(path, data)
    with pytest.raises(LocalError) as caught:
        load_or_create_key(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == data


@given(st.data())
def test_no_damage_to_a_key_file_is_more_than_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    pem = bytearray(_pem(Ed25519PrivateKey.from_private_bytes(bytes(range(32)))))
    for position in data.draw(st.lists(st.integers(0, len(pem) - 1), min_size=1, max_size=5)):
        pem[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pem"
    _put(path, bytes(pem))
    try:
        # The damage missed, or made another key of the same form.
        said = load_or_create_key(path).peer[:8]
    except LocalError as error:
        said = str(error)
    assert said == "12D3KooW" or str(path) in said


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_not_a_file_is_refused_without_waiting(
    path: Path, make: Callable[[Path], None]
) -> None:
    make(path)
    path.chmod(0o600)
    with pytest.raises(LocalError, match="not a regular file"):
        load_or_create_key(path)


def test_a_dangling_link_is_not_filled_with_a_new_key(path: Path) -> None:
    path.symlink_to(path.parent / "absent.pem")
    with pytest.raises(LocalError, match="link"):
        load_or_create_key(path)


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="cannot write the new key"):
        load_or_create_key(tmp_path / "absent" / "identity.pem")


@given(st.binary(max_size=200), st.binary(max_size=80), st.binary(max_size=40))
def test_only_a_good_signature_verifies_and_nothing_raises(
    message: bytes, signature: bytes, public_key: bytes
) -> None:
    key: Keyring = ephemeral_key()
    good = key.sign(message)
    assert key.verify(key.public_key, message, good)
    assert not key.verify(key.public_key, message + b"x", good)
    assert not key.verify(ephemeral_key().public_key, message, good)
    assert not key.verify(key.public_key, message, signature)
    assert key.verify(public_key, message, good) == (public_key == key.public_key)


def test_a_key_never_shows_in_its_repr() -> None:
    key = KeyFile(Ed25519PrivateKey.generate())
    assert key.seed.hex() not in repr(key)
    assert repr(key.seed) not in repr(key)
    assert key.peer in repr(key)
