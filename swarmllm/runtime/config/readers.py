"""How a value is read: one reader per kind of value, for the declarations in `table`.

A reader takes the raw value and whether it is text; see `setting.Reader`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from swarmllm.core.serving.lending import hours_of
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId
from swarmllm.runtime.config.setting import Reader, Unfit
from swarmllm.runtime.model_reference import EXPECTED, NotAReference, OwnFile, parse_reference
from swarmllm.wire.identity import public_key_of
from swarmllm.wire.invite import LINE_MAX, SCHEME

# Bootstrap peers are dialled for ever, each by a task of its own; nobody lists more by hand.
ADDRS_MAX: Final = 64
CIRCUIT: Final = "/p2p-circuit"  # Between a relay's address and the peer behind it.
LIST_MAX: Final = 64
KEY_HASH: Final = "sha256:"


def read_folder(value: object, is_text: bool) -> Path:
    """An absolute path; `~` is expanded. A relative one is taken from the current folder, or
    refused in a file."""
    if isinstance(value, Path):
        value, is_text = str(value), True
    if not isinstance(value, str) or not value or "\0" in value:
        raise Unfit(value, "the path of a folder")
    path = _expanded(value)
    if not is_text and not path.is_absolute():
        raise Unfit(value, "an absolute path (a config file has no current folder)")
    return _absolute(path)


def _expanded(value: str) -> Path:
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise Unfit(value, "a path whose home folder can be found") from error


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except FileNotFoundError as error:
        raise Unfit(str(path), "a path from / on, and the current folder was removed") from error


def read_model(value: object, is_text: bool) -> str:
    """The text of a model reference, its path absolute; see `model_reference`."""
    if isinstance(value, Path):
        value, is_text = str(value.absolute()), True
    if not isinstance(value, str):
        raise Unfit(value, EXPECTED)
    try:
        reference = parse_reference(value)
    except NotAReference as error:
        raise Unfit(value, error.expected) from error
    if isinstance(reference, OwnFile) and not is_text and not value.startswith(("/", "~")):
        raise Unfit(value, "an absolute path (a config file has no current folder)")
    return str(reference)


def whole(low: int, high: int) -> Reader:
    expected = f"a whole number from {low} to {high}"

    def read(value: object, is_text: bool) -> int:
        if is_text and isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,12}", value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Unfit(value, expected)
        return value

    return read


def number(low: float, high: float) -> Reader:
    expected = f"a number from {low:g} to {high:g}"

    def read(value: object, is_text: bool) -> float:
        if is_text and isinstance(value, str):
            try:
                value = float(value)
            except ValueError as error:
                raise Unfit(value, expected) from error
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise Unfit(value, expected)
        if not low <= value <= high:  # Nor is what is no number at all.
            raise Unfit(value, expected)
        return float(value)

    return read


def read_switch(value: object, is_text: bool) -> bool:
    if is_text and isinstance(value, str):
        word = value.strip().lower()
        if word in {"1", "true", "yes", "on"}:
            return True
        if word in {"0", "false", "no", "off"}:
            return False
        raise Unfit(value, "one of 1, true, yes, on, 0, false, no, off")
    if not isinstance(value, bool):
        raise Unfit(value, "true or false")
    return value


def read_hours(value: object, is_text: bool) -> str:
    """Part of the day, as `22:00-07:00`; empty: all of it."""
    if value == "":
        return ""
    found = hours_of(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise Unfit(value, "a part of the day such as 22-07 or 22:30-07:15, by the local clock")
    return str(found)


def read_percent(value: object, is_text: bool) -> str:
    """`50%`, or the number alone; as `50%`."""
    number = value
    if isinstance(value, str) and (found := re.fullmatch(r"([0-9]{1,3})\s?%?", value.strip())):
        number = int(found[1])
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= 100:
        raise Unfit(value, "a share from 1% to 100%")
    return f"{number}%"


def read_swarm(value: object, is_text: bool) -> str:
    # The name becomes part of protocol ids and topics, so it keeps to characters that mean nothing
    # in either.
    if not isinstance(value, str) or re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", value) is None:
        raise Unfit(
            value,
            "a swarm's name: up to 32 small letters, digits and -,"
            " beginning with a letter or digit",
        )
    return value


def read_charter(value: object, is_text: bool) -> str:
    if value == "":
        return ""
    if not isinstance(value, str) or "\0" in value:
        raise Unfit(
            value, "the file of a swarm's charter, or the swarm's id (64 hexadecimal digits)"
        )
    if re.fullmatch(r"[0-9a-fA-F]{64}", value):
        return value.lower()
    return str(_absolute(_expanded(value)))


def read_invite(value: object, is_text: bool) -> str:
    """The line of an invite, as it stands; what it says is read when the node starts."""
    if value == "":
        return ""
    found = value.strip() if isinstance(value, str) else ""
    if not found.startswith(SCHEME) or len(found) > LINE_MAX:
        said = found[:24] or value
        raise Unfit(
            said,
            f"the line of an invite, which begins with {SCHEME} and has at most {LINE_MAX}"
            " characters; `swarmllm invite` prints one on a node of the swarm",
        )
    return found


def read_membership(value: object, is_text: bool) -> str:
    if value == "":
        return ""
    if not isinstance(value, str) or "\0" in value:
        raise Unfit(value, "the file of a membership")
    return str(_absolute(_expanded(value)))


def read_vocabulary(value: object, is_text: bool) -> str:
    if isinstance(value, str) and re.fullmatch(
        r"auto|llama3|[0-9a-f]{8,64}", found := value.strip().lower()
    ):
        return found
    raise Unfit(value, "auto, llama3 or the first 8 to 64 hexadecimal digits of a fingerprint")


def read_host(value: object, is_text: bool) -> str:
    if not isinstance(value, str):
        raise Unfit(value, "an IP address")
    try:
        return str(ipaddress.ip_address(value.strip()))
    except ValueError as error:
        raise Unfit(
            value, "an IP address such as 127.0.0.1, or 0.0.0.0 for every interface"
        ) from error


def one_of(*words: str) -> Reader:
    """One of these words, written in capitals or not."""

    def read(value: object, is_text: bool) -> str:
        if not isinstance(value, str) or value.lower() not in words:
            raise Unfit(value, f"one of {', '.join(words)}")
        return value.lower()

    return read


def multiaddrs(*, needs_peer: bool) -> Reader:
    def read(value: object, is_text: bool) -> tuple[str, ...]:
        if is_text and isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, (list, tuple)) or len(value) > ADDRS_MAX:
            raise Unfit(value, f"a list of at most {ADDRS_MAX} multiaddrs")
        return tuple(dict.fromkeys(_addr(item, needs_peer) for item in value))

    return read


def _addr(value: object, needs_peer: bool) -> str:
    """One multiaddr over TCP, checked by its text: `/ip4/203.0.113.7/tcp/7339/p2p/12D3Koo...`."""
    expected = "a multiaddr such as /ip4/203.0.113.7/tcp/7339" + (
        "/p2p/12D3Koo..." if needs_peer else ""
    )
    if not isinstance(value, str):
        raise Unfit(value, expected)
    if needs_peer and CIRCUIT in value:
        relay, _, peer = value.partition(CIRCUIT)
        try:
            # Whatever stands before it, the end must be one peer.
            _addr(f"/ip4/127.0.0.1/tcp/1{peer}", needs_peer=True)
            _addr(relay, needs_peer=True)
        except Unfit as error:
            raise Unfit(value, expected) from error
        return value
    parts = value.split("/")
    if needs_peer and parts[:2] == ["", "dnsaddr"] and len(parts) == 5 and parts[3] == "p2p":
        # At this name DNS has the whole addresses, ports too.
        if not _is_host("dns", parts[2]):
            raise Unfit(value, expected)
        return _of_peer(value, parts[4])
    ok = (
        len(parts) in ((7,) if needs_peer else (5, 7))
        and parts[0] == ""
        and parts[3] == "tcp"
        and (len(parts) == 5 or parts[5] == "p2p")
    )
    if (
        not ok
        or not _is_host(parts[1], parts[2])
        or not re.fullmatch(r"[0-9]{1,5}", parts[4])
        or not 1 <= int(parts[4]) <= 65_535
    ):
        raise Unfit(value, expected)
    return _of_peer(value, parts[6]) if len(parts) == 7 else value


def _of_peer(value: str, peer: str) -> str:
    try:
        public_key_of(PeerId(peer))
    except RemoteError as error:
        raise Unfit(peer, "the id of a peer (12D3Koo...)") from error
    return value


def _is_host(kind: str, host: str) -> bool:
    try:
        match kind:
            case "ip4":
                ipaddress.IPv4Address(host)
            case "ip6":
                ipaddress.IPv6Address(host)
            case "dns" | "dns4" | "dns6":
                return (
                    len(host) <= 253
                    and re.fullmatch(r"[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*\.?", host)
                    is not None
                )
            case _:
                return False
    except ValueError:
        return False
    return True


def several(read: Callable[[str], str], expected: str) -> Reader:
    """A list of texts, each read by `read`; in text they are parted by commas."""

    def read_all(value: object, is_text: bool) -> tuple[str, ...]:
        if is_text and isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if (
            not isinstance(value, (list, tuple))
            or len(value) > LIST_MAX
            or not all(isinstance(one, str) for one in value)
        ):
            raise Unfit(value, f"a list of at most {LIST_MAX} texts, each {expected}")
        return tuple(dict.fromkeys(read(one) for one in value))

    return read_all


def hashed_key(key: str) -> str:
    """A key as it is kept: keys are long and random, so that a plain hash is enough."""
    if re.fullmatch(rf"{KEY_HASH}[0-9a-f]{{64}}", key):
        return key
    if not re.fullmatch(r"[!-~]{16,256}", key):
        raise Unfit("the key", "16 to 256 visible ASCII characters, or sha256: and its hash")
    return KEY_HASH + hashlib.sha256(key.encode()).hexdigest()


def origin(value: str) -> str:
    if not re.fullmatch(r"https?://[a-z0-9.-]{1,253}(:[0-9]{1,5})?", value):
        raise Unfit(value, "an origin such as http://localhost:3000")
    return value


def read_endpoint(value: object, is_text: bool) -> str:
    fits = r"(?:https?://[A-Za-z0-9.:\[\]-]{1,253}(?:/[A-Za-z0-9._~/-]{0,200})?)?"
    if not isinstance(value, str) or not re.fullmatch(fits, value):
        raise Unfit(value, "a URL such as http://localhost:4318/v1/traces")
    return value


def host_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9.-]{1,253}", value.lower()):
        raise Unfit(value, "the name of a host, without a port")
    return value.lower()
