"""The paths of the console. Pages and what belongs to them hold nothing of the node, unless nobody
needs a key: so a browser, which sends none when it opens a page, can show the field for the key."""

from __future__ import annotations

from typing import Final

PAGES: Final = {
    "/": "chat",
    "/swarm": "swarm",
    "/node": "node",
    "/safety": "safety",
    "/improvement": "improvement",
}
"""What each page is called, in the order in which they are shown."""
STATIC: Final = "/console/static/"
LIVE: Final = "/console/live/"
"""Before a page's name: what it shows of the node, to be put into it."""


def is_open(path: str) -> bool:
    """Whether no key is asked for."""
    return path in PAGES or path.startswith(STATIC)
