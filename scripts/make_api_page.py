"""Write the table of the bodies' fields in docs/api.md from the OpenAPI file, so that the page says
what the node checks.

python scripts/make_api_page.py            writes it
python scripts/make_api_page.py --check    exits 1 if it is not up to date
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Final

from swarmllm.api.openapi import document

PAGE: Final = Path(__file__).resolve().parents[1] / "docs/api.md"
BEGIN: Final = "<!-- Written by scripts/make_api_page.py from /openapi.json; do not edit. -->\n"
END: Final = "<!-- Up to here. -->\n"
TAKEN: Final = "Taken; changes nothing."


def table(found: dict[str, Any]) -> str:
    """One row for each route with a body."""
    lines = ["| route | needs | takes | takes and ignores | refuses |", "|---|---|---|---|---|"]
    for path, operations in found["paths"].items():
        if not path.startswith("/v1/") or "post" not in operations:
            continue
        content = operations["post"]["requestBody"]["content"]["application/json"]
        name = content["schema"]["$ref"].rpartition("/")[2]
        lines.append(f"| `{path}` | {' | '.join(row(found['components']['schemas'][name]))} |")
    return "\n".join(lines) + "\n"


def row(schema: dict[str, Any]) -> list[str]:
    must = schema.get("required", [])
    kinds: dict[str, list[str]] = {"takes": [], "ignores": [], "refuses": []}
    for name, one in schema["properties"].items():
        if one.get("description") == TAKEN:
            kinds["ignores"].append(f"`{name}`")
        elif one.get("type") == "null":
            kinds["refuses"].append(f"`{name}`")
        elif name not in must:
            kinds["takes"].append(f"`{name}`{bounds(one)}")
    needs = ", ".join(f"`{name}`" for name in must)
    return [needs, *(", ".join(kinds[kind]) for kind in ("takes", "ignores", "refuses"))]


def bounds(one: dict[str, Any]) -> str:
    """Of a number: from, to."""
    for way in one.get("anyOf", [one]):
        low = way.get("minimum", way.get("exclusiveMinimum"))
        if low is None:
            continue
        above = "above " if "exclusiveMinimum" in way else ""
        to = f" to {way['maximum']:.10g}" if "maximum" in way else " or more"
        return f" ({above}{low:g}{to})"
    return ""


def page(text: str) -> str:
    before, begun, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (begun and ended):
        raise SystemExit(f"{PAGE.name} has lost the marks of the table; put them back")
    return before + begun + "\n" + table(document(False)) + "\n" + ended + after


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    if given.check:
        return int(page(text) != text)
    PAGE.write_text(page(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
