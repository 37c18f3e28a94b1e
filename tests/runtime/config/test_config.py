"""Flag before variable before file before default; and each mistake is one sentence that names
where it was made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import make_configuration
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.config import SETTINGS, Config, Folders
from swarmllm.runtime.config.reading import OTHER_VARIABLES, load_config
from swarmllm.runtime.config.showing import allowed_text
from swarmllm.wire.identity import peer_id_of
from tests import ROOT

PEER = peer_id_of(bytes(range(32)))
ADDR = f"/ip4/203.0.113.7/tcp/7339/p2p/{PEER}"


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    (tmp_path / "config").mkdir()
    return Folders(tmp_path / "config", tmp_path / "data", tmp_path / "cache")


def _load(
    folders: Folders, file: str = "", environ: Mapping[str, str] | None = None, **flags: object
) -> Config:
    if file:
        (folders.config_dir / "config.toml").write_text("version = 1\n" + file)
    return load_config(flags, environ or {}, folders)


def test_without_anything_the_defaults_hold(folders: Folders) -> None:
    assert _load(folders, environ={"HOME": "/home/x"}) == Config(
        folders.data_dir, folders.cache_dir
    )


def test_flag_before_variable_before_file_before_default(folders: Folders) -> None:
    file, environ = "k = 5\n", {"SWARMLLM_K": "6"}
    assert _load(folders).k is None
    assert _load(folders, file).k == 5
    assert _load(folders, file, environ).k == 6
    assert _load(folders, file, environ, k=7).k == 7
    assert _load(folders, file, environ, k=None).k == 6


def test_each_default_is_a_value_that_its_reader_takes(folders: Folders) -> None:
    config = Config(folders.data_dir, folders.cache_dir)
    for name, setting in SETTINGS.items():
        value = getattr(config, name)
        if setting.pins is not None:  # None by default: then the swarm's holds.
            assert value is None
            continue
        assert setting.read(value, isinstance(value, str)) == value


def test_a_data_folder_moves_the_config_file_with_it_but_not_the_caches(
    folders: Folders, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "config.toml").write_text("version = 1\nk = 9\n")
    for config in (
        _load(folders, "k = 5\n", data_dir=moved),
        _load(folders, "k = 5\n", {"SWARMLLM_DATA_DIR": str(moved)}),
    ):
        assert (config.k, config.data_dir, config.cache_dir) == (9, moved, folders.cache_dir)


def test_a_data_folder_that_cannot_be_has_no_config_file(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert (
        _load(folders, data_dir=tmp_path / "file" / "data").data_dir == tmp_path / "file" / "data"
    )


def test_a_data_folder_in_the_file_moves_the_state(folders: Folders) -> None:
    assert _load(folders, 'data_dir = "/srv/node"\n').data_dir == Path("/srv/node")


def test_a_list_is_taken_from_each_place_and_keeps_its_order_without_doubles(
    folders: Folders,
) -> None:
    other = ADDR.replace("203.0.113.7", "198.51.100.1")
    assert _load(folders, f'peers = ["{other}", "{ADDR}", "{other}"]\n').peers == (other, ADDR)
    assert _load(folders, environ={"SWARMLLM_PEERS": f" {ADDR} , {other}"}).peers == (ADDR, other)
    assert _load(folders, peers=[ADDR]).peers == (ADDR,)
    assert _load(folders, peers=[]).peers == ()


@pytest.mark.parametrize(
    "addr",
    [
        ADDR,
        f"/ip6/2001:db8::1/tcp/1/p2p/{PEER}",
        f"/dns/node.example.org/tcp/65535/p2p/{PEER}",
        f"/dns4/a-b.example/tcp/7339/p2p/{PEER}",
        f"/dns4/a-b.example/tcp/7339/p2p/{PEER}/p2p-circuit/p2p/{PEER}",
    ],
)
def test_good_multiaddrs_are_taken(folders: Folders, addr: str) -> None:
    assert _load(folders, peers=[addr]).peers == (addr,)
    assert _load(folders, announce=[addr.partition("/p2p/")[0]]).announce == (
        addr.partition("/p2p/")[0],
    )


@pytest.mark.parametrize(
    "addr",
    [
        "203.0.113.7:7339",
        "/ip4/203.0.113.7/tcp/7339",
        f"/ip4/203.0.113.300/tcp/7339/p2p/{PEER}",
        f"/ip4/203.0.113.7/udp/7339/p2p/{PEER}",
        f"/ip4/203.0.113.7/tcp/0/p2p/{PEER}",
        f"/ip4/203.0.113.7/tcp/65536/p2p/{PEER}",
        f"/dns/-/tcp/7339/p2p/{PEER}/",
        f"/dns/a..b/tcp/7339/p2p/{PEER}",
        f"/ip4/203.0.113.7/tcp/7339/p2p/{PEER[:-1]}",
        "/ip4/203.0.113.7/tcp/7339/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        f"{ADDR}/p2p-circuit",
        f"{ADDR}/p2p-circuit{ADDR}/p2p-circuit/p2p/{PEER}",
        f"/p2p/{PEER}/p2p-circuit/p2p/{PEER}",
        "",
        "/",
    ],
)
def test_a_peer_that_could_never_be_dialled_is_named(folders: Folders, addr: str) -> None:
    with pytest.raises(UsageError, match="--peer") as caught:
        _load(folders, peers=[ADDR, addr])
    assert repr(addr) in str(caught.value) or "id of a peer" in str(caught.value)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("prot = 1\n", "'prot' (did you mean port?)"),
        ("zzz = 1\n", "unknown key 'zzz'"),
        ("port = 65536\n", "65536 is not a whole number from 0 to 65535"),
        ('port = "7339"\n', "'7339' is not a whole number"),
        ("k = true\n", "True is not a whole number"),
        ("k = 1.0\n", "1.0 is not a whole number"),
        ("lan = 1\n", "1 is not true or false"),
        ('lan = "yes"\n', "'yes' is not true or false"),
        ('peers = "/ip4/1.2.3.4/tcp/1"\n', "is not a list of at most 64 multiaddrs"),
        ("peers = [7]\n", "7 is not a multiaddr"),
        ('data_dir = "here"\n', "'here' is not an absolute path"),
        ('model = "model.gguf"\n', "is not an absolute path"),
        ('log_level = "loud"\n', "'loud' is not one of debug, info, warning, error"),
        ("[port]\nx = 1\n", "is not a whole number"),
        ("port = \n", "not valid TOML"),
        ("version = 1\n", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_the_file(
    folders: Folders, file: str, says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        _load(folders, file)
    assert says in str(caught.value)
    assert str(folders.config_dir / "config.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("SWARMLLM_PROT", "1", "did you mean SWARMLLM_PORT?"),
        ("SWARMLLM_port", "1", "did you mean SWARMLLM_PORT?"),
        ("SWARMLLM_PORT", "http", "SWARMLLM_PORT: 'http' is not a whole number"),
        ("SWARMLLM_PORT", "٣", "is not a whole number"),
        ("SWARMLLM_OFFLINE", "maybe", "SWARMLLM_OFFLINE: 'maybe' is not one of"),
        ("SWARMLLM_SWARM", "My Swarm", "is not a swarm's name"),
        ("SWARMLLM_LISTEN_HOST", "localhost", "is not an IP address"),
        ("SWARMLLM_MODEL", "demo:../x", "is not demo:NAME with"),
    ],
)
def test_a_mistake_in_a_variable_is_named(
    folders: Folders, variable: str, value: str, says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        _load(folders, environ={variable: value})
    assert says in str(caught.value)


def test_a_mistake_in_a_flag_is_named_as_the_flag_was_written(folders: Folders) -> None:
    for flags, says in (
        ({"k": 0}, "-k: 0 is not"),
        ({"sessions_max": 0}, "--sessions: 0 is not"),
        ({"listen_host": "x"}, "--listen: 'x' is"),
    ):
        with pytest.raises(UsageError, match=says) as caught:
            _load(folders, **flags)
        assert caught.value.exit_code == 2


def test_variables_of_other_programs_and_empty_ones_are_nothing(folders: Folders) -> None:
    environ = {"SWARMLLM_PORT": "", "SWARMLLM_DEBUG": "1", "SWARM_PORT": "x", "PORT": "80"}
    assert _load(folders, environ=environ) == Config(folders.data_dir, folders.cache_dir)


@pytest.mark.parametrize(
    "text", ["", "k = 3\n", "version = 2\n", 'version = "1"\n', "version = true\n"]
)
def test_a_file_of_another_version_is_refused(folders: Folders, text: str) -> None:
    (folders.config_dir / "config.toml").write_text(text)
    with pytest.raises(UsageError, match="version = 1"):
        _load(folders)


def test_a_file_that_cannot_be_read_is_named(folders: Folders) -> None:
    path = folders.config_dir / "config.toml"
    path.mkdir()
    with pytest.raises(LocalError, match="cannot read the config file"):
        _load(folders)
    path.rmdir()
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not valid TOML"):
        _load(folders)
    path.write_bytes(b"#" * 300_000)
    with pytest.raises(UsageError, match="larger than"):
        _load(folders)


def test_paths_are_made_absolute_and_a_tilde_is_the_home_folder(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert _load(folders, data_dir="here").data_dir == tmp_path / "here"
    assert _load(folders, 'cache_dir = "~/c"\n').cache_dir == tmp_path / "c"
    assert _load(folders, model="m.gguf").model == str(tmp_path / "m.gguf")
    assert _load(folders, model="none").model == "none"


@given(
    st.dictionaries(
        st.sampled_from(list(SETTINGS)),
        st.one_of(
            st.text(), st.integers(), st.booleans(), st.lists(st.text(), max_size=3), st.floats()
        ),
    )
)
def test_any_flags_give_a_config_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, flags: dict[str, object]
) -> None:
    base = tmp_path_factory.getbasetemp()
    try:
        outcome = repr(load_config(flags, {}, Folders(base, base, base)))
    except UsageError as error:
        outcome = str(error)
    assert "\n" not in outcome


def test_every_variable_that_the_program_reads_is_known() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "swarmllm").rglob("*.py")]
    read = {name for text in texts for name in re.findall(r'"(SWARMLLM_[A-Z_]*[A-Z])"', text)}
    assert "SWARMLLM_DEBUG" in read
    # A secret in the environment: the operators' commands say so in their own words.
    refused = {"SWARMLLM_PASSPHRASE"}
    assert read - refused <= OTHER_VARIABLES | {row.variable for row in SETTINGS.values()}


def test_the_page_of_settings_is_what_the_settings_say() -> None:
    for name, made in make_configuration.PAGES.items():
        written = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert written == made(), "run python scripts/make_configuration.py"
    assert all(allowed_text(row) for row in SETTINGS.values())


@pytest.mark.parametrize(
    "text", ["[node]\nlisten = 1\n", 'version = "2.1"\nshards = 4\n', "version = 1\nzzz = 1\n"]
)
def test_a_file_with_keys_like_none_of_ours_may_be_another_programs(
    folders: Folders, text: str
) -> None:
    path = folders.config_dir / "config.toml"
    path.write_text(text)
    with pytest.raises(
        UsageError, match=r"another program's of the same name, .*--data-dir"
    ) as caught:
        _load(folders)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
