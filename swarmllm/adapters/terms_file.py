"""Terms of governance as a file beside the charter that names them: `charter` and `charter.terms`.

The charter is signed and has the digest of the terms; so the terms need no signature, and any
change of them shows. As with files of records (`record_files`) the readable lines are written from
the terms and never read: a file is accepted if, and only if, it is what we would write.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import sha256
from pathlib import Path
from typing import Final

from swarmllm.adapters.armour import armoured
from swarmllm.adapters.atomic_file import read_bounded
from swarmllm.core.governance.mandate import read_terms
from swarmllm.core.settings.table import BY_CODE
from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages.governance import GovernanceTerms
from swarmllm.wire.codec import encode
from swarmllm.wire.signed import key_id

# Terms of 4 KiB in base64, and a readable line for each key and setting.
FILE_BYTES_MAX: Final = 64 << 10
WHAT: Final = "the file of terms"
BEGIN: Final = "-----BEGIN SWARMLLM TERMS OF GOVERNANCE-----"
_END: Final = "-----END SWARMLLM TERMS OF GOVERNANCE-----"


def terms_path(charter: Path) -> Path:
    """Where the terms of the charter in this file are."""
    return charter.with_name(f"{charter.name}.terms")


def read_terms_file(path: Path) -> bytes:
    """The encoding of the terms in a file. LocalError for any other text than `render_terms`
    writes."""
    return parse_terms(read_bounded(path, FILE_BYTES_MAX, WHAT), str(path))


def parse_terms(data_of_file: bytes, name: str) -> bytes:
    """The same of the text of a file called `name`."""
    text = data_of_file.decode("latin-1").replace("\r\n", "\n")
    body = text.partition("\n\n")[2].partition(f"\n{_END}")[0].replace("\n", "")
    try:
        data = base64.b64decode(body, validate=True)
        terms = read_terms(data)
    except (binascii.Error, ValueError, RemoteError) as fault:
        raise LocalError(
            f"{name} holds no terms of governance ({fault}); give the file that `swarmllm charter`"
            " wrote"
        ) from fault
    if render_terms(terms) != text:
        raise LocalError(
            f"{name} is damaged or was changed: its readable lines do not belong to its terms;"
            " ask for the file again"
        )
    return data


def render_terms(terms: GovernanceTerms) -> str:
    """The text of a file with these terms."""
    data = encode(terms)
    return armoured(BEGIN, [*described(terms), ("Digest", sha256(data).hexdigest())], data, _END)


def described(terms: GovernanceTerms) -> list[tuple[str, str]]:
    """The readable lines. Settings are named by their codes, which never change."""
    phases = zip(terms.phase_experts, terms.phase_audits, strict=True)
    return [
        *(("Agent", f"{key_id(key).hex()} {key.hex()}") for key in terms.agent),
        ("Minor-Votes", str(terms.minor_threshold)),
        ("Review-Hours", str(terms.review_h)),
        ("Canary-Permille", str(terms.canary_permille)),
        ("Canary-Seconds", str(terms.canary_s)),
        ("Phase", str(terms.phase)),
        *(
            (f"Phase-{phase}-Needs", f"{experts} experts, {audits} audits")
            for phase, (experts, audits) in enumerate(phases, start=1)
        ),
        ("Stable-Days", str(terms.stable_days)),
        ("Unattended", "yes" if terms.unattended else "no"),
        *(
            (f"Bounds-{_integer(one[:2])}", f"{_integer(one[2:10])} to {_integer(one[10:])}")
            for one in terms.bounds
        ),
        *((f"Value-{_integer(one[:2])}", str(_integer(one[2:]))) for one in terms.values),
    ]


def named(code: bytes) -> str:
    """The key of the setting with this code, or its number where this version has none."""
    number = _integer(code)
    return BY_CODE[number].key if number in BY_CODE else f"setting {number}"


def _integer(data: bytes) -> int:
    return int.from_bytes(data, "big")
