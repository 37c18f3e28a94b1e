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

from swarmllm.adapters.data_marker import FIRST_LINE, MARKER
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
    child = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
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


def test_a_second_node_in_the_same_process_is_refused_and_one_after_the_other_is_not(
    tmp_path: Path,
) -> None:
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
        worker = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        )
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
    [
        (errno.ENOSPC, "its disk is full"),
        (errno.EDQUOT, "its disk is full"),
        (errno.EROFS, "Read-only file system"),
    ],
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


def test_default_folders_follow_the_environment_and_are_not_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.platform != "linux":
        pytest.skip("XDG variables are Linux's convention")
    for name in ("CONFIG", "DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    folders = default_folders()
    assert folders.config_dir == tmp_path / "CONFIG" / "swarmllm"
    assert folders.data_dir == tmp_path / "DATA" / "swarmllm"
    assert folders.cache_dir == tmp_path / "CACHE" / "swarmllm"
    assert list(tmp_path.iterdir()) == []


# --- whose folder it is ---------------------------------------------------------------------------


def test_a_new_or_empty_folder_gets_the_marker(tmp_path: Path) -> None:
    for path in (tmp_path / "new", make_folder(tmp_path / "empty")):
        with locked(path):
            assert (path / MARKER).read_bytes().startswith(FIRST_LINE)
        with locked(path):
            pass


OURS = [
    {"identity.pem": "-----BEGIN PRIVATE KEY-----\n", "identity.pem.old": ""},
    {"store.sqlite": "", "notes.txt": "mine"},
    {"config.toml": "version = 1\n"},
    {"lock": "1\n", "node.log": "", "control.sock": ""},
    {"STOP": ""},
    {MARKER: FIRST_LINE.decode() + "words", "whatever": "I put there"},
]


@pytest.mark.parametrize("files", OURS, ids="+".join)
def test_a_folder_that_an_older_version_made_or_its_owner_prepared_gets_the_marker_in_silence(
    tmp_path: Path, files: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with locked(tmp_path):
        assert (tmp_path / MARKER).read_bytes().startswith(FIRST_LINE)
    assert capfd.readouterr() == ("", "")


FOREIGN = [
    {"identity.key": "binary", "config.toml": "[node]\n"},
    {"identity.pem": "another kind of key", "shards": ""},
    {"db": "", "lock": "", "node.log": ""},
    {"one": "", "two": "", "three": "", "four": ""},
]


@pytest.mark.parametrize("files", FOREIGN, ids="+".join)
def test_a_folder_of_another_program_is_refused_by_name_and_left_as_it_is(
    tmp_path: Path, files: dict[str, str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with (
        pytest.raises(
            LocalError, match=r"another program's of the same name; .* --data-dir"
        ) as caught,
        locked(tmp_path),
    ):
        pytest.fail("took another program's folder")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_a_marker_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text("swarmllm data folder, version 2\n")
    with pytest.raises(LocalError, match=f"the marker {tmp_path / MARKER}"), locked(tmp_path):
        pytest.fail("took a folder that it does not understand")


def test_a_full_disk_leaves_no_half_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        with pytest.raises(LocalError, match="its disk is full"), locked(tmp_path):
            pytest.fail("held a folder without a marker")
    with locked(tmp_path):
        assert (tmp_path / MARKER).read_bytes().startswith(FIRST_LINE)
