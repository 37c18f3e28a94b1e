"""Chat templates for models that bring none, by the control tokens that their vocabulary has.

A vocabulary with `<|im_start|>` was made for ChatML, one with `<start_of_turn>` for Gemma's turns,
and so on. LLaMA-3's header tokens say nothing: its base models have them, too, and have never seen
them used. Where no family is recognised the conversation is plain text with role labels, which any
model continues after its fashion; then the next label ends an answer.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

CHATML: Final = """\
{% for message in messages %}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

GEMMA: Final = """\
{{ bos_token }}
{%- for message in messages %}
{% set role = 'model' if message.role == 'assistant' else 'user' %}
{{ '<start_of_turn>' + role + '\\n' + message.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

PHI: Final = """\
{% for message in messages %}
{{ '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"""

PLAIN: Final = """\
{% set labels = {'system': 'System', 'user': 'User', 'assistant': 'Assistant'} %}
{% for message in messages %}
{{ labels[message.role] + ': ' + message.content | trim + '\\n' }}
{%- endfor %}
{% if add_generation_prompt %}Assistant:{% endif %}"""
PLAIN_STOP: Final = ("\nUser:", "\nSystem:", "\nAssistant:")

_FAMILIES: Final = (
    (("<|im_start|>", "<|im_end|>"), CHATML),
    (("<start_of_turn>", "<end_of_turn>"), GEMMA),
    (("<|user|>", "<|assistant|>", "<|end|>"), PHI),
)


def template_for(special_names: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """(template, strings that end an answer) for a model without a template of its own."""
    for marks, template in _FAMILIES:
        if all(mark in special_names for mark in marks):
            return template, ()
    return PLAIN, PLAIN_STOP
