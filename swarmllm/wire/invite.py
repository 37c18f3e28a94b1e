"""The invite as a line of text: `swarmllm:` and the signed record in base64url, short enough to be
pasted, and exactly one line for each record.

The length is judged before anything is decoded. What a line says is known only once its one
signature has been checked; that it is from somebody whom one trusts, no signature says.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId
from swarmllm.messages.invite import INVITE_MAX, Invite
from swarmllm.wire.envelope import Sign, Verify
from swarmllm.wire.identity import peer_id_of
from swarmllm.wire.names import is_address
from swarmllm.wire.signed import MultiSigned, good_signers, open_signed, sign_record

SCHEME: Final = "swarmllm:"
LINE_MAX: Final = len(SCHEME) + (INVITE_MAX * 4 + 2) // 3
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_LETTERS: Final = re.compile(r"[A-Za-z0-9_-]*")


def write_line(invite: Invite, public_key: bytes, sign: Sign) -> str:
    """The line of an invite that this key makes. LocalError for one that is too long."""
    data = sign_record(invite, [(public_key, sign)])
    return SCHEME + base64.urlsafe_b64encode(data).decode().rstrip("=")


def read_line(line: str, verify: Verify) -> tuple[Invite, PeerId]:
    """What a line says, and who signed it. RemoteError, in words that follow "the invite", for one
    that is no invite, or was changed on its way."""
    if len(line) > LINE_MAX:
        raise RemoteError(f"has {len(line)} characters, and none has more than {LINE_MAX}")
    if not line.startswith(SCHEME):
        raise RemoteError(f"does not begin with {SCHEME}")
    opened = _opened(line.removeprefix(SCHEME))
    if len(opened.signers) != 1:
        raise RemoteError(f"has {len(opened.signers)} signatures, and an invite has one")
    try:
        good_signers(opened, frozenset(opened.signers), verify)
    except RemoteError as fault:
        raise RemoteError("is cut short or was changed on its way") from fault
    invite = opened.record
    if _NAME.fullmatch(invite.name) is None or not all(map(is_address, invite.addrs)):
        raise RemoteError("holds a name or an address that no swarm has")
    return invite, peer_id_of(opened.signers[0])


def _opened(letters: str) -> MultiSigned[Invite]:
    try:
        # The library would skip what is no letter of base64.
        if _LETTERS.fullmatch(letters) is None:
            raise binascii.Error("characters that are not of base64url")
        data = base64.urlsafe_b64decode(letters + "=" * (-len(letters) % 4))
        if base64.urlsafe_b64encode(data).decode().rstrip("=") != letters:
            raise binascii.Error("bits behind its end")
        return open_signed(data, (Invite,))
    except (binascii.Error, RemoteError) as fault:
        # What a decoder says of it helps nobody who has pasted a line.
        raise RemoteError("is cut short or was changed on its way") from fault
