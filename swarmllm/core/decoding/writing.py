"""The text of one answer as it is written: what is appended to it, what its grammar forces behind
that, and whether it is at its end."""

from __future__ import annotations

from swarmllm.core.decoding.guide import Guide
from swarmllm.core.decoding.text import Text
from swarmllm.core.events import EndReason, TokenChosen
from swarmllm.core.values import GenerateRequest
from swarmllm.errors import LocalError

End = tuple[EndReason, str]
"""Why a text is over, and what went wrong, if anything did."""


class Writing:
    """`forced` are the tokens that were written last because the grammar left no choice: they are
    told to the user with the token before them."""

    def __init__(self, order: GenerateRequest) -> None:
        self._order = order
        self.text = Text(order.prompt)
        self.guide = Guide(order)
        self.forced: list[int] = []

    def append(self, token: int) -> End | None:
        """The text goes on with a token, and with what is forced behind it; how it ends, if it
        does."""
        self.forced = []
        self.text.append(token)
        if token in self._order.stop_tokens:
            return "eos", ""
        try:
            self.guide.took(token)
        except LocalError as error:
            return "error", str(error)
        return self.write_forced()

    def write_forced(self) -> End | None:
        """Write what the grammar leaves no choice about; how the text ends, if it does so now."""
        self.forced = []
        try:
            while not self.guide.is_done():
                room = self._order.max_tokens - self.text.index
                forced = self.guide.forced()[:room]
                if not forced:
                    return None if room else ("length", "")
                for token in forced:
                    self.forced.append(token)
                    self.text.append(token)
                    self.guide.took(token)
        except LocalError as error:
            return "error", str(error)
        return "eos", ""

    def told(self, request: int, number: int) -> list[TokenChosen]:
        """The forced tokens, about which nobody was asked, as the user hears of them."""
        first = self.text.index - len(self.forced)
        return [
            TokenChosen(request, first + place, token, 0.0, number, 0, 0.0, (), 1.0)
            for place, token in enumerate(self.forced)
        ]
