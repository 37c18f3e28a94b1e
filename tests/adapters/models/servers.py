"""Servers on loopback that speak as the Hugging Face hub and as a package index do, and misbehave
on demand."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from types import TracebackType
from typing import Final, Self

COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"
PIECE: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """`cut_after`: hang up after so many bytes of the body. `stall`: before each piece of it."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None
    stall: Callable[[int], None] = lambda sent: None


class LocalServer:
    """Answers each request with what `reply` returns, in threads, and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer()

            def do_HEAD(self) -> None:
                self._answer()

            def log_message(self, *_: object) -> None:
                pass

            def _answer(self) -> None:
                asked = Asked(self.command, self.path, dict(self.headers.items()))
                owner.asked.append(asked)
                reply = owner.reply(asked)
                self.send_response(reply.status)
                for name, value in {
                    "Content-Length": str(len(reply.body)),
                    **reply.headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                if asked.method == "HEAD":
                    return
                end = len(reply.body) if reply.cut_after is None else reply.cut_after
                try:
                    for at in range(0, end, PIECE):
                        reply.stall(at)
                        self.wfile.write(reply.body[at : min(at + PIECE, end)])
                except OSError:  # Whoever asked has gone.
                    self.close_connection = True
                if reply.cut_after is not None:
                    self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def reply(self, asked: Asked) -> Reply:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Hub(LocalServer):
    """The hub's routes for one repository: HEAD and GET of `resolve`, a redirect to a storage
    server for the content, ranges, and the listing of files."""

    def __init__(self, repo: str, files: dict[str, bytes]) -> None:
        super().__init__()
        self.repo, self.files = repo, files
        self.states: dict[str, str] = {}  # The SHA-256 that is stated, where not the true one.
        self.states_size: dict[str, int] = {}
        self.instead: Callable[[Asked], Reply | None] = lambda asked: None
        self.ranges = True
        self.cut_after: int | None = None
        self.stall: Callable[[int], None] = lambda sent: None
        self.token = ""  # Without it: 401.

    def reply(self, asked: Asked) -> Reply:
        if (other := self.instead(asked)) is not None:
            return other
        is_known = asked.headers.get("authorization") == f"Bearer {self.token}"
        if self.token and not is_known and not asked.path.startswith("/storage/"):
            return Reply(401, {"X-Error-Message": "Invalid username or password."})
        if asked.path.startswith(f"/api/models/{self.repo}/tree/main"):
            return self._tree()
        if asked.path.startswith("/storage/"):
            return self._content(asked)
        found = re.fullmatch(rf"/{re.escape(self.repo)}/resolve/(main|{COMMIT})/(.*)", asked.path)
        if found is None:
            return Reply(404, {"X-Error-Code": "RepoNotFound"}, b"Repository not found")
        if found[2] not in self.files:
            return Reply(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        return self._redirect(found[2])

    def downloads(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.path.startswith("/storage/")]

    def _tree(self) -> Reply:
        entries = [
            {"type": "file", "oid": "0" * 40, "size": len(data), "path": name}
            for name, data in self.files.items()
        ]
        return Reply(200, {"Content-Type": "application/json"}, json.dumps(entries).encode())

    def _redirect(self, name: str) -> Reply:
        data = self.files[name]
        digest = self.states.get(name, hashlib.sha256(data).hexdigest())
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(self.states_size.get(name, len(data))),
            "ETag": '"of-the-pointer"',
            # Another host, as the hub's storage is.
            "Location": f"{self.url.replace('127.0.0.1', 'localhost')}/storage/{name}",
        }
        return Reply(302, headers)

    def _content(self, asked: Asked) -> Reply:
        data = self.files[asked.path.removeprefix("/storage/")]
        ranged = re.fullmatch(
            r"bytes=(\d+)-", asked.headers.get("range", asked.headers.get("Range", ""))
        )
        if ranged is None or not self.ranges:
            return Reply(200, {}, data, self.cut_after, self.stall)
        begin = int(ranged[1])
        told = {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"}
        return Reply(206, told, data[begin:], self.cut_after, self.stall)


class Index(LocalServer):
    """A package index with one wheel."""

    def __init__(self, project: str, wheel: str, content: bytes) -> None:
        super().__init__()
        self.project, self.wheel, self.content = project, wheel, content
        self.instead: Callable[[Asked], Reply | None] = lambda asked: None
        self.cut_after: int | None = None
        self.stall: Callable[[int], None] = lambda sent: None

    def reply(self, asked: Asked) -> Reply:
        if (other := self.instead(asked)) is not None:
            return other
        if asked.path == f"/simple/{self.project}/":
            page = f'<html><body><a href="/files/{self.wheel}">{self.wheel}</a></body></html>'
            return Reply(200, {"Content-Type": "text/html"}, page.encode())
        if asked.path == f"/files/{self.wheel}":
            return Reply(200, {}, self.content, self.cut_after, self.stall)
        return Reply(404)


def wheel_of(project: str, version: str, files: dict[str, bytes]) -> bytes:
    """A wheel as pip takes it."""
    name = project.replace("-", "_")
    folder = f"{name}-{version}.dist-info"
    wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    metadata = f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n"
    contents = {
        **files,
        f"{folder}/METADATA": metadata.encode(),
        f"{folder}/WHEEL": wheel.encode(),
    }
    record = "".join(f"{path},,\n" for path in [*contents, f"{folder}/RECORD"])
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in {**contents, f"{folder}/RECORD": record.encode()}.items():
            archive.writestr(path, data)
    return out.getvalue()


def slowly(seconds: float) -> Callable[[int], None]:
    """To be used as `stall`: so long before each piece."""
    return lambda sent: time.sleep(seconds)
