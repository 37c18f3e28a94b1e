"""Redaction: what a bug report must not tell is taken out of text before it is written.

Whoever is named by an address or a peer id is told apart from others, and is nobody: each becomes a
hash with a salt that is made for one report and kept nowhere. Addresses are few enough to be tried
one by one, so without the salt a hash would hide none.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import Any, Final

HASH_CHARS: Final = 8
_BASE58: Final = "[1-9A-HJ-NP-Za-km-z]"
_SECRETS: Final = (
    re.compile(r"-----BEGIN [^-]+-----.*?(?:-----END [^-]+-----|$)", re.DOTALL),
    re.compile(r"(?i)(?<=bearer )\S+"),
    re.compile(r"(?<=sha256:)[0-9a-f]{64}"),
    re.compile(r"\bsk-[\w-]+"),
    re.compile(r"(?<=swarmllm:)[\w-]{16,}"),  # An invite, which may let its bearer in.
)
_PEER: Final = re.compile(rf"12D3KooW{_BASE58}+|\bQm{_BASE58}{{44}}\b")
_DNS: Final = re.compile(
    r"(?:(?<=/dns/)|(?<=/dns[46]/)|(?<=/dnsaddr/))[^/\s\"',]+",
)
_URL: Final = re.compile(r"(?<=://)[^/\s\"',]+")
_IPV4: Final = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)")
_MAC: Final = re.compile(r"\b(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\b")
_IPV6: Final = re.compile(
    r"(?<![\w:])(?=[0-9A-Fa-f]*:[0-9A-Fa-f]*:)[0-9A-Fa-f:]+(?:\.[\d.]+)?(?!\w)"
)
_HOME: Final = re.compile(r"(?<=/home/)[^/\s\"',:]+|(?<=/Users/)[^/\s\"',:]+")


class Redaction:
    """`home` is the home folder of the user, whose name it tells."""

    def __init__(self, salt: bytes, home: str = "") -> None:
        self._salt = salt
        self._home = home if len(home) > 1 else ""

    def text(self, text: str) -> str:
        for secret in _SECRETS:
            text = secret.sub("(cut)", text)
        if self._home:
            text = text.replace(self._home, "~")
        text = _HOME.sub("(user)", text)
        text = _PEER.sub(lambda found: self.hashed("peer", found[0]), text)
        text = _DNS.sub(lambda found: self.hashed("name", found[0]), text)
        text = _URL.sub(self._host, text)
        text = _MAC.sub(lambda found: self.hashed("mac", found[0]), text)
        for pattern in (_IPV4, _IPV6):
            text = pattern.sub(lambda found: self._address(found[0]), text)
        return text

    def value(self, value: Any) -> Any:
        """The same in all texts of a value of JSON, keys included."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(str(key)): self.value(one) for key, one in value.items()}
            case list() | tuple():
                return [self.value(one) for one in value]
            case _:
                return value

    def hashed(self, kind: str, text: str) -> str:
        found = hashlib.blake2b(text.encode(errors="replace"), key=self._salt).hexdigest()
        return f"({kind} {found[:HASH_CHARS]})"

    def _host(self, found: re.Match[str]) -> str:
        """Of a URL; its port stays, and whatever names this machine."""
        host, colon, port = found[0].rpartition(":")
        if not port.isdigit():
            host, colon, port = found[0], "", ""
        bare = host.strip("[]")
        if bare == "localhost" or _is_address(bare):
            return found[0]  # Addresses are looked at below.
        return self.hashed("name", host) + colon + port

    def _address(self, found: str) -> str:
        tail = found[len(found.rstrip(".:")) :] if not found.endswith("::") else ""
        text = found.removesuffix(tail) if tail else found
        if not _is_address(text):
            return found
        address = ipaddress.ip_address(text)
        if address.is_loopback or address.is_unspecified:
            return found
        return self.hashed("address", str(address)) + tail


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
