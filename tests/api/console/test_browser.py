"""The console in a real browser, as people use it: with eyes, with the keyboard alone, on a wide
and on a narrow screen, in light and in dark."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from swarmllm.api.console.paths import PAGES
from swarmllm.api.serving import TOKEN_FILE
from tests.api.console.conftest import KEY, Council, Nodes, Stage, Visit, visiting
from tests.api.console.records import everything, expert, with_texts
from tests.cli.operators.conftest import PASSPHRASE
from tests.e2e.test_prompt_canary import assert_untold

pytestmark = pytest.mark.slow

WINDOWS: Final = [
    (width, height, theme)
    for theme in ("light", "dark")
    for width, height in ((1280, 800), (390, 844))
]
CORNERS: Final = [WINDOWS[0], WINDOWS[3]]
NOW: Final = re.compile(r"\bnow\b")
HOSTILE: Final = "<script>alert('x')</script><img src=x onerror=alert(1)>\u202egnp"


def wrong_for_somebody(page: Page) -> list[str]:
    """What axe finds, each with the first place of it."""
    found = Axe().run(page).response["violations"]
    places = [(one["id"], one["nodes"][0]) for one in found]
    return [f"{id}: {at['html'][:200]}: {at['failureSummary']}" for id, at in places]


def live(visit: Visit, url: str) -> None:
    """Open a page and wait until it follows the node."""
    visit.page.goto(url)
    follows(visit)


def follows(visit: Visit) -> None:
    expect(visit.page.locator("#pill")).to_have_text(re.compile("running, |halted"))


def ask(visit: Visit) -> None:
    visit.page.fill("#prompt", "abc def")
    visit.page.press("#prompt", "Enter")


def ended(visit: Visit) -> str:
    last = visit.page.locator(".ended, .fault").last
    expect(last).to_be_visible(timeout=60_000)
    return last.inner_text()


def at_most(visit: Visit, tokens: int) -> None:
    visit.page.locator("#most").evaluate(
        "(one, most) => { one.value = most; one.dispatchEvent(new Event('input')); }", tokens
    )


# --- real nodes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_is_for_everybody_and_has_no_complaint(
    browser: Browser, nodes: Nodes, path: str
) -> None:
    for width, height, theme in WINDOWS:
        with visiting(browser, width, height, theme) as visit:
            live(visit, nodes.url + path)
            assert wrong_for_somebody(visit.page) == []
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
            assert visit.faults == []


@pytest.mark.parametrize(("width", "height", "theme"), CORNERS)
def test_each_token_tells_its_round(
    browser: Browser, nodes: Nodes, width: int, height: int, theme: str
) -> None:
    with visiting(browser, width, height, theme) as visit:
        page = visit.page
        live(visit, nodes.url)
        expect(page.locator("#seen")).to_contain_text("see its prompt")
        page.click("#seen-ok")
        expect(page.locator("#seen")).to_be_hidden()
        at_most(visit, 32)
        ask(visit)
        assert "32 tokens" in ended(visit)
        tokens = page.locator(".tokens .t")
        tokens.nth(2).hover()
        expect(page.locator("#round")).to_contain_text("agreement")
        expect(page.locator("#round dt").first).to_contain_text(re.compile("hazel|willow"))
        names = page.locator(".legend .t").all_inner_texts()
        assert {name.partition("-")[0] for name in names} <= {"hazel", "willow"}
        assert wrong_for_somebody(page) == []
        assert visit.faults == []
        page.reload()
        follows(visit)
        expect(page.locator("#seen")).to_be_hidden()


def test_an_answer_is_stopped(browser: Browser, nodes: Nodes) -> None:
    with visiting(browser) as visit:
        live(visit, nodes.url)
        at_most(visit, 1024)
        ask(visit)
        visit.page.locator(".tokens .t").first.wait_for()
        visit.page.evaluate("document.getElementById('stop').click()")  # It is fast.
        assert "You have stopped it." in ended(visit)
        expect(visit.page.locator("#send")).to_be_visible()
        visit.page.wait_for_function(
            "fetch('/api/status').then(got => got.json()).then(found => !found.answers_open)"
        )


def test_the_keyboard_is_enough(browser: Browser, nodes: Nodes) -> None:
    with visiting(browser) as visit:
        page = visit.page
        live(visit, nodes.url + "/safety")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        for _ in range(2):
            page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Chat"
        page.keyboard.press("Enter")
        page.wait_for_url(nodes.url + "/")
        follows(visit)
        at_most(visit, 16)
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "prompt":
                break
        page.keyboard.type("abc")
        page.keyboard.press("Enter")
        assert "16 tokens" in ended(visit)
        for _ in range(40):
            page.keyboard.press("Shift+Tab")
            if page.evaluate("document.activeElement.className").startswith("tokens"):
                break
        tokens = page.locator(".tokens .t")
        expect(tokens.first).to_have_class(NOW)
        page.keyboard.press("ArrowRight")
        expect(tokens.nth(1)).to_have_class(NOW)
        page.keyboard.press("End")
        expect(tokens.last).to_have_class(NOW)
        expect(page.locator("#round")).to_contain_text("agreement")
        assert visit.faults == []


def test_the_line_to_join_with_is_copied(browser: Browser, nodes: Nodes) -> None:
    with visiting(browser) as visit:
        live(visit, nodes.url + "/swarm")
        visit.page.click("#copy-1")
        expect(visit.page.locator("#said")).to_have_text("Copied.")
        copied = visit.page.evaluate("navigator.clipboard.readText()")
        assert copied == f"swarmllm join --peer {nodes.first.wait_for('ready')['invite']}"


def test_the_node_is_stopped_and_started_with_its_token(browser: Browser, nodes: Nodes) -> None:
    with visiting(browser) as visit:
        page = visit.page
        live(visit, nodes.url + "/node")
        page.click("text=Stop this node")
        page.fill("#ask-value", "not the token")
        page.keyboard.press("Enter")
        expect(page.locator("#ask-why")).to_contain_text("not the token of this node")
        page.fill("#ask-value", nodes.token)
        page.keyboard.press("Enter")
        try:
            expect(page.locator("#banner")).to_contain_text("No text is made here")
            expect(page.locator("#pill")).to_have_text("halted")
            assert wrong_for_somebody(page) == []
            page.click("nav >> text=Chat")
            page.wait_for_selector("#prompt")
            follows(visit)
            ask(visit)
            assert re.fullmatch(r"[^.]+\.", ended(visit)), ended(visit)
        finally:
            page.goto(nodes.url + "/node")
            page.click("text=Start this node")
        expect(page.locator("#banner")).to_be_hidden()
        expect(page.locator("#change")).to_have_text("Stop this node")


def test_a_node_with_a_key_is_shown_once_the_key_is_given(browser: Browser, nodes: Nodes) -> None:
    with visiting(browser) as visit:
        page = visit.page
        page.goto(f"{nodes.second.wait_for('ready')['http']}/swarm")
        expect(page.locator("#ask-why")).to_have_text("This node asks for an API key.")
        assert page.locator("#live").inner_text() == ""
        page.fill("#ask-value", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#ask-why")).to_have_text("The node does not know this key.")
        page.fill("#ask-value", KEY)
        page.keyboard.press("Enter")
        expect(page.locator("#live")).to_contain_text("hazel")
        page.click("nav >> text=Chat")
        page.wait_for_selector("#prompt")
        follows(visit)
        at_most(visit, 16)
        ask(visit)
        assert "16 tokens" in ended(visit)


def test_votes_of_the_page_and_of_the_command_line_are_in_one_ledger_and_pass_a_proposal(
    browser: Browser, council: Council
) -> None:
    council.typed("vote", council.id, "yes", "--key", "ben.key")
    with visiting(browser, *CORNERS[1]) as visit:
        page = visit.page
        live(visit, f"{council.node.wait_for('ready')['http']}/safety")
        page.click(f"#no-{council.id}")
        expect(page.locator("#vote-about")).to_contain_text("cannot pass any more")
        page.click("#vote-cancel")
        page.click(f"#yes-{council.id}")
        about = page.locator("#vote-about")
        expect(about).to_contain_text("Go back to phase 0.")
        expect(about).to_contain_text("deploy-minor: ")
        expect(about).to_contain_text("1 of 2 needed")
        expect(about).to_contain_text("With this vote it passes")
        assert wrong_for_somebody(page) == []
        page.fill("#vote-pass", "incorrect horse")
        page.keyboard.press("Enter")
        page.fill("#ask-value", (council.node.data / TOKEN_FILE).read_text().strip())
        page.keyboard.press("Enter")
        expect(page.locator("#vote-fault")).to_contain_text("does not open the key ann")
        page.fill("#vote-pass", PASSPHRASE)
        page.keyboard.press("Enter")
        expect(page.locator("#said")).to_contain_text("2 of 2 votes for it: enacted.")
        expect(page.locator("#vote")).to_be_hidden()
        expect(page.locator("#live")).to_contain_text("ann has voted yes.")
        assert page.input_value("#vote-pass") == ""
        page.click("#propose")
        page.select_option("#propose-setting", "router.hedging_extra")
        page.fill("#propose-value", "2")
        page.fill("#propose-why", "rounds wait for one expert")
        assert wrong_for_somebody(page) == []
        page.fill("#vote-pass", PASSPHRASE)
        page.click("#vote-send")
        expect(page.locator("#said")).to_contain_text("Proposed, signed by ann. 0 of 2")
        expect(page.locator("#live")).to_contain_text("rounds wait for one expert")
        assert [one for one in visit.faults if "403" not in one] == []
    (found,) = council.typed("proposals", "show", council.id)
    assert (found["state"], len(found["yes"])) == ("enacted", 2)
    entries = council.typed("ledger", "show", "--kind", "governance")
    votes = [one for one in entries if one["what"] == "Vote"]
    assert len(votes) == 2
    for path in council.node.home.rglob("*"):  # What was typed was neither kept nor told.
        if path.is_file():
            assert_untold(path, path.read_bytes(), (PASSPHRASE, "incorrect horse"))
    assert_untold("the records of join", json.dumps(council.node.records).encode(), (PASSPHRASE,))


# --- a node that says whatever a test wants -------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_whatever_strangers_write_does_nothing(browser: Browser, stage: Stage, path: str) -> None:
    settings = stage.puppet.records["settings"]
    stage.puppet.records = with_texts(everything(), lambda _: HOSTILE) | {"settings": settings}
    with visiting(browser) as visit:
        live(visit, stage.url + path)
        page = visit.page
        assert page.locator("img[src='x']").count() == 0
        assert "\u202e" not in page.content()
        assert "\\u202egnp" in page.locator("body").inner_text()
        assert wrong_for_somebody(page) == []
        assert visit.faults == []


def token(at: int, text: str, experts: int) -> dict[str, Any]:
    uses = [
        {
            **{"peer": f"12D3KooWpeer{one}", "model": f"{HOSTILE}{one}", "bytes": 400},
            **{"weight": 0.9 if one == at else 0.1 / experts, "rtt_ms": 9.5, "used": True},
        }
        for one in range(experts)
    ]
    return {
        **{"event": "token", "index": at, "text": text, "k": experts, "round_ms": 12.0},
        **{"agreement": 0.8, "experts": uses},
    }


def test_hostile_tokens_of_many_experts_are_text_in_colours_that_all_can_read(
    browser: Browser, stage: Stage
) -> None:
    records = stage.puppet.records
    records["status"]["experts"] = [expert(f"12D3KooWpeer{one}") for one in range(10)]
    end = {"reason": "eos", "tokens": 10, "prompt_tokens": 1, "failovers": 0, "seconds": 1.0}
    end |= {"rounds": 10, "drafted": 0, "accepted": 0}
    weighed = {"event": "weighed", "prompt_tokens": 1, "experts": []}
    tokens = [token(at, f" {HOSTILE}\n", 10) for at in range(10)]
    stage.puppet.answer = [weighed, *tokens, {"event": "end", **end}]
    for theme in ("light", "dark"):
        with visiting(browser, theme=theme) as visit:
            live(visit, stage.url)
            ask(visit)
            assert "10 tokens" in ended(visit)
            page = visit.page
            spans = page.locator(".tokens .t")
            colours = spans.evaluate_all(
                "all => all.map(one => getComputedStyle(one).backgroundColor)"
            )
            assert len(set(colours)) == 9  # Eight, and one for all further experts.
            lines = spans.evaluate_all(
                "all => all.map(one => getComputedStyle(one).borderBottom.replace(/rgb.*/, ''))"
            )
            assert len(set(lines[:8])) == 8
            spans.nth(3).click()
            assert "\u202e" not in page.content()
            assert page.locator("#log img, #log script, #round img").count() == 0
            assert wrong_for_somebody(page) == []
            assert visit.faults == []


def test_what_a_model_thinks_is_folded_and_only_what_it_says_is_sent_again(
    browser: Browser, stage: Stage
) -> None:
    end = {"reason": "eos", "tokens": 5, "prompt_tokens": 1, "failovers": 0, "seconds": 1.0}
    end |= {"rounds": 5, "drafted": 0, "accepted": 0}
    marks = {"opening": "<think>", "closing": "</think>", "is_open": False}
    weighed = {"event": "weighed", "prompt_tokens": 1, "experts": [], "thinking": marks}
    pieces = ["<thi", "nk>\n", f"why {HOSTILE}", "</think>", "so"]
    tokens = [token(at, text, 2) for at, text in enumerate(pieces)]
    stage.puppet.answer = [weighed, *tokens, {"event": "end", **end}]
    with visiting(browser) as visit:
        live(visit, stage.url)
        ask(visit)
        assert "5 tokens" in ended(visit)
        page = visit.page
        expect(page.locator(".tokens")).to_have_text("so")
        expect(page.locator("p.thoughts")).to_be_hidden()
        page.locator("#log summary").click()
        expect(page.locator("p.thoughts")).to_contain_text("why")
        assert page.locator("#log img, #log script").count() == 0
        assert wrong_for_somebody(page) == []
        assert visit.faults == []


def test_an_answer_that_breaks_off_says_why_in_one_sentence(browser: Browser, stage: Stage) -> None:
    weighed = {"event": "weighed", "prompt_tokens": 1, "experts": []}
    end = {"event": "end", "reason": "halted", "error": "halted by key 0038d5ac"}
    with visiting(browser) as visit:
        live(visit, stage.url)
        for at, early in enumerate(([token(0, "a", 2)], [])):
            stage.puppet.answer = [weighed, *early, end]
            ask(visit)
            expect(visit.page.locator(".fault").nth(at)).to_have_text("Halted by key 0038d5ac.")


def test_the_page_follows_the_node(browser: Browser, stage: Stage) -> None:
    with visiting(browser) as visit:
        live(visit, stage.url + "/swarm")
        expect(visit.page.locator("#banner")).to_contain_text("A reason.")
        status = stage.puppet.records["status"]
        status["halted"] = []
        status["experts"] = [expert("12D3KooWnew", model="newcomer")]
        expect(visit.page.locator("#live")).to_contain_text("newcomer")
        expect(visit.page.locator("#banner")).to_be_hidden()
        expect(visit.page.locator("#pill")).to_have_text("running, 1 expert")
