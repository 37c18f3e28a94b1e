"""An operator's Ed25519 key in a file of its own, sealed with a passphrase: one person, one key,
one file.

The private key is sealed by scrypt and AES-256-GCM rather than by PKCS#8's encryption, for two
reasons. OpenSSL seals PKCS#8 with 2,048 rounds of PBKDF2, under a millisecond; scrypt with N =
2^17, r = 8, p = 1 (OWASP's first choice) takes 128 MiB and the better part of a second for every
guess. And CBC, which PKCS#8 uses, cannot tell a damaged file from a wrong passphrase: it may yield
another key. Here a checksum tells damage, and the tag of GCM, which covers the readable lines too,
tells the wrong passphrase. The cost is fixed by the format, so that no file can ask for all of the
memory.

The public half stands readable in the file, and alone in a `.pub` file beside it, which is what
people send to whoever writes a charter.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import unicodedata
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from swarmllm.adapters.atomic_file import (
    read_bounded,
    read_open,
    refuse_existing,
    refuse_shared,
    write_new,
)
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.user_path import user_path
from swarmllm.wire.envelope import Sign
from swarmllm.wire.signed import key_id

SCRYPT_COST: Final = 2**17
PASSPHRASE_CHARS_MIN: Final = 8  # Fewer are guessed in hours, scrypt or not.
PASSPHRASE_CHARS_MAX: Final = 1_024
KEY_FILE_BYTES_MAX: Final = 2_048  # One has about 500 bytes.

_BEGIN: Final = "-----BEGIN SWARMLLM OPERATOR KEY-----"
_END: Final = "-----END SWARMLLM OPERATOR KEY-----"
_SEALED_WITH: Final = "scrypt-131072-8-1 aes-256-gcm"
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_SEALED_BYTES: Final = _SALT_BYTES + _NONCE_BYTES + 32 + 16  # The key and the tag.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_PUBLIC_KIND: Final = "swarmllm-ed25519"
_WHAT: Final = "the key file"


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """A key file as it reads without its passphrase. `path` is where it was found."""

    name: str
    public_key: bytes
    sealed: bytes
    path: Path

    @property
    def id(self) -> bytes:
        return key_id(self.public_key)

    def unseal(self, passphrase: str) -> Sign:
        """What signs with this key; takes about a second. LocalError if the passphrase is not the
        one that it was sealed with."""
        salt, nonce, box = (
            self.sealed[:_SALT_BYTES],
            self.sealed[_SALT_BYTES:][:_NONCE_BYTES],
            self.sealed[28:],
        )
        head = _head(self.name, self.public_key).encode()
        try:
            seed = AESGCM(_stretched(passphrase, salt)).decrypt(nonce, box, head)
        except InvalidTag:
            raise LocalError(
                f"the passphrase does not open the key {self.path}; type it again,"
                " or look for the right one"
            ) from None
        key = Ed25519PrivateKey.from_private_bytes(seed)
        if key.public_key().public_bytes_raw() != self.public_key:
            raise LocalError(
                f"the key file {self.path} holds another key than it says; restore it from a copy"
            )
        return key.sign


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """False for anything but a good signature. Never raises."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def check_passphrase(passphrase: str) -> str:
    """The same passphrase, in the one form that every keyboard and system gives it. UsageError if
    it is too short or too long."""
    form = unicodedata.normalize("NFC", passphrase)
    if not PASSPHRASE_CHARS_MIN <= len(form) <= PASSPHRASE_CHARS_MAX:
        raise UsageError(
            f"a passphrase has {PASSPHRASE_CHARS_MIN} to {PASSPHRASE_CHARS_MAX} characters,"
            f" not {len(form)}; four words that you do not find in a row anywhere are a good one"
        )
    return form


def pub_path(path: Path) -> Path:
    """Where the public half of a key file lies."""
    return path.with_suffix(".pub")


def refuse_taken(path: Path, name: str) -> None:
    """LocalError or UsageError if no key of this name can be made there: asked before anybody types
    a passphrase."""
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name[:64]!r} is no name for a key: use up to 32 letters, digits, dots, - and _,"
            " such as alice"
        )
    if path.suffix == ".pub":
        raise UsageError(
            f"{path} ends in .pub, which is for the public half; choose another --out,"
            f" such as {name}.key"
        )
    refuse_existing(path, _WHAT)
    refuse_existing(pub_path(path), "the public key")


def new_key(path: Path, name: str, passphrase: str) -> OperatorKey:
    """Make a key, and the files `path` (mode 600) and `pub_path(path)`. Never overwrites.
    LocalError if they cannot be written."""
    refuse_taken(path, name)
    form = check_passphrase(passphrase)
    key = Ed25519PrivateKey.generate()
    public_key = key.public_key().public_bytes_raw()
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    box = AESGCM(_stretched(form, salt)).encrypt(
        nonce, key.private_bytes_raw(), _head(name, public_key).encode()
    )
    made = OperatorKey(name, public_key, salt + nonce + box, path)
    write_new(path, _render(made).encode(), _WHAT, 0o600)
    write_new(
        pub_path(path),
        f"{_PUBLIC_KIND} {public_key.hex()} {made.id.hex()} {name}\n".encode(),
        "the public key",
    )
    return made


def read_key(path: Path) -> OperatorKey:
    """The key file in `path`, judged by the open file itself. LocalError, with the remedy, for
    anything but a whole one of ours alone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        if path.is_symlink():
            raise LocalError(
                f"the key file {path} is a link, which could be turned to another file;"
                " give the file itself"
            ) from error
        raise LocalError(
            f"cannot read the key file {path} ({error.strerror}); check its path and permissions"
        ) from error
    try:
        data = read_open(fd, path, KEY_FILE_BYTES_MAX, _WHAT)
        refuse_shared(fd, path, _WHAT)
    finally:
        os.close(fd)
    return _parse(data, path)


def keys_in(folder: Path, most: int) -> tuple[list[OperatorKey], list[str]]:
    """The keys of the first so many key files of a folder, in the order of their names, and a
    sentence for each that cannot be used. Nothing where there is no such folder."""
    keys, faults = list[OperatorKey](), list[str]()
    for path in sorted(folder.glob("*.key"))[:most]:
        try:
            keys.append(read_key(path))
        except LocalError as fault:
            faults.append(str(fault))
    return keys, faults


def read_public(word: str) -> bytes:
    """A public key (32 bytes) from what people give for one: 64 hex digits, a `.pub` file, or a key
    file.

    UsageError for a word that is neither; LocalError for a file that holds none.
    """
    if re.fullmatch(r"[0-9a-fA-F]{64}", word):
        return bytes.fromhex(word)
    path = user_path(word)
    if not os.path.lexists(path):
        raise UsageError(
            f"{word[:100]!r} is neither a public key (64 hex digits) nor a file that is there;"
            " give one of these"
        )
    data = read_bounded(path, KEY_FILE_BYTES_MAX, "the public key")
    if data.startswith(_BEGIN.encode()):
        return read_key(path).public_key
    found = re.fullmatch(
        rf"{_PUBLIC_KIND} ([0-9a-f]{{64}}) ([0-9a-f]{{32}})(?: ({_NAME.pattern}))?\r?\n?",
        data.decode("ascii", "replace"),
    )
    if found is None or key_id(bytes.fromhex(found[1])).hex() != found[2]:
        raise LocalError(
            f"{path} is neither the public half of an operator's key nor a key file;"
            " ask its owner for the .pub file"
        )
    return bytes.fromhex(found[1])


def _stretched(passphrase: str, salt: bytes) -> bytes:
    form = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogateescape")
    return Scrypt(salt=salt, length=32, n=SCRYPT_COST, r=8, p=1).derive(form)


def _head(name: str, public_key: bytes) -> str:
    return (
        f"Name: {name}\n"
        f"Public-Key: {public_key.hex()}\n"
        f"Key-Id: {key_id(public_key).hex()}\n"
        f"Sealed-With: {_SEALED_WITH}\n"
    )


def _render(key: OperatorKey) -> str:
    head = _head(key.name, key.public_key)
    check = sha256(head.encode() + key.sealed).hexdigest()[:16]
    text = base64.b64encode(key.sealed).decode()
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"{_BEGIN}\n{head}Check: {check}\n\n{lines}\n{_END}\n"


def _parse(data: bytes, path: Path) -> OperatorKey:
    """The one key whose rendering these bytes are: so not one byte of it can differ."""
    text = data.decode("ascii", "replace")
    if not text.startswith(_BEGIN):
        raise LocalError(
            f"{path} is no operator's key file; give the file that `swarmllm keys new` made"
        )
    damaged = LocalError(f"the key file {path} is truncated or damaged; restore it from a copy")
    head, _, body = text.partition("\n\n")
    values = dict(line.partition(": ")[::2] for line in head.split("\n")[1:])
    if values.get("Sealed-With", _SEALED_WITH) != _SEALED_WITH:
        raise LocalError(
            f"the key file {path} was sealed by another version of swarmllm; open it with that one"
        )
    name = values.get("Name", "")
    try:
        public_key = bytes.fromhex(values.get("Public-Key", ""))
        sealed = base64.b64decode(body.partition("\n-----")[0].replace("\n", ""), validate=True)
    except (ValueError, binascii.Error):
        raise damaged from None
    found = OperatorKey(name, public_key, sealed, path)
    if (
        _NAME.fullmatch(name) is None
        or len(public_key) != 32
        or len(sealed) != _SEALED_BYTES
        or _render(found) != text
    ):
        raise damaged
    return found
