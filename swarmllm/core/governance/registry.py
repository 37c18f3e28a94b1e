"""The registry: the governance records that this node holds, under the charter in force, and how
they come in and go out.

Another charter is another book: what was open under the last one is void, and its votes count for
nothing. What a charter is to take over of the settings in force it says in its terms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256

from swarmllm.core.governance.admission import Admitted
from swarmllm.core.governance.book import Book, OutcomeWith, Taken
from swarmllm.core.governance.cases import Case
from swarmllm.core.governance.mandate import (
    NO_SCOPE,
    Mandate,
    mandate_of,
    read_terms,
    scope_of,
    terms_digest,
)
from swarmllm.core.governance.tiers import Rules
from swarmllm.core.halt.charter import Rejected
from swarmllm.core.halt.state import HaltState
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId
from swarmllm.messages.governance import GovernanceTerms
from swarmllm.wire.codec import encode
from swarmllm.wire.envelope import Verify


class Registry:
    """Also the `Holder` of the replicated set. `outcome_with` says how cases stand together with a
    new one; `news` gathers what came in, for whoever asks."""

    def __init__(self, rules: Rules, verify: Verify, outcome_with: OutcomeWith) -> None:
        self._rules = rules
        self._verify = verify
        self._outcome_with = outcome_with
        self._state: HaltState | None = None
        self._found: Mandate | str = "governance has not started yet"
        self.terms: GovernanceTerms | None = None
        self.book: Book | None = None
        self.news: list[Admitted] = []
        self.has_new_terms = False

    @property
    def mandate(self) -> Mandate | None:
        return self._found if isinstance(self._found, Mandate) else None

    @property
    def cases(self) -> Mapping[bytes, Case]:
        """By id."""
        return {} if self.book is None else self.book.cases

    @property
    def obstacle(self) -> str:
        """Why there is no mandate; empty if there is one."""
        return self._found if isinstance(self._found, str) else ""

    def look(self, state: HaltState) -> bool:
        """At the halt state in force: whether there is another book now, or none any more."""
        if state is self._state:
            return False
        self._state = state
        found = mandate_of(state.swarm, state.charters, self.terms)
        before = self.mandate
        self._found = found
        if isinstance(found, Mandate) and before is not None and found.scope == before.scope:
            return False
        self.book = None
        if isinstance(found, Mandate):
            self.book = Book(found, self._rules, self._verify)
        return True

    def close(self, reason: str) -> None:
        """Hold nothing, and take nothing any more."""
        self.book, self._state, self._found = None, None, reason

    @property
    def needs_terms(self) -> bool:
        """Whether the charter in force names terms that have not come yet."""
        state = self._state
        return self.book is None and state is not None and bool(terms_digest(state.charters))

    # --- records ----------------------------------------------------------------------------------

    def accept(self, records: Sequence[bytes]) -> Taken:
        """Records of one case as they were signed, or the terms that the charter names."""
        if self.book is None:
            if self._accept_terms(records):
                return Taken()
            return Taken(rejected=(Rejected(self.obstacle, penalise=False, ask=True),))
        if len(records) == 1 and self.terms is not None and records[0] == encode(self.terms):
            return Taken()
        taken = self.book.take(records, self._outcome_with)
        self.news += taken.news
        return taken

    def _accept_terms(self, records: Sequence[bytes]) -> bool:
        state = self._state
        if state is None or len(records) != 1:
            return False
        wanted = terms_digest(state.charters)
        if not wanted or sha256(records[0]).digest() != wanted:
            return False
        try:
            self.terms = read_terms(records[0])
        except RemoteError:
            return False  # The root quorum named something that is none; nobody can mend that.
        self._state = None
        self.has_new_terms = True
        return True

    def recall_terms(self, data: bytes) -> None:
        """Terms as they were saved. RemoteError if that is not what they are."""
        self.terms = read_terms(data) if data else None

    # --- the replicated set -----------------------------------------------------------------------

    @property
    def scope(self) -> bytes:
        """Under the charter in force, also while its terms have not come yet."""
        state = self._state
        return scope_of(state.swarm, state.charters) if state and state.charters else NO_SCOPE

    def groups(self) -> Mapping[bytes, bytes]:
        found = {} if self.book is None else dict(self.book.groups())
        if name := self.terms_name:
            found[name] = name
        return found

    def records_of(self, name: bytes) -> Sequence[bytes]:
        if self.terms is not None and name == self.terms_name:
            return (encode(self.terms),)
        return () if self.book is None else self.book.records_of(name)

    def wants(self, name: bytes) -> bool:
        return self.book is None or not self.book.is_closed(name)

    def take(self, records: Sequence[bytes], peer: PeerId) -> tuple[bool, Sequence[Rejected]]:
        taken = self.accept(records)
        return bool(taken.news) or self.has_new_terms, taken.rejected

    @property
    def terms_name(self) -> bytes:
        """Of the group of the terms in force, if they are held."""
        state = self._state
        if self.terms is None or self.book is None or state is None:
            return b""
        return terms_digest(state.charters)[:8]
