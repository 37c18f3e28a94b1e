"""Pages made of records by templates that escape what they are given.

All that a template puts out passes `visible.one_line` and is then escaped, whoever wrote the
template: names, addresses and reasons are strangers' text, which neither acts nor hides on a page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from swarmllm.api.console import views, wording
from swarmllm.api.console.graph import graph_of
from swarmllm.api.console.paths import PAGES
from swarmllm.core.wording import several
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.visible import RANGES, one_line

TITLES: Final = {
    "chat": "Chat",
    "swarm": "Swarm",
    "node": "This node",
    "safety": "Safety",
    "improvement": "Improvement",
}
HIDDEN: Final = "".join(f"\\u{{{first:x}}}-\\u{{{last:x}}}" for first, last in RANGES)
"""The characters that are written out, for the regular expression of the script."""


def _shown(value: Any) -> Any:
    return value if isinstance(value, Markup) else one_line(value)


def prose(text: str) -> Markup:
    """A sentence for people, with what stands between backticks as code."""
    parts = [escape(one_line(part)) for part in wording.sentence(text).split("`")]
    if len(parts) % 2 == 0:  # One backtick has no other.
        return Markup("`").join(parts)
    shown = [
        Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts)
    ]
    return Markup("").join(shown)


class Pages:
    """`page` is a whole page, `live` the part of it that shows the node."""

    def __init__(self) -> None:
        made = Environment(
            loader=PackageLoader("swarmllm.api.console"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_shown,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        for filter in (
            *(wording.amount, wording.ms, wording.percent, wording.span, wording.moment),
            *(wording.short_peer, wording.short_key, prose),
        ):
            made.filters[filter.__name__] = filter
        made.globals |= {"several": several, "views": views, "graph_of": graph_of}
        self._whole = {name: made.get_template(f"{name}.html") for name in PAGES.values()}
        self._live = {name: made.get_template(f"{name}_live.html") for name in PAGES.values()}
        self._nothing = made.get_template("starting_live.html")

    def page(self, name: str, found: Mapping[str, Record] | None) -> str:
        """`found` None: nothing of the node is shown to who has given no key."""
        return self._whole[name].render(
            pages=[(path, one, TITLES[one]) for path, one in PAGES.items()],
            name=name,
            title=TITLES[name],
            hidden=HIDDEN,
            live=Markup("" if found is None else self.live(name, found)),
            status={} if found is None else found["status"],
        )

    def live(self, name: str, found: Mapping[str, Record]) -> str:
        is_running = found["status"].get("state") == "running"
        return (self._live[name] if is_running else self._nothing).render(**found)
