"""The files by which a service manager starts a node: a user unit of systemd, an agent of launchd.

Both run at low priority, so that the owner's programs come first, but not at idle priority: a node
that gets no time at all would hear of a halt too late. Both start a node again that failed, and
leave one alone that was told to end or that its options are wrong for.
"""

from __future__ import annotations

import plistlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from swarmllm.errors import UsageError

UNIT: Final = "swarmllm.service"
LABEL: Final = "swarmllm.node"
NICE: Final = 10
RESTART_S: Final = 10
STOP_S: Final = 10  # A node ends within two seconds; its last words may take longer on a busy disk.
USAGE: Final = 2  # The exit code of wrong options, which no second try mends.


def systemd_unit(command: Sequence[str], swarm: str) -> str:
    """The text of the unit."""
    words = " ".join(map(systemd_word, command))
    return f"""\
# Written by `swarmllm service install`; `swarmllm service remove` takes it away.
[Unit]
Description=swarmllm node of the swarm {swarm}
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=exec
ExecStart={words}
Restart=on-failure
RestartSec={RESTART_S}
RestartPreventExitStatus={USAGE}
TimeoutStopSec={STOP_S}
KillMode=mixed
# Behind the owner's programs, and not at idle priority: a halt must be heard at once.
Nice={NICE}
IOSchedulingClass=best-effort
IOSchedulingPriority=7
UMask=0077
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""


def systemd_word(word: str) -> str:
    """One word of a command line as systemd reads it: quoted, and neither a variable nor a
    specifier within. UsageError for what no line can hold."""
    if any(ord(character) < 32 or ord(character) == 127 for character in word):
        raise UsageError(
            f"{word!r} holds a character that no line of a unit can hold; choose another"
        )
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def launchd_agent(command: Sequence[str], log: Path) -> bytes:
    """The agent's property list."""
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": list(command),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": RESTART_S,
            "ExitTimeOut": STOP_S,
            "Nice": NICE,
            "LowPriorityIO": True,
            "Umask": 0o077,
            "StandardOutPath": str(log),
            "StandardErrorPath": str(log),
        }
    )
