"""Laws of what a hub says: names of files within a repository, or one sentence, whatever comes and
however much of it; and of what leaves its cache. In this process, against a hub on loopback."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants
from huggingface_hub.errors import FileMetadataError
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.models import hub as ours
from swarmllm.adapters.models.hub_listing import PAGE_BYTES_MAX, PAGES_MAX, gguf_files, names_in
from swarmllm.errors import FetchError
from swarmllm.runtime.model_reference import HubModel
from tests.adapters.models.servers import COMMIT, Asked, Hub, Reply

REPO = "some-org/Tiny-Model-GGUF"
FILE = "tiny.Q8_0.gguf"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
ENTRIES = st.lists(st.fixed_dictionaries({"path": JSON | st.just(FILE)}) | JSON, max_size=4)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub(REPO, {FILE: b"GGUF", "README.md": b"#"}) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield served
        close_session()  # Its connections to this hub, which its pool keeps.


def at(part: str, reply: Callable[[Asked], Reply]) -> Callable[[Asked], Reply | None]:
    return lambda asked: reply(asked) if part in asked.path else None


def listing(*names: str) -> bytes:
    return json.dumps([{"type": "file", "path": name} for name in names]).encode()


# --- the listing ----------------------------------------------------------------------------------


@given(ENTRIES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20))
def test_any_page_is_names_or_is_refused(data: bytes) -> None:
    with suppress(FileMetadataError):
        assert set(names_in(data)) <= {FILE}


@pytest.mark.parametrize("data", [b"[" * 200_000, b"null", b"1", b'{"path": "x.gguf"}', b"[1]"])
def test_what_is_no_listing_is_refused(data: bytes) -> None:
    with pytest.raises(FileMetadataError, match="its listing"):
        names_in(data)


def test_names_that_lead_out_of_the_repository_are_left_out() -> None:
    bad = ("../x.gguf", "a/../../x.gguf", "/etc/x.gguf", "a\0.gguf", "x" * 2000 + ".gguf")
    assert names_in(listing(*bad, "a/b.gguf", "README.md")) == ["a/b.gguf"]


def test_pages_are_followed_and_not_for_ever(hub: Hub) -> None:
    def page(asked: Asked) -> Reply:
        following = f'<{hub.url}{asked.path}>; rel="next"'
        return Reply(200, {"Link": following}, listing("a.gguf"))

    hub.instead = at("/tree/", page)
    assert gguf_files(REPO, 5) == ["a.gguf"] * PAGES_MAX


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(200, {"Link": '<http://elsewhere.example/x>; rel="next"'}, b"[]"), "elsewhere"),
        (Reply(200, {}, b" " * (PAGE_BYTES_MAX + 1)), "bytes"),
        (Reply(200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * (1 << 24))), "no JSON"),
        (Reply(200, {}, b"<html>"), "no JSON"),
        (Reply(429, {"Retry-After": "1000000000"}), "429"),
        (Reply(503, {"Retry-After": "1000000000"}), "503"),
    ],
    ids=["elsewhere", "long", "bomb", "HTML", "429", "503"],
)
def test_a_listing_beyond_its_bounds_is_one_sentence_at_once(
    hub: Hub, reply: Reply, says: str
) -> None:
    hub.instead = at("/tree/", lambda asked: reply)
    with pytest.raises(FetchError, match=says):
        ours.fetch(HubModel(REPO, quant="Q8_0"), lambda done, total: None)
    assert len(hub.asked) == 1


# --- the file -------------------------------------------------------------------------------------


def told(**headers: str) -> Reply:
    usual = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{"0" * 64}"', "X-Linked-Size": "4"}
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(302, {"Location": "http://localhost:9/x", **usual, **changed})


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(302, {"Location": f"/{REPO}/resolve/main/{FILE}"}), "TooManyRedirects"),
        (Reply(307, {"Location": "http://[::bad"}), "not answer as a hub"),
        (told(X_Linked_Size="-5"), "no commit, checksum or size"),
        (told(X_Linked_Size="0"), "no commit, checksum or size"),
        (told(X_Linked_Size="many"), "no commit, checksum or size"),
        (told(X_Repo_Commit=""), "no commit, checksum or size"),
        (told(Location="file:///etc/passwd"), "unsupported protocol"),
    ],
    ids=["circle", "no-address", "negative", "empty", "word", "no-commit", "file"],
)
def test_a_description_that_makes_no_sense_is_one_sentence_at_once(
    hub: Hub, reply: Reply, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    hub.instead = at("/resolve/", lambda asked: reply)
    with pytest.raises(FetchError, match=says):
        ours.fetch(HubModel(REPO, FILE), lambda done, total: None)


@pytest.mark.parametrize("name", ["m-00000-of-00000.gguf", "m-00003-of-00002.gguf"])
def test_an_impossible_part_is_a_file_of_its_own(hub: Hub, name: str) -> None:
    assert ours.parts_named(name) == [name]
    assert ours.parts_named("m-00001-of-99999.gguf") == ["m-00001-of-99999.gguf"]
    assert len(ours.parts_named("m-00002-of-00003.gguf")) == 3
    with pytest.raises(FetchError, match="has no file"):
        ours.fetch(HubModel(REPO, name), lambda done, total: None)


# --- the cache ------------------------------------------------------------------------------------


def test_a_link_of_somebodys_own_is_removed_and_its_file_is_not(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache, theirs = tmp_path / "cache", tmp_path / "my-model.gguf"
    theirs.write_bytes(b"GGUF")
    folder = cache / "models--some-org--Tiny-Model-GGUF"
    link = folder / "snapshots" / COMMIT / FILE
    for place in (link.parent, folder / "refs", folder / "blobs"):
        place.mkdir(parents=True)
    (folder / "refs/main").write_text(COMMIT)
    link.symlink_to(theirs)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(ours, "cached", lambda model: link)  # Its default is that of the import.
    assert ours.remove(HubModel(REPO, FILE)) > 0
    assert theirs.read_bytes() == b"GGUF"
    assert not link.is_symlink()
