"""Pages as HTML: what strangers wrote is text on them, and what is off is said."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest

from swarmllm.api.console.gathering import NEEDS
from swarmllm.api.console.rendering import TITLES, Pages, prose
from swarmllm.runtime.visible import one_line
from swarmllm.wire.signed import key_id
from tests.api.console.records import KEY, everything, status, with_texts

PAGES = Pages()
HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "a\u202egnp.exe",
    "{{ 7 * 7 }}{% raw %}",
    "a\u200b\u2066b\x1b[31m",
)


class Tags(HTMLParser):
    """What of a page acts: tags with the names of their attributes. And what is read: text and the
    values of attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.acting: list[tuple[str, tuple[str, ...]]] = []
        self.read: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.acting.append((tag, tuple(name for name, _ in attrs)))
        self.read += [value for _, value in attrs if value]

    def handle_data(self, data: str) -> None:
        self.read.append(data)


def found_for(name: str, found: Any = None) -> Any:
    found = everything() if found is None else found
    more = ("voting",) if name == "safety" else ()
    return {op: found[op] for op in ("status", *NEEDS[name], *more)}


@pytest.mark.parametrize("name", TITLES)
@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_strangers_write_is_text(name: str, text: str) -> None:
    plain = with_texts(everything(), lambda _: "x")
    hostile = with_texts(everything(), lambda _: text)
    for found in (plain, hostile):  # The two settings are looked up by name.
        for one, key in zip(
            found["settings"]["settings"], ("answer.experts", "cascade.wide_share"), strict=True
        ):
            one["key"] = key
    shown = Tags(PAGES.page(name, found_for(name, hostile)))
    assert shown.acting == Tags(PAGES.page(name, found_for(name, plain))).acting
    assert one_line("".join(shown.read).replace("\n", "")) == "".join(shown.read).replace("\n", "")


@pytest.mark.parametrize("name", ["swarm", "safety", "improvement"])
def test_a_name_that_hides_characters_is_written_out(name: str) -> None:
    found = with_texts(everything(), lambda text: f"{text}\u202e")
    assert "\\u202e" in PAGES.live(name, found_for(name, found))


@pytest.mark.parametrize("name", TITLES)
def test_a_node_that_starts_says_so_on_every_page(name: str) -> None:
    assert "loading its expert" in PAGES.page(name, {"status": {"state": "starting"}})


@pytest.mark.parametrize("name", TITLES)
def test_a_page_for_who_gave_no_key_has_nothing_of_the_node(name: str) -> None:
    page = PAGES.page(name, None)
    assert '<div id="live"></div>' in page
    assert "running" not in page.replace("overrun", "")


def test_what_is_off_says_what_would_turn_it_on() -> None:
    off = everything()
    off["agent_status"] = {"enabled": False, "why": "start it with `swarmllm join`", "phase": 0}
    off["halt_status"] |= {"private": True}
    off["proposals"] = off["governance"] = {"fault": "this node runs without governance"}
    off["status"] = status(ledger=None, model=None, load=None, peers=[], experts=[], addrs=[])
    said = PAGES.live("improvement", found_for("improvement", off))
    assert "Start it with <code>swarmllm join</code>." in said
    said = PAGES.live("safety", found_for("safety", off))
    assert "swarmllm charter create" in said
    assert "This node runs without governance." in said
    assert "keeps no ledger" in said
    assert "No peer is connected" in PAGES.live("swarm", found_for("swarm", off))
    assert "has no expert" in PAGES.live("node", found_for("node", off))


def test_the_owner_who_has_stopped_the_node_can_start_it() -> None:
    found = everything()
    assert 'data-change="stop_here"' in PAGES.live("node", found_for("node", found))
    found["halt_status"]["stopped_here"] = True
    assert 'data-change="start_here"' in PAGES.live("node", found_for("node", found))


def test_keys_are_shown_by_the_ids_that_orders_and_votes_have() -> None:
    assert key_id(bytes.fromhex(KEY)).hex()[:8] in PAGES.live("safety", found_for("safety"))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_ballot_of_what_strangers_propose_is_text(text: str) -> None:
    def shown(word: str) -> Tags:
        found = with_texts(everything(), lambda _: word)
        found["governance"]["obstacle"] = ""
        found["proposals"]["proposals"][0] |= {"state": "open", "yes": []}
        return Tags(PAGES.live("safety", found_for("safety", found)))

    assert shown(text).acting == shown("x").acting
    assert sum("data-vote" in names for _, names in shown(text).acting) == 2


def test_the_head_of_the_ledger_is_shown_whole_for_others_to_compare() -> None:
    found = found_for("safety")
    assert f"<code>{'5e' * 32}</code>" in PAGES.live("safety", found)
    found["status"]["ledger"] |= {"head": "", "checkpoint": 0}
    assert "Head" not in PAGES.live("safety", found)


def test_cycles_are_told_as_seen_said_tried_decided_and_happened() -> None:
    said = PAGES.live("improvement", found_for("improvement"))
    places = [
        said.index(f"<b>{did}</b>") for did in ("seen", "said", "tried", "decided", "happened")
    ]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("start it with `a <b>`", "Start it with <code>a &lt;b&gt;</code>."),
        ("one ` alone", "One ` alone."),
        ("`<i>`` `", "<code>&lt;i&gt;</code><code> </code>."),
        ("a\u202e", "a\\u202e."),
    ],
)
def test_what_stands_between_backticks_is_code(text: str, expected: str) -> None:
    assert prose(text) == expected


def test_a_pause_and_its_reason_are_on_the_page_of_the_node() -> None:
    found = everything()
    assert "not served" not in PAGES.live("node", found_for("node", found))
    found["status"] = status(paused="it is not within 22:00-07:00; serving again at 22:00")
    said = PAGES.live("node", found_for("node", found))
    assert "Others are not served: It is not within 22:00-07:00" in said
