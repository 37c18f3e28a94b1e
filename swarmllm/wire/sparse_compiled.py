"""The compiled half of sparse lists, `_sparse.c`, where the package was built; None in a tree that
was not. Both halves give the same bytes and the same numbers."""

from __future__ import annotations

from typing import Final

try:
    from swarmllm.wire import _sparse
except ImportError:
    _sparse = None  # type: ignore[assignment]

compiled: Final = _sparse
IS_COMPILED: Final = compiled is not None
"""If not, numpy encodes and decodes lists, five to ten times as slowly (`swarmllm doctor` says
so)."""
