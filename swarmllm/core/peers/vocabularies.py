"""Which vocabularies the experts of a swarm have. A node without a model asks those of the one that
most of them have.

Records of strangers cost nothing to invent, connections do: so whoever is connected counts first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from swarmllm.core.peers.view import VocabularyView
from swarmllm.messages import CapacityRecord, PeerId
from swarmllm.wire.ext import chat_digest_in


def vocabularies(
    known: Iterable[tuple[PeerId, CapacityRecord]],
    connected: Collection[PeerId],
    own: CapacityRecord | None = None,
) -> tuple[VocabularyView, ...]:
    """Those of most connected experts first, then of most experts; the order of fingerprints
    decides between equals."""
    groups: dict[bytes, list[tuple[PeerId, CapacityRecord]]] = {}
    for peer, record in [*known, *([(PeerId(""), own)] if own is not None else [])]:
        if record.sessions_max > 0:
            groups.setdefault(record.vocab_fingerprint, []).append((peer, record))
    found = [_view(name, sorted(group), connected) for name, group in groups.items()]
    return tuple(sorted(found, key=lambda v: (-v.connected, -v.experts, v.fingerprint)))


def _view(
    fingerprint: bytes, group: list[tuple[PeerId, CapacityRecord]], connected: Collection[PeerId]
) -> VocabularyView:
    near = [(peer, record) for peer, record in group if not peer or peer in connected]
    formats = Counter(chat_digest_in(record.ext) for _, record in near or group)
    chat_digest = min(formats, key=lambda digest: (-formats[digest], digest))
    reachable = [
        peer for peer, record in near if peer and chat_digest_in(record.ext) == chat_digest
    ]
    models = Counter(record.model for _, record in near or group)
    model = min(models, key=lambda name: (-models[name], name))
    return VocabularyView(fingerprint, chat_digest, model, tuple(reachable), len(near), len(group))
