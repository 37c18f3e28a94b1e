"""`swarmllm keys`: an operator's own key, made once, kept sealed."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from swarmllm.adapters.operator_keys import OperatorKey, new_key, pub_path, read_key, refuse_taken
from swarmllm.cli.guard import OK
from swarmllm.cli.operators import passphrase
from swarmllm.cli.output import answer, notice, print_record
from swarmllm.cli.screen import Line
from swarmllm.runtime.user_path import user_path


def new(name: str, out: str | None, passphrase_file: str | None, *, as_json: bool) -> int:
    path = user_path(out) if out else Path(f"{name}.key")
    refuse_taken(path, name)  # Before anybody types a passphrase twice.
    key = new_key(path, name, passphrase.new_passphrase(name, passphrase_file))
    _tell(key, as_json=as_json)
    if not as_json:
        notice(
            f"Send {pub_path(path)} to whoever writes the charter."
            f" Keep {path} and its passphrase to yourself, and a copy elsewhere."
        )
    return OK


def show(file: str, passphrase_file: str | None, *, check: bool, as_json: bool) -> int:
    key = read_key(user_path(file))
    if check:
        passphrase.unseal(key, passphrase_file)
    _tell(key, as_json=as_json, opened=True if check else None)
    return OK


def _tell(key: OperatorKey, *, as_json: bool, opened: bool | None = None) -> None:
    pub = pub_path(key.path)
    if as_json:
        record = {
            "event": "key",
            "name": key.name,
            "key_id": key.id.hex(),
            "public_key": key.public_key.hex(),
            "file": str(key.path),
        }
        print_record(
            record
            | {"public_file": str(pub) if pub.is_file() else None}
            | ({} if opened is None else {"opened": opened})
        )
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = [
        ("key", key.name),
        ("key id", key.id.hex()),
        ("public key", key.public_key.hex()),
        ("file", str(key.path)),
    ]
    rows += [("public half", str(pub))] if pub.is_file() else []
    rows += [("passphrase", "opens it")] if opened else []
    for name, value in rows:
        table.add_row(name, Line(value))
    answer().print(table)
