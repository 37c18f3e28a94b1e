"""The node's Ed25519 identity in a file that only its owner can read, made whole or not at all.

PKCS#8 in PEM, the form that `openssl pkey -in identity.pem` also reads. A key is the one thing of a
node that cannot be made again: its peer id, and with it every reputation it earned. So a file that
is there but unfit is never replaced, only named, with its mode and what to do; and a new one is
flushed to the disk before it gets its name, so that a power cut leaves none or a whole one.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from swarmllm.errors import LocalError
from swarmllm.messages import PeerId
from swarmllm.wire.identity import peer_id_of

# An Ed25519 key in PEM has 119 bytes, an RSA key of 4,096 bits 3,272: enough to name the wrong
# type.
KEY_BYTES_MAX: Final = 4096


class KeyFile:
    """`runtime.ports.Keyring` over one private key. `seed` (32 bytes) is for the Noise handshake,
    which needs the key itself."""

    __slots__ = ("_key", "_peer", "_public_key")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._public_key = key.public_key().public_bytes_raw()
        self._peer = peer_id_of(self._public_key)

    @property
    def peer(self) -> PeerId:
        return self._peer

    @property
    def public_key(self) -> bytes:
        return self._public_key

    @property
    def seed(self) -> bytes:
        return self._key.private_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """False for anything but a good signature, also for keys and signatures of the wrong
        length. Never raises."""
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        except (InvalidSignature, ValueError, TypeError):
            return False
        return True

    def __repr__(self) -> str:
        return f"KeyFile({self._peer})"  # Never the key: this may end up in a log.


def ephemeral_key() -> KeyFile:
    """An identity for one run, kept nowhere."""
    return KeyFile(Ed25519PrivateKey.generate())


def load_or_create_key(path: Path) -> KeyFile:
    """The identity in `path`, made now if there is none. The folder must exist, and be held by us
    (`datadir.locked`).

    LocalError, naming the path, its mode and the remedy, for a file that is not a private Ed25519
    key of ours alone.
    """
    try:
        return KeyFile(_parse(path, _read(path)))
    except FileNotFoundError:
        pass
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(path, pem)
    return KeyFile(key)


def _read(path: Path) -> bytes:
    """The file's bytes, judged by the open file itself so that nothing can be swapped in between.
    Raises FileNotFoundError."""
    try:
        # Non-blocking, or a named pipe in its place would make us wait for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        if path.is_symlink():
            raise LocalError(
                f"the key {path} is a link to a file that does not exist;"
                " restore that file or remove the link"
            ) from None
        raise
    except OSError as error:
        remedy = (
            f"run: chmod 600 {path}"
            if isinstance(error, PermissionError)
            else "check its path and the disk, or restore the file"
        )
        raise LocalError(
            f"cannot read the key {path} ({error.strerror}{_mode_of(path)}); {remedy}"
        ) from error
    try:
        status = os.fstat(fd)
        mode = stat.S_IMODE(status.st_mode)
        if not stat.S_ISREG(status.st_mode):
            raise LocalError(
                f"the key {path} is not a regular file; move it away, and a new key will be made"
            )
        if mode & 0o077:
            raise LocalError(
                f"the key {path} can be read or changed by other users (mode {mode:03o}); run:"
                f" chmod 600 {path}"
            )
        # Root reads it all the same; other users would not, so it is refused for everybody.
        if not mode & 0o400:
            raise LocalError(
                f"the key {path} is not readable by its owner (mode {mode:03o}); run:"
                f" chmod 600 {path}"
            )
        if status.st_uid != os.geteuid():
            raise LocalError(
                f"the key {path} (mode {mode:03o}) belongs to user {status.st_uid},"
                f" not to user {os.geteuid()} who runs this node; run: chown {os.geteuid()} {path}"
            )
        return os.read(fd, KEY_BYTES_MAX + 1)
    except OSError as error:
        raise LocalError(
            f"cannot read the key {path} ({error.strerror}); check the disk,"
            " or restore the file from a copy"
        ) from error
    finally:
        os.close(fd)


def _mode_of(path: Path) -> str:
    try:
        return f", mode {stat.S_IMODE(path.stat().st_mode):03o}"
    except OSError:
        return ""


def _parse(path: Path, data: bytes) -> Ed25519PrivateKey:
    remedy = "restore it from a copy, or move it away and a new identity will be made"
    if not data:
        raise LocalError(f"the key {path} is empty; {remedy}")
    if len(data) > KEY_BYTES_MAX:
        raise LocalError(
            f"the key {path} is larger than {KEY_BYTES_MAX} bytes, which no key is; {remedy}"
        )
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError as error:
        raise LocalError(
            f"the key {path} is encrypted with a passphrase, which a node cannot type;"
            " store it without one"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise LocalError(
            f"the key {path} (mode 600) is truncated or not a private key in PEM; {remedy}"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        kind = type(key).__name__.removeprefix("_").removesuffix("PrivateKey")
        raise LocalError(f"the key {path} is of type {kind}, and a node needs Ed25519; {remedy}")
    return key


def _write(path: Path, pem: bytes) -> None:
    """Write, flush, name, flush the name: what exists under `path` is always whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            # Whatever the umask, and whatever a leftover of the same name had.
            os.fchmod(fd, 0o600)
            with open(fd, "wb", closefd=False) as file:
                file.write(pem)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(partial, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        partial.unlink(missing_ok=True)
        reason = (
            "the disk is full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else error.strerror
        )
        raise LocalError(
            f"cannot write the new key {path} ({reason});"
            " free some space or choose another folder with --data-dir"
        ) from error
