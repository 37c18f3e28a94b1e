"""What stands before every route: who may ask, how much, and how often.

The API is on loopback, where any page that a browser shows can send requests to it. Against that
stand the lists of hosts (a name that an attacker's DNS points here is not on it) and origins (a
page's requests carry its own), and that bodies must be JSON, which a page cannot send elsewhere
without a preflight. A key, where there is one, is asked for everywhere but at `/health` and at the
console's pages, which are empty then. State changes need a token that only programs which can read
the node's folder know, on loopback too. What a voter's key signs is asked for on this machine
alone, without a proxy between, by a program or by the console's own page.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from swarmllm.api.console.paths import PAGES, is_open
from swarmllm.api.problem import Problem
from swarmllm.runtime.config.readers import KEY_HASH

BODY_BYTES_MAX: Final = 8 << 20
BODY_S: Final = 30.0  # For a body to arrive.
OPEN_MAX: Final = 64  # Requests at once; as many answers as the node writes.
BURST: Final = 240.0  # Requests of one key, ...
PER_S: Final = 40.0  # ... and how many more it may send each second.
BUCKETS_MAX: Final = 256
HEALTH: Final = "/health"
TOKEN_HEADER: Final = "x-swarmllm-token"
PASSED_ON: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""What a proxy says of a request that it passes on."""


@dataclass(slots=True)
class Bucket:
    """A token bucket: holds `BURST`, and `PER_S` more each second."""

    left: float = BURST
    at: float = 0.0

    def take(self, now: float) -> bool:
        self.left = min(BURST, self.left + (now - self.at) * PER_S)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass(slots=True)
class Guard:
    """Pure: headers in, a Problem or nothing out. `keys` are hashed (none: nobody needs one);
    `hosts` and `origins` are allowed beside loopback."""

    keys: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    token: str = ""
    _buckets: OrderedDict[str, Bucket] = field(default_factory=OrderedDict)

    def check(self, method: str, path: str, headers: Mapping[str, str], now: float) -> None:
        """Problem for a request that is not answered. `headers` have small names."""
        self._check_host(headers.get("host", ""))
        if not _opens_a_page(method, path, headers):
            self._check_origin(headers)
        if path == HEALTH:  # Whoever watches the node has no key, and asks also when it is busy.
            return
        caller = "" if is_open(path) else self._check_key(headers)
        bucket = self._buckets.pop(caller, None) or Bucket(at=now)
        self._buckets[caller] = bucket
        while len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
        if not bucket.take(now):
            raise Problem(429, "too many requests; wait a few seconds", code="rate_limit_exceeded")

    def allowed_origin(self, headers: Mapping[str, str]) -> str | None:
        """The origin of a page that may read the reply."""
        origin = headers.get("origin")
        return origin if origin in self.origins else None

    def check_token(self, headers: Mapping[str, str]) -> None:
        """Problem for a state change without the token of this node's folder."""
        given = headers.get(TOKEN_HEADER, "")
        if not self.token or not hmac.compare_digest(given.encode(), self.token.encode()):
            raise Problem(
                403,
                f"this changes the node: send the token of the file api-token in its data folder as"
                f" the header {TOKEN_HEADER}",
                code="token_required",
            )

    def check_here(self, headers: Mapping[str, str], peer: str) -> None:
        """Problem unless who asks is on this machine, by an address of it, and no page but the
        console's. `peer`: the address from which the request comes."""
        host = headers.get("host", "").lower()
        is_here = _is_loopback(peer) and (
            _name_of(host) == "localhost" or _is_loopback(_name_of(host))
        )
        is_own = headers.get("origin") in {None, f"http://{host}"} and headers.get(
            "sec-fetch-site", "same-origin"
        ) in {"same-origin", "none"}
        if is_here and is_own and not any(name in headers for name in PASSED_ON):
            return
        raise Problem(
            403,
            "a voter's key signs on its own machine alone: open the console there by a loopback"
            " address, or use `swarmllm vote`",
            code="not_here",
        )

    def _check_host(self, host: str) -> None:
        name = _name_of(host)
        if name == "localhost" or name in self.hosts or _is_address(name):
            return
        raise Problem(
            403,
            f"the host {host[:80]!r} is not one of this node's; name it with --api-allow-host",
            code="host_not_allowed",
        )

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        """A page's own requests carry its origin; programs send none."""
        origin = headers.get("origin")
        site = headers.get("sec-fetch-site", "none")
        if origin is None and site in {"none", "same-origin"}:
            return
        host = headers.get("host", "").lower()
        if origin in self.origins or origin in {f"http://{host}", f"https://{host}"}:
            return
        raise Problem(
            403,
            f"pages of {str(origin)[:80]!r} may not ask this node; name it with --api-allow-origin",
            code="origin_not_allowed",
        )

    def _check_key(self, headers: Mapping[str, str]) -> str:
        """The hash of the key that was given; empty where none is needed."""
        if not self.keys:
            return ""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        given = key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        found = KEY_HASH + hashlib.sha256(given.encode()).hexdigest()
        # All are compared, in constant time.
        if not given or sum(hmac.compare_digest(found, known) for known in self.keys) == 0:
            raise Problem(
                401, "this node asks for an API key: Authorization: Bearer", code="invalid_api_key"
            )
        return found

    def check_body(self, method: str, headers: Mapping[str, str]) -> None:
        """Problem for a body that is not read."""
        if method != "POST":  # Nothing takes one, so nobody looks at it.
            return
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Problem(
                415,
                f"the body must be application/json, not {kind[:40]!r}",
                code="unsupported_media_type",
            )
        if headers.get("content-encoding", "identity") != "identity":
            raise Problem(415, "the body must not be compressed", code="unsupported_media_type")
        size = headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,9}", size) or int(size) > BODY_BYTES_MAX:
            raise too_large()


def too_large() -> Problem:
    return Problem(413, f"the body has more than {BODY_BYTES_MAX >> 20} MiB", code="too_large")


def _opens_a_page(method: str, path: str, headers: Mapping[str, str]) -> bool:
    """Whether somebody has followed a link to the console: what comes goes to the window alone, not
    to the page that has the link."""
    how = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    return method == "GET" and path in PAGES and how == ("navigate", "document")


def _name_of(host: str) -> str:
    """A host without its port."""
    host = host.strip().lower()
    if host.startswith("["):
        name, bracket, _ = host[1:].partition("]")
        return name if bracket else host
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() else host


def _is_loopback(name: str) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # As a socket for both kinds tells IPv4.
    return (mapped or address).is_loopback


def _is_address(name: str) -> bool:
    """Whether it is an IP address: no DNS can point one elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
