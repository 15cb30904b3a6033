"""Every log record names its event and has the fields that the documentation lists."""

from __future__ import annotations

import ast
import collections
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from pythonjsonlogger.json import JsonFormatter

from careflow_storage import BackblazeStorage
from careflow_storage._log_fields import log_fields
from careflow_storage.errors import NoSuchKeyError
from careflow_storage.testing import B2Server

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/observability.md").read_text(encoding="utf-8")
LOGGERS = {"logger", "_log"}
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def calls() -> Iterator[tuple[Path, ast.Call]]:
    """All calls of a logger in the package."""
    for path in sorted((ROOT / "careflow_storage").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id in LOGGERS and node.func.attr in LEVELS:
                yield path, node


def levels(node: ast.Call) -> set[str]:
    """The levels at which a call may log."""
    assert isinstance(node.func, ast.Attribute)
    if node.func.attr != "log":
        return {{"exception": "error"}.get(node.func.attr, node.func.attr)}
    text = ast.unparse(node.args[0])
    return {name.lower() for name in re.findall(r"logging\.([A-Z]+)", text)} or {"any"}


def fields(node: ast.Call) -> tuple[str, set[str]]:
    """The event and the fields of a call's ``extra=log_fields("event", error, field=...)``."""
    (extra,) = [each.value for each in node.keywords if each.arg == "extra"]
    assert isinstance(extra, ast.Call)
    assert ast.unparse(extra.func) == "log_fields"
    event = extra.args[0]
    assert isinstance(event, ast.Constant)
    names = {str(each.arg) for each in extra.keywords}
    return str(event.value), names | ({"error_type"} if len(extra.args) > 1 else set())


def documented() -> dict[str, tuple[set[str], set[str]]]:
    """The rows of the table of events: levels and fields."""
    table = PAGE.partition("| `event_name` |")[2].partition("\n\n")[0]
    found = {}
    for line in table.splitlines()[2:]:
        name, level, _, names = [cell.strip() for cell in line.strip("|").split(" | ")]
        found[name.strip("| `")] = (set(level.split(", ")), set(re.findall(r"`(\w+)`", names)))
    return found


def test_every_log_call_is_in_the_table_with_its_levels_and_fields() -> None:
    logged: dict[str, tuple[set[str], set[str]]] = collections.defaultdict(lambda: (set(), set()))
    for path, node in calls():
        try:
            event, names = fields(node)
        except (AssertionError, ValueError) as error:
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            raise AssertionError(f'{where} needs extra=log_fields("event", error)') from error
        logged[event][0].update(levels(node))
        logged[event][1].update(names)
    found = documented()
    assert sorted(logged) == list(found)
    for event, (level, names) in logged.items():
        assert found[event][1] == names, event
        if "any" not in level:
            assert found[event][0] == level, event


def test_every_field_is_described_and_is_no_name_of_a_record() -> None:
    described = set(re.findall(r"^\| `(\w+)`", PAGE.partition("| Field |")[2], re.MULTILINE))
    used = {name for _, node in calls() for name in fields(node)[1]}
    of_errors = set(log_fields("x", NoSuchKeyError("x", method="m", operation="o", bucket="b",
                    key="k", status=1, code="c", request_id="r")))  # fmt: skip
    assert used | of_errors <= described
    record = logging.LogRecord("x", 10, "x", 1, "x", None, None)
    assert not described & {*vars(record), "message", "asctime"}
    # structlog has the message as `event`.
    assert not described & {"event", "logger", "level", "timestamp"}


def test_fields_that_are_unknown_are_left_out() -> None:
    error = NoSuchKeyError("gone", key="key", status=404)
    assert log_fields("upload_gone", error, upload_id=None, key="other") == {
        "event_name": "upload_gone",
        "error_type": "NoSuchKeyError",
        "key": "other",
        "status": 404,
    }
    assert log_fields("client_left", ValueError("x")) == {
        "event_name": "client_left",
        "error_type": "ValueError",
    }


# --- formatters -------------------------------------------------------------------------


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is written by the handler that a test adds to the package's logger."""
    logger, written = logging.getLogger("careflow_storage"), io.StringIO()
    handler, level = logging.StreamHandler(written), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield written
    logger.removeHandler(handler)
    logger.setLevel(level)


def use(formatter: logging.Formatter) -> None:
    logging.getLogger("careflow_storage").handlers[-1].setFormatter(formatter)


async def a_retry(server: B2Server) -> None:
    server.faults.next("PutObject", status=503, code="SlowDown")
    settings = server.settings(retry_base_delay=0.001, retry_max_delay=0.01)
    async with BackblazeStorage(settings) as storage:
        await storage.upload_file("key", b"x")


def retry_in(stream: io.StringIO) -> dict[str, Any]:
    (found,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert isinstance(found, dict)
    assert (found["operation"], found["status"], found["error_code"], found["attempt"]) == (
        "PutObject", 503, "SlowDown", 1
    )  # fmt: skip
    assert (found["event_name"], found["error_type"]) == (
        "retry_scheduled", "ServiceUnavailableError"
    )  # fmt: skip
    return found


async def test_a_json_formatter_has_the_fields(server: B2Server, stream: io.StringIO) -> None:
    use(JsonFormatter("{levelname}{message}", style="{"))
    await a_retry(server)
    assert retry_in(stream)["message"].startswith("retrying PutObject")


async def test_structlog_has_the_fields_and_the_message(
    server: B2Server, stream: io.StringIO
) -> None:
    use(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    await a_retry(server)
    found = retry_in(stream)
    assert found["event"].startswith("retrying PutObject")
    assert found["level"] == "debug"
