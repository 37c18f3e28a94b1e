"""One data folder is one node: the second is refused by name, and the dead hold nothing."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from swarmllm.adapters.datadir import default_folders, holder_of, locked, make_folder
from swarmllm.errors import LocalError

_HOLD = (
    "import sys, pathlib\n"
    "from swarmllm.adapters.datadir import locked\n"
    "with locked(pathlib.Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


def _holder(path: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_a_second_node_is_refused_with_the_folder_and_the_process(tmp_path: Path) -> None:
    path = tmp_path / "node"
    with _holder(path) as child:
        try:
            with pytest.raises(LocalError) as caught, locked(path):
                pytest.fail("two nodes on one folder")
            assert str(path) in str(caught.value)
            assert f"process {child.pid}" in str(caught.value)
            assert holder_of(path) == child.pid
        finally:
            child.kill()


def test_a_killed_node_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "node"
    with _holder(path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert (path / "lock").read_text().strip() == str(child.pid)
    assert holder_of(path) is None
    with locked(path) as data_dir:
        assert data_dir.lock_file.read_text().strip() == str(os.getpid())


def test_a_second_node_in_the_same_process_is_refused_and_one_after_the_other_is_not(tmp_path: Path) -> None:
    with locked(tmp_path / "node") as first:
        with pytest.raises(LocalError, match=f"process {os.getpid()}"), locked(first.path):
            pytest.fail("two nodes on one folder")
        with locked(tmp_path / "other"):
            pass
    with locked(first.path):
        pass


def test_a_worker_process_does_not_keep_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "node"
    with locked(path):
        program = "import sys; print('up', flush=True); sys.stdin.read()"
        worker = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
    with worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"up\n"
            with locked(path):
                pass
        finally:
            worker.kill()


def test_whatever_stands_in_a_stale_lock_is_harmless(tmp_path: Path) -> None:
    for text in ("", "999999999", "not a number\n" * 100):
        (tmp_path / "lock").write_text(text)
        assert holder_of(tmp_path) is None
        with locked(tmp_path):
            assert holder_of(tmp_path) == os.getpid()


def test_a_new_folder_is_private_and_its_parents_are_made(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with locked(tmp_path / "a" / "b") as data_dir:
            assert stat.S_IMODE(data_dir.path.stat().st_mode) == 0o700
            assert stat.S_IMODE(data_dir.lock_file.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_folder_that_others_can_write_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "node"
    path.mkdir()
    path.chmod(0o775)
    with pytest.raises(LocalError, match=f"chmod 700 {path}"), locked(path):
        pytest.fail("held a folder of everybody's")


def test_a_file_in_its_place_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "node"
    path.write_text("")
    with pytest.raises(LocalError, match="is a file"):
        make_folder(path)
    with pytest.raises(LocalError, match=r"cannot create.*--cache-dir"):
        make_folder(path / "below", "--cache-dir")


def test_a_lock_that_is_a_link_elsewhere_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = make_folder(tmp_path / "node")
    (path / "lock").symlink_to(victim)
    with pytest.raises(LocalError, match="cannot write to the data folder"), locked(path):
        pytest.fail("followed a link")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize(
    ("code", "says"),
    [(errno.ENOSPC, "its disk is full"), (errno.EDQUOT, "its disk is full"), (errno.EROFS, "Read-only file system")],
)
def test_a_disk_that_takes_nothing_is_a_sentence_and_the_lock_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, says: str
) -> None:
    def refuse(fd: int, data: bytes, offset: int) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        with pytest.raises(LocalError, match=says), locked(tmp_path):
            pytest.fail("held a folder that cannot be written")
    with locked(tmp_path):
        pass


def test_default_folders_follow_the_environment_and_are_not_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("XDG variables are Linux's convention")
    for name in ("CONFIG", "DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    folders = default_folders()
    assert folders.config_dir == tmp_path / "CONFIG" / "swarmllm"
    assert folders.data_dir == tmp_path / "DATA" / "swarmllm"
    assert folders.cache_dir == tmp_path / "CACHE" / "swarmllm"
    assert list(tmp_path.iterdir()) == []
