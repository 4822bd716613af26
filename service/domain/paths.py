"""The names of files: text with slashes, which never reaches a file system, and would do no harm if it did."""

import re
import unicodedata

MOST_BYTES = 1024
MOST_BYTES_OF_PART = 255
# Sorts after every character that a path may hold.
LAST = "\U0010ffff"
# Control and format characters, surrogates, private and unassigned ones, line and paragraph separators.
_REFUSED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# Emoji and several scripts are written with these two.
_JOINERS = "\u200c\u200d"
_DRIVE = re.compile(r"[A-Za-z]:")


def normal(text: str) -> str:
    """One spelling of what looks the same: NFC. Unlike NFKC it makes neither dots nor slashes."""
    return unicodedata.normalize("NFC", text)


def clean_path(text: str) -> str:
    """The path in its one spelling. Raises ValueError, with a sentence, for what is none."""
    path = normal(text)
    if not path:
        raise ValueError("A path must not be empty.")
    if path.startswith("/") or _DRIVE.match(path):
        raise ValueError("A path must not be absolute.")
    if "\\" in path:
        raise ValueError("A path must not hold a backslash.")
    # U+FFFD stands where percent-encoded bytes were no UTF-8: different requests would meet at one name.
    if "\ufffd" in path or any(unicodedata.category(one) in _REFUSED and one not in _JOINERS for one in path):
        raise ValueError("A path must not hold control, invisible or undecodable characters.")
    if len(path.encode()) > MOST_BYTES:
        raise ValueError(f"A path must not be longer than {MOST_BYTES} bytes.")
    for part in path.split("/"):
        _check_part(part)
    return path


def _check_part(part: str) -> None:
    if not part:
        raise ValueError("A path must not end in a slash or hold two in a row.")
    if part in (".", ".."):
        raise ValueError("A path must not hold `.` or `..` as a part.")
    if part != part.strip() or part.endswith("."):
        raise ValueError("A part of a path must not begin or end with a space, or end with a dot.")
    if len(part.encode()) > MOST_BYTES_OF_PART:
        raise ValueError(f"A part of a path must not be longer than {MOST_BYTES_OF_PART} bytes.")
