"""However a command ends, it ends with one sentence and the right code."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
import trio

from swarmllm.cli.guard import guarded, run
from swarmllm.errors import HaltedError, LocalError, UsageError


def raising(error: BaseException) -> Callable[[], int]:
    def body() -> int:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LocalError("the disk is full"), 1),
        (UsageError("the prompt is empty"), 2),
        (HaltedError("the swarm is halted"), 3),
        (
            ExceptionGroup(
                "nursery", [ExceptionGroup("nursery", [UsageError("the prompt is empty")])]
            ),
            2,
        ),
        (BaseExceptionGroup("nursery", [KeyboardInterrupt(), LocalError("the disk is full")]), 1),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 0),
        (MemoryError(), 1),
        (ZeroDivisionError("division by zero"), 1),
        (SystemExit(5), 5),
    ],
)
def test_every_end_has_its_code_and_at_most_one_sentence(
    error: BaseException, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert guarded(raising(error)) == code
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    assert shown.err.count("swarmllm: ") == (0 if code in {0, 5, 130} else 1)


def test_errors_pass_through_the_event_loop() -> None:
    async def body() -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise UsageError("the prompt is empty")

    assert guarded(lambda: run(body)) == 2


def test_the_result_of_the_program_is_its_code() -> None:
    async def body() -> int:
        await trio.lowlevel.checkpoint()
        return 7

    assert run(body) == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("is_async", [True, False])
def test_whoever_ends_a_command_interrupts_it(number: signal.Signals, is_async: bool) -> None:
    cleaned = []

    async def body() -> int:
        try:
            signal.raise_signal(number)
            await trio.sleep(10)
            return 0
        finally:
            cleaned.append(True)

    def plain() -> int:
        signal.raise_signal(number)
        return 0

    # Under nohup these tests would begin with a signal that is ignored, and stays so.
    inherited = signal.signal(number, signal.SIG_DFL)
    try:
        assert guarded(lambda: run(body) if is_async else plain()) == 130
        assert cleaned == [True] * is_async
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, inherited)


def test_nohup_stays_in_force() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def body() -> int:
        signal.raise_signal(signal.SIGHUP)
        return 0

    try:
        assert guarded(body) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("when", ["prepare", "app"])
def test_ctrl_c_before_and_after_a_command_shows_no_traceback(when: str) -> None:
    """While modules are imported, and while the interpreter ends."""
    program = (
        "import atexit, signal, sys; import swarmllm.cli.streams as streams, swarmllm.cli as cli\n"
        "def interrupt(): signal.raise_signal(signal.SIGINT)\n"
        f"if {when!r} == 'prepare': streams.prepare = interrupt\n"
        "else: atexit.register(interrupt)\n"
        "cli.main(['--version'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=False
    )
    assert done.stderr == b""
    assert done.returncode == (130 if when == "prepare" else 0)
