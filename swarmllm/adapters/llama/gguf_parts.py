"""A model in several files, and the digest of all of them.

llama.cpp splits a large model into NAME-00001-of-00003.gguf and so on. Each part is a GGUF file
that says which part of how many it is; the first one alone has the vocabulary. Whichever part is
named, all of them are the model: one part alone says nothing of the weights in the others, so a
digest of it would be that of other models too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from swarmllm.adapters.llama.cache_file import replacing
from swarmllm.adapters.llama.gguf_format import Value, read_metadata
from swarmllm.errors import LocalError, SwarmError

SPLIT_KEYS: Final = frozenset({"split.no", "split.count"})
# Of 40 MB or more each, as people make them; the format's 65,535 would be looked for one by one.
PARTS_MAX: Final = 1000
DIGEST_CHUNK: Final = 1 << 20

_NAME: Final = re.compile(r"(?P<stem>.*)-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


def parts_of(path: Path) -> tuple[Path, ...]:
    """All files of the model that `path` is or is a part of, in order. LocalError, naming the file,
    if one is missing or is no part.

    What the other parts hold is not looked at here.
    """
    return siblings(path, place_of(path, read_metadata(path, SPLIT_KEYS))[0])


def siblings(path: Path, count: int) -> tuple[Path, ...]:
    """The `count` parts beside `path`. LocalError for the first that is not there."""
    if count == 1:
        return (path,)
    parts = tuple(_sibling(path, n, count) for n in range(1, count + 1))
    for part in parts:
        if not part.exists():
            raise LocalError(
                f"{part} is missing: {path.name} is one of {count} parts of a model,"
                " which must all be in one folder; fetch the missing one as well"
            )
    return parts


def place_of(path: Path, found: Mapping[str, Value]) -> tuple[int, int]:
    """(how many parts the model has, which one this is, from 1). LocalError if the file's name says
    otherwise than its content."""
    count, number = found.get("split.count", 1), found.get("split.no", 0)
    for value in (count, number):
        if isinstance(value, bool) or not isinstance(value, int):
            raise LocalError(
                f"{path} does not say which part of a model it is:"
                " split the model again with llama-gguf-split"
            )
    assert isinstance(count, int)
    assert isinstance(number, int)
    if count <= 1:
        return 1, 1
    if count > PARTS_MAX or not 0 <= number < count:
        raise LocalError(
            f"{path} says that it is part {number + 1} of {count},"
            f" and at most {PARTS_MAX} can be read: join them first"
        )
    named = _NAME.fullmatch(path.name)
    if named is None or (int(named["part"]), int(named["count"])) != (number + 1, count):
        raise LocalError(
            f"{path} is part {number + 1} of {count} of a model but not named so:"
            f" give it back its name, which ends in -{number + 1:05}-of-{count:05}.gguf"
        )
    return count, number + 1


def is_later_part(path: Path) -> bool:
    """Whether the name says that this is a part of a model whose first part is there too, so that
    the model is listed already."""
    named = _NAME.fullmatch(path.name)
    return (
        named is not None
        and int(named["part"]) > 1
        and _sibling(path, 1, int(named["count"])).exists()
    )


def _sibling(path: Path, number: int, count: int) -> Path:
    named = _NAME.fullmatch(path.name)
    assert named is not None
    return path.with_name(f"{named['stem']}-{number:05}-of-{count:05}.gguf")


# --- the digest -----------------------------------------------------------------------------------


def digest_of(parts: Sequence[Path], cache_dir: Path | None) -> bytes:
    """SHA-256 of the content of all parts, one after another. It is remembered in `cache_dir` by
    each file's path, size, time of change and inode, because 5 GB take seconds. LocalError if a
    file changes meanwhile; OSError if it cannot be read."""
    key = [_stamp(part) for part in parts]
    place = None
    if cache_dir is not None:
        place = (
            cache_dir
            / "digests"
            / (hashlib.sha256(os.fsencode(str(key[0][0]))).hexdigest()[:32] + ".json")
        )
        # A missing or damaged entry costs the time, nothing else.
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(place.read_text())
            if kept["files"] == key and len(digest := bytes.fromhex(kept["sha256"])) == 32:
                return digest
    running = hashlib.sha256()
    for part, stamp in zip(parts, key, strict=True):
        with part.open("rb") as file:
            while chunk := file.read(DIGEST_CHUNK):
                running.update(chunk)
        if _stamp(part) != stamp:
            raise LocalError(
                f"the model file {part} changed while it was read: wait until it is complete,"
                " then try again"
            )
    if place is not None:
        # A full disk must not keep a model from serving.
        with suppress(OSError), replacing(place) as out:
            out.write(json.dumps({"files": key, "sha256": running.hexdigest()}).encode())
    return running.digest()


class Hashing:
    """`digest_of` in a thread of its own, beside the loading of the model."""

    def __init__(self, parts: Sequence[Path], cache_dir: Path | None) -> None:
        self._parts, self._cache_dir = parts, cache_dir
        self._found: bytes | SwarmError | OSError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self) -> bytes:
        """Waits for it. LocalError if the files could not be read to their end, or changed
        meanwhile."""
        self._thread.join()
        if isinstance(self._found, bytes):
            return self._found
        if isinstance(self._found, SwarmError):
            raise self._found
        reason = self._found.strerror if isinstance(self._found, OSError) else "the reader failed"
        raise LocalError(
            f"cannot read the model file {self._parts[0]} to its end ({reason}):"
            " check the disk that it is on"
        )

    def _run(self) -> None:
        try:
            self._found = digest_of(self._parts, self._cache_dir)
        except (SwarmError, OSError) as error:
            self._found = error


def _stamp(path: Path) -> list[str | int]:
    seen = path.stat()
    return [str(path.absolute()), seen.st_size, seen.st_mtime_ns, seen.st_ino]
