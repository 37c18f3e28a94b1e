"""Freezes loaded objects (`gc.freeze`), so that full garbage collections do not stall the event
loop.

A full collection looks through everything that exists: 76 ms with the network library loaded, in
which no order to halt is read, and hostile peers can bring about as many as they like by making a
node allocate. What is there when a node is ready stays there anyway. Only for programs of our own:
whoever embeds a node decides this for their process themselves.
"""

from __future__ import annotations

import gc


def leave_alone() -> None:
    """What exists now is never looked at again; about 50 ms, once."""
    gc.collect()
    gc.freeze()
