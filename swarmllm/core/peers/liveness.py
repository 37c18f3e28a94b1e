"""How long peers wait for each other's signs of life, in seconds: here for the real network and for
those of tests and worlds."""

from __future__ import annotations

from typing import Final

PING_S: Final = 2.0  # Between two pings.
SILENT_S: Final = 6.0  # Without a byte of a peer, after which its connection counts as dead.
DIAL_S: Final = 8.0  # From the order to dial to a peer that answers.
# A process that was away for longer hears that it was; as long as a worker's lease, which has
# stopped by itself then.
SLEPT_S: Final = 0.5
