"""A key file is whole or not there, opens for its passphrase alone, and is never replaced."""

from __future__ import annotations

import os
import pty
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.operator_keys import new_key, pub_path, read_key, read_public, verify
from swarmllm.errors import LocalError, UsageError
from tests.cli.command import command, environment, run
from tests.cli.operators.conftest import PASSPHRASE, Desk


def test_a_key_signs_after_a_round_trip(tmp_path: Path) -> None:
    made = new_key(tmp_path / "ann.key", "ann", PASSPHRASE)
    found = read_key(tmp_path / "ann.key")
    assert found == made
    assert verify(found.public_key, b"words", found.unseal(PASSPHRASE)(b"words"))
    assert (
        read_public(str(tmp_path / "ann.key"))
        == read_public(str(tmp_path / "ann.pub"))
        == made.public_key
    )
    assert read_public(made.public_key.hex().upper()) == made.public_key


def test_two_keys_of_one_passphrase_share_nothing(tmp_path: Path) -> None:
    one, two = (new_key(tmp_path / f"{name}.key", "ann", PASSPHRASE) for name in "ab")
    assert one.public_key != two.public_key
    assert one.sealed[:28] != two.sealed[:28]


def test_a_passphrase_is_the_same_however_a_system_composes_its_letters(tmp_path: Path) -> None:
    key = new_key(tmp_path / "ann.key", "ann", unicodedata.normalize("NFD", "ünïcödé wörds"))
    key.unseal(unicodedata.normalize("NFC", "ünïcödé wörds"))


@given(st.text(max_size=40).filter(lambda text: text != PASSPHRASE))
def test_no_other_passphrase_opens_a_key(
    tmp_path_factory: pytest.TempPathFactory, other: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "sealed.key"
    key = read_key(path) if path.exists() else new_key(path, "ann", PASSPHRASE)
    with pytest.raises(LocalError, match="does not open"):
        key.unseal(other)


def test_a_wrong_passphrase_is_one_sentence_and_code_1(desk: Desk) -> None:
    Path("pass").write_text("another passphrase")
    assert "the passphrase does not open the key ann.key" in desk.refused(
        1, "keys", "show", "ann.key", "--check"
    )
    before = Path("c1").read_bytes()
    assert "cy.key" in desk.refused(1, "charter", "sign", "c1", "--key", "cy.key")
    assert Path("c1").read_bytes() == before


@given(st.data())
def test_any_flipped_byte_in_a_key_file_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.key"
    if not path.exists():
        new_key(path, "ann", PASSPHRASE)
    whole = path.read_bytes()
    at, flip = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    try:
        path.write_bytes(whole[:at] + bytes((whole[at] ^ flip,)) + whole[at + 1 :])
        with pytest.raises(LocalError, match=r"damaged|no operator's key file|another version"):
            read_key(path)
    finally:
        path.write_bytes(whole)


def test_a_key_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = new_key(tmp_path / "ann.key", "ann", PASSPHRASE).path
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(LocalError, match=r"ann\.key"):
            read_key(path)


def test_a_key_with_another_public_half_does_not_open(tmp_path: Path) -> None:
    """Whoever may write the file cannot make its owner sign with a key that others think is
    theirs."""
    ann, eve = (new_key(tmp_path / f"{name}.key", "ann", PASSPHRASE) for name in ("ann", "eve"))
    mixed = type(ann)(ann.name, eve.public_key, ann.sealed, ann.path)
    with pytest.raises(LocalError, match="does not open"):
        mixed.unseal(PASSPHRASE)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o602])
def test_a_key_that_others_may_read_or_write_is_refused_with_the_remedy(
    desk: Desk, mode: int
) -> None:
    Path("ann.key").chmod(mode)
    assert "chmod 600 ann.key" in desk.refused(1, "charter", "sign", "c1", "--key", "ann.key")


def test_links_folders_and_strange_files_are_no_keys(desk: Desk) -> None:
    Path("link.key").symlink_to("ann.key")
    assert "link" in desk.refused(1, "keys", "show", "link.key")
    assert "regular file" in desk.refused(
        1, "keys", "show", "home" if Path("home").exists() else "."
    )
    os.mkfifo("pipe.key", 0o600)
    assert "regular file" in desk.refused(1, "keys", "show", "pipe.key")
    assert "absent.key" in desk.refused(1, "keys", "show", "absent.key")
    Path("big.key").write_bytes(b"x" * 100_000)
    assert "larger" in desk.refused(1, "keys", "show", "big.key")
    Path("rsa.key").write_text(
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n"
    )
    Path("rsa.key").chmod(0o600)
    assert "no operator's key file" in desk.refused(1, "keys", "show", "rsa.key")


@pytest.mark.parametrize("taken", ["new.key", "new.pub"])
@pytest.mark.parametrize("link", [False, True])
def test_nothing_is_ever_overwritten(desk: Desk, taken: str, link: bool) -> None:
    if link:
        Path(taken).symlink_to("nowhere")
    else:
        Path(taken).write_text("precious")
    before = sorted(os.listdir())
    assert "not overwritten" in desk.refused(1, "keys", "new", "new")
    assert sorted(os.listdir()) == before
    assert link or Path(taken).read_text() == "precious"


def test_a_key_file_is_for_its_owner_alone_whatever_the_umask(desk: Desk) -> None:
    before = os.umask(0)
    try:
        done = desk.ok("keys", "new", "dan", "--json")
    finally:
        os.umask(before)
    assert Path("dan.key").stat().st_mode & 0o777 == 0o600
    key = read_key(Path("dan.key"))
    (record,) = done.records()
    assert record["key_id"] == key.id.hex()
    assert record["public_key"] == key.public_key.hex()
    assert (
        PASSPHRASE
        not in done.out + done.err + Path("dan.key").read_text() + Path("dan.pub").read_text()
    )


STEPS = ("open", "write", "fsync", "link", "unlink", "close")


def test_killed_between_any_two_steps_leaves_no_half_key(tmp_path: Path) -> None:
    """Each child is killed before its n-th call to the system; what it leaves is nothing or a whole
    key, and never a half one."""
    kept = 0
    for step in range(1, 60):
        path = tmp_path / str(step) / "ann.key"
        path.parent.mkdir()
        if (child := os.fork()) == 0:
            _die_at(step)
            new_key(path, "ann", PASSPHRASE)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if path.exists():
            kept += 1
            read_key(path).unseal(PASSPHRASE)
            assert path.stat().st_mode & 0o777 == 0o600
        assert not pub_path(path).exists() or read_public(str(pub_path(path))) == read_public(
            str(path)
        )
        if code == 0:
            assert step > 10
            assert kept > 1
            return
        assert code == 9
    pytest.fail("it was killed at every step")


def _die_at(step: int) -> None:
    calls = 0

    def counted(real: object) -> object:
        def call(*values: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            if calls == step:
                os._exit(9)
            return real(*values, **named)  # type: ignore[operator]

        return call

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(LocalError, match="the disk is full"):
        new_key(tmp_path / "ann.key", "ann", PASSPHRASE)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(desk: Desk) -> None:
    assert "absent/dan.key" in desk.refused(1, "keys", "new", "dan", "--out", "absent/dan.key")


@pytest.mark.parametrize("name", ["", "-x", "a/b", "ä", "a" * 33, "a\nb", ".hidden"])
def test_names_that_could_be_taken_for_something_else_are_refused(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError, match="no name for a key"):
        new_key(tmp_path / "x.key", name, PASSPHRASE)


# --- passphrases ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"short\n", 2), (b"", 1), (b"one two three\nfour\n", 1), (b"\xff" * 20, 1)],
)
def test_a_passphrase_file_has_one_line_of_text_that_is_long_enough(
    desk: Desk, content: bytes, code: int
) -> None:
    Path("pass").write_bytes(content)
    assert "passphrase" in desk.refused(code, "keys", "new", "dan")
    assert not Path("dan.key").exists()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o606])
def test_a_passphrase_file_that_others_can_read_or_change_is_refused(desk: Desk, mode: int) -> None:
    Path("pass").chmod(mode)
    assert f"chmod 600 {Path('pass').absolute()}" in desk.refused(
        1, "keys", "show", "ann.key", "--check"
    )
    assert "chmod 600" in desk.refused(1, "keys", "new", "dan", "--passphrase-file", "pass")
    assert not Path("dan.key").exists()
    Path("pass").chmod(0o400)
    desk.ok("keys", "show", "ann.key", "--check")


def test_a_passphrase_in_a_variable_is_refused_with_the_way_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ignored in silence, it would look as if it had been used; and every child would have it."""
    monkeypatch.setenv("SWARMLLM_PASSPHRASE", PASSPHRASE)
    assert "SWARMLLM_PASSPHRASE_FILE" in desk.refused(2, "keys", "show", "ann.key", "--check")
    assert "SWARMLLM_PASSPHRASE_FILE" in desk.refused(2, "keys", "new", "dan")


def test_without_a_terminal_the_way_out_is_named(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SWARMLLM_PASSPHRASE_FILE")
    assert "--passphrase-file" in desk.refused(2, "keys", "new", "dan")


@pytest.mark.parametrize(("second", "code"), [(PASSPHRASE, 0), ("something else", 2)])
def test_a_typed_passphrase_is_asked_twice_and_never_shown(
    tmp_path: Path, second: str, code: int
) -> None:
    """The real command on a terminal of its own, at the real price of a guess."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(sys.executable, command("keys", "new", "ann"), environment(tmp_path))
    seen = _type(terminal, [(b"new key ann: ", PASSPHRASE), (b"Once more: ", second)])
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code, seen
    assert PASSPHRASE.encode() not in seen
    assert second.encode() not in seen
    assert (tmp_path / "ann.key").exists() == (code == 0)
    if code == 0:
        (tmp_path / "pass").write_text(PASSPHRASE)
        (tmp_path / "pass").chmod(0o600)
        done = run(
            tmp_path,
            "keys",
            "show",
            str(tmp_path / "ann.key"),
            "--check",
            "--passphrase-file",
            str(tmp_path / "pass"),
        )
        assert done.code == 0, done


def _type(terminal: int, talk: list[tuple[bytes, str]]) -> bytes:
    """Answer each question when it has been asked; all that the terminal showed."""
    seen = b""
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # How a terminal says that nobody is there any more.
            break
        if not piece:
            break
        seen += piece
        if talk and talk[0][0] in seen:
            os.write(terminal, talk.pop(0)[1].encode() + b"\n")
    os.close(terminal)
    return seen
