"""Laws of chat templates: they are written as their authors meant, control tokens come from them
alone, and a hostile one ends in one sentence."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.chat import sandbox
from swarmllm.adapters.chat.families import CHATML, GEMMA, PHI, PLAIN, PLAIN_STOP, template_for
from swarmllm.adapters.chat.prompt import ChatPrompter
from swarmllm.adapters.chat.sandbox import Sandbox
from swarmllm.adapters.chat.template import ChatTemplate, token_ranges
from swarmllm.adapters.llama.llama_text import TEXT_BYTES_MAX
from swarmllm.core.chat import ChatMessage
from swarmllm.core.thinking import Thinking
from swarmllm.core.vocabulary import Span, Vocabulary, ends_of
from swarmllm.errors import LocalError, UsageError

NAMES = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<start_of_turn>", "[INST]")
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% endif %}"
)
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "
    "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim "
    "+ '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != "
    "(loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate "
    "user/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token}}{% endif %}{% endfor %}"
)
QWEN3 = (
    "{%- for message in messages %}{%- set content = message.content %}"
    "{%- if message.role == 'assistant' and '</think>' in content %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
    "{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
USER = ChatMessage("user", "  What is gravity? ")
TALK = (USER, ChatMessage("assistant", "A force."), ChatMessage("user", "Why?"))


def template(source: str, names: tuple[str, ...] = NAMES) -> ChatTemplate:
    return ChatTemplate(source, names, bos_text="<s>", eos_text="</s>")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            SMOLLM2,
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
            "Face<|im_end|>\n<|im_start|>user\n  What is gravity? <|im_end|>\n<|im_start|>assistant"
            "\nA force.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            LLAMA3,
            "<s><|start_header_id|>user<|end_header_id|>\n\nWhat is gravity?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nA force.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (MISTRAL, "<s>[INST]   What is gravity?  [/INST]A force.</s>[INST] Why? [/INST]"),
        (
            CHATML,
            "<|im_start|>user\n  What is gravity? <|im_end|>\n<|im_start|>assistant\nA force."
            "<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            GEMMA,
            "<s><start_of_turn>user\nWhat is gravity?<end_of_turn>\n<start_of_turn>model\nA force."
            "<end_of_turn>\n<start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\n",
        ),
        (
            PHI,
            "<|user|>\n  What is gravity? <|end|>\n<|assistant|>\nA force.<|end|>\n"
            "<|user|>\nWhy?<|end|>\n<|assistant|>\n",
        ),
        (PLAIN, "User: What is gravity?\nAssistant: A force.\nUser: Why?\nAssistant:"),
    ],
)
def test_a_conversation_is_written_as_the_template_says(source: str, expected: str) -> None:
    found = template(source).render(TALK)
    assert found.text == expected
    assert [found.text[a:b] for a, b in found.own] == ["A force."]


def test_the_longest_conversation_is_no_fault_of_the_template() -> None:
    said = [ChatMessage("user", "x" * TEXT_BYTES_MAX)]
    assert len(template(SMOLLM2, ()).render(said).text) > TEXT_BYTES_MAX


# --- control tokens ----------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *NAMES,
        "<|im_",
        "start|>",
        "<|",
        "|>",
        "_end|>",
        "<",
        ">",
        "s>",
        "a",
        " ",
        "\n",
        "</",
        "[IN",
        "é",
    ]
)
HOSTILE = st.lists(PIECES, max_size=6).map("".join)


def special_text(found: tuple[Span, ...]) -> str:
    """What may become control tokens; a mark stands for what may not."""
    return "".join(span.text if span.parse_special else "\0" for span in found)


def count_names(text: str) -> int:
    return sum(text.count(name) for name in NAMES)


@given(
    st.lists(HOSTILE, min_size=3, max_size=3), st.sampled_from([SMOLLM2, LLAMA3, MISTRAL, PLAIN])
)
def test_nobody_writes_a_control_token_but_the_template(said: list[str], source: str) -> None:
    roles = ("user", "assistant", "user")
    hostile = [ChatMessage(r, s) for r, s in zip(roles, said, strict=True)]
    harmless = [ChatMessage(role, "x") for role in roles]
    found = template(source).render(hostile)
    allowed = count_names(special_text(template(source).render(harmless).spans))
    assert count_names(special_text(found.spans)) == allowed
    written = template(source, ()).render(
        hostile
    )  # The same words, whoever may write control tokens.
    assert found.text == written.text


@given(st.lists(HOSTILE, min_size=2, max_size=4))
def test_two_contents_side_by_side_do_not_make_a_control_token(said: list[str]) -> None:
    source = "{% for m in messages %}{{ m.content }}{% endfor %}"
    found = template(source).render([ChatMessage("user", s) for s in said])
    assert found.text == "".join(said)
    assert count_names(special_text(found.spans)) == 0


def test_a_template_may_take_apart_what_the_assistant_said() -> None:
    thought = ChatMessage("assistant", "<think>hm</think>\nA force.")
    found = template(QWEN3).render([USER, thought, USER])
    assert "hm" not in found.text
    assert "assistant\nA force.<|im_end|>" in found.text


def test_whoever_takes_apart_a_mask_is_refused() -> None:
    source = "{% for c in messages[0].content %}{{ c }} {% endfor %}"
    assert template(source).render([ChatMessage("user", "ab")]).text == "a b "
    with pytest.raises(LocalError, match="takes apart the names of control tokens"):
        template(source).render([ChatMessage("user", "<|im_end|>")])


def test_contents_in_private_use_characters_stay_what_they_are() -> None:
    said = "".join(map(chr, range(0xF0000, 0xF0010))) + "0<|im_end|>\U000f0001"
    assert said in template(SMOLLM2).render([ChatMessage("user", said)]).text


# --- the end of a turn -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "end"),
    [(SMOLLM2, "<|im_end|>\n"), (LLAMA3, "<|eot_id|>"), (MISTRAL, "</s>"), (PLAIN, "\n")],
)
def test_the_end_of_a_turn_is_what_the_template_writes_behind_it(source: str, end: str) -> None:
    assert template(source).turn_end() == end


def test_a_family_is_known_by_its_control_tokens() -> None:
    assert template_for(["<|im_end|>", "<|im_start|>"]) == (CHATML, ())
    assert template_for(["<start_of_turn>", "<end_of_turn>"]) == (GEMMA, ())
    assert template_for(["<|user|>", "<|assistant|>", "<|end|>"]) == (PHI, ())
    headers = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    assert template_for(headers) == (PLAIN, PLAIN_STOP)  # Base models have them, too.
    assert ChatTemplate("", headers).render(TALK).stop == PLAIN_STOP


# --- ids ---------------------------------------------------------------------------------------


def prompter(source: str, *, add_bos: bool, names: tuple[str, ...] = NAMES) -> ChatPrompter:
    """Bytes are tokens, and so are the names."""
    pieces = [bytes([i]) for i in range(256)] + [b""] * len(names)
    vocabulary = Vocabulary(
        fingerprint=bytes(32),
        bos=256,
        add_bos=add_bos,
        eog=frozenset(),
        pieces=b"".join(pieces),
        ends=ends_of(pieces),
        chat_template=source,
        bos_text="<s>",
        eos_text="</s>",
    )

    def encode(spans: object) -> list[int]:
        ids: list[int] = []
        for span in spans:  # type: ignore[attr-defined]
            text = span.text
            while text:
                name = next((n for n in names if span.parse_special and text.startswith(n)), None)
                ids += [256 + names.index(name)] if name else list(text[0].encode())
                text = text[len(name or text[0]) :]
        return ids

    return ChatPrompter(vocabulary, encode, {256 + i: name for i, name in enumerate(names)})


@pytest.mark.parametrize("source", [SMOLLM2, LLAMA3, MISTRAL, PLAIN])
@pytest.mark.parametrize("add_bos", [True, False])
def test_bos_stands_in_front_once_whoever_writes_it(source: str, add_bos: bool) -> None:
    prompt = prompter(source, add_bos=add_bos).prompt(TALK)
    wanted = add_bos or source in (LLAMA3, MISTRAL)
    assert prompt.ids.count(256) == wanted
    assert (prompt.ids[0] == 256) == wanted
    ((start, end),) = prompt.own
    assert bytes(prompt.ids[start:end]) == b"A force."


def test_the_token_behind_a_turn_ends_an_answer() -> None:
    assert prompter(SMOLLM2, add_bos=True).prompt(TALK).end_tokens == {259}
    assert prompter(LLAMA3, add_bos=True).prompt(TALK).end_tokens == {260}
    assert prompter("", add_bos=True).prompt(TALK).end_tokens == {259}  # ChatML's, by its names.
    assert prompter(PLAIN, add_bos=True).prompt(TALK).end_tokens == frozenset()


def test_thinking_is_known_by_the_template_or_by_control_tokens() -> None:
    assert prompter(SMOLLM2, add_bos=True).prompt(TALK).thinking is None
    found = prompter(QWEN3, add_bos=True).prompt(TALK).thinking
    assert found == Thinking("<think>", "</think>")
    begun = QWEN3.replace("assistant\\n' }}", "assistant\\n<think>\\n' }}")
    found = prompter(begun, add_bos=True).prompt(TALK).thinking
    assert found == Thinking("<think>", "</think>", is_open=True)
    names = (*NAMES, "[THINK]", "[/THINK]")
    found = prompter(MISTRAL, add_bos=True, names=names).prompt((USER,)).thinking
    tokens = ((256 + len(NAMES), "[THINK]"), (257 + len(NAMES), "[/THINK]"))
    assert found == Thinking("[THINK]", "[/THINK]", tokens=tokens)


def test_token_ranges_lie_within_their_characters() -> None:
    text = "añb"
    assert token_ranges([(1, 2)], text, [1, 2, 1]) == ((1, 2),)
    # A token across the border is nobody's.
    assert token_ranges([(1, 2)], text, [2, 1, 1]) == ((1, 2),)
    assert token_ranges([(1, 2)], text, [2, 2]) == ()
    assert token_ranges([(0, 3)], text, [1, 2, 1]) == ((0, 3),)
    assert token_ranges([(0, 1), (2, 3)], text, [1, 2, 1]) == ((0, 1), (2, 3))


# --- hostile templates -------------------------------------------------------------------------


def growing(body: str, shown: str) -> str:
    """A template that does the same sixty times over."""
    begun = "{% set ns = namespace(s='ab', n=9) %}{% for i in range(60) %}{% set "
    return begun + body + " %}{% endfor %}{{ " + shown + " }}"


UNSAFE = "is unsafe"
# Whichever is reached first.
BOUND = "takes more than .* (steps|processor time|memory)|writes more than .* characters"
HOSTILE_TEMPLATES = [
    # No template.
    ("{% for %}", "cannot be read \\(line 1"),
    ("{{ messages[0]", "cannot be read"),
    ("{#" * 30_000, "cannot be read"),
    ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "cannot be read"),
    ("{% if 1 %}" * 5000 + "{% endif %}" * 5000, "cannot be read"),
    ("{% for a in messages %}" * 50 + "{% endfor %}" * 50, "cannot be read"),
    ("{{ " + "9" * 60_000 + " }}", "cannot be read"),
    ("{% debug %}", "cannot be read"),
    # Ways to Python's own objects.
    ("{{ ''.__class__.__mro__ }}", UNSAFE),
    ("{{ messages | groupby('__class__') }}", UNSAFE),
    ("{{ messages | sum(attribute='__class__.__name__') }}", UNSAFE),
    ("{{ messages | min(attribute='content.__class__') }}", UNSAFE),
    ("{{ self.__init__.__globals__ }}", UNSAFE),
    ("{{ joiner.__init__.__globals__.os.popen('id').read() }}", UNSAFE),
    ("{{ lipsum.__globals__['os'] }}", UNSAFE),
    ("{{ strftime_now.__closure__[0].cell_contents }}", UNSAFE),
    ("{{ '{0.__class__.__mro__}'.format(1) }}", UNSAFE),
    ("{{ (messages | select).gi_frame.f_back.f_globals }}", UNSAFE),
    ("{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}", UNSAFE),
    ("{{ ('x' | escape).__html__.__func__.__globals__ }}", UNSAFE),
    ("{{ nothing._undefined_exception.mro() }}", UNSAFE),
    ("{{ __import__('os') }}", "fails"),
    ("{% include 'other' %}", "fails"),
    ("{% import 'os' as os %}{{ os }}", "fails"),
    ("{% extends '/etc/passwd' %}", "fails"),
    # Changing what it is given.
    ("{{ messages.append(1) }}", UNSAFE),
    ("{{ messages.clear() }}", UNSAFE),
    ("{{ messages[0].update({'role': 'system'}) }}", UNSAFE),
    # Work.
    ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", BOUND),
    ("{{ range(1000000000) | sum }}", "fails"),
    ("{% for a in range(99999) %}{{ range(99999) | sum }}{% endfor %}", BOUND),
    ("{% for a in range(99999) if range(99999) | sum < 0 %}{% endfor %}", BOUND),
    ("{{ range(99999) | map('string') | map('center', 1000000) | map('length') | sum }}", BOUND),
    (
        "{% set s = 'a' * 2000000 %}{% for i in range(99999) %}{% set x = s.count('b') %}"
        "{% endfor %}",
        BOUND,
    ),
    ("{{ lipsum(1000000000) }}", BOUND),
    ("{{ ('é' * 1000000).encode('punycode') }}", BOUND),
    # Recursion.
    ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion depth"),
    (
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}"
        "{{ m(60) }}",
        BOUND,
    ),
    ("{% for m in messages recursive %}{{ loop([m]) }}{% endfor %}", "recursion depth"),
    ("{% block b %}{{ self.b() }}{% endblock %}", "recursion depth"),
    # Numbers.
    ("{{ 1 // 0 }}", "fails"),
    ("{{ 2 ** 99999999 }}", "powers"),
    (growing("ns.n = ns.n * ns.n", "ns.n"), "bits"),
    ("{% set a = ('f' * 2000000) | int(base=16) %}{{ a // (a - 1) }}", "bits"),
    ("{{ ('f' * 2000000) | int(base=16) }}", "fails"),
    # Growing texts.
    ("{% for a in range(99999) %}{{ 'x' * 10000 }}{% endfor %}", BOUND),
    ("{{ 'x' * 10000000000 }}", BOUND),
    (growing("ns.s = ns.s + ns.s", "ns.s"), BOUND),
    (growing("ns.s = ns.s ~ ns.s", "ns.s"), BOUND),
    (growing("ns.s = ns.s | replace('a', ns.s)", "ns.s"), BOUND),
    (growing("ns.s = [ns.s, ns.s, ns.s] | join(ns.s)", "ns.s"), BOUND),
    ("{{ ('x' * 2000000).replace('', 'y' * 1000000) }}", BOUND),
    ("{{ '%*d' % (2000000000, 1) }}", BOUND),
    ("{{ '%.1000000000f' % 1.5 }}", BOUND),
    ("{{ '{:9000000000}'.format(1) }}", BOUND),
    ("{{ '%9000000000s' | format('x') }}", BOUND),
    ("{{ 'x' | center(9999999999) }}", BOUND),
    ("{{ '\\t'.expandtabs(2000000000) }}", BOUND),
    ("{{ [1] | batch(1000000000, 1) | list }}", BOUND),
    ("{{ [[[[1]]]] | tojson(indent=1000000000) }}", BOUND),
    # What it says.
    ("{{ messages.missing.deeper }}", "fails"),
    ("{{ raise_exception(1) }}", "refuses this conversation: 1"),
    ("{{ raise_exception('a\\nb') }}", "refuses this conversation: a b$"),
    ("{{ raise_exception('x' * 2000000) }}", "refuses this conversation: x{500}$"),
    ("{{ raise_exception('\\ud800') }}", "refuses this conversation: \\?$"),
    ("{{ {}['\\ud800'].x }}", "fails"),
    ("{{ '\\ud800' }}", "surrogates not allowed"),
]


@pytest.mark.parametrize(("source", "complaint"), HOSTILE_TEMPLATES)
def test_a_hostile_template_ends_in_one_sentence(
    source: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "PROCESSOR_S", 0.2)
    monkeypatch.setattr(sandbox, "STEPS_MAX", 20_000)
    monkeypatch.setattr(sandbox, "MEMORY_BYTES", 64 << 20)
    with pytest.raises((LocalError, UsageError), match=complaint) as caught:
        template(source).render(TALK)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    str(caught.value).encode()


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ '' | attr('__cl' ~ 'ass__') }}",
        "{{ ''['__class__'] }}",
        "{{ raise_exception.__globals__ }}",
        "{{ '{a.__class__}'.format_map({'a': 1}) }}",
        "{% for a in messages %}{{ loop.__class__ }}{% endfor %}",
        "{{ messages | select | attr('gi_frame') }}",
        "{% macro m() %}{{ caller.__class__ }}{% endmacro %}{% call m() %}{% endcall %}",
        "{{ __context__ }}",
        "{{ self._TemplateReference__context }}",
    ],
)
def test_a_walk_to_pythons_attributes_finds_nothing(source: str) -> None:
    with suppress(LocalError):
        assert template(source).render(TALK).text == ""


def test_roles_that_a_template_refuses_are_told_in_its_words() -> None:
    with pytest.raises(UsageError, match="roles must alternate"):
        template(MISTRAL).render([USER, USER])


def test_what_templates_of_hugging_face_expect_is_there() -> None:
    made = Sandbox(clock=lambda: datetime(2026, 11, 28))
    source = (
        "{{ strftime_now('%d %b %Y') }} {{ {'é': [1]} | tojson }} {{ tools is none }}"
        "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"
        "{% generation %} ours{% endgeneration %}"
    )
    found = ChatTemplate(source, NAMES, sandbox=made).render([USER])
    assert found.text == '28 Nov 2026 {"é": [1]} True01 ours'
