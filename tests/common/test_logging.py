"""Logs: one JSON line an event, and nothing that users wrote."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import structlog

from services.common.logging import configure_logging
from tests.support.logs import plain_logs


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    plain_logs()
    structlog.contextvars.clear_contextvars()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_an_event_is_one_json_line_with_its_context(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(service="gallery")
    structlog.contextvars.bind_contextvars(request_id="r-1")
    structlog.get_logger("part").info("stored", size=3, name="Grüße\n2")
    (line,) = lines(capsys)
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "stored",
        "size": 3,
        "name": "Grüße\n2",
        "request_id": "r-1",
        "level": "info",
        "logger": "part",
        "service": "gallery",
    }


def test_lines_of_other_libraries_have_the_same_shape(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(service="gallery")
    structlog.contextvars.bind_contextvars(request_id="r-1")
    logging.getLogger("library").warning("%s failed", "x")
    (line,) = lines(capsys)
    assert (line["event"], line["level"], line["request_id"]) == ("x failed", "warning", "r-1")


def test_below_its_level_nothing_is_written_and_talkative_libraries_are_quiet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("INFO")
    structlog.get_logger().debug("no")
    logging.getLogger("azure.core").info("no")
    logging.getLogger("sqlalchemy.engine").info("no")
    assert lines(capsys) == []


@pytest.mark.parametrize("key", ["prompt", "body", "token", "api_key", "authorization", "password", "database_url"])
def test_private_keys_are_never_written(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    structlog.get_logger().info("x", **{key: "a castle"})
    (line,) = lines(capsys)
    assert line[key] == "[redacted]"


def test_bytes_are_counted_and_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    structlog.get_logger().info("x", chunk=b"12345")
    assert lines(capsys)[0]["chunk"] == "[5 bytes]"


def test_passwords_in_addresses_are_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    structlog.get_logger().info("x", target="connecting to postgresql://anna:pa55@host/db")
    assert lines(capsys)[0]["target"] == "connecting to postgresql://anna:[redacted]@host/db"


def test_the_row_that_postgres_quotes_in_an_error_is_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    quoting = "violates check\nDETAIL:  Failing row contains (1, a castle).\nHINT: h"
    try:
        raise psycopg.errors.CheckViolation(quoting)
    except psycopg.Error as error:
        structlog.get_logger().error("failed", exc_info=error)
    exception = lines(capsys)[0]["exception"]
    assert "a castle" not in exception
    assert "violates check\nDETAIL: [redacted]\nHINT: h" in exception
    assert "test_logging.py" in exception


def test_a_very_long_value_is_cut_in_the_middle(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    structlog.get_logger().info("x", value="a" * 100_000 + "end")
    value = lines(capsys)[0]["value"]
    assert len(value) < 9_000
    assert value.endswith("end")


def test_the_console_format_is_for_eyes(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(format="console")
    structlog.get_logger().info("stored", prompt="a castle")
    output = capsys.readouterr().out
    assert "stored" in output
    assert "a castle" not in output
