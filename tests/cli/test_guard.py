"""However a command ends, it ends with one sentence and the right code."""

from __future__ import annotations

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
