"""The response for each error, by RFC 9457."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Iterator
from importlib import import_module

import pytest

import careflow_storage
from careflow_storage import (
    AccessDeniedError,
    BodyTimeoutError,
    FileLockedError,
    InvalidPathError,
    NoSuchKeyError,
    ServiceUnavailableError,
    SourceTooLargeError,
    StorageError,
    TransferError,
)
from careflow_storage.browser import ExpiredTicketError, UploadIncompleteError
from careflow_storage.integrations.problems import STATUSES, http_status, problem_for
from careflow_storage.outbox import OutboxFullError


def test_a_refusal_has_its_message() -> None:
    problem = problem_for(NoSuchKeyError("There is no such file.", key="a.webm", request_id="1"))
    assert problem.status == 404
    assert problem.headers == {
        "Content-Type": "application/problem+json",
        "Cache-Control": "no-store",
    }
    assert json.loads(problem.body) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "There is no such file.",
        "error": "NoSuchKeyError",
    }


def test_a_failure_has_only_its_request_id() -> None:
    error = AccessDeniedError("bucket secret-bucket", bucket="secret-bucket", request_id="1a2b")
    problem = problem_for(error)
    assert problem.status == 502
    assert "secret-bucket" not in str(problem)
    assert problem.content["request_id"] == "1a2b"


@pytest.mark.parametrize(("given", "sent"), [(None, "10"), (0.2, "1"), (89.5, "90")])
def test_the_wait_that_the_server_asked_for_reaches_the_client(
    given: float | None, sent: str
) -> None:
    problem = problem_for(ServiceUnavailableError("busy", retry_after=given))
    assert (problem.status, problem.headers["Retry-After"]) == (503, sent)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BodyTimeoutError("The body stalled."), 408),
        (SourceTooLargeError("The source https://a.example/b is too large."), 502),
        (InvalidPathError("the path of the server"), 500),
        (FileLockedError("locked"), 409),
        (OutboxFullError("full"), 503),
        (TransferError("refused"), 502),
        (StorageError("other"), 502),
        (ExpiredTicketError("expired"), 403),
    ],
)
def test_each_error_has_its_status(error: StorageError, status: int) -> None:
    assert http_status(error) == status


def test_a_class_of_an_app_has_the_status_of_its_nearest_base() -> None:
    class MissingCallError(NoSuchKeyError):
        pass

    assert http_status(MissingCallError("no such call")) == 404


def test_each_class_of_the_package_is_listed() -> None:
    modules = {
        module.name
        for module in pkgutil.walk_packages(careflow_storage.__path__, "careflow_storage.")
        if module.name.endswith(".errors")
    }
    for module in modules:
        import_module(module)
    ours = {each for each in subclasses(StorageError) if each.__module__ in modules}
    assert OutboxFullError in ours
    assert ours - STATUSES.keys() == set()


def subclasses(base: type[StorageError]) -> Iterator[type[StorageError]]:
    for each in base.__subclasses__():
        yield each
        yield from subclasses(each)


def test_an_incomplete_upload_names_the_missing_parts() -> None:
    problem = problem_for(UploadIncompleteError("parts are missing", missing=[2, 5]))
    assert (problem.status, problem.content["missing"]) == (409, [2, 5])


def test_no_status_is_one_of_success_or_of_the_login_of_the_client() -> None:
    assert {status for status in STATUSES.values() if not 400 <= status <= 504} == set()
    assert 401 not in STATUSES.values()
