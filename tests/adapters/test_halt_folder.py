"""Laws of the kill switch's memory: killed at any step, full, damaged or deleted, a folder never
forgets that there was an order."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarmllm.adapters.halt_folder import HaltFolder
from swarmllm.core.halt.state import Applied, HaltState, validate
from swarmllm.core.halt.state_file import (
    FIRST_COPY,
    GENESIS,
    SECOND_COPY,
    STATE_BYTES_MAX,
    Boot,
    load,
    pack_genesis,
    pack_state,
)
from swarmllm.errors import LocalError
from swarmllm.testing.memory_halts import MemoryHalts
from swarmllm.testing.operators import Founders

WE = Founders("halt folder")
STEPS = ("open", "write", "fsync", "replace")
STEPS_MAX = 40  # Three files of some six calls each; the last number tried must be past the end.


def state_of(*records: bytes) -> HaltState:
    state = HaltState(WE.swarm)
    for data in (WE.charter, *records):
        outcome = validate(state, data, lambda *_: True)
        assert isinstance(outcome, Applied), outcome
        state = outcome.state
    return state


RUNNING, HALTED = state_of(), state_of(WE.halt())
GENESIS_BYTES = pack_genesis(WE.swarm)


def booted(folder: HaltFolder | MemoryHalts) -> Boot:
    return load(*folder.load(), private=WE.charter, pinned=WE.swarm)


@pytest.fixture
def folder(tmp_path: Path) -> HaltFolder:
    return HaltFolder(tmp_path)


def every_step(act: Callable[[int], bool]) -> Iterator[int]:
    """Each number of calls after which `act` was cut short; ends when it no longer is."""
    for step in range(STEPS_MAX):
        if not act(step):
            return
        yield step
    raise AssertionError(f"still cut short after {STEPS_MAX} calls")


def dies_after(step: int, work: Callable[[], None]) -> bool:
    """Run `work` in a process that is gone, as by SIGKILL, at its call number `step` to the file
    system; False if it got to its end."""
    child = os.fork()
    if child == 0:
        left = step

        def counted(call: Callable[..., object]) -> Callable[..., object]:
            def wrapped(*arguments: object, **more: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(9)
                return call(*arguments, **more)

            return wrapped

        try:
            for name in STEPS:
                setattr(os, name, counted(getattr(os, name)))
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_kill9_between_every_step_of_persist(tmp_path: Path) -> None:
    def act(step: int) -> bool:
        place = tmp_path / str(step)
        place.mkdir()
        folder = HaltFolder(place)
        folder.save(pack_state(RUNNING, 1), GENESIS_BYTES)
        return dies_after(step, lambda: folder.save(pack_state(HALTED, 2), GENESIS_BYTES))

    steps = list(every_step(act))
    assert len(steps) > 8
    for step in steps:
        boot = booted(HaltFolder(tmp_path / str(step)))
        assert not boot.state.lost
        assert boot.generation in {1, 2}
        assert bool(boot.state.reasons) == (boot.generation == 2)


def test_killed_while_a_new_folder_is_written_it_is_new_whole_or_halted(tmp_path: Path) -> None:
    def act(step: int) -> bool:
        place = tmp_path / str(step)
        place.mkdir()
        return dies_after(
            step, lambda: HaltFolder(place).save(pack_state(HALTED, 1), GENESIS_BYTES)
        )

    for step in every_step(act):
        boot = booted(HaltFolder(tmp_path / str(step)))
        assert boot.is_new or boot.state.reasons


def test_disk_full_at_any_step_is_one_sentence_and_keeps_what_was_there(
    folder: HaltFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.save(pack_state(RUNNING, 1), GENESIS_BYTES)
    real = {name: getattr(os, name) for name in ("write", "fsync", "replace")}
    for step in range(6):
        left = step

        def full(name: str) -> Callable[..., object]:
            def wrapped(*arguments: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return real[name](*arguments)

            return wrapped

        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(os, name, full(name))
            with pytest.raises(LocalError, match="its disk is full"):
                folder.save(pack_state(HALTED, 2 + step), GENESIS_BYTES)
        assert not booted(folder).state.lost
    folder.save(pack_state(HALTED, 99), GENESIS_BYTES)
    assert booted(folder).state.reasons


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_corrupt_first_copy_uses_second(folder: HaltFolder, tmp_path: Path) -> None:
    folder.save(pack_state(HALTED, 7), GENESIS_BYTES)
    damage(tmp_path / FIRST_COPY)
    boot = booted(folder)
    assert boot.generation == 7
    assert boot.state.standing
    assert any(FIRST_COPY in remark for remark in boot.remarks)


def test_corrupt_both_boots_halted(folder: HaltFolder, tmp_path: Path) -> None:
    folder.save(pack_state(RUNNING, 7), GENESIS_BYTES)
    for name in (FIRST_COPY, SECOND_COPY):
        damage(tmp_path / name)
    assert booted(folder).state.reasons


def test_state_deleted_boots_halted(folder: HaltFolder, tmp_path: Path) -> None:
    folder.save(pack_state(RUNNING, 7), GENESIS_BYTES)
    for name in (FIRST_COPY, SECOND_COPY):
        (tmp_path / name).unlink()
    assert (tmp_path / GENESIS).exists()
    assert booted(folder).state.reasons


@pytest.mark.parametrize("kind", ["folder", "link", "huge", "empty"])
def test_what_cannot_be_read_counts_as_damaged_and_never_as_absent(
    folder: HaltFolder, tmp_path: Path, kind: str
) -> None:
    for name in (FIRST_COPY, SECOND_COPY):
        path = tmp_path / name
        match kind:
            case "folder":
                path.mkdir()
            case "link":
                path.symlink_to("/nowhere")
            case "huge":
                path.write_bytes(bytes(STATE_BYTES_MAX + 100))
            case _:
                path.write_bytes(b"")
    first, second, _ = folder.load()
    assert first is not None
    assert second is not None
    assert len(first) <= STATE_BYTES_MAX + 1
    assert booted(folder).state.reasons


def test_files_are_the_owners_alone(folder: HaltFolder, tmp_path: Path) -> None:
    folder.save(pack_state(RUNNING, 1), GENESIS_BYTES)
    assert {path.name for path in tmp_path.iterdir()} == {FIRST_COPY, SECOND_COPY, GENESIS}
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["real", "double"])
def test_what_was_saved_is_what_is_loaded(kind: str, tmp_path: Path) -> None:
    memory: HaltFolder | MemoryHalts = HaltFolder(tmp_path) if kind == "real" else MemoryHalts()
    assert memory.load() == (None, None, None)
    for generation, state in enumerate((RUNNING, HALTED), start=1):
        memory.save(pack_state(state, generation), GENESIS_BYTES)
        assert memory.load() == (
            pack_state(state, generation),
            pack_state(state, generation),
            GENESIS_BYTES,
        )
    assert booted(memory).state == HALTED
