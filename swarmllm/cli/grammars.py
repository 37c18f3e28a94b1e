"""What an answer must be, as it is typed: `--json-schema`, `--regex`, `--grammar`, `--format`."""

from __future__ import annotations

from swarmllm.cli.prompt import text_of_file
from swarmllm.core.grammar import SOURCE_BYTES_MAX, GrammarSource
from swarmllm.errors import UsageError
from swarmllm.runtime.user_text import typed_text

FORMATS = ("text", "json")


def grammar_of(
    schema: str | None, regex: str | None, lark: str | None, form: str
) -> GrammarSource | None:
    """The grammar of the one that is given; None for none. UsageError for several, or a file that
    cannot be read."""
    if form not in FORMATS:
        raise UsageError(f"--format {form[:40]!r} is unknown; choose {' or '.join(FORMATS)}")
    given = {"--json-schema": schema, "--regex": regex, "--grammar": lark}
    named = [name for name, value in given.items() if value is not None]
    if len(named) + (form == "json") > 1:
        ways = [*named, *(["--format json"] if form == "json" else [])]
        raise UsageError(f"{' and '.join(ways)} say what the answer must be; give one of them")
    if schema is not None:
        is_text = schema.lstrip()[:1] in {"{", "["}
        text = typed_text(schema, "--json-schema") if is_text else _read(schema)
        return GrammarSource("json_schema", text)
    if regex is not None:
        return GrammarSource("regex", typed_text(regex, "--regex"))
    if lark is not None:
        return GrammarSource("lark", _read(lark))
    return GrammarSource("json_object") if form == "json" else None


def _read(file: str) -> str:
    return text_of_file(file, SOURCE_BYTES_MAX)
