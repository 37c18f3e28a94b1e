"""A validation in a process of its own: `swarmllm validate set`, at the lowest priority, so that a
node that answers others has its processor. Killed when it takes too long, or when nobody wants it
any more. What was simulated is kept in the data folder, by content."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import trio

from swarmllm.adapters.atomic_file import read_bounded
from swarmllm.core.settings.setting import Setting
from swarmllm.core.validation.report import BYTES_MAX, Report, read_report
from swarmllm.errors import LocalError

SECONDS: Final = 240.0  # Of simulating; what was found by then counts, if it is enough.
PAIRS: Final = 16
GRACE_S: Final = 60.0  # For starting, and for the pair that runs when time is up.
NICE: Final = 19
FOLDER: Final = "validations"
ERROR_BYTES: Final = 2_000
COMMAND: Final = (sys.executable, "-m", "swarmllm", "validate", "set")


class ValidationProcess:
    """`runtime.agent.performer.Validator` for the node of this data folder. `seconds` and `pairs`
    bound a validation; `command` is what is run, `nice` its priority, if it is no
    higher than ours."""

    def __init__(
        self,
        data_dir: Path,
        seconds: float = SECONDS,
        pairs: int = PAIRS,
        command: Sequence[str] = COMMAND,
        nice: int = NICE,
    ) -> None:
        self._data_dir, self._seconds, self._pairs = data_dir, seconds, pairs
        self._command, self._nice = tuple(command), nice
        self._one = trio.CapacityLimiter(1)  # A node has one processor to spare at most.

    async def validate(self, setting: Setting[Any], value: int) -> Report:
        """LocalError, in a sentence, if no report comes of it."""
        out = self._data_dir / FOLDER / f"agent-{setting.key}-{value}.json"
        arguments = (
            *self._command,
            *(setting.key, str(value), "--json", "--out", str(out)),
            *("--seconds", f"{self._seconds:g}", "--pairs", str(self._pairs)),
            *("--data-dir", str(self._data_dir)),
        )
        async with self._one:
            out.parent.mkdir(mode=0o700, exist_ok=True)
            out.unlink(missing_ok=True)
            await self._run(arguments)
            report = read_report(read_bounded(out, BYTES_MAX, "the report"))
        if (report.case.setting, report.case.value) != (setting, value):
            raise LocalError(f"{out} is a report on another change: {report.case.setting.key}")
        return report

    async def _run(self, arguments: Sequence[str]) -> None:
        process = await trio.lowlevel.open_process(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        said = b""
        try:
            give_way(process.pid, self._nice)
            with trio.move_on_after(self._seconds + GRACE_S) as waiting:
                assert process.stderr is not None
                async for piece in process.stderr:
                    said = (said + piece)[-ERROR_BYTES:]
                await process.wait()
        finally:
            # Nobody waits for it any more, or it has ended.
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                if process.stderr is not None:
                    await process.stderr.aclose()
        if waiting.cancelled_caught:
            raise LocalError(
                f"the validation did not end within {self._seconds + GRACE_S:.0f} s, and was killed"
            )
        if process.returncode:
            last = said.decode("utf-8", "replace").strip().splitlines()
            why = last[-1][:200] if last else f"code {process.returncode}"
            raise LocalError(f"the validation failed: {why}")


def give_way(pid: int, nice: int) -> None:
    """Set the priority of a process that leads a session; never higher than ours, which is not ours
    to give.

    Linux shares its processors among sessions first, where autogroups are on as on most desktops
    (sched(7)): there the number of the process means nothing to other sessions, and that of its
    session has to be set as well. `SCHED_IDLE` beside it lets others be woken onto a processor that
    this process alone keeps busy (measured in docs/agent.md: with the number alone users waited
    a third longer for a token).
    """
    nice = max(nice, os.getpriority(os.PRIO_PROCESS, 0))
    os.setpriority(os.PRIO_PROCESS, pid, nice)
    with suppress(OSError):  # Other systems and kernels without autogroups have no such file.
        Path(f"/proc/{pid}/autogroup").write_text(f"{nice}", encoding="ascii")
    if nice == NICE and hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
