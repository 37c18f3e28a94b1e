"""A validation in a process of its own: what it says is read as anybody's, and it never outlives
its time."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
import trio

from swarmllm.adapters import validation_process
from swarmllm.adapters.validation_process import ValidationProcess
from swarmllm.core.settings.table import EXTRA, WAIT_COST
from swarmllm.core.validation.report import encode_report
from swarmllm.errors import LocalError
from tests.core.validation.cases import BETTER, case, report

MADE = report(case(EXTRA, 2), BETTER)
WRITES = "import shutil,sys; shutil.copy({source!r}, sys.argv[sys.argv.index('--out') + 1])"


def process(folder: Path, code: str, seconds: float = 20.0) -> ValidationProcess:
    return ValidationProcess(folder, seconds, 8, (sys.executable, "-c", code))


def writing(folder: Path) -> str:
    source = folder / "made.json"
    source.write_bytes(encode_report(MADE))
    return WRITES.format(source=str(source))


def test_its_report_is_read(tmp_path: Path) -> None:
    found = trio.run(process(tmp_path, writing(tmp_path)).validate, EXTRA, 2)
    assert found.digest == MADE.digest


def test_it_runs_at_the_lowest_priority_and_is_told_its_bounds(tmp_path: Path) -> None:
    code = (
        "import os,sys,time\n"
        "while os.getpriority(os.PRIO_PROCESS, 0) != 19: time.sleep(0.01)\n"
        "sys.exit(f'{os.getpriority(os.PRIO_PROCESS, 0)} {sys.argv[1:3]} {sys.argv[-6:-2]}')"
    )
    with pytest.raises(LocalError) as raised:
        trio.run(process(tmp_path, code).validate, EXTRA, 2)
    assert "19 ['router.hedging_extra', '2'] ['--seconds', '20', '--pairs', '8']" in str(
        raised.value
    )


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="no autogroups here")
def test_its_whole_session_gives_way_to_others(tmp_path: Path) -> None:
    code = (
        "import os,sys,time\n"
        "while os.sched_getscheduler(0) != os.SCHED_IDLE: time.sleep(0.01)\n"
        "sys.exit(open('/proc/self/autogroup').read())"
    )
    with pytest.raises(LocalError, match="nice 19"):
        trio.run(process(tmp_path, code).validate, EXTRA, 2)


def test_it_runs_at_the_priority_that_it_is_given_and_never_above_ours(tmp_path: Path) -> None:
    code = "import os,sys; sys.exit(f'at {os.getpriority(os.PRIO_PROCESS, 0)}')"
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    validation = ValidationProcess(tmp_path, command=(sys.executable, "-c", code), nice=ours - 1)
    with pytest.raises(LocalError, match=f"at {ours}$"):
        trio.run(validation.validate, EXTRA, 2)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("raise SystemExit('the swarm has no expert')", "failed: the swarm has no expert"),
        ("import sys; sys.exit(7)", "failed: code 7"),
        ("pass", "the report"),
        ("import sys; sys.stderr.write('x' * 10**6); sys.exit(1)", "failed: x"),
        (
            "import sys; open(sys.argv[sys.argv.index('--out') + 1], 'w').write('{}')",
            "report",
        ),
    ],
)
def test_whatever_else_comes_of_it_is_one_sentence(
    tmp_path: Path, code: str, sentence: str
) -> None:
    with pytest.raises(LocalError, match=sentence) as raised:
        trio.run(process(tmp_path, code).validate, EXTRA, 2)
    assert len(str(raised.value)) < 600


def test_a_report_on_another_change_is_none_on_this_one(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="another change"):
        trio.run(process(tmp_path, writing(tmp_path)).validate, WAIT_COST, 3)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


SLEEPS = "import os,sys,time; open({mark!r}, 'w').write(str(os.getpid())); time.sleep(600)"


def test_one_that_never_ends_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation_process, "GRACE_S", 0.0)
    mark = tmp_path / "pid"
    slow = process(tmp_path, SLEEPS.format(mark=str(mark)), seconds=1.0)
    with pytest.raises(LocalError, match="did not end within 1 s, and was killed"):
        trio.run(slow.validate, EXTRA, 2)
    assert not mark.exists() or not _is_alive(int(mark.read_text()))


def test_one_that_nobody_wants_any_more_is_killed_at_once(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    slow = process(tmp_path, SLEEPS.format(mark=str(mark)))

    async def body() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.validate, EXTRA, 2)
            until = time.monotonic() + 60
            while not (mark.exists() and mark.read_text()) and time.monotonic() < until:  # noqa: ASYNC110
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

    trio.run(body)
    assert not _is_alive(int(mark.read_text()))
