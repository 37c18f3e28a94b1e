"""Messages of `/swarmllm/tokenizer`: how a peer without a model gets the tokenizer of others
(protocols/tokenizer.md)."""

from __future__ import annotations

from typing import Annotated, Final

from swarmllm.messages.bounds import Digest, Range, ShortHash, Size
from swarmllm.messages.declare import BOTH, TOKENIZER, message

SEALED_MAX: Final = (
    8 << 20
)  # Bytes of a whole tokenizer, deflated; the largest published has 4.5 MB.
PART_BYTES: Final = 32 << 10
TOKENIZER_FRAME_MAX: Final = PART_BYTES + 128
RETRY_MAX_MS: Final = 60_000


@message(code=120, stream=TOKENIZER, sender=BOTH)
class TokenizerWanted:
    """Please send the part of this tokenizer that begins at `offset`."""

    fingerprint: Digest
    chat_digest: ShortHash
    offset: Annotated[int, Range(0, SEALED_MAX - 1)]


@message(code=121, stream=TOKENIZER, sender=BOTH)
class TokenizerPart:
    """`PART_BYTES` of the sealed tokenizer's `size` bytes from `offset` on; the last part has the
    rest."""

    fingerprint: Digest
    chat_digest: ShortHash
    size: Annotated[int, Range(1, SEALED_MAX)]
    offset: Annotated[int, Range(0, SEALED_MAX - 1)]
    data: Annotated[bytes, Size(1, PART_BYTES)]


@message(code=122, stream=TOKENIZER, sender=BOTH)
class TokenizerBusy:
    """Not now, but in `retry_after_ms`; 0: this peer has no such tokenizer."""

    fingerprint: Digest
    chat_digest: ShortHash
    retry_after_ms: Annotated[int, Range(0, RETRY_MAX_MS)]


TokenizerFrame = TokenizerWanted | TokenizerPart | TokenizerBusy
