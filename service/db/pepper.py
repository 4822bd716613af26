"""The secret that key hashes are mixed with: from the environment, or in a file beside an embedded database."""

import logging
import os
from pathlib import Path
from tempfile import mkstemp

from service.db.engine import async_url
from service.domain.keys import WeakPepperError, check_pepper, make_pepper

log = logging.getLogger(__name__)

HOW = "Make one with `openssl rand -base64 48` and set it as EVERTURN_PEPPER"


def load_pepper(url: str, given: str | None) -> bytes:
    """The pepper of a database, made on the first start of an embedded one. Raises WeakPepperError with what to do."""
    if given is not None:
        return _checked(given, f"{HOW}.")
    parsed = async_url(url)
    if parsed.get_backend_name() != "sqlite":
        raise WeakPepperError(f"With Postgres the pepper must come from the environment. {HOW}.")
    if not parsed.database or parsed.database == ":memory:":
        return make_pepper().encode()
    path = Path(parsed.database).parent / "pepper"
    if not path.exists():
        _create(path)
    if os.name == "posix" and path.stat().st_mode & 0o077:
        log.warning("%s can be read by others; run: chmod 600 %s", path, path)
    return _checked(path.read_text().strip(), f"The file {path} holds no usable pepper. Restore it from a backup.")


def _create(path: Path) -> None:
    """Write a new pepper, whole or not at all; of several workers that start at once one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = mkstemp(prefix=".pepper-", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(make_pepper() + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        Path(draft).unlink()


def _checked(text: str, advice: str) -> bytes:
    try:
        return check_pepper(text)
    except WeakPepperError as error:
        raise WeakPepperError(f"{error} {advice}") from None
