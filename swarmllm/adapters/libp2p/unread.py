"""Receive buffer accounting: unread bytes are bounded for each connection and for the node.

Flow control bounds a stream; a peer opens many, resets them full and opens more. So bytes are
counted per connection, whatever streams they came on, from the moment that a frame announces them
until they are read or dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import trio

# Unread bytes of one stream: the window of 256 KiB, and as much again for rounding.
STREAM_BYTES_MAX: Final = 512 * 1024


class Overrun(trio.TooSlowError):
    """The peer sent more than it may. A TooSlowError because that is what makes Yamux close the
    connection instead of going on."""


class Unread:
    """The node's account. `per_node_max` and `per_connection_max` are in bytes."""

    def __init__(self, per_connection_max: int, per_node_max: int) -> None:
        self.per_connection_max, self.per_node_max = per_connection_max, per_node_max
        self.total = 0
        self.exceeded = 0  # Connections that were closed because they alone held too much.
        self.given_way = 0  # Connections that were closed because all together held too much.
        self._shares: set[Share] = set()

    def share(self, give_way: Callable[[str], None], breach: Callable[[str], None]) -> Share:
        """A new connection's part. `give_way` closes that connection; `breach` is told that it
        broke its own bound."""
        return Share(self, give_way, breach)

    def _make_room(self, taker: Share, amount: int) -> None:
        """Whoever holds most gives way, until `amount` more bytes fit. Overrun if that is who wants
        them."""
        while self.total + amount > self.per_node_max:
            most = max(
                (taker, *self._shares),
                key=lambda share: share.held + (amount if share is taker else 0),
            )
            self.given_way += 1
            reason = f"{most.held} of the {self.total} bytes that nobody has read yet were its own"
            most.close()
            most.give_way(reason)
            if most is taker:
                raise Overrun(reason)


class Share:
    """One connection's part of the account."""

    def __init__(
        self, account: Unread, give_way: Callable[[str], None], breach: Callable[[str], None]
    ) -> None:
        self.held = 0
        self.give_way, self._breach = give_way, breach
        self._account = account
        self._closed = False
        self._buffers: set[Buffer] = set()

    def take(self, amount: int) -> None:
        """Overrun if the connection may not hold so much, and then it is to be closed."""
        account = self._account
        if self._closed:
            raise Overrun("the connection is closing")
        if self.held + amount > account.per_connection_max:
            reason = (
                f"{self.held + amount} bytes on one connection that nobody has read yet;"
                f" {account.per_connection_max} are allowed"
            )
            account.exceeded += 1
            self._breach(reason)
            raise Overrun(reason)
        if account.total + amount > account.per_node_max:
            account._make_room(self, amount)
        self.held += amount
        account.total += amount
        account._shares.add(self)

    def give(self, amount: int) -> None:
        """Bytes that were read or dropped."""
        # Nothing is left of what was held when the connection was closed.
        amount = min(amount, self.held)
        self.held -= amount
        self._account.total -= amount
        if not self.held:
            self._account._shares.discard(self)

    def close(self) -> None:
        """Drop everything, and take nothing any more."""
        self._closed = True
        for buffer in list(self._buffers):
            buffer.drop()
        self.give(self.held)


class Buffer(bytearray):
    """What one stream has received and nobody has read. The library only warns when a peer sends
    more than its window."""

    def __init__(self, share: Share, data: bytes | bytearray = b"") -> None:
        super().__init__()
        self._share = share
        share._buffers.add(self)
        self.extend(data)

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)  # A buffer changes all the time, so it is only itself.

    def __eq__(self, other: object) -> bool:
        return self is other

    def extend(self, data: Any, /) -> None:
        if len(self) + len(data) > STREAM_BYTES_MAX:
            raise Overrun(f"{len(self) + len(data)} unread bytes on one stream")
        self._share.take(len(data))
        super().extend(data)

    def clear(self) -> None:
        size = len(self)
        super().clear()
        self._share.give(size)

    def __delitem__(self, key: Any, /) -> None:
        size = len(self)
        super().__delitem__(key)
        self._share.give(size - len(self))

    def drop(self) -> None:
        """Its stream is gone."""
        self.clear()
        self._share._buffers.discard(self)


class Buffers(dict[int, bytearray]):
    """The buffers of one connection by their stream; whatever leaves is dropped."""

    def __init__(self, share: Share) -> None:
        super().__init__()
        self._share = share

    def __setitem__(self, stream_id: int, data: bytearray) -> None:
        self.pop(stream_id, None)
        super().__setitem__(stream_id, Buffer(self._share, data))

    def __delitem__(self, stream_id: int) -> None:
        self.pop(stream_id)

    def pop(self, stream_id: int, *default: Any) -> Any:
        found = super().pop(stream_id, *default)
        if isinstance(found, Buffer):
            found.drop()
        return found

    def clear(self) -> None:
        for stream_id in list(self):
            self.pop(stream_id)
