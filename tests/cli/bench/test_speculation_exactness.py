"""What `swarmllm bench --only speculation-exactness` calls a difference."""

from __future__ import annotations

from swarmllm.cli.bench.speculation_exactness import Texts, differences


def test_a_text_is_another_where_a_token_its_probability_or_its_length_is() -> None:
    told = ((1, -0.5), (2, -0.25))
    strict = Texts({(0, name): told for name in ("same", "token", "odds", "short", "long")})
    other = Texts(
        {
            (0, "same"): told,
            (0, "token"): ((1, -0.5), (3, -0.25)),
            (0, "odds"): ((1, -0.75), (2, -0.25)),
            (0, "short"): told[:1],
            (0, "long"): (*told, (4, -1.0)),
        }
    )
    assert differences(strict, other) == [
        "token, prompt 0: from token 1",
        "odds, prompt 0: from token 0",
        "short, prompt 0: from token 1",
        "long, prompt 0: from token 2",
    ]
