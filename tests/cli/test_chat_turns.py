"""Laws of a chat's prompt: it always says which parts the ensemble wrote itself."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.cli.chat import answered, shortened
from swarmllm.runtime.service.request import TextRequest

Turn = st.tuples(st.text("abc", max_size=5), st.text("xyz", max_size=5))


def written_by_others(request: TextRequest) -> str:
    places = list(pairwise((0, *request.turns, len(request.prompt))))
    return "".join(request.prompt[a:b] for a, b in places[::2])


@given(st.lists(Turn, max_size=6), st.booleans())
def test_only_what_people_said_counts_as_said_by_people(
    turns: list[tuple[str, str]], shorten: bool
) -> None:
    request = TextRequest("first ")
    for said, answer in turns:
        request = answered(TextRequest(request.prompt + said, turns=request.turns), answer)
        request.check()
    if shorten:
        request = shortened(request)
        if request.prompt:
            request.check()
    assert written_by_others(request) == "".join(c for c in request.prompt if c not in "xyz")
