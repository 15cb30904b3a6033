"""Real workers with a real broker: stopped, killed, out of time, and their broker restarted.

In each case the recording is stored once, byte for byte, and no unfinished upload is left.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from careflow_storage.testing import B2Server
from tests.support.held_source import HeldSource
from tests.support.processes import Program, python, running_redis, wait_until
from tests.support.worker_frameworks import (
    FRAMEWORKS,
    JOB,
    STREAM_BROKER,
    Framework,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither SIGKILL nor Redis"),
]


class Site:
    """A worker, its broker, the bucket and the source of the recordings."""

    def __init__(self, folder: Path, framework: Framework, stack: ExitStack) -> None:
        self.folder = folder
        self.framework = framework
        self._stack = stack
        self.redis = stack.enter_context(running_redis(folder / "redis"))
        self.bucket = stack.enter_context(B2Server())
        self.source = stack.enter_context(HeldSource())
        (folder / "job.py").write_text(JOB)
        (folder / "stream_broker.py").write_text(STREAM_BROKER)
        (folder / "worker.py").write_text(framework.worker)
        (folder / "send.py").write_text(framework.send)
        self._environment = self.bucket.environment() | {
            "BACKBLAZE_PART_SIZE": "5MiB",
            "BACKBLAZE_MULTIPART_THRESHOLD": "5MiB",
            "REDIS": self.redis.url,
            "SOURCE": self.source.url,
        }

    def start(self, *arguments: str, **environment: str) -> Program:
        """Start a worker; the environment is that of later ones, too."""
        self._environment |= environment
        command = [sys.executable, *self.framework.command, *arguments]
        self._worker = Program(command, self.folder, self._environment)
        self._stack.callback(self._worker.close)
        return self._worker

    def send_when_ready(self, *names: str) -> None:
        """Send tasks to a worker that has started: one that starts looks for tasks left over."""
        wait_until(lambda: self.framework.ready in self.log(), self.report)
        self.send(*names)

    def send(self, *names: str) -> None:
        """Send the task for each of these recordings."""
        python(self.folder, "send.py", *names, **self._environment)

    def start_in_mid_upload(self, **environment: str) -> Program:
        """Start a worker that has stored the first part of a recording, and gets no more."""
        self.source.holding = 1
        worker = self.start(**environment)
        self.send_when_ready("a.wav")
        wait_until(
            lambda: any(upload.parts for upload in self.bucket.incomplete_uploads()), self.report
        )
        return worker

    def log(self) -> str:
        """What the workers have written to stderr."""
        return (self.folder / "log").read_text(errors="replace")

    def report(self) -> str:
        """What there is, for failures."""
        requests = [(each.operation, each.status) for each in self.bucket.requests]
        left = self.bucket.versions(), self.bucket.incomplete_uploads()
        return f"{self.source.requests} {requests} {left}\n{self.log()[-6000:]}"

    def operations(self, name: str) -> list[str]:
        """The requests for a recording."""
        return [each.operation for each in self.bucket.requests if each.key.endswith(name)]

    def until(self, stored: int) -> None:
        """Wait until this number of versions is stored. A worker that ends is started again."""

        def are_stored() -> bool:
            if self._worker.ended:
                self.start()
            return len(self.bucket.versions()) >= stored

        wait_until(are_stored, self.report)

    def clean_up(self) -> None:
        """Run the scheduled task, once the server's time, in seconds, is another."""
        self.send("--abort-stale-uploads")
        wait_until(lambda: not self.bucket.incomplete_uploads(), self.report)

    def assert_stored_once(self) -> None:
        """One version, byte for byte, and nothing unfinished."""
        (version,) = self.bucket.versions()
        assert version.body == self.source.body
        assert self.bucket.incomplete_uploads() == [], self.report()


@pytest.fixture(params=FRAMEWORKS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    framework = FRAMEWORKS[request.param]
    if framework.needs is not None:
        pytest.importorskip(framework.needs)
    with ExitStack() as stack:
        yield Site(tmp_path, framework, stack)


@pytest.fixture
def celery(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, FRAMEWORKS["celery"], stack)


def test_repeated_tasks_store_the_recording_once_and_cost_one_head_each(site: Site) -> None:
    site.start()
    site.send_when_ready("a.wav")
    site.until(stored=1)
    site.send("a.wav", "a.wav", "b.wav")
    site.until(stored=2)
    # A HEAD and the upload, then a HEAD for each repetition.
    wait_until(lambda: site.operations("a.wav").count("HeadObject") >= 3, site.report)
    assert site.operations("a.wav")[-2:] == ["HeadObject", "HeadObject"]
    assert site.source.requests == {"a.wav": 1, "b.wav": 1}
    assert len(site.bucket.versions()) == 2


SIGNALS = pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, id="SIGTERM"),
        # Ctrl-C: deployments send SIGTERM.
        pytest.param(signal.SIGINT, id="SIGINT", marks=pytest.mark.exhaustive),
    ],
)


@SIGNALS
def test_given_a_signal_in_mid_upload_then_it_is_aborted_or_finished_and_not_lost(
    site: Site, number: signal.Signals
) -> None:
    worker = site.start_in_mid_upload()
    if site.framework.finishes_tasks:
        worker.send_signal(number)
        site.source.release()
    worker.end(None if site.framework.finishes_tasks else number)
    assert site.bucket.incomplete_uploads() == [], site.report()
    site.start()
    site.until(stored=1)
    site.assert_stored_once()


@SIGNALS
def test_given_a_pool_of_threads_then_celery_finishes_the_upload(
    celery: Site, number: signal.Signals
) -> None:
    celery.source.holding = 1
    worker = celery.start("--pool", "threads")
    celery.send_when_ready("a.wav")
    wait_until(lambda: bool(celery.bucket.incomplete_uploads()), celery.report)
    worker.send_signal(number)
    celery.source.release()
    worker.end(None)
    celery.assert_stored_once()


def test_given_a_worker_killed_in_mid_upload_then_the_next_stores_it(site: Site) -> None:
    worker = site.start_in_mid_upload(SWEEP="10")
    worker.kill_all()
    site.start()
    site.until(stored=1)
    assert len(site.bucket.incomplete_uploads()) == 1
    site.clean_up()
    site.assert_stored_once()


def test_given_a_soft_time_limit_then_the_upload_is_aborted_and_repeated(site: Site) -> None:
    site.start_in_mid_upload(LIMIT="8")
    site.until(stored=1)
    site.assert_stored_once()


def test_given_a_hard_time_limit_then_the_process_is_killed_and_nothing_lost(celery: Site) -> None:
    worker = celery.start_in_mid_upload(HARD_LIMIT="8")
    wait_until(lambda: "Hard time limit" in celery.log(), celery.report)
    # What was not acknowledged goes back to the queue.
    worker.end()
    celery.start()
    celery.until(stored=1)
    celery.clean_up()
    celery.assert_stored_once()


def test_given_a_cold_shutdown_then_the_next_worker_stores_it(celery: Site) -> None:
    worker = celery.start_in_mid_upload()
    worker.end(signal.SIGQUIT)
    celery.start()
    celery.until(stored=1)
    celery.clean_up()
    celery.assert_stored_once()


def test_given_a_broker_that_restarts_in_mid_upload_then_nothing_is_lost_or_doubled(
    site: Site,
) -> None:
    site.start_in_mid_upload()
    site.redis.stop()
    site.redis.start()
    site.source.release()
    site.until(stored=1)
    # The broker has what is to be done: another recording comes after it.
    site.send("b.wav")
    site.until(stored=2)
    first, second = site.bucket.versions()
    assert first.body == second.body == site.source.body
    assert first.key != second.key
    assert site.bucket.incomplete_uploads() == [], site.report()
