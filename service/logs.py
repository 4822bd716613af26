"""Log lines for people or for machines, on standard error. Tracebacks say where and what kind, never what was said."""

import logging
import sys
from collections.abc import Iterator, MutableMapping
from traceback import format_tb
from typing import Any, Literal

import structlog
from pydantic_core import to_json

from service.errors import EverturnError

Level = Literal["debug", "info", "warning", "error"]
Line = MutableMapping[str, Any]
FIRST = ("timestamp", "level", "event", "logger", "exception")
# Chatty about every request or statement; their warnings are kept.
QUIET = ("aiosqlite", "alembic.runtime.plugins", "asyncio", "httpcore", "httpx", "httpx2", "openai", "anthropic")


def configure(level: Level, style: Literal["text", "json"]) -> None:
    """Send the whole process's log lines through one format."""
    lowest = logging.getLevelNamesMapping()[level.upper()]
    stamps: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_message,
    ]
    render = _json if style == "json" else _text
    structlog.configure(
        processors=[*stamps, render],
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*stamps, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logging.basicConfig(level=lowest, handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(lowest, logging.WARNING))


def describe(error: BaseException) -> str:
    """Where an error came from and of what kind it and its causes are. Messages may quote users, so only our own
    are repeated."""
    return "\n".join(_chain(error))


def _chain(error: BaseException) -> Iterator[str]:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _chain(cause)
        yield "… which led to:"
    yield "".join(format_tb(error.__traceback__)).rstrip()
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    yield f"{kind}: {error.detail}" if isinstance(error, EverturnError) else kind


def _without_message(_logger: object, _method: str, line: Line) -> Line:
    given = line.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        line["exception"] = describe(error)
    return line


def _json(_logger: object, _method: str, line: Line) -> str:
    return to_json(line, fallback=repr, inf_nan_mode="null").decode()


def _text(_logger: object, _method: str, line: Line) -> str:
    pairs = " ".join(f"{name}={_plain(value)}" for name, value in line.items() if name not in FIRST)
    logger = f"{line['logger']}: " if "logger" in line else ""
    text = f"{line['timestamp']} {line['level']:<7} {logger}{line['event']} {pairs}".rstrip()
    return f"{text}\n{line['exception']}" if "exception" in line else text


def _plain(value: object) -> str:
    """On one line whatever a client put into its path."""
    text = str(value)
    return text if text.isprintable() and " " not in text else repr(text)
