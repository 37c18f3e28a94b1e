"""Whatever is wrong with what a node is given: one clear sentence, the right code, and nothing
hangs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from swarmllm.adapters.llama.bpe_text import ALPHABET
from swarmllm.adapters.llama.gguf_format import header
from swarmllm.testing.gguf_fixture import write_model
from swarmllm.testing.gguf_vocabularies import tokenizer
from swarmllm.wire.tokenizer import NORMAL
from tests.cli.command import DEADLINE_S, RunningNode, run

JOIN = ("join", "--json", "--no-lan", "--listen", "127.0.0.1", "--port", "0")
NOBODY = "12D3KooWLUxyGNiW3BnWM9F5DNFun5qpmcQ3STL6x2a6MS3fFsKU"


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, *JOIN, "--model", str(tmp_path / "absent.gguf"))
    assert done.code == 1
    assert "absent.gguf" in done.sentence()
    assert done.out == "", "nothing was started for it"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_truncated_model_is_refused(tmp_path: Path, model: Path, share: float) -> None:
    whole = model.read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: int(len(whole) * share)])
    done = run(tmp_path, *JOIN, "--model", str(cut), "--swarm", "cli-test")
    assert done.code == 1
    assert "cut.gguf" in done.sentence()


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("Dear diary, " * 1000)
    done = run(tmp_path, *JOIN, "--model", str(other))
    assert done.code == 1
    assert "notes.txt" in done.sentence()


def vocabulary_of(tokens: list[str], kinds: list[int] | None = None) -> bytes:
    """The header of a model with these tokens; what is wrong with them shows before its weights."""
    return header(
        {
            "general.architecture": "llama",
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "gpt-2",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": kinds or [NORMAL] * len(tokens),
            "tokenizer.ggml.merges": [],
        },
        [],
    )


A_MILLION: Final = (1 << 20) + 1


@pytest.mark.parametrize(
    ("tokens", "kinds", "said"),
    [
        (lambda: [], None, "has no vocabulary of its own"),
        (lambda: [f"t{n}" for n in range(A_MILLION)], None, "1048577 tokens, more than"),
        (lambda: ["a", "\udcff"], None, "token 1 is no UTF-8 text"),
        (lambda: ["a", "b", "a"], None, "token 2 is a second one"),
        (lambda: ["a", "b"], [NORMAL], "2 tokens but not as many types"),
    ],
    ids=["no tokens", "a million tokens", "no UTF-8", "a token twice", "types missing"],
)
def test_a_vocabulary_that_is_none_is_named(
    tmp_path: Path, tokens: Callable[[], list[str]], kinds: list[int] | None, said: str
) -> None:
    path = tmp_path / "words.gguf"
    path.write_bytes(vocabulary_of(tokens(), kinds))
    done = run(tmp_path, *JOIN, "--model", str(path))
    assert done.code == 1
    assert "words.gguf" in done.sentence()
    assert said in done.sentence()


def test_a_model_whose_answers_would_never_end_is_named(tmp_path: Path) -> None:
    tokens = [(letter, NORMAL) for letter in ALPHABET]
    endless = tokenizer("gpt2", tokens, {}, pre="gpt-2", merges=[b"t h"])
    path = write_model(tmp_path / "endless.gguf", vocabulary=endless)
    done = run(tmp_path, *JOIN, "--model", str(path))
    assert done.code == 1
    assert "endless.gguf" in done.sentence()
    assert "no token that ends a text" in done.sentence()


def test_a_model_with_a_part_missing_is_named(tmp_path: Path) -> None:
    first = write_model(tmp_path / "parts.gguf", part_tensors=8)
    parts = sorted(tmp_path.glob("parts-*.gguf"))
    parts[1].unlink()
    done = run(tmp_path, *JOIN, "--model", str(first))
    assert done.code == 1
    assert f"{parts[1].name} is missing" in done.sentence()


@pytest.mark.parametrize("value", ["llama", "0123", "xyzw0123", ""])
def test_a_vocabulary_that_is_no_name_of_one_is_named(tmp_path: Path, value: str) -> None:
    done = run(tmp_path, *JOIN, "--model", "none", "--vocabulary", value)
    assert done.code == 2
    assert "auto, llama3 or" in done.sentence()


def test_a_key_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert run(tmp_path, "join", "--help").code == 0
    data.mkdir(mode=0o700)
    key = data / "identity.pem"
    key.write_text("anything")
    key.chmod(0o644)
    done = run(tmp_path, *JOIN, "--model", "none", "--data-dir", str(data))
    assert done.code == 1
    assert f"chmod 600 {key}" in done.sentence()
    assert key.read_text() == "anything"


def test_an_unreadable_key_is_refused_with_the_remedy(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    key = data / "identity.pem"
    key.write_text("anything")
    key.chmod(0o000)
    done = run(tmp_path, *JOIN, "--model", "none", "--data-dir", str(data))
    assert done.code == 1
    assert str(key) in done.sentence()


def test_a_port_that_was_asked_for_and_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run(
            tmp_path,
            "join",
            "--json",
            "--no-lan",
            "--listen",
            "127.0.0.1",
            "--model",
            "none",
            "--port",
            port,
        )
    assert done.code == 1
    assert port in done.sentence()


def test_a_second_node_on_the_same_data_folder_is_refused(node: RunningNode) -> None:
    done = run(node.home, *JOIN, "--model", "none", "--data-dir", str(node.data))
    assert done.code == 1
    assert str(node.data) in done.sentence()
    assert str(node.process.pid) in done.sentence()
    # The first one has not noticed.
    assert run(node.home, "status", "--json", "--data-dir", str(node.data)).code == 0


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(tmp_path, *JOIN, "--model", "none", "--data-dir", str(tmp_path / "file" / "data"))
    assert done.code == 1
    assert str(tmp_path / "file" / "data") in done.sentence()


def test_a_prompt_beyond_the_context_names_both_numbers(node: RunningNode) -> None:
    done = run(
        node.home,
        "generate",
        "-",
        "--data-dir",
        str(node.data),
        "--max-tokens",
        "10",
        stdin=b"word " * 2000,
    )
    assert done.code == 2
    assert done.out == ""
    assert "256" in done.sentence()


def test_standard_input_that_is_no_text_is_refused(node: RunningNode) -> None:
    done = run(node.home, "generate", "-", "--data-dir", str(node.data), stdin=b"\xff\xfe\xff")
    assert done.code == 2
    assert "UTF-8" in done.sentence()


def test_more_experts_than_there_are_works_with_a_notice(node: RunningNode) -> None:
    done = run(
        node.home,
        "generate",
        "abc",
        "-k",
        "5",
        "--max-tokens",
        "8",
        "--json",
        "--data-dir",
        str(node.data),
    )
    assert done.code == 0
    records = done.records()
    assert [r["k"] for r in records if r["event"] == "token"] == [1] * 8
    assert any("asked for 5" in r["text"] for r in records if r["event"] == "notice")
    assert "asked for 5" in done.err


@pytest.mark.slow
def test_an_unreachable_peer_does_not_hold_up_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with RunningNode(
        tmp_path,
        tmp_path / "data",
        "--port",
        "0",
        "--model",
        "none",
        "--peer",
        f"/ip4/127.0.0.1/tcp/{port}/p2p/{NOBODY}",
    ) as lonely:
        lonely.wait_for("ready")


@pytest.mark.slow
def test_a_peer_that_accepts_and_says_nothing_holds_up_neither_start_nor_end(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        accepted: list[socket.socket] = []
        heard = threading.Event()

        def accept() -> None:
            accepted.append(silent.accept()[0])
            heard.set()

        threading.Thread(target=accept, daemon=True).start()
        address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{NOBODY}"
        with RunningNode(
            tmp_path, tmp_path / "data", "--port", "0", "--model", "none", "--peer", address
        ) as node:
            node.wait_for("ready")
            assert heard.wait(DEADLINE_S)
            node.process.terminate()
            assert node.ends() == 0
        accepted[0].close()


@pytest.mark.slow
def test_without_any_expert_an_answer_ends_with_one_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, "generate", "Once", "--no-local", "--no-lan", "--max-tokens", "4")
    assert done.code == 1
    assert done.out == ""
    assert "expert" in done.sentence()
