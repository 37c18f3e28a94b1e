"""The grammar of tool calls: which tools an answer may call, as Lark with a JSON schema for the
arguments of each.

A call is written as `core.tool_calls` says. With `least` 0 the answer is either text or, perhaps
behind some text, calls; a text that writes the mark of a call has begun one. With a `form` it is
either calls or JSON of that schema. With `least` 1 it is calls alone.
"""

from __future__ import annotations

import json
from typing import Any, Final

from swarmllm.core.tool_calls import CLOSING, MARK, Offer, opening

# No blanks between the parts of JSON: a small model can write them for ever.
COMPACT: Final = {"whitespace_flexible": False}


def lark_of(offer: Offer) -> str:
    """The text of the grammar."""
    names = range(len(offer.tools))
    body = " | ".join(f"tool_{i}" for i in names)
    more = "" if offer.most == 1 else f' ("\\n"? {_quoted(MARK)} body){{0,{offer.most - 1}}}'
    called = f"{_quoted(MARK)} body{more}"
    start = called if offer.least else f"TEXT | begun body{more}"
    if offer.form is not None:
        start = f"form | {called}"
    lines = ["%llguidance {}", f"start: {start}", f"body: {body}"]
    if offer.form is not None:
        lines.append(f"form: %json {_json(offer.form)}")
    elif not offer.least:
        lines += ["TEXT: /(.|\\n)*/", f"begun[lazy]: TEXT {_quoted(MARK)}"]
    for i in names:
        name, schema = offer.tools[i]
        begins = opening(name).removeprefix(MARK)
        lines.append(f"tool_{i}: {_quoted(begins)} %json {_json(schema)} {_quoted(CLOSING)}")
    return "\n".join(lines) + "\n"


def _json(schema: dict[str, Any]) -> str:
    return json.dumps({**schema, "x-guidance": COMPACT})


def _quoted(text: str) -> str:
    return json.dumps(text)
