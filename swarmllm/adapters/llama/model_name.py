"""A short name for a model, made from what its GGUF file says of itself (`general.*`) and from the
file's name.

The conventional parts are basename, size, fine-tune, version and quantisation, as in
`SmolLM2-135M-Instruct-Q4_1`. Converters fill them in as they can: the file of that very model says
`8k-lc100k-mix1-ep2` for its fine-tune, after a folder in which it was trained. So a file's name is
believed when it begins as the content does: whoever published it named it for people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

NAME_BYTES_MAX: Final = 32  # `messages.Name`, in UTF-8.
KEYS: Final = frozenset(
    f"general.{key}"
    for key in ("name", "basename", "size_label", "finetune", "version", "file_type")
)

_QUANT: Final = re.compile(
    r"(?:(?:UD-)?I?Q\d(?:_[0-9A-Z]+)*|TQ\d_\d|MXFP4(?:_MOE)?|B?F16|F32)", re.IGNORECASE
)
_SPLIT: Final = re.compile(r"-\d{5}-of-\d{5}$")


def short_name(found: Mapping[str, object], stem: str) -> str:
    """At most 32 bytes of letters, digits, `.`, `_`, `+` and `-`; "model" if nothing says more.
    `stem` is the file's name without `.gguf`; `found` may hold anything."""
    basename, size, finetune, version, full = (
        _word(found.get(f"general.{key}"))
        for key in ("basename", "size_label", "finetune", "version", "name")
    )
    stem, quant_named = _without_quant(_word(_SPLIT.sub("", stem)))
    quant = _quant(found.get("general.file_type")) or quant_named
    if basename and _letters(stem).startswith(_letters(basename)) and size.lower() in stem.lower():
        return _fitting(stem, quant)
    if basename:
        return _fitting("-".join(filter(None, (basename, size, finetune, version))), quant)
    full, _ = _without_quant(full)
    return _fitting(full or stem or "model", quant)


def _word(value: object) -> str:
    """Anything that can be part of a name; all else becomes a hyphen."""
    if not isinstance(value, str):
        return ""
    text = "".join(c if c.isalnum() or c in "._+" else "-" for c in value[:200])
    return re.sub(r"-+", "-", text).strip("-._")


def _letters(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


def _without_quant(name: str) -> tuple[str, str]:
    """The name without the quantisation at its end, and that."""
    found = re.search(rf"[-._]({_QUANT.pattern})$", name, re.IGNORECASE)
    return (name[: found.start()], found[1].upper()) if found else (name, "")


def _quant(file_type: object) -> str:
    from gguf import LlamaFileType  # A tenth of a second, for the worker alone.

    names = {int(kind): str(kind.name) for kind in LlamaFileType}
    name = names.get(file_type, "GUESSED") if isinstance(file_type, int) else "GUESSED"
    return name.removeprefix("MOSTLY_").removeprefix("ALL_") if name != "GUESSED" else ""


def _fitting(name: str, quant: str) -> str:
    """Words go from the end of the name until there is room; the quantisation stays, because files
    of one model differ in nothing else."""
    end = f"-{quant}" if quant else ""
    room = NAME_BYTES_MAX - len(end.encode())
    while len(name.encode()) > room and "-" in name:
        name = name.rpartition("-")[0].rstrip("-._")
    return name.encode()[:room].decode(errors="ignore") + end
