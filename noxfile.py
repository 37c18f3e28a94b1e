"""The tests on each Python that is at hand: `nox`, or `nox -s tests-3.12 -- tests/wire` (`pipx
install nox` brings it)."""

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """llama-cpp-python is compiled for each Python, unless pip has kept its wheel."""
    group = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "dev")
    session.install("--constraint", "constraints.txt", "--editable", ".[cli,plots,cluster]", *group)
    session.run(
        "python",
        "-m",
        "pytest",
        "--numprocesses=auto",
        "--maxprocesses=4",
        "--dist=worksteal",
        *session.posargs,
    )
