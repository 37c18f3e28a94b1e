"""What a card says of an expert's samples is counted by rules that can say no, over an
implementation that agrees with itself."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs the dependency group `train`")

from scripts.demo_reference import Cache, Reference  # noqa: E402
from scripts.demo_trials import CODE_LINES_MIN, compiles, function_in  # noqa: E402
from tests.adapters.llama.small import SHAPE  # noqa: E402

BODY = "def f(x):\n    y = x + 1\n    return y\n"


@pytest.mark.parametrize(
    ("text", "ended", "kept"),
    [
        (BODY + "def g():\n    pass\n", False, BODY),
        (BODY + "\n\n# next\n", False, BODY),
        (BODY + "@wraps\n", False, BODY),
        (BODY + "    if y", False, BODY),
        (BODY + "    if y", True, BODY + "    if y"),
        ("def f(\n    x,\n):\n    return x\n\n", True, "def f(\n    x,\n):\n    return x"),
        ("def f(x):\nreturn x\n", False, "def f(x):"),
        ("def f(x):", False, ""),
    ],
)
def test_a_function_ends_where_the_next_statement_begins(text: str, ended: bool, kept: str) -> None:
    assert function_in(text, ended) == kept.rstrip()


def test_only_whole_functions_count() -> None:
    assert compiles(BODY)
    assert not compiles(BODY.replace("return y", "return ("))
    assert not compiles("def f(x):\n    return x\n\n\n")  # Two lines.
    assert not compiles("def f(x):\n    return\n  x\n")
    assert not compiles("a\0b\nc\nd\n")
    assert BODY.count("\n") == CODE_LINES_MIN


def test_a_cache_changes_nothing() -> None:
    """Hidden states of a text read at once and token by token."""
    random = torch.Generator().manual_seed(3)
    d, kv, hidden = SHAPE.dim, SHAPE.dim // SHAPE.heads * SHAPE.kv_heads, SHAPE.hidden
    shapes = {"attn_q": (d, d), "attn_k": (kv, d), "attn_v": (kv, d), "attn_output": (d, d)}
    shapes |= {"ffn_gate": (hidden, d), "ffn_up": (hidden, d), "ffn_down": (d, hidden)}
    tensors = {
        f"blk.0.{name}.weight": torch.randn(shape, generator=random) * 0.2
        for name, shape in shapes.items()
    }
    tensors |= {
        name: torch.ones(d)
        for name in ("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight")
    }
    tensors["token_embd.weight"] = torch.randn((50, d), generator=random)
    reference, ids = Reference(SHAPE, tensors), torch.randint(0, 50, (1, 9), generator=random)
    cache: Cache = []
    parts = [
        reference.hidden(ids[:, :4], cache),
        *(reference.hidden(ids[:, i : i + 1], cache) for i in range(4, 9)),
    ]
    assert torch.allclose(torch.cat(parts, 1), reference.hidden(ids), atol=1e-5)
    assert not torch.allclose(reference.hidden(ids.flip(1)), reference.hidden(ids), atol=1e-2)
