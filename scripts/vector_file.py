"""A file of test vectors is written, or compared with what would be written."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_or_check(path: Path, vectors: Mapping[str, Any], description: str | None) -> int:
    """The whole command line of a script that makes `vectors`: the exit code, 1 if the file is to
    be checked and is out of date."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if the file is out of date"
    )
    text = json.dumps(vectors, indent=1, ensure_ascii=True) + "\n"
    if not parser.parse_args().check:
        path.write_text(text, encoding="utf-8")
        return 0
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return 0
    print(f"{path.name} is out of date: make it again without --check", file=sys.stderr)
    return 1
