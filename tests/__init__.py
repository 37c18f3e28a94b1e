"""Tests, in folders that mirror the package: `tests/core/halt` holds the laws of
`swarmllm/core/halt`.

Beside them stand what no single module answers for: `contracts` (for a port's adapter and its
double), `e2e` (whole programs), `packaging` (what is installed) and `vectors`.
"""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
"""The working tree."""
