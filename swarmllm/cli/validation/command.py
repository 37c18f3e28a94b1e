"""`swarmllm validate set`, and what proposals and voters need of validations."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from swarmllm.adapters.atomic_file import read_bounded, refuse_existing, replace_whole
from swarmllm.cli.eval.plan import REPORT_BYTES_MAX
from swarmllm.cli.governance.places import Way, question
from swarmllm.cli.governance.propose import id_of, pinned_by, set_action
from swarmllm.cli.guard import OK
from swarmllm.cli.output import answer, notice, print_record
from swarmllm.cli.screen import Line
from swarmllm.cli.validation.evidence import report_in
from swarmllm.cli.validation.view import report_record, report_view
from swarmllm.core.settings.table import BY_CODE
from swarmllm.core.validation.report import (
    Case,
    Report,
    encode_report,
    read_case,
)
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.user_path import user_path


def validate_change(
    config: Config,
    change: tuple[str, str],
    out: str | None,
    budget: tuple[float, int],
    *,
    as_json: bool,
) -> str:
    """Validate a setting (key and value, as they were typed) within a budget of seconds and pairs,
    show what was found, and write the report; the name of its file."""
    from swarmllm.cli.validation.running import validated
    from swarmllm.core.validation.statistics import look_at

    seconds, pairs = budget
    look_at(pairs)
    case = case_of(config, *change)
    file = out or f"validation-{case.setting.key}-{case.value}.json"
    _may_write(file)
    report = validated(case, seconds, pairs, config.data_dir)
    replace_whole(user_path(file), encode_report(report), "the report")
    if as_json:
        print_record(report_record(report, file))
    else:
        answer().print(report_view(report))
        notice(f"The report is in {file} (SHA-256 {report.digest.hex()[:16]}).")
    return file


def _may_write(file: str) -> None:
    """LocalError, before minutes are spent, if another file has the name; a report gives way to a
    newer one."""
    path = user_path(file)
    if path.exists():
        try:
            report_in(file)
        except LocalError:
            refuse_existing(path, "the report")


def case_of(config: Config, key: str, value: str) -> Case:
    """What is to be validated, as the running node sees the swarm now."""
    action = set_action(key, value)
    setting = BY_CODE[action.setting]
    found: Mapping[str, Any] = question(config, "snapshot", setting=setting.key)
    try:
        return read_case({"weights": {}, **found, "to": action.value})
    except (KeyError, TypeError, ValueError) as fault:
        raise LocalError(
            "the node answered in a way that this version does not understand;"
            " use the same swarmllm for both"
        ) from fault


# --- for voters -----------------------------------------------------------------------------------


def verify(config: Config, prefix: str, file: str, *, again: bool, as_json: bool) -> int:
    """Whether a file is the report that a proposal names, what it says, and (`again`) whether the
    same comes of it here."""
    proposal = question(config, "proposal", id=id_of(prefix))
    action, name = proposal["action"], proposal["id"][:16]
    if action["kind"] == "open_phase" and not again:
        return _verify_quality(config, proposal, file, as_json=as_json)
    if action["kind"] != "set":
        raise UsageError(f"proposal {name} sets no setting, so there is no validation to repeat")
    report, data = report_in(file)
    _check_digest(proposal, data, file)
    case = report.case
    if (case.setting.key, case.value) != (action["setting"], action["value"]):
        raise LocalError(f"proposal {name} names a report on another change: {case.setting.key}")
    if not as_json:
        answer().print(report_view(report))
    is_repeated = _repeat(report, data) if again else None
    question(config, "report", report=data.decode())
    if as_json:
        print_record(report_record(report, file) | {"id": proposal["id"], "repeated": is_repeated})
    else:
        said = f"{file} is the report that proposal {name} names"
        said += ", and repeated here it is the same to the byte." if is_repeated else "."
        answer().print(Line(said, "green"), soft_wrap=True)
    return OK


def _check_digest(proposal: Mapping[str, Any], data: bytes, file: str) -> None:
    digest, name = sha256(data).hexdigest(), proposal["id"][:16]
    if digest != proposal["evidence"]:
        raise LocalError(
            f"{file} is not the report that proposal {name} names: its SHA-256 begins with"
            f" {digest[:16]}, and the proposal's evidence with {str(proposal['evidence'])[:16]}"
        )


def _verify_quality(
    config: Config, proposal: Mapping[str, Any], file: str, *, as_json: bool
) -> int:
    """The same for a phase, whose report is one of `swarmllm eval`."""
    from swarmllm.cli.governance.quality_gate import check_quality

    data = read_bounded(user_path(file), REPORT_BYTES_MAX, "the report")
    _check_digest(proposal, data, file)
    pinned = pinned_by(config, Way())
    check_quality(data, file, pinned)
    if as_json:
        held = None if pinned is None else pinned.name
        print_record({"event": "quality", "id": proposal["id"], "file": file, "held_out": held})
        return OK
    over = "" if pinned is None else f", over {pinned.name}, the text that the charter pins,"
    said = f"{file} is the report that proposal {proposal['id'][:16]} names, and{over} it passes"
    answer().print(Line(f"{said} the quality gate.", "green"), soft_wrap=True)
    return OK


def _repeat(report: Report, data: bytes) -> bool:
    from swarmllm.cli.validation.running import code_version, repeated

    here = code_version()
    if report.code != here:
        raise LocalError(
            f"the report was made by another version of the simulator ({report.code}; this is"
            f" {here}), so it cannot be repeated here to the byte; use the version of its author,"
            " or validate the change anew with `swarmllm validate set`"
        )
    found = repeated(report)
    if encode_report(found) != data:
        raise LocalError(
            f"repeated here, the validation comes to something else: {found.verdict}; {found.why}."
            " The report is not what this code makes of its own figures"
        )
    return True
