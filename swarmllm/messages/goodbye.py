"""Why a peer ends a connection, said on the wire as the last message of its own expert stream
(protocols/streams.md)."""

from __future__ import annotations

from typing import Annotated, Final

from swarmllm.messages.bounds import Range
from swarmllm.messages.declare import BOTH, EXPERT, message

LEAVING: Final = 1
BREACH: Final = 2
REFUSED: Final = 3
DOUBLE: Final = 4
SLOW: Final = 5
FULL: Final = 6
FOREIGN: Final = 7
OTHER: Final = 8
MEMBERS: Final = 9

GOODBYES: Final[dict[int, str]] = {
    LEAVING: "it is closing",
    BREACH: "we broke the protocol",
    REFUSED: "it refuses us after too many strikes",
    DOUBLE: "another connection between us is in use",
    SLOW: "we were too slow to read or to answer",
    FULL: "it has no room for us",
    FOREIGN: "we do not speak its expert protocol",
    OTHER: "no reason that has a number",
    MEMBERS: "its swarm is closed, and we have shown no membership that counts",
}
"""What each code means to the one who reads it. New codes may come; an unknown one is a goodbye all
the same."""


@message(code=35, stream=EXPERT, sender=BOTH)
class Goodbye:
    """The sender closes the connection now. Nothing answers it."""

    code: Annotated[int, Range(1, 255)]

    @property
    def meaning(self) -> str:
        """A part of a sentence, from our own list alone: what a stranger writes is never shown."""
        return GOODBYES.get(self.code, f"reason {self.code}, which this version does not know")
