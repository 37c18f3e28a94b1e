"""Models of the Hugging Face hub: the real library and the real command, against a hub on loopback.

Each command runs in a process of its own, because the library reads its settings once, when it is
imported.
"""

from __future__ import annotations

import hashlib
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from swarmllm.adapters.models.hub import _check_room
from swarmllm.errors import LocalError
from swarmllm.runtime.model_reference import HubModel, parse_reference
from tests.adapters.llama.models import model
from tests.adapters.models.servers import PIECE, Asked, Hub, Reply, slowly
from tests.cli.command import DEADLINE_S, Finished, command, environment, run

REPO: Final = "some-org/Tiny-Model-GGUF"
FILE: Final = "tiny-model.Q8_0.gguf"
REF: Final = f"hf:{REPO}/{FILE}"
PADDING: Final = random.Random(2).randbytes(2_000_000)  # llama.cpp does not mind what follows.


@pytest.fixture(scope="module")
def content() -> bytes:
    return model().read_bytes() + PADDING


@pytest.fixture
def hub(content: bytes) -> Iterator[Hub]:
    files = {FILE: content, "tiny-model.F16.gguf": content[:-1], "README.md": b"# Tiny"}
    with Hub(REPO, files) as served:
        yield served


def settings(hub: Hub, home: Path, **more: str) -> dict[str, str]:
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home / "hf"),
        "HF_TOKEN": "",
        "HF_HUB_DISABLE_XET": "1",  # No binary transfer library: the server speaks HTTP.
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **more,
    }


def pull(hub: Hub, home: Path, reference: str = REF, *flags: str, **more: str) -> Finished:
    return asked_of(hub, home, "pull", reference, *flags, **more)


def asked_of(hub: Hub, home: Path, *words: str, **more: str) -> Finished:
    """`swarmllm models` with these words, where this hub is the hub."""
    variables: dict[str, Any] = settings(hub, home, **more)
    return run(home, "models", *words, **variables)


def blob_folder(home: Path) -> Path:
    return home / "hf/hub" / ("models--" + REPO.replace("/", "--")) / "blobs"


def blobs(home: Path) -> list[str]:
    """What of the repository is in the hub's cache: by its checksum, and what is unfinished."""
    lock = ".lock"
    return sorted(f.name for f in blob_folder(home).glob("*") if not f.name.endswith(lock))


def names(home: Path) -> list[str]:
    return sorted(p.name for p in (home / "hf/hub").glob("models--*/snapshots/*/**/*.gguf"))


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def refused(done: Finished, *says: str, code: int = 1) -> None:
    assert done.code == code, done
    sentence = done.sentence()
    assert all(word in sentence for word in says), sentence
    assert done.out == ""


# --- what works -----------------------------------------------------------------------------------


def test_a_file_is_fetched_named_listed_and_removed(
    tmp_path: Path, hub: Hub, content: bytes
) -> None:
    done = pull(hub, tmp_path, REF, "--json")
    assert done.code == 0, done
    *progress, row = done.records()
    assert {record["event"] for record in progress} == {"progress"}
    assert progress[-1]["done"] == progress[-1]["total"] == len(content)
    assert (row["event"], row["model"], row["digest"]) == ("model", REF, digest_of(content))
    assert Path(row["source"]).read_bytes() == content
    assert blobs(tmp_path) == [digest_of(content)]
    asked = len(hub.asked)
    listed = asked_of(hub, tmp_path, "list", "--json").records()
    assert [r["source"] for r in listed if r["model"] == REF] == [row["source"]]
    shown = asked_of(hub, tmp_path, "show", REF, "--json").records()
    assert shown[0]["digest"] == row["digest"]
    removed = asked_of(hub, tmp_path, "remove", REF, "--json")
    assert removed.records()[0]["freed_bytes"] == len(content)
    assert (blobs(tmp_path), names(tmp_path)) == ([], [])
    again = asked_of(hub, tmp_path, "remove", REF)
    refused(again, "is not on this machine")
    assert len(hub.asked) == asked  # None of these asked anybody.


@pytest.mark.parametrize(("quant", "file"), [("Q8_0", FILE), ("f16", "tiny-model.F16.gguf")])
def test_a_quantisation_finds_its_file(tmp_path: Path, hub: Hub, quant: str, file: str) -> None:
    done = pull(hub, tmp_path, f"hf:{REPO}:{quant}", "--json")
    assert done.code == 0, done
    assert Path(done.records()[-1]["source"]).name == file
    asked = len(hub.asked)
    shown = asked_of(hub, tmp_path, "show", f"hf:{REPO}:{quant}")
    assert shown.code == 0, shown
    assert len(hub.asked) == asked


def test_all_parts_of_a_split_model_are_fetched(tmp_path: Path, hub: Hub, content: bytes) -> None:
    first, second = "big-Q8_0-00001-of-00002.gguf", "big-Q8_0-00002-of-00002.gguf"
    hub.files |= {f"q8/{first}": content, f"q8/{second}": content[:-2]}
    pull(hub, tmp_path, f"hf:{REPO}/q8/{first}")
    assert names(tmp_path) == [first, second]
    assert blobs(tmp_path) == sorted([digest_of(content), digest_of(content[:-2])])


def test_a_node_fetches_and_serves_a_model_of_the_hub(tmp_path: Path, hub: Hub) -> None:
    arguments = ["join", "--json", "--until-eof", "--model", REF, "--swarm", "other", "--no-lan"]
    arguments += ["--listen", "127.0.0.1", "--port", "0", "--threads", "1", "--context", "128"]
    process = subprocess.Popen(
        command(*arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path, **settings(hub, tmp_path)),
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if '"ready"' in line:
            break
    _, errors = process.communicate("", timeout=DEADLINE_S)
    assert any('"model_ready"' in line for line in lines), (lines, errors)
    assert any('"progress"' in line for line in lines)
    assert process.returncode == 0


def test_the_token_goes_to_the_hub_and_to_nobody_else(tmp_path: Path, hub: Hub) -> None:
    hub.token = "hf_secret"
    refused(pull(hub, tmp_path), "HF_TOKEN")
    assert pull(hub, tmp_path, HF_TOKEN="hf_secret").code == 0
    # The storage server is another host.
    assert hub.downloads()
    assert not any("authorization" in {h.lower() for h in d.headers} for d in hub.downloads())


def test_offline_only_the_cache_counts(tmp_path: Path, hub: Hub) -> None:
    refused(pull(hub, tmp_path, HF_HUB_OFFLINE="1"), "HF_HUB_OFFLINE")
    refused(pull(hub, tmp_path, SWARMLLM_OFFLINE="1"), "`offline`")
    assert hub.asked == []
    assert pull(hub, tmp_path).code == 0
    asked = len(hub.asked)
    assert pull(hub, tmp_path, SWARMLLM_OFFLINE="1").code == 0
    assert len(hub.asked) == asked


# --- cut off, and gone on with --------------------------------------------------------------------


def begun(hub: Hub, home: Path) -> subprocess.Popen[str]:
    """A pull that has part of the file by now."""
    process = subprocess.Popen(
        command("models", "pull", REF),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(home, **settings(hub, home)),
    )
    deadline = time.monotonic() + DEADLINE_S
    while not any(f.stat().st_size > PIECE for f in blob_folder(home).glob("*.incomplete")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_pull_that_was_ended_is_gone_on_with(
    tmp_path: Path, hub: Hub, content: bytes, how: signal.Signals
) -> None:
    hub.stall = slowly(0.05)
    process = begun(hub, tmp_path)
    process.send_signal(how)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == (-9 if how == signal.SIGKILL else 130), errors
    assert "Traceback" not in errors
    assert names(tmp_path) == []  # Nothing that could be taken for the model.
    hub.stall = slowly(0)
    assert pull(hub, tmp_path).code == 0
    assert blobs(tmp_path) == [digest_of(content)]
    _, second = hub.downloads()
    ranged = {name.lower(): value for name, value in second.headers.items()}["range"]
    assert int(ranged.removeprefix("bytes=").removesuffix("-")) > PIECE


def test_connections_that_break_are_gone_on_with(tmp_path: Path, hub: Hub, content: bytes) -> None:
    hub.cut_after = 1_000_000
    assert pull(hub, tmp_path).code == 0
    assert blobs(tmp_path) == [digest_of(content)]
    assert len(hub.downloads()) > 1


def test_a_server_without_ranges_begins_anew(tmp_path: Path, hub: Hub, content: bytes) -> None:
    hub.stall = slowly(0.05)
    first = begun(hub, tmp_path)
    first.kill()
    first.communicate()
    hub.stall, hub.ranges = slowly(0), False
    assert pull(hub, tmp_path).code == 0
    assert blobs(tmp_path) == [digest_of(content)]


def test_two_pulls_at_once_are_one_download(tmp_path: Path, hub: Hub, content: bytes) -> None:
    hub.stall = slowly(0.02)
    first = begun(hub, tmp_path)
    assert pull(hub, tmp_path).code == 0
    _, errors = first.communicate(timeout=DEADLINE_S)
    assert first.returncode == 0, errors
    assert blobs(tmp_path) == [digest_of(content)]
    assert len(hub.downloads()) == 1


# --- what goes wrong ------------------------------------------------------------------------------


def test_names_that_are_not_there(tmp_path: Path, hub: Hub) -> None:
    refused(pull(hub, tmp_path, "hf:some-org/Nothing/x.gguf"), "no repository some-org/Nothing")
    refused(pull(hub, tmp_path, f"hf:{REPO}/x.gguf"), "has no file x.gguf")
    refused(pull(hub, tmp_path, f"hf:{REPO}:Q2_K"), "Q2_K", FILE, "tiny-model.F16.gguf")
    hub.files["other.Q8_0.gguf"] = b"GGUF"
    refused(pull(hub, tmp_path, f"hf:{REPO}:Q8_0"), "fits 2 files", "other.Q8_0.gguf", code=2)
    assert names(tmp_path) == []


GATED: Final = Reply(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Ask for access"})


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(401), "HF_TOKEN"),
        (GATED, "consent"),
        (Reply(403), "refuses"),
        (Reply(429, {"Retry-After": "1"}), "429"),
        (Reply(501), "501"),
        (Reply(200, {"Content-Type": "text/html"}, b"<!DOCTYPE html>"), "not answer as a hub"),
    ],
    ids=["401", "gated", "403", "429", "501", "HTML"],
)
def test_a_hub_that_refuses_is_one_sentence(
    tmp_path: Path, hub: Hub, reply: Reply, says: str
) -> None:
    hub.instead = lambda asked: reply
    refused(pull(hub, tmp_path), says)
    assert not blob_folder(tmp_path).exists()


def storage(reply: Reply) -> Callable[[Asked], Reply | None]:
    return lambda asked: reply if asked.path.startswith("/storage/") else None


@pytest.mark.parametrize("status", [404, 403, 429, 503])
def test_a_storage_that_refuses_is_one_sentence(tmp_path: Path, hub: Hub, status: int) -> None:
    hub.instead = storage(Reply(status))
    refused(pull(hub, tmp_path), f"{status}")
    assert names(tmp_path) == []


def test_html_in_place_of_the_file_is_thrown_away(tmp_path: Path, hub: Hub, content: bytes) -> None:
    page = b"<!DOCTYPE html><p>Please log in</p>".ljust(len(content))
    hub.instead = storage(Reply(200, {}, page))
    refused(pull(hub, tmp_path), "is no GGUF file", "<!DOCTYPE html>")
    assert blobs(tmp_path) == []
    hub.instead = lambda asked: None
    assert pull(hub, tmp_path).code == 0


def test_a_wrong_checksum_is_thrown_away(tmp_path: Path, hub: Hub) -> None:
    hub.states[FILE] = "0" * 64
    refused(pull(hub, tmp_path), "SHA-256", "thrown away")
    assert (blobs(tmp_path), names(tmp_path)) == ([], [])


@pytest.mark.parametrize("stated", ["not-a-checksum", "../../../../outside"])
def test_a_file_without_a_checksum_is_not_fetched(tmp_path: Path, hub: Hub, stated: str) -> None:
    hub.states[FILE] = stated
    refused(pull(hub, tmp_path), "states no SHA-256")
    assert hub.downloads() == []


@pytest.mark.parametrize(("off", "says"), [(1000, "no more"), (-1000, "sent more than")])
def test_a_wrong_length_is_one_sentence(tmp_path: Path, hub: Hub, off: int, says: str) -> None:
    hub.states_size[FILE] = len(hub.files[FILE]) + off
    refused(pull(hub, tmp_path), says)
    assert names(tmp_path) == []


def test_nobody_there_is_one_sentence(tmp_path: Path, hub: Hub) -> None:
    done = pull(hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    refused(done, "http://127.0.0.1:9 cannot be reached")


def test_a_full_disk_is_one_sentence(tmp_path: Path, hub: Hub, content: bytes) -> None:
    blob_folder(tmp_path).mkdir(parents=True)
    (blob_folder(tmp_path) / f"{digest_of(content)}.incomplete").symlink_to("/dev/full")
    refused(pull(hub, tmp_path), "make room there", "are free")
    assert names(tmp_path) == []


def test_what_is_needed_and_what_is_free_do_not_contradict_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some room is left to others; it counts as needed."""
    model, free = parse_reference(REF), 30_000_000
    assert isinstance(model, HubModel)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(LocalError, match="where 30,000,000 are free") as caught:
        _check_room(model, tmp_path / "part", free - 1)
    needed = re.search(r"needs ([0-9,]+) more bytes", str(caught.value))
    assert needed is not None
    assert int(needed[1].replace(",", "")) > free


def test_a_file_that_was_damaged_in_the_cache_is_not_served(
    tmp_path: Path, hub: Hub, content: bytes
) -> None:
    assert pull(hub, tmp_path).code == 0
    blob = blob_folder(tmp_path) / digest_of(content)
    blob.chmod(0o600)
    blob.write_bytes(content[:-1] + b"?")
    variables: dict[str, Any] = settings(hub, tmp_path)
    done = run(tmp_path, "join", "--model", REF, "--no-lan", **variables)
    assert done.code == 1
    assert "is damaged" in done.err
    assert "models remove" in done.err
