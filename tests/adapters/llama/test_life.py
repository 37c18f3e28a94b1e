"""A worker may die, stall, or be given a bad file: the node hears one sentence, nothing hangs, and
nothing outlives the node."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from swarmllm.adapters.llama.engine import LlamaEngine, environment
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.llama.lease import Lease
from swarmllm.adapters.llama.pipe import READY, SCORE, START, Frames, frame
from swarmllm.core.inputs import EngineLoadChanged, EngineLost, EngineReady
from swarmllm.errors import LocalError
from swarmllm.messages import REFUSED_CONTEXT, REFUSED_ENGINE, Busy, Need, Refused, Scores
from swarmllm.wire import context
from tests.adapters.llama.models import model
from tests.contracts.engine_contract import PATIENCE_S, TEXT, ask, key, lists_of

OPTIONS = EngineOptions(context_max=300, sessions_max=2, threads=1, idle_s=0.0)


async def until(engine: LlamaEngine, kind: type) -> Any:
    while not isinstance(event := await engine.inputs.receive(), kind):
        assert isinstance(event, (EngineReady, EngineLoadChanged, EngineLost))
    return event


def test_another_model_takes_the_place_of_the_first_and_what_waits_is_refused() -> None:
    async def main() -> None:
        with trio.fail_after(PATIENCE_S):
            async with LlamaEngine(model(), OPTIONS) as engine:
                await until(engine, EngineReady)
                await engine.score(key(1), ask(TEXT))
                first, replies = engine.card, []
                assert engine.pid is not None
                # So that the next round is surely on its way when its model is taken away.
                os.kill(engine.pid, signal.SIGSTOP)

                async def wait() -> None:
                    replies.append(await engine.score(key(1), ask([*TEXT, 4], len(TEXT), round_=8)))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wait)
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    await engine.exchange(model("f32"), None, ())
                assert replies == [Refused(1, 8, REFUSED_ENGINE)]
                assert "another model" in (await until(engine, EngineLost)).reason
                ready = await until(engine, EngineReady)
                assert ready.card == engine.card
                assert ready.card.digest != first.digest
                assert isinstance(await engine.score(key(1), ask(TEXT)), Scores)

    trio.run(main)


def test_a_model_that_cannot_be_loaded_leaves_the_one_before(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + bytes(100))

    async def main() -> None:
        with trio.fail_after(PATIENCE_S):
            async with LlamaEngine(model(), OPTIONS) as engine:
                first = (await until(engine, EngineReady)).card
                with pytest.raises(LocalError, match=r"bad\.gguf was not loaded: "):
                    await engine.exchange(bad, None, ())
                assert (await until(engine, EngineReady)).card == first
                assert isinstance(await engine.score(key(1), ask(TEXT)), Scores)
                await engine.exchange(model("f32"), None, ())
                assert engine.card.digest != first.digest

    trio.run(main)


def ended(pid: int) -> bool:
    """Whether the process ends within `PATIENCE_S`."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watch], [], [], PATIENCE_S)[0])
    finally:
        os.close(watch)


def test_a_killed_worker_refuses_who_waits_and_comes_back_empty() -> None:
    async def main() -> None:
        with trio.fail_after(PATIENCE_S):
            async with LlamaEngine(model(), OPTIONS) as engine:
                await engine.score(key(1), ask(TEXT))
                first = engine.pid
                assert first is not None
                # So that the next round is surely on its way when the worker dies.
                os.kill(first, signal.SIGSTOP)
                replies = []

                async def wait() -> None:
                    replies.append(await engine.score(key(1), ask([*TEXT, 4], len(TEXT), round_=8)))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wait)
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    os.kill(first, signal.SIGKILL)
                assert replies == [Refused(1, 8, REFUSED_ENGINE)]
                lost = await until(engine, EngineLost)
                assert "signal 9" in lost.reason
                assert await engine.score(key(1), ask(TEXT)) == Refused(1, 1, REFUSED_ENGINE)
                engine.close(key(1))
                await until(engine, EngineReady)
                assert engine.pid != first
                assert await engine.score(key(1), ask([*TEXT, 4], len(TEXT))) == Need(1, 1, 0)
                lists_of(await engine.score(key(1), ask(TEXT)))

    trio.run(main)


def test_a_worker_does_not_outlive_its_node() -> None:
    program = (
        "import sys, trio\n"
        "from pathlib import Path\n"
        "from swarmllm.adapters.llama.engine import LlamaEngine\n"
        "async def main():\n"
        "    async with LlamaEngine(Path(sys.argv[1])) as engine:\n"
        "        print(engine.pid, flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(model())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as node:
        assert node.stdout is not None
        assert node.stderr is not None
        worker = int(node.stdout.readline())
        node.kill()
        assert ended(worker)
        assert node.stdout.read() + node.stderr.read() == b"", "the terminal belongs to the node"


def test_leaving_the_block_ends_the_worker_and_the_blocks_own_error_comes_through() -> None:
    pids: list[int | None] = []

    async def main() -> None:
        async with LlamaEngine(model(), OPTIONS) as engine:
            pids.append(engine.pid)
            raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        trio.run(main)
    assert pids[0] is not None
    assert ended(pids[0])


def test_ctrl_c_does_not_reach_the_worker() -> None:
    async def main() -> None:
        async with LlamaEngine(model(), OPTIONS) as engine:
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGINT)
            lists_of(await engine.score(key(1), ask(TEXT)))

    trio.run(main)


def test_a_stop_in_the_middle_of_a_prompt_sends_nothing_and_resume_goes_on_where_it_was() -> None:
    text = [i % 400 for i in range(4000)]

    async def main() -> None:
        options = EngineOptions(context_max=4096, sessions_max=2, threads=1, reproducible=True)
        with trio.fail_after(PATIENCE_S):
            async with LlamaEngine(model("f32", context=4096), options) as engine:
                replies = []

                async def prompt(session: int) -> None:
                    replies.append(
                        lists_of(await engine.score(key(session), ask(text, session=session)))
                    )

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(prompt, 1)
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    engine._lease.stop()
                    assert not await settles(engine)
                    assert replies == []
                    engine.resume()
                await prompt(2)
                assert replies[0] == replies[1]

    async def settles(engine: LlamaEngine) -> bool:
        while engine._lease.busy:
            await trio.lowlevel.checkpoint()
        return engine._lease.busy

    trio.run(main)


def test_a_worker_that_starts_while_stopped_computes_nothing_until_the_resume() -> None:
    async def main() -> None:
        with trio.fail_after(PATIENCE_S):
            halted = LlamaEngine(model(), OPTIONS)
            halted.stop()
            async with halted as engine:
                assert (await until(engine, EngineReady)).load.tokens_per_s == 0
                replies = []

                async def prompt() -> None:
                    replies.append(await engine.score(key(1), ask(TEXT)))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(prompt)
                    await trio.sleep(0.2)  # Time enough for an answer that must not come.
                    assert replies == []
                    engine.resume()
                lists_of(replies[0])

    trio.run(main)


def test_a_worker_that_ignores_the_stop_is_killed_and_the_next_one_waits_for_the_resume() -> None:
    text = [i % 400 for i in range(4000)]

    async def main() -> None:
        options = EngineOptions(context_max=4096, sessions_max=2, threads=1)
        with trio.fail_after(PATIENCE_S):
            async with LlamaEngine(model("f32", context=4096), options) as engine:
                replies = []

                async def prompt() -> None:
                    replies.append(await engine.score(key(1), ask(text)))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(prompt)
                    await frozen_while_busy(engine)
                    engine.stop()
                assert replies == [Refused(1, 1, REFUSED_ENGINE)]
                await until(engine, EngineLost)
                engine.resume()
                await until(engine, EngineReady)
                lists_of(await engine.score(key(1), ask(TEXT)))

    async def frozen_while_busy(engine: LlamaEngine) -> None:
        assert engine.pid is not None
        while True:
            os.kill(engine.pid, signal.SIGSTOP)
            if engine._lease.busy:
                return
            os.kill(engine.pid, signal.SIGCONT)
            await trio.lowlevel.checkpoint()

    trio.run(main)


# --- a worker at the end of our own pipe ----------------------------------------------------------


class Parent:
    def __init__(self, lease: Lease, pipe: socket.socket) -> None:
        self.lease, self.pipe = lease, pipe
        self.frames = Frames()
        self.queue: list[list[Any]] = []

    def receive(self, kind: str, wait_s: float = PATIENCE_S) -> list[Any] | None:
        """The next message of this kind; None if none comes in time."""
        end = time.monotonic() + wait_s
        while True:
            while self.queue:
                if (message := self.queue.pop(0))[0] == kind:
                    return message
            if not select.select([self.pipe], [], [], max(0.0, end - time.monotonic()))[0]:
                return None
            data = self.pipe.recv(1 << 16)
            assert data, "the worker is gone"
            self.queue += self.frames.feed(data)


@contextmanager
def worker() -> Iterator[Parent]:
    lease = Lease.create()
    ours, theirs = socket.socketpair()
    arguments = [str(theirs.fileno()), str(lease.fd), str(os.getpid())]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "swarmllm.adapters.llama.worker", *arguments],
        pass_fds=(theirs.fileno(), lease.fd),
        env=environment(OPTIONS),
    )
    theirs.close()
    try:
        parent = Parent(lease, ours)
        parent.pipe.sendall(frame((START, str(model()), OPTIONS.packed())))
        assert parent.receive(READY, wait_s=0.3) is None, "without a lease it does not even warm up"
        lease.renew(time.monotonic_ns() + 10**11)
        assert parent.receive(READY) is not None
        yield parent
    finally:
        ours.close()
        assert ended(process.pid)
        process.wait()
        lease.close()


def test_without_a_lease_no_answer_leaves_the_worker_and_with_one_it_does() -> None:
    with worker() as parent:
        parent.lease.renew(time.monotonic_ns() - 10**10)  # Ran out long ago.
        wanted: tuple[object, ...] = ([len(TEXT) - 1], [], 64, 0)
        parent.pipe.sendall(
            frame(
                (SCORE, 1, time.monotonic(), "peer", 1, 0, 0, context.EMPTY, TEXT, *wanted, b"", 0)
            )
        )
        assert parent.receive("scores", wait_s=0.3) is None
        parent.lease.renew(time.monotonic_ns() + 10**11)
        answer = parent.receive("scores")
        assert answer is not None
        assert answer[1] == 1


# --- room -----------------------------------------------------------------------------------------


def test_more_sessions_at_full_context_than_fit_are_answered_cleanly() -> None:
    text = [(i * 7) % 400 for i in range(301)]

    async def main() -> None:
        kinds: list[type] = []
        with trio.fail_after(PATIENCE_S):
            async with LlamaEngine(model(), OPTIONS) as engine:

                async def fill(n: int) -> None:
                    own, held = [n, *text[1:]], 0
                    for end in (100, 299, 300, 301):
                        while True:
                            reply = await engine.score(key(n), ask(own[:end], held, session=n))
                            kinds.append(type(reply))
                            if isinstance(reply, Busy):
                                await trio.sleep(reply.retry_after_ms / 1000)
                            elif isinstance(reply, Need):
                                held = reply.have
                            else:
                                break
                        assert (
                            isinstance(reply, Scores)
                            if end <= 300
                            else reply == Refused(n, 1, REFUSED_CONTEXT)
                        )
                        held = end

                async with trio.open_nursery() as nursery:
                    for n in range(6):
                        nursery.start_soon(fill, n)
        assert kinds.count(Scores) == 18

    trio.run(main)


def test_an_evicted_session_is_told_what_it_needs() -> None:
    async def main() -> None:
        async with LlamaEngine(model(), OPTIONS) as engine:
            for n in range(3):
                lists_of(await engine.score(key(n), ask(TEXT, session=n)))
            assert await engine.score(key(0), ask([*TEXT, 4], len(TEXT), session=0)) == Need(
                0, 1, 0
            )

    trio.run(main)


# --- bad input ------------------------------------------------------------------------------------


def sentence(path: Path, options: EngineOptions = OPTIONS) -> str:
    """What the engine says instead of starting."""

    async def main() -> None:
        with trio.fail_after(PATIENCE_S):
            async with LlamaEngine(path, options):
                raise AssertionError(f"{path} was loaded")

    with pytest.raises(LocalError) as caught:
        trio.run(main)
    return str(caught.value)


def test_every_bad_file_gets_one_sentence_that_names_it(tmp_path: Path) -> None:
    good = model().read_bytes()
    from swarmllm.testing.gguf_fixture import FixtureShape, write_model

    other = write_model(tmp_path / "mamba.gguf", FixtureShape(architecture="mamba"))
    for name, content, words in (
        ("missing", None, "No such file"),
        ("empty", b"", "not a GGUF file"),
        ("text", b"once upon a time" * 9, "not a GGUF file"),
        ("header", good[:3000], "damaged or cut off"),
        ("tensors", good[: len(good) // 2], "cut off"),
        ("other", other.read_bytes(), "LLaMA"),
    ):
        path = tmp_path / f"{name}.gguf"
        if content is not None:
            path.write_bytes(content)
        said = sentence(path)
        assert words in said
        assert str(path) in said
        assert "\n" not in said


def test_a_file_that_only_llama_cpp_finds_wrong_is_refused_by_the_worker(tmp_path: Path) -> None:
    content = model().read_bytes()
    assert content.count(b"blk.1.ffn_down.weight") == 1
    path = tmp_path / "renamed.gguf"
    path.write_bytes(content.replace(b"blk.1.ffn_down.weight", b"blk.1.ffn_dawn.weight"))
    said = sentence(path)
    assert str(path) in said
    assert "ffn_down" in said


def test_memory_that_is_not_there_is_refused_before_it_is_taken() -> None:
    said = sentence(
        model("f32", context=1 << 20),
        EngineOptions(context_max=1 << 20, sessions_max=256, sessions_exact=True),
    )
    assert "not enough memory" in said
    assert "GB free" in said


def test_the_context_is_at_most_what_the_model_was_trained_for() -> None:
    async def main() -> int:
        async with LlamaEngine(
            model(), EngineOptions(context_max=100_000, sessions_max=1)
        ) as engine:
            return engine.card.context_max

    assert trio.run(main) == 512
