"""Names of models as clients give them: `swarm` is the ensemble, `swarm:K` with K experts, `local`
this node's own expert alone, and the name of a model the experts that have it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from swarmllm.api.problem import Problem
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.service.request import OWN
from swarmllm.runtime.visible import one_line

SWARM: Final = "swarm"
LOCAL: Final = "local"


def _named(experts: Sequence[Record]) -> dict[str, str]:
    """The digest behind each name; where models share a name, each has the beginning of its digest
    behind it."""
    digests: dict[str, set[str]] = {}
    for expert in experts:
        digests.setdefault(one_line(expert["model"]), set()).add(expert["digest"])
    found: dict[str, str] = {}
    for name, several in sorted(digests.items()):
        if len(several) == 1 and name not in {SWARM, LOCAL}:
            found[name] = next(iter(several))
        else:
            found |= {f"{name}@{digest[:8]}": digest for digest in sorted(several)}
    return found


def resolved(name: str, experts: Sequence[Record]) -> dict[str, Any]:
    """The fields of `generate` that a name stands for. Problem 404 for an unknown one."""
    if name == SWARM:
        return {}
    if name == LOCAL:
        if not any(expert["local"] for expert in experts):
            raise _unknown(name, experts)
        return {"only": OWN, "k": 1, "extra": 0}
    if count := re.fullmatch(rf"{SWARM}:([1-9][0-9]?)", name):
        return {"k": int(count[1])}
    digest = _named(experts).get(name)
    if digest is None:
        raise _unknown(name, experts)
    return {"only": digest}


def _unknown(name: str, experts: Sequence[Record]) -> Problem:
    known = ", ".join(one["id"] for one in listed(experts, 0)[:8])
    return Problem(
        404,
        f"the model {name[:80]!r} is not known here; there is {known}",
        code="model_not_found",
        param="model",
    )


def listed(experts: Sequence[Record], now_s: float) -> list[dict[str, Any]]:
    """The models as `/v1/models` shows them. The context of each is the least of the experts that
    may be asked; it is left out while there are none."""
    own = [expert for expert in experts if expert["local"]]
    found = [_model(SWARM, "the swarm", experts, now_s)]
    if own:
        found.append(_model(LOCAL, "this node", own, now_s))
    for name, digest in _named(experts).items():
        held = [expert for expert in experts if expert["digest"] == digest]
        found.append(
            _model(name, f"{len(held)} experts" if len(held) > 1 else "1 expert", held, now_s)
        )
    return found


def _model(name: str, owner: str, experts: Sequence[Record], now_s: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": int(min((expert["started"] for expert in experts), default=now_s)),
        "owned_by": owner,
    }
    if experts:
        found["context_length"] = min(expert["context_max"] for expert in experts)
    return found
