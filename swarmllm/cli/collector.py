"""Freezes loaded objects (`gc.freeze`), so that full garbage collections do not stall the event
loop, and makes them rare.

A full collection looks through everything that exists: 76 ms with the network library loaded, in
which no order to halt is read, and hostile peers can bring about as many as they like by making a
node allocate. What is there when a node is ready stays there anyway, and so does the HTTP API,
which is loaded with its first connection. What is left are 25,000 objects of 64 open streams: 12
to 19 ms.

Python begins a collection when 700 more objects were made than freed, which 64 streams do in one
turn, although nothing of a token is a cycle (a connection leaves 29 objects in cycles). Its other
rule, that a full one waits until a quarter as many objects are new as the last one found, had
counted what is frozen since. So the thresholds are larger, and the count begins anew. Cycles are
found as before, only later: at most YOUNG x 11 x 6 objects have not been looked through, which is
50 MB if each of them was left in a cycle.

Only for programs of our own: whoever embeds a node decides this for their process themselves.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 5_000  # Objects made less those freed, until young ones are looked through: 1 ms.
OLDER, FULL = 10, 5  # So many collections of the younger until one of the older.


def leave_alone() -> None:
    """What exists now is never looked at again; about 50 ms at first, and 7 ms for what the HTTP
    API loads."""
    gc.collect()
    gc.freeze()
    gc.collect()  # Of nearly nothing, which is what the next full one is measured by.
    gc.set_threshold(YOUNG, OLDER, FULL)
