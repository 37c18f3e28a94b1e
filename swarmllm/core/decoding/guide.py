"""The guide of one answer: which tokens its grammar allows next, and which it leaves no choice
about. Without a grammar it allows all and forces none."""

from __future__ import annotations

from copy import copy

import numpy as np

from swarmllm.core.values import GenerateRequest
from swarmllm.errors import LocalError
from swarmllm.wire.token_set import TokenSet


class Guide:
    """LocalError from any method ends the answer: the grammar costs more than it may, or cannot be
    followed in this vocabulary."""

    def __init__(self, order: GenerateRequest) -> None:
        self._constraint = order.grammar.begin() if order.grammar is not None else None
        if self._constraint is not None:
            self._stops = TokenSet.of(order.stop_tokens, order.vocab_size)
        self._allowed: TokenSet | None = None

    def fork(self) -> Guide:
        """One that stands where this one does, and goes its own way."""
        other = copy(self)
        if self._constraint is not None:
            other._constraint = self._constraint.fork()
        return other

    @property
    def is_behind(self) -> bool:
        """Whether `allowed` has work to do, milliseconds for some grammars: it may be called while
        answers are waited for, and then costs nothing when they are there."""
        return self._constraint is not None and self._allowed is None

    def allowed(self) -> TokenSet | None:
        """What may come next, with the tokens that end a text where the grammar lets it end; None:
        anything."""
        if self._constraint is None:
            return None
        if self._allowed is None:
            allowed = self._constraint.allowed().without(self._stops)
            if self._constraint.may_end():
                allowed = allowed.joined(self._stops)
            if not len(allowed):
                raise LocalError(
                    "no token of this vocabulary can go on with what the grammar has begun;"
                    " use another grammar"
                )
            self._allowed = allowed
        return self._allowed

    def took(self, token: int) -> None:
        """The text goes on with this token, which ends nothing."""
        if self._constraint is not None:
            self._allowed = None
            self._constraint.commit((token,))

    def takes(self, token: int) -> bool:
        """`took` for a token that may not be allowed, on a fork: whether it is, and something is
        left to choose behind it."""
        allowed = self.allowed()
        if allowed is None:
            return True
        if not allowed.holds(np.array([token], np.int32)).all():
            return False
        self.took(token)
        return not self.is_done() and not self.forced()

    def forced(self) -> tuple[int, ...]:
        """What comes next whatever anybody thinks."""
        return self._constraint.forced() if self._constraint is not None else ()

    def is_done(self) -> bool:
        """Whether nothing may follow."""
        return self._constraint is not None and self._constraint.is_done()
