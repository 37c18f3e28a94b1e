"""Laws of a chat's prompt: it always says which parts the ensemble wrote itself."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.cli.chat import answered, shortened
from swarmllm.runtime.service.answer import Wish

Turn = st.tuples(st.text("abc", max_size=5), st.text("xyz", max_size=5))


def written_by_others(wish: Wish) -> str:
    places = list(pairwise((0, *wish.turns, len(wish.prompt))))
    return "".join(wish.prompt[a:b] for a, b in places[::2])


@given(st.lists(Turn, max_size=6), st.booleans())
def test_only_what_people_said_counts_as_said_by_people(turns: list[tuple[str, str]], shorten: bool) -> None:
    wish = Wish("first ")
    for said, answer in turns:
        wish = answered(Wish(wish.prompt + said, turns=wish.turns), answer)
        wish.check()
    if shorten:
        wish = shortened(wish)
        if wish.prompt:
            wish.check()
    assert written_by_others(wish) == "".join(c for c in wish.prompt if c not in "xyz")
