"""llama.cpp's tokenizer in its process, and the `tokenizers` library, keep one contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio

from swarmllm.adapters.llama import llama_text
from swarmllm.adapters.llama.gguf_tokenizer import gguf_of
from swarmllm.adapters.llama.llama_text import LlamaText, open_text
from swarmllm.adapters.llama.pipe import ENCODE
from swarmllm.adapters.llama.vocabulary import load_tables, load_vocabulary
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.ports import Text
from tests.contracts.text_contract import TextContract


@pytest.fixture(name="file", scope="module")
def _file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "llama3.gguf"
    path.write_bytes(gguf_of(load_tables().tokenizer()))
    return path


class TestLlama(TextContract):
    @pytest.fixture(autouse=True)
    def _with_file(self, file: Path) -> None:
        self.file = file

    def open_text(self) -> AbstractAsyncContextManager[Text]:
        return open_text(self.file)


class TestTokenizers(TextContract):
    def open_text(self) -> AbstractAsyncContextManager[Text]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Text]:
            await trio.lowlevel.checkpoint()
            yield load_vocabulary()

        return opened()


# --- the process ----------------------------------------------------------------------------------


def test_a_process_that_was_idle_is_ended_and_started_again_when_asked(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_text, "IDLE_S", 0.02)

    async def body() -> None:
        async with open_text(file) as text:
            before = await text.encode("hello")
            while text._process is not None:  # noqa: ASYNC110  Nobody is told.
                await trio.sleep(0.01)
            assert await text.encode("hello") == before

    trio.run(body)


def test_a_process_that_dies_costs_one_sentence_and_the_next_text_a_new_one(file: Path) -> None:
    async def body() -> None:
        async with open_text(file) as text:
            assert text._process is not None
            text._process._process.kill()
            with pytest.raises(LocalError, match=r"ended by signal 9 over a text of 5 bytes"):
                await text.encode("hello")
            assert await text.encode("hello")

    trio.run(body)


def test_a_question_that_is_cancelled_answers_no_later_one(file: Path) -> None:
    async def body() -> None:
        async with open_text(file) as text:
            with trio.move_on_after(0.05):
                await text.encode("a" * 2_000_000)
            assert text.vocabulary.decode(await text.encode("hello")) == "hello"

    trio.run(body)


def test_a_text_that_no_context_holds_is_refused_before_it_is_sent(file: Path) -> None:
    async def body() -> None:
        async with open_text(file) as text:
            with pytest.raises(UsageError, match="5,000,000 bytes"):
                await text.encode("a" * 5_000_000)

    trio.run(body)


def test_patience_with_a_text_ends(file: Path) -> None:
    async def body() -> None:
        async with open_text(file) as text:
            order = (ENCODE, [("a" * 3_000_000, False)])
            with pytest.raises(LocalError, match=r"took longer than .* for a long text"):
                await text._ask(order, ENCODE, "a long text", 0.05)
            assert await text.encode("hello")

    trio.run(body)


def test_a_file_that_changed_is_named(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "changing.gguf"
    path.write_bytes(file.read_bytes())

    async def body() -> None:
        text = LlamaText(path)
        await text.start()
        await text._end()
        content = path.read_bytes()
        assert content.count(b"<|eot_id|>") == 1
        path.write_bytes(content.replace(b"<|eot_id|>", b"<|other_|>"))
        with pytest.raises(LocalError, match=r"changing\.gguf has changed"):
            await text.encode("hello")

    trio.run(body)


def test_a_file_that_is_none_is_named_as_it_would_be_to_the_engine(tmp_path: Path) -> None:
    async def body() -> None:
        with pytest.raises(LocalError, match=r"none\.gguf \(No such file"):
            await LlamaText(tmp_path / "none.gguf").start()

    trio.run(body)
