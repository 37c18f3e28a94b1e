"""GGUF files of the Hugging Face hub: looked up, downloaded with resume, checked, and kept in the
hub's own cache.

`huggingface_hub` knows the hub: its cache and its settings (HF_HOME, HF_TOKEN, HF_ENDPOINT,
HF_HUB_OFFLINE), its routes and its errors. The download itself is here, because the library begins
a file anew when its process was killed and does not compare checksums. A file of the cache is whole
and has the SHA-256 that the hub states for it: until then its name ends in `.incomplete`, which the
next attempt goes on with. Plain HTTP throughout: nothing is left to the binary transfer libraries.

Everything here blocks; call it in a thread. It is imported late, because the library takes half a
second to import.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
from huggingface_hub import constants, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import get_hf_file_metadata, repo_folder_name
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # Public by its documentation, not by the letter of its stubs.
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from swarmllm.adapters.llama.cache_file import alone
from swarmllm.adapters.llama.gguf_parts import PARTS_MAX, digest_of
from swarmllm.adapters.models.catalog import Progress
from swarmllm.adapters.models.hub_listing import gguf_files
from swarmllm.errors import FetchError, LocalError, UsageError
from swarmllm.runtime.model_reference import HubModel

ATTEMPTS: Final = 5  # In a row without a byte.
PAUSE_S: Final = 1.0
TIMEOUT_S: Final = 15.0  # Without a byte.
CHUNK_BYTES: Final = 1 << 18
SPARE_BYTES: Final = 16 * 1024 * 1024  # Disk that we leave to others.
SHOWN_MAX: Final = 12  # Names in a sentence.
UNFINISHED: Final = ".incomplete"
MAGIC: Final = b"GGUF"

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SPLIT: Final = re.compile(r"(?P<stem>.*)-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf")


@dataclass(frozen=True, slots=True)
class _Remote:
    """A file as the hub describes it; `url` names its very version."""

    file: str
    url: str
    sha256: str
    size: int


def cached(model: HubModel) -> Path | None:
    """The file (of a split model its first part) in the hub's cache, if all parts are there. No
    network."""
    file = model.file or _pick(model, _cached_files(model.repo))
    if not file:
        return None
    parts = [try_to_load_from_cache(model.repo, part) for part in parts_named(file)]
    return Path(parts[0]) if isinstance(parts[0], str) and all(map(_is_path, parts)) else None


def check(path: Path, cache_dir: Path) -> None:
    """LocalError if a file of the hub's cache is no longer what was downloaded. The digest is
    remembered; the parts of a split model are not looked at again."""
    wanted = path.resolve().name
    if (
        _SHA256.fullmatch(wanted)
        and not _SPLIT.fullmatch(path.name)
        and digest_of((path,), cache_dir).hex() != wanted
    ):
        raise LocalError(
            f"{path} is damaged: its SHA-256 is not the one that it was downloaded with; "
            "remove it with `swarmllm models remove` and fetch it again"
        )


def fetch(model: HubModel, progress: Progress) -> Path:
    """The newest version of the file and of all its parts; asks the hub. Of two callers at once the
    second waits and finds it.

    FetchError if the hub cannot be reached, has no such file, or sends another one; LocalError if
    it cannot be written here; UsageError if the reference fits no file, or several.
    """
    with _told(model):
        file = model.file or _pick(model, gguf_files(model.repo, TIMEOUT_S), must=True)
        remotes = [_remote(model, part) for part in parts_named(file)]
        total, done = sum(remote.size for remote in remotes), 0
        for remote in remotes:
            _bring(model, remote, _from(progress, done, total))
            done += remote.size
        # Now that the content is there, the library only enters it under its name.
        with _as_of_no_hub():
            found = [Path(hf_hub_download(model.repo, remote.file)) for remote in remotes]
    for path, remote in zip(found, remotes, strict=True):
        if path.is_symlink() and path.resolve().name != remote.sha256:
            raise FetchError(f"{model} changed on the hub while it was fetched: try again")
    return found[0]


def remove(model: HubModel) -> int:
    """Take the file and its parts out of the hub's cache, with what is left of attempts to fetch
    them; the content too, unless another name leads to it, or it lies elsewhere: then somebody put
    a link of their own there, and the file is theirs. Returns the bytes that became free."""
    freed = 0
    path = cached(model)
    blobs = _folder(model.repo).resolve() / "blobs"
    for part in () if path is None else _siblings(path):
        blob, size = part.resolve(), part.lstat().st_size
        part.unlink(missing_ok=True)
        others = (link for link in _folder(model.repo).glob("snapshots/**/*") if link.is_symlink())
        if blob.parent == blobs and not any(link.resolve() == blob for link in others):
            size = blob.stat().st_size
            blob.unlink()
        freed += size
    for left in _folder(model.repo).glob(f"blobs/*{UNFINISHED}"):
        freed += left.lstat().st_size
        left.unlink()
    return freed


def all_cached() -> list[HubModel]:
    """Every GGUF model in the hub's cache, by its first part."""
    found = set()
    for link in Path(constants.HF_HUB_CACHE).glob("models--*/snapshots/*/**/*.gguf"):
        folder, _, _, *within = link.relative_to(constants.HF_HUB_CACHE).parts
        split = _SPLIT.fullmatch(link.name)
        if (split is None or int(split["part"]) == 1) and folder.count("--") == 2:
            repo = folder.removeprefix("models--").replace("--", "/")
            found.add(HubModel(repo, "/".join(within)))
    return sorted((m for m in found if cached(m) is not None), key=str)


# --- which file -----------------------------------------------------------------------------------


def parts_named(file: str) -> list[str]:
    """The names of all parts of the model that `file` is, or is a part of. A name with an
    impossible part in it is that of one file."""
    split = _SPLIT.fullmatch(file)
    part, count = (0, 0) if split is None else (int(split["part"]), int(split["count"]))
    if split is None or not 1 <= part <= count <= PARTS_MAX:
        return [file]
    return [f"{split['stem']}-{n:05}-of-{count:05}.gguf" for n in range(1, count + 1)]


def _cached_files(repo: str) -> list[str]:
    folder = _folder(repo)
    try:
        snapshot = folder / "snapshots" / (folder / "refs" / "main").read_text().strip()
    except OSError:
        return []
    return [file.relative_to(snapshot).as_posix() for file in snapshot.rglob("*.gguf")]


def _pick(model: HubModel, files: list[str], *, must: bool = False) -> str:
    """The file whose name has the quantisation as a word of its own; empty if there is none or
    several and nothing `must` be found."""
    word = re.compile(rf"(?<![A-Za-z0-9]){re.escape(model.quant)}(?![A-Za-z0-9_])", re.IGNORECASE)
    firsts = sorted(file for file in files if parts_named(file)[0] == file)
    fitting = [file for file in firsts if word.search(file) and not _is_companion(file)]
    if len(fitting) == 1:
        return fitting[0]
    if not must:
        return ""
    if fitting:
        raise UsageError(
            f"{model} fits {len(fitting)} files, {_some(fitting)}: name one with "
            f"hf:{model.repo}/FILE.gguf"
        )
    has = f"it has {_some(firsts)}" if firsts else "it has no GGUF file at all"
    raise FetchError(f"{model.repo} has no GGUF file of the quantisation {model.quant}: {has}")


def _is_companion(file: str) -> bool:
    """The part of a model that sees or hears, and statistics: no language models."""
    return any(word in file.lower() for word in ("mmproj", "imatrix"))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
    return ", ".join(names[:SHOWN_MAX]) + more


def _folder(repo: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")


def _siblings(path: Path) -> list[Path]:
    return [path.with_name(name) for name in parts_named(path.name)]


def _is_path(found: object) -> bool:
    return isinstance(found, str)


# --- the download ---------------------------------------------------------------------------------


def _remote(model: HubModel, file: str) -> _Remote:
    with _as_of_no_hub():
        seen = get_hf_file_metadata(hf_hub_url(model.repo, file), timeout=TIMEOUT_S)
    if not seen.commit_hash or not seen.etag or not seen.size or seen.size < 0:
        raise FileMetadataError(f"no commit, checksum or size for {file}")
    if _SHA256.fullmatch(seen.etag) is None:
        raise FetchError(
            f"the hub states no SHA-256 for {file} of {model.repo} (ETag {seen.etag[:40]!r}), so "
            "what it sends could not be checked: choose another repository"
        )
    url = hf_hub_url(model.repo, file, revision=seen.commit_hash)
    return _Remote(file, url, seen.etag, seen.size)


def _bring(model: HubModel, remote: _Remote, progress: Progress) -> None:
    """The content of one file into the cache, whole and checked."""
    blob = _folder(model.repo) / "blobs" / remote.sha256
    if blob.exists():
        progress(remote.size, remote.size)
        return
    part = blob.with_name(blob.name + UNFINISHED)
    try:
        with alone(part):
            if not blob.exists():  # Another process may have fetched it while we waited.
                _check_room(model, part, remote.size)
                _download(model, remote, part, progress)
                _check_content(model, remote, part)
                os.replace(part, blob)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_room(model, part, remote.size) from error
        if error.errno is None or isinstance(error, HfHubHTTPError):
            raise
        raise LocalError(
            f"cannot write {remote.file} to {part.parent} ({error.strerror}): choose another cache "
            "folder with the variable HF_HOME"
        ) from error


def _download(model: HubModel, remote: _Remote, part: Path, progress: Progress) -> None:
    """Append to `part` until it has the size that the hub states."""
    failures = 0
    while (held := _size(part)) < remote.size:
        progress(held, remote.size)
        try:
            _append(remote, part, held, progress)
            fault: Exception | None = None
        except httpx2.UnsupportedProtocol:
            raise  # It sent us to something that is no web address, and will again.
        except httpx2.TransportError as error:
            fault = error
        failures = 0 if _size(part) > held else failures + 1
        if failures >= ATTEMPTS:
            raise fault or FetchError(
                f"the hub sends {_size(part)} bytes of {remote.file} of {model.repo} and then no "
                f"more, where it states {remote.size}: try again later"
            )
        if fault is not None:
            time.sleep(PAUSE_S * failures)
    if _size(part) > remote.size:
        os.unlink(part)
        raise FetchError(
            f"the hub sent more than the {remote.size} bytes that it states for {remote.file} of "
            f"{model.repo}: try again later"
        )


def _append(remote: _Remote, part: Path, held: int, progress: Progress) -> None:
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if held:
        headers["Range"] = f"bytes={held}-"
    with get_session().stream("GET", remote.url, headers=headers, timeout=TIMEOUT_S) as response:
        hf_raise_for_status(response)
        with part.open("ab") as file:
            if held and response.status_code != httpx2.codes.PARTIAL_CONTENT:
                file.truncate(0)  # It sends everything, whatever was asked.
                held = 0
            for chunk in response.iter_raw(CHUNK_BYTES):
                file.write(chunk)
                file.flush()  # So that a kill loses nothing.
                held += len(chunk)
                if held > remote.size:
                    return
                progress(held, remote.size)
            os.fsync(file.fileno())


def _check_content(model: HubModel, remote: _Remote, part: Path) -> None:
    """FetchError, and `part` is gone, if it is not what the hub states."""
    with part.open("rb") as file:
        begins = file.read(len(MAGIC))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest == remote.sha256 and begins == MAGIC:
        return
    if begins != MAGIC:
        with part.open("rb") as file:
            begins = file.read(15)
    os.unlink(part)
    if begins != MAGIC:
        raise FetchError(
            f"what the hub sent for {remote.file} of {model.repo} is no GGUF file (it begins with "
            f"{begins!r}): check HF_ENDPOINT, and whether a proxy answers in its place"
        )
    raise FetchError(
        f"what the hub sent for {remote.file} of {model.repo} has SHA-256 {digest[:16]}…, where it "
        f"states {remote.sha256[:16]}…: it was thrown away; try again"
    )


def _check_room(model: HubModel, part: Path, size: int) -> None:
    if shutil.disk_usage(part.parent).free < _room(part, size):
        raise _no_room(model, part, size)


def _room(part: Path, size: int) -> int:
    return size - _size(part) + SPARE_BYTES


def _no_room(model: HubModel, part: Path, size: int) -> LocalError:
    return LocalError(
        f"fetching {model} needs {_room(part, size):,} more bytes in {part.parent}, where "
        f"{shutil.disk_usage(part.parent).free:,} are free: make room there or choose another "
        "cache folder with the variable HF_HOME; what has come is kept"
    )


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def _from(progress: Progress, before: int, total: int) -> Callable[[int, int], None]:
    return lambda done, _: progress(before + done, total)


# --- what went wrong ------------------------------------------------------------------------------


@contextmanager
def _told(model: HubModel) -> Iterator[None]:
    """Errors of the hub and of the way to it as one sentence."""
    try:
        yield
    except (HfHubHTTPError, EntryNotFoundError, FileMetadataError) as error:
        raise FetchError(_sentence(model, error)) from error
    except OfflineModeIsEnabled as error:
        raise FetchError(
            f"{model} is not on this machine, and HF_HUB_OFFLINE forbids asking the hub for it"
        ) from error
    except HFValidationError as error:
        raise UsageError(f"{model} names no repository that the hub could have") from error
    except (httpx2.RequestError, httpx2.InvalidURL) as error:
        raise FetchError(
            f"{constants.ENDPOINT} cannot be reached for {model} "
            f"({type(error).__name__}: {str(error)[:200]}): check the network and HF_ENDPOINT; "
            "what has come is kept"
        ) from error


@contextmanager
def _as_of_no_hub() -> Iterator[None]:
    """What the library cannot make sense of in an answer, as one kind of error."""
    try:
        yield
    except HFValidationError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FileMetadataError(f"{error or type(error).__name__}") from error


def _sentence(model: HubModel, error: Exception) -> str:
    match error:
        case GatedRepoError():
            return (
                f"{model.repo} asks for consent to its licence: give it on the page of the model "
                f"at {constants.ENDPOINT}/{model.repo}, then set HF_TOKEN to a token of yours"
            )
        case RepositoryNotFoundError():
            return (
                f"{constants.ENDPOINT} has no repository {model.repo}, or it is private: check the "
                "name; for a private one set HF_TOKEN to a token of yours"
            )
        case EntryNotFoundError() | RevisionNotFoundError():
            return (
                f"{model.repo} has no file {model.file or model.quant}: check its name on "
                f"{constants.ENDPOINT}/{model.repo}"
            )
        case FileMetadataError():
            return (
                f"{constants.ENDPOINT} does not answer as a hub does ({str(error)[:120]}): check "
                "HF_ENDPOINT, and whether a proxy answers in its place"
            )
        case HfHubHTTPError():
            return _status_sentence(model, error)
        case _:
            raise AssertionError(f"no sentence for {type(error).__name__}")


def _status_sentence(model: HubModel, error: HfHubHTTPError) -> str:
    status = error.response.status_code
    match status:
        case 401 | 403:
            return (
                f"{constants.ENDPOINT} refuses {model} ({status}): set HF_TOKEN to a token that "
                "may read it"
            )
        case 429:
            after = error.response.headers.get("Retry-After", "")
            when = f"in {after} s" if after.isdigit() and len(after) < 6 else "later"
            return (
                f"{constants.ENDPOINT} has had too many requests (429) to give {model}: try "
                f"again {when}"
            )
        case _:
            return f"{constants.ENDPOINT} answered {status} for {model}: try again later"
