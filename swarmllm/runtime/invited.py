"""What an invite makes of a node's settings: name, swarm, charter and vocabulary are pinned, and
the inviter is a peer to begin with.

An invite is read where it is typed and again at each start: the folder keeps the one that it was
joined with, so that the next `swarmllm join` needs none. Whoever could change the line could only
name another swarm in it, under a signature of their own; so a folder that has joined one swarm
refuses every invite to another.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from swarmllm.core.halt.charter import NamedCharter
from swarmllm.errors import RemoteError, UsageError
from swarmllm.messages import PeerId
from swarmllm.messages.invite import Invite
from swarmllm.runtime.config import Config
from swarmllm.runtime.config.table import SETTINGS
from swarmllm.wire.envelope import Verify
from swarmllm.wire.invite import read_line

SHOWN: Final = 24  # Characters of a line by which a person knows it again.
# A clock is wrong by less, as a rule; an invite from further ahead was made by one that is not.
AHEAD_MAX_MS: Final = 600_000


@dataclass(frozen=True, slots=True)
class Invited:
    """An invite whose signature is good: its line, what it says, and who made it. `kept_in` is the
    file that has it; None: it was typed."""

    line: str
    invite: Invite
    peer: PeerId
    kept_in: Path | None = None

    @property
    def shown(self) -> str:
        return shown(self.line)

    @property
    def addrs(self) -> tuple[str, ...]:
        return tuple(f"{addr}/p2p/{self.peer}" for addr in self.invite.addrs)

    @property
    def named(self) -> NamedCharter:
        return NamedCharter(self.invite.charter_version, self.invite.charter_hash)

    def check_time(self, unix_ms: int) -> None:
        """UsageError for an invite that has run out, or comes from the future."""
        if unix_ms >= self.invite.expires_ms:
            raise UsageError(
                f"the invite {self.shown} ran out on {moment(self.invite.expires_ms)};"
                " ask for another one"
            )
        if self.invite.issued_ms > unix_ms + AHEAD_MAX_MS:
            raise UsageError(
                f"the invite {self.shown} was made on {moment(self.invite.issued_ms)}, and here it"
                f" is {moment(unix_ms)}; correct the clock of this machine, or of the inviter's"
            )


def read_invited(line: str, verify: Verify) -> Invited:
    """UsageError for a line that is no invite, or was changed on its way."""
    line = line.strip()
    try:
        return Invited(line, *read_line(line, verify))
    except RemoteError as fault:
        raise UsageError(
            f"the invite {shown(line)} {fault}; copy the whole line again, or ask for another one"
        ) from fault


def pinned_by(config: Config, invited: Invited) -> Config:
    """The settings under an invite. UsageError for one that contradicts it."""
    invite = invited.invite
    swarm, vocabulary = invite.swarm.hex(), invite.vocabulary.hex()
    usual = SETTINGS["swarm"].default
    if config.swarm not in {usual, invite.name}:
        raise _conflict("swarm", config.swarm, invite.name, invited)
    if config.charter not in {"", swarm}:
        raise _conflict("charter", config.charter, swarm, invited)
    fits = config.vocabulary == "auto" or vocabulary.startswith(config.vocabulary)
    if vocabulary and not fits:
        raise _conflict("vocabulary", config.vocabulary, vocabulary, invited)
    return replace(
        config,
        swarm=invite.name,
        charter=swarm,
        closed=config.closed or bool(invite.ticket),
        vocabulary=vocabulary if fits and vocabulary else config.vocabulary,
    )


def _conflict(name: str, ours: str, theirs: str, invited: Invited) -> UsageError:
    whose, remedy = f"the invite {invited.shown}", "leave one of the two out"
    if invited.kept_in is not None:
        whose = f"the invite with which this folder joined ({invited.kept_in})"
        remedy = "leave the setting out, or use another folder with --data-dir"
    return UsageError(f"the setting {name} is {ours!r}, and {whose} names {theirs!r}; {remedy}")


def moment(unix_ms: int) -> str:
    """In UTC; far outside the calendar, the number itself."""
    try:
        return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return f"{unix_ms} ms"


def shown(line: str) -> str:
    """The beginning of a line, in quotes, for a sentence."""
    return repr(line[:SHOWN] + ("…" if len(line) > SHOWN else ""))


def now_ms() -> int:
    return time.time_ns() // 1_000_000
