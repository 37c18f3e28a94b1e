"""Lists the GGUF files of a repository on the Hugging Face hub, and reads no more of what is sent
than a listing may have.

`huggingface_hub` follows pages without end, unpacks whatever is compressed, waits for as long as
the server says and takes every entry for granted; a server that only claims to be a hub could hold
us up, fill our memory, or be sent the user's token by the address of a next page.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import quote

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import FileMetadataError
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # Public by its documentation, not by the letter of its stubs.
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

PAGES_MAX: Final = 32  # The hub puts 1,000 files on each.
PAGE_BYTES_MAX: Final = 4 << 20  # A thousand files take 0.3 MB.
NAME_MAX: Final = 1024  # Characters.


def gguf_files(repo: str, timeout_s: float) -> list[str]:
    """Their names, as the hub tells them. HfHubHTTPError and httpx2.RequestError as they come;
    FileMetadataError for an answer that no hub gives."""
    address: str | None = f"{constants.ENDPOINT}/api/models/{quote(repo)}/tree/main?recursive=True"
    found: list[str] = []
    for _ in range(PAGES_MAX):
        if address is None:
            break
        data, address = _page(address, timeout_s)
        found += names_in(data)
    return found


def names_in(data: bytes) -> list[str]:
    """The names of GGUF files in one page. FileMetadataError if it is no page of a listing."""
    try:
        entries: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FileMetadataError(f"its listing is no JSON: {data[:40]!r}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise FileMetadataError(f"its listing is no list of files: {data[:40]!r}")
    names = [entry.get("path") for entry in entries]
    return [name for name in names if isinstance(name, str) and _is_below(name)]


def _is_below(name: str) -> bool:
    """Whether it is the name of a GGUF file, and of a place within the repository."""
    path = PurePosixPath(name)
    is_inside = not path.is_absolute() and ".." not in path.parts and "\0" not in name
    return is_inside and name.endswith(".gguf") and len(name) <= NAME_MAX


def _page(address: str, timeout_s: float) -> tuple[bytes, str | None]:
    """One page, and the address of the next one."""
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    data = bytearray()
    with get_session().stream("GET", address, headers=headers, timeout=timeout_s) as response:
        hf_raise_for_status(response)
        for piece in response.iter_raw():
            data += piece
            if len(data) > PAGE_BYTES_MAX:
                raise FileMetadataError(f"a page of its listing has over {PAGE_BYTES_MAX:,} bytes")
        following = response.links.get("next", {}).get("url")
    if following is not None and _host(following) != _host(constants.ENDPOINT):
        raise FileMetadataError(f"its listing goes on elsewhere: {following[:80]!r}")
    return bytes(data), following


def _host(address: str) -> tuple[str, str, int | None]:
    url = httpx2.URL(address)
    return url.scheme, url.host, url.port
