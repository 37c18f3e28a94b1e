"""`swarmllm verify` of files that are no receipts, or not whole: one sentence each, which names the
file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarmllm.cli.trust.receipts import verify
from swarmllm.core.trust.receipt import RECEIPT_BYTES_MAX
from swarmllm.errors import LocalError
from swarmllm.runtime.config import Config
from tests.core.trust.test_receipt import receipt, session

CONFIG = Config(data_dir=Path(), cache_dir=Path())


def test_a_good_one_says_who_signed_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "good"
    file.write_bytes(receipt(session(1, 2, 3)))
    assert verify(CONFIG, [str(file)], is_compared=False, as_json=True) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["event"], record["verdict"], record["rounds"]) == (
        *("session_verified", "signed"),
        3,
    )


def spoilt(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes((data[middle] ^ 1,)) + data[middle + 1 :]


GOOD = receipt(session(1, 2, 3))
FILES = {
    "empty": (b"", "not JSON"),
    "cut off": (GOOD[:-40], "a part of one"),
    "altered": (spoilt(GOOD), "proves nothing"),
    "of a later version": (GOOD.replace(b"receipt 1", b"receipt 2"), "'swarmllm receipt 2'"),
    "of another kind": (b"[1, 2]", "its format is not"),
    "in another encoding": (GOOD.decode().encode("utf-16"), "not JSON"),
    "deep": (b'{"sessions":' + b"[" * 3_000_000, "values"),
    "too large": (b" " * (RECEIPT_BYTES_MAX + 1), "is larger than"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_proves_nothing_is_said_in_a_sentence_with_its_name(name: str, tmp_path: Path) -> None:
    data, why = FILES[name]
    file = tmp_path / name
    file.write_bytes(data)
    with pytest.raises(LocalError, match=why) as fault:
        verify(CONFIG, [str(file)], is_compared=False, as_json=False)
    assert str(file) in str(fault.value)
    assert "\n" not in str(fault.value)


def test_what_is_not_there_or_no_file_is_named(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "nothing", "No such file"), (tmp_path, "not a regular file")):
        with pytest.raises(LocalError, match=why):
            verify(CONFIG, [str(path)], is_compared=False, as_json=False)
