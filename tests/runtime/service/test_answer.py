"""An answer as its reader sees it: stop strings, characters in pieces, limits, and exactly one
end."""

from __future__ import annotations

import re

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.chat import ChatMessage
from swarmllm.core.events import Ended, Noticed, TokenChosen
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import EXPERTS, EXTRA, WIDE_SHARE
from swarmllm.core.tool_calls import CLOSING, MARK, opening
from swarmllm.core.values import GenerateRequest
from swarmllm.errors import ContextError, HaltedError, LocalError, UsageError
from swarmllm.messages import CONTEXT_MAX
from swarmllm.runtime.driver import Driver
from swarmllm.runtime.queues import AnswerFeed
from swarmllm.runtime.service.answer import Answer, Notice, Piece
from swarmllm.runtime.service.request import TextRequest, params_of, parse_request
from swarmllm.runtime.service.stop_strings import StopFilter, StopsBesideCalls, check_stops
from swarmllm.testing.scripted_text import BOS, EOS, SIZE, WORDS, ScriptedText
from tests.clock import under_mock_clock


class ScriptedDriver(Driver):
    """A driver whose answers are written beforehand: tokens, notices, and how it ends."""

    def __init__(self, script: list[int | str], reason: str = "length", error: str = "") -> None:
        self.script = script
        self.reason = reason
        self.error = error
        self.orders: list[GenerateRequest] = []
        self.cancelled: list[str] = []
        self.feeds: list[AnswerFeed] = []

    def ask(self, order: GenerateRequest) -> AnswerFeed:
        self.orders.append(order)
        feed = AnswerFeed(len(self.orders))
        self.feeds.append(feed)
        count = 0
        for item in self.script:
            if isinstance(item, str):
                feed.put(Noticed(feed.request, item))
            else:
                feed.put(TokenChosen(feed.request, count, item, -0.5, count, 1, 0.01, (), 1.0))
                count += 1
        feed.put(Ended(feed.request, self.reason, count, 2, 1, self.error))  # type: ignore[arg-type]
        return feed

    def cancel(self, cancelled: object) -> None:
        self.cancelled.append(cancelled.reason)  # type: ignore[attr-defined]

    def abandon(self, request: int) -> None:
        self.cancelled.append("abandoned")


def answer_of(
    script: list[int | str],
    request: TextRequest | None = None,
    context_max: int | None = 4096,
    **ending: str,
) -> tuple[Answer, ScriptedDriver]:
    driver = ScriptedDriver(script, **ending)
    return Answer(
        driver, ScriptedText(), request or TextRequest("prompt"), lambda _: context_max
    ), driver


async def read(answer: Answer) -> list[Piece]:
    return [piece async for piece in answer]


@under_mock_clock
async def test_what_the_request_leaves_open_is_as_the_settings_are_when_it_begins() -> None:
    settings = Settings()
    for request, expected in (
        (TextRequest("x"), (5, 2, 0.5)),
        (TextRequest("x", k=1), (1, 2, 0.5)),
    ):
        driver = ScriptedDriver([65])
        answer = Answer(driver, ScriptedText(), request, lambda _: 4096, settings=settings)
        for setting, value in ((EXPERTS, 5), (EXTRA, 2), (WIDE_SHARE, 500)):
            settings.set(setting, value)
        await read(answer)
        order = driver.orders[0]
        assert (order.k, order.extra, order.quality) == expected


@under_mock_clock
async def test_the_prompt_goes_out_with_the_first_token_of_a_text_in_front() -> None:
    answer, driver = answer_of([65])
    await read(answer)
    assert driver.orders[0].prompt == (BOS, *b"prompt")
    assert driver.orders[0].vocab_size == SIZE
    assert driver.orders[0].stop_tokens == {EOS}


def order_of(prompt: str, *, add_bos: bool, turns: tuple[int, ...] = ()) -> GenerateRequest:
    text = ScriptedText(add_bos=add_bos)
    driver = ScriptedDriver([65])

    async def body() -> None:
        await read(Answer(driver, text, TextRequest(prompt, turns=turns), lambda _: 4096))

    under_mock_clock(body)()
    return driver.orders[0]


def test_no_first_token_goes_out_where_texts_have_none() -> None:
    assert order_of("prompt", add_bos=False).prompt == tuple(b"prompt")
    assert order_of("saidwritten", add_bos=False, turns=(4,)).outside == ((0, 4),)
    assert order_of("saidwritten", add_bos=True, turns=(4,)).outside == ((1, 5),)


def test_a_text_that_begins_with_the_first_token_gets_no_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def spelled(_: ScriptedText, text: str) -> list[int]:
        await trio.lowlevel.checkpoint()
        return [BOS, *text.encode()]

    monkeypatch.setattr(ScriptedText, "encode", spelled)
    assert order_of("prompt", add_bos=True).prompt == (BOS, *b"prompt")


TALK = (ChatMessage("user", "Why?"), ChatMessage("assistant", "So."), ChatMessage("user", "<eos>"))
MARKED = (
    "{% for m in messages %}{{ '<bos>' + m.content + '<eos>' }}{% endfor %}"
    "{% if add_generation_prompt %}<bos>{% endif %}"
)


def chat_order(template: str) -> GenerateRequest:
    text = ScriptedText(frozenset({300}), add_bos=False, chat_template=template)
    driver = ScriptedDriver([65])

    async def body() -> None:
        await read(Answer(driver, text, TextRequest(messages=TALK), lambda _: 4096))

    under_mock_clock(body)()
    return driver.orders[0]


def test_a_conversation_goes_out_as_the_template_writes_it() -> None:
    order = chat_order(MARKED)
    said = (BOS, *b"Why?", EOS), (BOS, *b"So.", EOS), (BOS, *b"<eos>", EOS, BOS)
    assert order.prompt == sum(said, ())
    others = [token for a, b in order.outside for token in order.prompt[a:b]]
    assert others == [*b"Why?", EOS, BOS, EOS, BOS, *b"<eos>", EOS, BOS]
    assert order.stop_tokens == {300, EOS}  # The vocabulary's, and what ends a turn.


def test_without_a_template_the_next_label_ends_an_answer() -> None:
    assert bytes(chat_order("").prompt) == b"User: Why?\nAssistant: So.\nUser: <eos>\nAssistant:"
    request = TextRequest(messages=TALK)
    answer, driver = answer_of([*b" Yes.\nUser: more"], request)

    async def body() -> None:
        assert "".join([piece.text for piece in await read(answer)]) == " Yes."
        assert answer.result is not None
        assert answer.result.reason == "stop"

    under_mock_clock(body)()
    assert driver.cancelled == ["stop"]


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (TextRequest("text", messages=TALK), "a prompt and a conversation"),
        (TextRequest(), "the prompt is empty"),
        (TextRequest(messages=(ChatMessage("boss", "x"),)), "the role 'boss' is none of"),
        (TextRequest(messages=(ChatMessage("user", "\ud800"),)), "no character"),
        (TextRequest(messages=TALK * 2000), "6000 messages"),
    ],
)
def test_what_is_neither_text_nor_conversation_is_refused(
    request_: TextRequest, complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        request_.check()


def test_a_request_crosses_to_another_process_whole() -> None:
    for request in (TextRequest("text", k=2), TextRequest(messages=TALK, stop=("a",))):
        assert parse_request(params_of(request)) == request
    nameless, numbered = [{"role": "user"}], [{"role": "user", "content": 1}]
    broken: tuple[object, ...] = (nameless, numbered, ["x"], "x", [{}])
    for messages in broken:
        with pytest.raises(UsageError):
            parse_request({"messages": messages})


@pytest.mark.parametrize(
    ("script", "ending", "words"),
    [
        ([EOS], "eos", "ended the text at once.*chat format"),
        ([*b" \n", EOS], "eos", "ended the text at once"),
        ([*b"\n\n"], "length", "nothing to read in its 2 tokens"),
        ([*b"no", EOS], "eos", None),
        ([EOS], "cancelled", None),
    ],
)
@under_mock_clock
async def test_an_answer_with_nothing_to_read_is_said_to_be_empty(
    script: list[int | str], ending: str, words: str | None
) -> None:
    answer, _ = answer_of(script, reason=ending)
    parts = []
    while (part := await answer.next_part()) is not None:
        parts.append(part)
    notices = [part.text for part in parts if isinstance(part, Notice)]
    assert len(notices) == (0 if words is None else 1)
    assert words is None or re.search(words, notices[0])
    assert answer.result is not None
    assert answer.result.reason == ending


@under_mock_clock
async def test_an_answer_that_begins_with_a_stop_string_is_said_to_be_empty() -> None:
    answer, _ = answer_of([*b"STOP and more"], TextRequest("prompt", stop=("STOP",)))
    parts = []
    while (part := await answer.next_part()) is not None:
        parts.append(part)
    assert [part.text for part in parts if isinstance(part, Notice)] == [
        "the answer is empty: it began with a stop string"
    ]


@under_mock_clock
async def test_a_turn_without_a_word_gets_no_advice_about_chat_formats() -> None:
    answer, _ = answer_of([EOS], TextRequest(messages=(ChatMessage("user", "x"),)), reason="eos")
    parts = []
    while (part := await answer.next_part()) is not None:
        parts.append(part)
    (notice,) = [part.text for part in parts if isinstance(part, Notice)]
    assert "ended its turn" in notice
    assert "chat" not in notice


@under_mock_clock
async def test_every_token_gives_one_piece_and_characters_come_whole() -> None:
    tokens = [*"aé€".encode(), 256]
    answer, _ = answer_of(list(tokens))
    pieces = await read(answer)
    assert [p.token for p in pieces] == tokens
    assert [p.index for p in pieces] == list(range(len(tokens)))
    assert [p.text for p in pieces] == ["a", "", "é", "", "", "€", WORDS[256].decode()]
    assert answer.result is not None
    assert answer.result.text == "aé€" + WORDS[256].decode()
    assert answer.result.tokens == len(tokens)


@under_mock_clock
async def test_a_character_that_is_never_finished_comes_out_with_the_last_token() -> None:
    answer, _ = answer_of([97, 0xE2, 0x82])
    assert [p.text for p in await read(answer)] == ["a", "", "\ufffd"]


@under_mock_clock
async def test_notices_come_in_their_place_and_are_no_pieces() -> None:
    answer, _ = answer_of([97, "fewer experts", 98])
    parts = []
    while (part := await answer.next_part()) is not None:
        parts.append(part)
    assert [type(p) for p in parts] == [Piece, Notice, Piece]
    answer, _ = answer_of([97, "fewer experts", 98])
    assert "".join(p.text for p in await read(answer)) == "ab"


@pytest.mark.parametrize(
    ("said", "stops", "shown"),
    [
        (b"one\ntwo", ["\n"], "one"),
        (b"say STOP now", ["STOP"], "say "),
        (b"say STO", ["STOP"], "say STO"),
        (b"aab", ["ab"], "a"),
        (b"ababac..", ["abac"], "ab"),
        (b"first", ["first"], ""),
        (b"x END y", ["zzz", " END"], "x"),
        (b"both", ["th", "o"], "b"),
    ],
)
@under_mock_clock
async def test_the_first_stop_string_ends_the_answer_and_is_not_shown(
    said: bytes, stops: list[str], shown: str
) -> None:
    answer, driver = answer_of(list(said), TextRequest("prompt", stop=tuple(stops)))
    pieces = await read(answer)
    assert answer.result is not None
    assert "".join(p.text for p in pieces) == answer.result.text == shown
    stopped = any(stop.encode() in said for stop in stops)
    assert driver.cancelled == (["stop"] if stopped else [])
    assert answer.result.reason == ("stop" if stopped else "length")


@under_mock_clock
async def test_text_that_was_held_back_is_shown_when_the_answer_breaks_off() -> None:
    answer, driver = answer_of(
        list(b"say ST"), TextRequest("prompt", stop=("STOP",)), reason="error", error="all gone"
    )
    driver.script.append("a notice in between, so that the end is not at hand yet")
    seen: list[Piece] = []
    with pytest.raises(LocalError, match="all gone"):
        await _collect(answer, seen)
    assert "".join(p.text for p in seen) == "say ST"
    assert seen[-1].chosen is None
    assert answer.result is not None
    assert answer.result.text == "say ST"
    assert answer.result.tokens == 6


async def _collect(answer: Answer, seen: list[Piece]) -> None:
    async for piece in answer:
        seen.append(piece)


@given(
    st.text("ab", max_size=30),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    st.data(),
)
def test_a_stop_filter_shows_what_is_before_the_first_stop_however_the_text_is_cut(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    filtered = StopFilter(stops)
    shown, rest = "", text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        piece, rest = rest[:size], rest[size:]
        shown += filtered.push(piece)
        assert text.startswith(shown)
    shown += "" if filtered.found else filtered.finish()
    assert filtered.found == bool(found)
    if not found:
        assert shown == text
    else:
        # Cut into pieces, the stop that ends first is found first; it begins at or behind the
        # leftmost one.
        assert any(text.startswith(stop, len(shown)) for stop in stops)
        assert len(shown) >= min(found)


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_a_stop_string_ends_the_text_beside_calls_and_never_a_call(size: int) -> None:
    called = opening("get") + '{"a":"STOP"}' + CLOSING
    for text, shown in (
        (f"So.{called}\nthen ST{called}", None),
        (f"So.{called}\nthen STOP now{called}", f"So.{called}\nthen "),
        (f"STOP{called}", ""),
        (called, None),
    ):
        filtered = StopsBesideCalls(StopFilter(["STOP"]))
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        said = "".join(map(filtered.push, pieces)) + filtered.finish()
        assert said == (text if shown is None else shown)
        assert (filtered.found, filtered.which) == (
            shown is not None,
            "STOP" if filtered.found else "",
        )


def test_a_stop_filter_holds_back_no_more_than_it_must() -> None:
    filtered = StopFilter(["STOP"])
    assert filtered.push("abcS") == "abc"
    assert filtered.push("T") == ""
    assert filtered.push("A") == "STA"


@pytest.mark.parametrize("stops", [[""], ["x" * 257], ["x"] * 17])
def test_impossible_stop_strings_are_refused(stops: list[str]) -> None:
    with pytest.raises(UsageError):
        check_stops(stops)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (TextRequest(""), "empty"),
        (TextRequest("x", k=0), "k is 0"),
        (TextRequest("x", k=65), "65"),
        (TextRequest("x", extra=-1), "extra is -1"),
        (TextRequest("x", max_tokens=0), "max_tokens is 0"),
        (TextRequest("x", sampling={"temperature": -1.0}), "temperature"),
        (TextRequest("x", sampling={"temperature": float("nan")}), "temperature"),
        (TextRequest("x", sampling={"top_p": 0.0}), "top_p"),
        (TextRequest("x", seed=-1), "seed"),
        (TextRequest("x", stop=("",)), "stop"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_with_its_name_and_value(
    asked: TextRequest, named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        answer_of([97], asked)


@under_mock_clock
async def test_a_text_longer_than_every_reachable_context_is_refused_with_both_numbers() -> None:
    answer, driver = answer_of([97], TextRequest("x" * 99, max_tokens=50), context_max=149)
    with pytest.raises(UsageError, match=r"100 tokens and max_tokens is 50.*149"):
        await read(answer)
    assert driver.orders == []
    answer, driver = answer_of([97], TextRequest("x" * 99, max_tokens=50), context_max=150)
    await read(answer)
    assert len(driver.orders) == 1


@under_mock_clock
async def test_experts_that_are_found_late_and_are_too_small_are_noticed_at_the_first_token() -> (
    None
):
    known: list[int | None] = [None]
    driver = ScriptedDriver([97, 98])
    answer = Answer(driver, ScriptedText(), TextRequest("xx", max_tokens=50), lambda _: known[0])

    def appear() -> None:
        known[0] = 20

    original = driver.ask

    def ask(order: GenerateRequest) -> AnswerFeed:
        appear()
        return original(order)

    driver.ask = ask  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="20"):
        await read(answer)
    assert driver.cancelled == ["cancelled"]


@pytest.mark.parametrize(
    ("reason", "kind", "code"), [("error", LocalError, 1), ("halted", HaltedError, 3)]
)
@under_mock_clock
async def test_an_answer_that_fails_raises_after_its_last_piece_and_keeps_its_result(
    reason: str, kind: type[LocalError], code: int
) -> None:
    answer, _ = answer_of([97], reason=reason, error="why")
    seen: list[Piece] = []
    with pytest.raises(kind, match="why") as raised:
        await _collect(answer, seen)
    assert raised.value.exit_code == code
    assert [p.text for p in seen] == ["a"]
    assert answer.result is not None
    assert answer.result.reason == reason


@under_mock_clock
async def test_a_halted_node_says_so_before_it_waits_for_anybody() -> None:
    """A node without a model would wait for a vocabulary first, and end with that reason."""
    driver, why = ScriptedDriver([97]), ("stopped by the owner of this node",)
    text, request = ScriptedText(), TextRequest("prompt")
    answer = Answer(driver, text, request, lambda _: 4096, halted=lambda: why)
    began_at = trio.current_time()
    with pytest.raises(HaltedError, match="no text is generated: stopped by the owner") as raised:
        await read(answer)
    assert raised.value.exit_code == 3
    assert trio.current_time() == began_at
    assert answer.result is not None
    assert answer.result.reason == "halted"
    assert await answer.next_part() is None
    assert driver.orders == []


@under_mock_clock
async def test_the_result_counts_what_was_read_and_tells_the_seed_that_was_drawn() -> None:
    answer, driver = answer_of(list(b"abc"))
    await read(answer)
    assert answer.result is not None
    assert answer.result.tokens == 3
    assert answer.result.prompt_tokens == 7
    assert (answer.result.failovers, answer.result.local_only_tokens) == (2, 1)
    assert answer.result.seed == driver.orders[0].sampling.seed
    again, _ = answer_of(list(b"abc"), TextRequest("prompt", seed=4711))
    await read(again)
    assert again.result is not None
    assert again.result.seed == 4711


@under_mock_clock
async def test_reading_on_after_the_end_gives_nothing() -> None:
    answer, _ = answer_of([97])
    assert len(await read(answer)) == 1
    assert await read(answer) == []
    assert await answer.next_part() is None


@under_mock_clock
async def test_dropping_an_answer_abandons_it_and_a_finished_one_does_not() -> None:
    answer, driver = answer_of([97, 98, 99])
    await anext(answer)
    del answer
    assert driver.cancelled == ["abandoned"]
    answer, driver = answer_of([97])
    await read(answer)
    del answer
    assert driver.cancelled == []


# --- the queues underneath ------------------------------------------------------------------------


@under_mock_clock
async def test_a_feed_keeps_every_token_and_the_newest_notices() -> None:
    feed = AnswerFeed(1)
    for i in range(200):
        feed.put(Noticed(1, str(i)))
        feed.put(TokenChosen(1, i, 1, 0.0, i, 1, 0.0, (), 1.0))
    feed.put(Ended(1, "length", 200, 0, 0))
    tokens, notices = [], []
    while not isinstance(event := await feed.get(), Ended):
        if isinstance(event, TokenChosen):
            tokens.append(event.index)
        else:
            assert isinstance(event, Noticed)
            notices.append(event.text)
    assert tokens == list(range(200))
    assert notices == [str(i) for i in range(136, 200)]


def test_a_second_end_is_a_fault() -> None:
    feed = AnswerFeed(1)
    feed.put(Ended(1, "length", 0, 0, 0))
    with pytest.raises(AssertionError, match="after its end"):
        feed.put(Ended(1, "length", 0, 0, 0))


@under_mock_clock
async def test_an_answer_that_is_clamped_takes_what_room_the_context_has() -> None:
    request = TextRequest("xx", max_tokens=CONTEXT_MAX, clamp=True)
    answer, driver = answer_of([97, 98], request, context_max=20)
    await read(answer)
    assert driver.orders[0].max_tokens == 20 - len(driver.orders[0].prompt)


@under_mock_clock
async def test_a_prompt_that_fills_the_context_is_refused_with_both_numbers() -> None:
    request = TextRequest("x" * 30, max_tokens=CONTEXT_MAX, clamp=True)
    answer, _ = answer_of([97], request, context_max=20)
    with pytest.raises(ContextError, match=r"31 tokens.*20 tokens"):
        await read(answer)


@under_mock_clock
async def test_of_each_token_its_bytes_and_the_likeliest_ones_are_told_if_asked_for() -> None:
    answer, _ = answer_of([97], TextRequest("x", likeliest=1))
    pieces = await read(answer)
    assert (pieces[0].data, pieces[0].likeliest) == (b"a", ((97, b"a", -0.5),))


@under_mock_clock
async def test_a_prompt_of_token_ids_is_taken_as_it_is_with_one_bos() -> None:
    for ids in ((BOS, 104, 105), (104, 105)):
        answer, driver = answer_of([97], TextRequest(prompt_ids=ids))
        await read(answer)
        assert driver.orders[0].prompt == (BOS, 104, 105)
    answer, _ = answer_of([97], TextRequest(prompt_ids=(999,)))
    with pytest.raises(UsageError, match="token id 999"):
        await read(answer)


def test_a_stop_string_ends_the_json_of_a_form_and_no_call() -> None:
    call = opening("get") + '{"a": "STOP"}' + CLOSING
    for text, shown in (
        (f'["{MARK}", "STOP"]', f'["{MARK}", "'),
        (f"{call}\n{call}", f"{call}\n{call}"),
    ):
        for size in (1, 3, len(text)):
            filtered = StopsBesideCalls(StopFilter(["STOP"]), has_form=True)
            pieces = [text[at : at + size] for at in range(0, len(text), size)]
            assert "".join(map(filtered.push, pieces)) + filtered.finish() == shown
