"""Laws of temporary folders: they go with their command, and with the next one if it was killed;
nobody else's are touched."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from swarmllm.adapters.temporary_folder import PREFIX, sweep, temporary_folder

CHILD = """
import sys
from swarmllm.adapters.temporary_folder import temporary_folder
with temporary_folder() as folder:
    (folder / "identity.pem").write_text("secret")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_private_and_goes_with_its_block(parent: Path) -> None:
    def broken_off() -> None:
        with temporary_folder() as folder:
            assert folder.stat().st_mode & 0o777 == 0o700
            (folder / "deep").mkdir()
            (folder / "deep" / "file").write_bytes(b"x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken_off()
    assert [*parent.iterdir()] == []


def test_a_folder_that_is_kept_stays_and_is_never_swept(parent: Path) -> None:
    with temporary_folder(keep=True) as folder:
        pass
    sweep()
    assert [*parent.iterdir()] == [folder]


def test_what_a_killed_command_left_goes_with_the_next_one_and_not_before(parent: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(parent)},
    )
    assert child.stdout is not None
    folder = Path(child.stdout.readline().strip())
    try:
        sweep()
        assert (folder / "identity.pem").exists()  # Its owner lives.
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    assert folder.parent == parent
    assert folder.exists()
    with temporary_folder() as next_one:
        assert [*parent.iterdir()] == [next_one]


def test_others_folders_links_and_files_are_not_touched(parent: Path) -> None:
    elsewhere = parent / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "file").write_bytes(b"x")
    (parent / f"{PREFIX}link").symlink_to(elsewhere)
    (parent / f"{PREFIX}file").write_bytes(b"x")
    (parent / f"{PREFIX}open").mkdir(mode=0o755)  # Not as we make them.
    (parent / "swarmllm-0").mkdir(mode=0o700)
    before = sorted(parent.iterdir())
    sweep()
    assert sorted(parent.iterdir()) == before
    assert (elsewhere / "file").exists()


def test_a_folder_that_is_swept_away_before_it_is_locked_is_made_again(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list[str]()

    def mkdtemp(prefix: str) -> str:
        made.append(real(prefix=prefix))
        if len(made) == 1:
            shutil.rmtree(made[0])
        return made[-1]

    real = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    with temporary_folder() as folder:
        assert [str(folder)] == made[1:]
        assert folder.is_dir()


def test_a_folder_that_somebody_else_has_locked_is_left_to_him(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list[str]()
    fds = list[int]()

    def mkdtemp(prefix: str) -> str:
        made.append(real(prefix=prefix))
        if len(made) == 1:
            fds.append(os.open(made[0], os.O_RDONLY))
            fcntl.flock(fds[0], fcntl.LOCK_EX)
        return made[-1]

    real = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    with temporary_folder() as folder:
        assert [str(folder)] == made[1:]
    os.close(fds[0])
