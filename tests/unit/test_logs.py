"""Log lines: both formats, and no message of an error that may quote a user."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from service import logs
from service.errors import NotFound

SECRET = "what-a-user-wrote"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers, before = root.level, root.handlers[:], structlog.get_config()
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    structlog.configure(**before)


def break_twice() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        raise NotFound("There is no user 7.") from error


def test_a_traceback_says_where_but_not_what(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    try:
        break_twice()
    except NotFound:
        logging.getLogger("somewhere").exception("it %s", "broke")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["logger"]) == ("it broke", "error", "somewhere")
    assert "builtins.ValueError" in line["exception"]
    assert "in break_twice" in line["exception"]
    assert line["exception"].endswith("service.errors.NotFound: There is no user 7.")
    assert SECRET not in line["exception"].replace("raise ValueError(SECRET)", "")


def test_a_path_cannot_forge_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text")
    structlog.get_logger("a new one").info("request", path="/a\n2026 error forged", status=404)
    (line,) = capsys.readouterr().err.splitlines()
    assert "path='/a\\n2026 error forged' status=404" in line


def test_the_level_holds_for_both_kinds_of_logger(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "text")
    structlog.get_logger("another one").info("request")
    logging.getLogger("somewhere").info("hello")
    assert capsys.readouterr().err == ""
