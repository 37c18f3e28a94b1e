"""A validation report in a file."""

from __future__ import annotations

from swarmllm.adapters.atomic_file import read_bounded
from swarmllm.core.validation.report import BYTES_MAX, Report, read_report
from swarmllm.errors import UsageError
from swarmllm.runtime.user_path import user_path


def report_in(file: str) -> tuple[Report, bytes]:
    """A report and its bytes. LocalError, with the file's name, for anything else."""
    data = read_bounded(user_path(file), BYTES_MAX, "the report")
    try:
        return read_report(data), data
    except UsageError as fault:
        raise UsageError(f"{file} cannot be evidence: {fault}") from fault
