"""The report's files: a page and its pictures in one folder, each whole or not there."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

from swarmllm.adapters.llama.cache_file import replacing
from swarmllm.cli.eval.markdown import page
from swarmllm.cli.eval.report import Report
from swarmllm.errors import LocalError


def make_out(folder: Path) -> None:
    """LocalError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error


def write_report(report: Report, folder: Path, name: str) -> list[Path]:
    """LocalError if the disk is full, or the folder has gone."""
    from swarmllm.cli.eval.plots import draw

    try:
        pictures = draw(report, folder)
        with replacing(folder / name) as file:
            file.write(page(report, pictures).encode())
    except OSError as error:
        raise _unwritable(folder, error) from error
    return [folder / name, *(folder / picture for picture in pictures)]


def _unwritable(folder: Path, error: OSError) -> LocalError:
    reason = (
        "the disk is full"
        if error.errno in (errno.ENOSPC, errno.EDQUOT)
        else error.strerror or str(error)
    )
    return LocalError(
        f"cannot write the report to {folder} ({reason}): make room there,"
        " or choose another folder with --out"
    )
