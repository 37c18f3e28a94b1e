"""Setting up: what is missing is named before anything is built, nothing is done twice, and an
interrupted installation is begun anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import ROOT

SHELL = shutil.which("bash") or "bash"
TOOLS = """awk bash cat cksum cut df dirname env id ln mkdir printf readlink rm sed sh sleep tail
tput tr uname""".split()  # noqa: SIM905

NPM_MARK = "node_modules/.package-lock.json"
Done = subprocess.CompletedProcess[str]


def _bash(root: Path, text: str, **environ: str) -> Done:
    """Run `text` after sourcing lib.sh for a clone at `root`."""
    program = f'ROOT="$1"; SELF=scripts/demo; . "$2"; {text}'
    command = [
        SHELL,
        "-u",
        "-o",
        "pipefail",
        "-c",
        program,
        "bash",
        str(root),
        str(ROOT / "scripts/lib.sh"),
    ]
    return subprocess.run(
        command,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder like a clone with an environment that some earlier run made, whose Python is
    ours."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    (tmp_path / ".venv/bin/swarmllm").write_text("#!/bin/sh\n")
    (tmp_path / ".venv/bin/swarmllm").chmod(0o755)
    (tmp_path / ".venv/.made-by-scripts").write_text(f"{tmp_path}\n")
    return tmp_path


def _stamp(clone: Path, kind: str) -> None:
    assert _bash(clone, f'fingerprint {kind} > "$VENV/.installed-{kind}"').returncode == 0


@pytest.fixture
def bare_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PATH with the everyday tools and nothing to build with."""
    folder = tmp_path_factory.mktemp("bin")
    for tool in TOOLS:
        found = shutil.which(tool)
        if found:
            (folder / tool).symlink_to(found)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "scripts/demo",
        "scripts/check",
        "scripts/judges",
        "scripts/lock",
        "scripts/lib.sh",
        ".ci/run",
    ],
)
def test_every_script_parses(name: str) -> None:
    assert (
        subprocess.run(
            [SHELL, "-n", str(ROOT / name)], capture_output=True, text=True, check=False
        ).stderr
        == ""
    )


def test_ci_installs_what_some_tests_need_and_runs_scripts_check() -> None:
    lines = [
        line
        for line in (ROOT / ".ci/run").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    check = 'exec "$(dirname "${BASH_SOURCE[0]}")/../scripts/check"'
    assert (lines[0], lines[-1]) == ("export CI=true", check)
    needed = ("chromium", "nft", "npm")
    assert all(line == "fi" or any(name in line for name in needed) for line in lines[1:-1])


def test_the_packages_in_javascript_are_installed_once_for_each_lock(tmp_path: Path) -> None:
    folder = tmp_path / "tests/interop"
    (folder / "node_modules").mkdir(parents=True)
    (folder / "package-lock.json").write_text("{}")
    npm = tmp_path / "bin/npm"
    npm.parent.mkdir()
    npm.write_text(f"#!/bin/sh\necho x >>'{tmp_path}/runs'\ntouch '{folder}/{NPM_MARK}'\n")
    npm.chmod(0o755)
    path = f"{npm.parent}:{os.environ['PATH']}"
    assert _bash(tmp_path, "ensure_interop && ensure_interop", PATH=path).returncode == 0
    assert (tmp_path / "runs").read_text() == "x\n"
    os.utime(folder / NPM_MARK, (1, 1))  # The lock is newer.
    assert _bash(tmp_path, "ensure_interop", PATH=path).returncode == 0
    assert (tmp_path / "runs").read_text() == "x\nx\n"


def test_without_npm_nothing_in_javascript_is_installed(tmp_path: Path, bare_path: Path) -> None:
    assert _bash(tmp_path, "ensure_interop", PATH=str(bare_path)).returncode == 0


def test_all_that_is_missing_is_named_with_the_remedy_before_anything_is_made(
    tmp_path: Path, bare_path: Path
) -> None:
    (bare_path / "apt-get").symlink_to("/bin/true")
    done = _bash(
        tmp_path,
        "ensure_environment plain",
        PATH=str(bare_path),
        PYTHON="no-such-python",
        CC="no-cc",
        CXX="no-c++",
    )
    assert done.returncode == 1
    for thing in (
        "Python 3.11 or newer",
        "a C compiler",
        "a C++ compiler",
        "git",
        "sudo apt-get install",
        "python3-venv",
    ):
        assert thing in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_an_old_python_and_a_full_disk_are_named(tmp_path: Path, bare_path: Path) -> None:
    (bare_path / "python3").write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo Python 3.9.2 && exit\nexit 1\n"
    )
    (bare_path / "python3").chmod(0o755)
    done = _bash(
        tmp_path, "FREE_KIB_MIN=99999999999; missing_things", PATH=str(bare_path), PYTHON=""
    )
    assert "Python 3.11 or newer (found: Python 3.9.2)" in done.stdout
    assert f"MiB of free disk space in {tmp_path}" in done.stdout


def test_a_machine_that_runs_these_tests_lacks_no_python(tmp_path: Path) -> None:
    done = _bash(tmp_path, "find_python; missing_things", PYTHON=sys.executable)
    assert done.stdout.splitlines()[0] == sys.executable
    assert "Python 3.11" not in done.stdout.partition("\n")[2]


def test_a_second_run_installs_nothing_and_says_nothing(clone: Path) -> None:
    _stamp(clone, "plain")
    done = _bash(clone, "make_environment() { say made; }; ensure_environment plain")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_environment_for_development_does_for_everything_but_not_the_other_way_round(
    clone: Path,
) -> None:
    _stamp(clone, "plain")
    assert _bash(clone, "is_installed dev").returncode == 1
    _stamp(clone, "dev")
    (clone / ".venv/.installed-plain").unlink()
    assert _bash(clone, "is_installed plain && is_installed dev").returncode == 0


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_an_edit_of_sources_needs_no_installation_and_one_of_what_is_installed_does(
    clone: Path, name: str
) -> None:
    _stamp(clone, "plain")
    (clone / "swarmllm.py").write_text("x = 1\n")
    assert _bash(clone, "is_installed plain").returncode == 0
    with (clone / name).open("a") as file:
        file.write("# changed\n")
    assert _bash(clone, "is_installed plain").returncode == 1


RECORDED = (
    "wheel_folder() { echo /wheels; }; build_llama() { :; }; build_fastecdsa() { :; }; shown()"
    ' { shift; "$@"; }; pip() { printf "%s\\n" "$@"; }; '
)


@pytest.mark.parametrize(
    ("kind", "extras"), [("plain", "cli,plots"), ("dev", "cli,plots,cluster,grpc,otel,gpu")]
)
def test_what_is_installed_has_the_versions_of_the_constraints(
    clone: Path, kind: str, extras: str
) -> None:
    """The group dev is read here, because the pip of a new environment may not know --group."""
    done = _bash(clone, RECORDED + f"install_everything {kind}")
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert words[words.index("--constraint") + 1] == str(clone / "constraints.txt")
    assert words[words.index("--editable") + 1] == f"{clone}[{extras}]"
    group = tomllib.loads((clone / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    assert Path(words[words.index("--requirement") + 1]).read_text().splitlines() == (
        group if kind == "dev" else []
    )


def test_a_lock_is_made_of_the_newest_versions(clone: Path) -> None:
    done = _bash(clone, RECORDED + "CONSTRAINTS=; install_everything dev")
    assert done.returncode == 0, done.stderr
    assert "--constraint" not in done.stdout


STUBS = (
    'shown() { shift; "$@" >/dev/null; }; install_everything() { say "installing $1"; };'
    ' find_python() { echo "$PYTHON"; }; '
)


@pytest.fixture
def quick_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python whose `-m venv FOLDER` takes no seconds."""
    path = tmp_path_factory.mktemp("python") / "python3"
    path.write_text(
        "#!/bin/sh\n"
        f'[ "$1 $2" = "-m venv" ] && mkdir -p "$3/bin" && ln -s {sys.executable} "$3/bin/python" &&'
        ' : >"$3/fresh"\n'
    )
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("damage", ["unfinished", "moved", "no python"])
def test_an_environment_of_ours_that_is_not_whole_is_made_anew(
    clone: Path, quick_python: str, damage: str
) -> None:
    match damage:
        case "unfinished":
            (clone / ".venv/.installing").touch()
        case "moved":
            (clone / ".venv/.made-by-scripts").write_text("/somewhere/else\n")
        case "no python":
            (clone / ".venv/bin/python").unlink()
        case other:
            raise AssertionError(other)
    (clone / ".venv/leftover").touch()
    done = _bash(clone, STUBS + "make_environment plain", PYTHON=quick_python)
    assert done.returncode == 0, done.stderr
    assert "installing plain" in done.stderr
    assert not (clone / ".venv/leftover").exists()
    assert (clone / ".venv/fresh").exists()
    assert not (clone / ".venv/.installing").exists()
    assert (clone / ".venv/.made-by-scripts").read_text() == f"{clone}\n"


def test_somebody_elses_environment_is_never_removed(clone: Path) -> None:
    (clone / ".venv/.made-by-scripts").unlink()
    (clone / ".venv/.installing").touch()
    (clone / ".venv/precious").touch()
    done = _bash(clone, STUBS + "make_environment dev", PYTHON=sys.executable)
    assert done.returncode == 0
    assert "installing dev" in done.stderr
    assert (clone / ".venv/precious").exists()


def test_a_failed_step_shows_the_end_of_its_log_and_leaves_the_environment_marked(
    clone: Path,
) -> None:
    text = (
        'wheel_folder() { echo /tmp; }; build_llama() { shown "compiling" sh -c "echo a reason;'
        ' exit 3"; }; make_environment plain'
    )
    done = _bash(clone, text, PYTHON=sys.executable)
    assert done.returncode != 0
    for part in ("compiling: failed", "a reason", str(clone / ".venv/install.log")):
        assert part in done.stderr
    assert (clone / ".venv/.installing").exists()
    assert _bash(clone, "is_installed plain").returncode == 1


def test_long_work_without_a_terminal_says_what_it_does_and_that_it_is_done(clone: Path) -> None:
    done = _bash(clone, 'shown "compiling" sh -c "echo step 1; echo step 2"')
    assert done.stdout == ""
    assert done.stderr.splitlines()[0] == "compiling ..."
    assert done.stderr.splitlines()[-1].startswith("compiling: done in ")
    assert "step 1\nstep 2\n" in (clone / ".venv/install.log").read_text()


@pytest.mark.parametrize(
    ("log", "shows"),
    [
        ("first\n  last one\n", "last one"),
        ("  [7/193] /usr/bin/c++ -O3 -o x.o -c /a/b/ggml.cpp\n  |      ^~~\n", "[7/193] ggml.cpp"),
        (
            "Building wheel for llama\n  /a/b.cpp:7: warning: unused\n     7 |  int x\n"
            "       |  ^~~\n"
            "  In file included from /a/b.h:3,\n                   from /a/c.h:4:\n",
            "Building wheel for llama",
        ),
        ("Preparing\n  -- Performing Test HAS_FLAG - Success\n", "configuring"),
        ("[140/140] cmake --install\n\n=== pip install fastecdsa\n", ""),
        ("[140/140] cmake\n=== pip install\nCollecting fastecdsa\n", "Collecting fastecdsa"),
        ("a\x1b[31m very long line\n", "a[31m very"),
        ("", ""),
    ],
)
def test_progress_shows_how_far_it_is(clone: Path, log: str, shows: str) -> None:
    (clone / ".venv/install.log").write_text(log)
    assert _bash(clone, f"last_log_line {max(10, len(shows))}").stdout.strip() == shows


def test_a_lock_left_by_the_dead_is_taken_over_and_given_back(
    clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("locks")
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    text = """
        work() { ls "$TMPDIR"; readlink "$TMPDIR"/*; return 7; }
        name=$(with_lock work | head -n 1)
        ln -s "pid:$DEAD" "$TMPDIR/$name"
        with_lock work
        echo "rc=$?"
    """
    done = _bash(clone, text, TMPDIR=str(folder), DEAD=dead)
    name, holder, code = done.stdout.splitlines()
    assert name.startswith("swarmllm-")
    assert holder.startswith("pid:")
    assert holder != f"pid:{dead}"
    assert code == "rc=7"
    assert list(folder.iterdir()) == []


def test_a_wheel_is_kept_apart_by_build_options_and_without_a_home_beside_the_environment(
    clone: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    folders = {
        _bash(clone, "wheel_folder", XDG_CACHE_HOME=str(home), CMAKE_ARGS=arguments).stdout.strip()
        for arguments in ("", "-DGGML_CUDA=on", "")
    }
    assert len(folders) == 2
    assert all(folder.startswith(str(home / "swarmllm/wheels")) for folder in folders)
    beside = _bash(clone, "wheel_folder", XDG_CACHE_HOME="/dev/null/x").stdout.strip()
    assert beside.startswith(str(clone / ".venv/wheels"))
    assert Path(beside).is_dir()


def test_requirements_are_read_from_pyproject(clone: Path) -> None:
    assert _bash(clone, "requirement llama-cpp-python").stdout.startswith("llama-cpp-python>=")
    assert _bash(clone, "requirement libp2p").stdout == "libp2p==0.8.1\n"


def test_an_unknown_option_is_a_usage_error() -> None:
    done = subprocess.run(
        [SHELL, str(ROOT / "scripts/check"), "--nonsense"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "--nonsense" in done.stderr
