"""`swarmllm doctor --bundle`: what a bug report needs, in one file, and nothing that is nobody
else's business.

No key, no token, no prompt and no answer is read at all. Addresses, peer ids, host names and the
user's name are taken out of the rest (`redaction`). What the file holds is listed before it is
written, and it can be looked at with `tar`.
"""

from __future__ import annotations

import io
import json
import os
import platform
import secrets
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from swarmllm.adapters.atomic_file import refuse_existing, write_new
from swarmllm.assembly import LOG_FILE
from swarmllm.cli.checks import PACKAGES
from swarmllm.cli.guard import run
from swarmllm.cli.output import answer, print_record, size
from swarmllm.cli.redaction import Redaction
from swarmllm.cli.screen import Line
from swarmllm.cli.waiting import QUESTION
from swarmllm.errors import SwarmError
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import ask
from swarmllm.runtime.logs import FILE_BYTES_MAX
from swarmllm.runtime.service.json_events import record_of
from swarmllm.runtime.service.record import Record

LOG_LINES: Final = 500
WHAT: Final = "the bundle"
OPTION: Final = " with --bundle"
SECRET_SETTINGS: Final = frozenset({"api_keys"})
NAMES: Final = frozenset(
    {"peers", "announce", "api_hosts", "api_origins", "swarm", "charter", "invite", "otlp_endpoint"}
)
"""Settings that name people's machines or swarms: only hashes of them are told."""


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    about: str
    data: bytes


def refuse(path: Path) -> None:
    """LocalError if the file is there already."""
    refuse_existing(path, WHAT, OPTION)


def write_bundle(
    path: Path, config: Config, findings: Sequence[Mapping[str, object]], *, as_json: bool
) -> None:
    """List what it holds, then write it. LocalError if it cannot be written."""
    parts = parts_of(config, findings, Redaction(secrets.token_bytes(16), os.path.expanduser("~")))
    _list(path, parts, as_json=as_json)
    data = packed(parts, int(time.time()))
    write_new(path, data, WHAT, 0o600, option=OPTION)
    if as_json:
        print_record(record_of("bundle", file=str(path), bytes=len(data)))
    else:
        answer().print(
            Line(
                f"{path} is written ({size(len(data))}). Look through it before you give it away:"
                f" tar -xzOf {path}"
            ),
            soft_wrap=True,
        )


def parts_of(
    config: Config, findings: Sequence[Mapping[str, object]], redaction: Redaction
) -> list[Part]:
    status, metrics = _asked(config, "status"), _asked(config, "metrics")
    return [
        Part("versions.json", "this program, its packages, Python, the system", _json(versions())),
        Part("settings.json", "the settings, without keys", _json(settings_of(config, redaction))),
        Part("doctor.json", "what doctor found", _json(redaction.value(list(findings)))),
        Part("status.json", "the running node, if there is one", _json(redaction.value(status))),
        Part("metrics.txt", "what it counts", _metrics(metrics)),
        Part("log.jsonl", "the last lines of its log", _log(config, redaction)),
    ]


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found | {"byteorder": sys.byteorder}


def settings_of(config: Config, redaction: Redaction) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields(Config):
        value = getattr(config, field.name)
        if field.name in SECRET_SETTINGS:
            found[field.name] = f"({len(value)} of them)"
        elif field.name in NAMES and value and value != field.default:
            every = [value] if isinstance(value, str) else value
            found[field.name] = [redaction.hashed("name", str(one)) for one in every]
        else:
            found[field.name] = redaction.value(str(value) if isinstance(value, Path) else value)
    return found


def packed(parts: Sequence[Part], unix_s: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for part in parts:
            entry = tarfile.TarInfo(f"swarmllm-bundle/{part.name}")
            entry.size, entry.mode, entry.mtime = len(part.data), 0o600, unix_s
            archive.addfile(entry, io.BytesIO(part.data))
    return buffer.getvalue()


def _list(path: Path, parts: Sequence[Part], *, as_json: bool) -> None:
    if as_json:
        for part in parts:
            size_bytes = len(part.data)
            print_record(
                record_of("bundle_part", name=part.name, bytes=size_bytes, about=part.about)
            )
        return
    table = Table.grid(padding=(0, 2))
    for part in parts:
        table.add_row(part.name, size(len(part.data)), part.about)
    screen = answer()
    screen.line()
    screen.print(Line(f"{path} will hold:"), soft_wrap=True)
    screen.print(table)


def _asked(config: Config, op: str) -> Record:
    """What the running node says; that there is none is a finding as well."""
    found: list[Record] = []

    async def body() -> int:
        try:
            found.append(await ask(config.data_dir, op, QUESTION))
        except SwarmError as error:
            found.append(record_of(op, state="none", error=str(error)))
        return 0

    run(body)
    return found[0]


def _metrics(record: Record) -> bytes:
    from swarmllm.api.metrics import exposition

    rows = record.get("samples", [])
    return exposition(rows, with_process=False)[0] if rows else b"# No node is running.\n"


def _log(config: Config, redaction: Redaction) -> bytes:
    try:
        with (config.data_dir / LOG_FILE).open("rb") as file:
            raw = file.read(2 * FILE_BYTES_MAX)
    except OSError:
        return b""
    lines = raw.decode("utf-8", "replace").splitlines()[-LOG_LINES:]
    return "".join(redaction.text(one) + "\n" for one in lines).encode()


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=True, default=str) + "\n").encode()
