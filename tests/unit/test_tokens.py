"""Keys as text, their hashes, the pepper, and the map of what was looked up."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.db.pepper import load_pepper
from service.domain.keys import (
    ALPHABET,
    BadTokenError,
    WeakPepperError,
    check_pepper,
    checksum,
    derive,
    hash_token,
    make_token,
    parse_token,
    verify,
)
from service.domain.recent import Recent

PEPPER = b"a pepper for tests, long enough to pass"
POSTGRES = "postgresql://localhost/everturn"


@given(st.integers(1, 2**53 - 1))
def test_a_made_key_is_read_back(key_id: int) -> None:
    token = make_token(key_id)
    assert parse_token(token.text) == token
    assert token.id == key_id


def test_two_keys_differ() -> None:
    assert make_token(1).text != make_token(1).text


@given(at=st.integers(6, 43), letter=st.sampled_from(ALPHABET))
def test_a_typing_error_is_told_from_an_unknown_key(at: int, letter: str) -> None:
    text = make_token(1).text
    wrong = text[:at] + letter + text[at + 1 :]
    if wrong != text:
        with pytest.raises(BadTokenError, match="mistyped"):
            parse_token(wrong)


@pytest.mark.parametrize("text", ["", "evt_", "sk-1234", "evt_0_" + "a" * 38, "evt_1_" + "a" * 37, "evt_1_" + "é" * 38])
def test_what_is_no_key_is_called_that(text: str) -> None:
    with pytest.raises(BadTokenError, match="not an Everturn key"):
        parse_token(text)


def test_the_checksum_is_crc32_in_base_62() -> None:
    # zlib.crc32(b"123456789") is 0xCBF43926, the check value of CRC-32/ISO-HDLC.
    number = 0
    for digit in checksum("123456789"):
        number = number * 62 + ALPHABET.index(digit)
    assert number == 0xCBF43926


def test_the_hash_is_the_hmac_of_rfc_4231() -> None:
    # RFC 4231, test case 2.
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert hash_token(b"Jefe", "what do ya want for nothing?") == expected
    assert verify(expected, expected)
    assert not verify(expected, hash_token(b"jefe", "what do ya want for nothing?"))
    assert derive(PEPPER, "cursors") != derive(PEPPER, "other")


@pytest.mark.parametrize("text", ["", "short", "a" * 64, "ab" * 40, "x" * 31])
def test_a_weak_pepper_is_refused(text: str) -> None:
    with pytest.raises(WeakPepperError):
        check_pepper(text)
    with pytest.raises(WeakPepperError, match="openssl rand"):
        load_pepper(POSTGRES, text)


def test_postgres_needs_a_given_pepper() -> None:
    with pytest.raises(WeakPepperError, match="EVERTURN_PEPPER"):
        load_pepper(POSTGRES, None)
    assert load_pepper(POSTGRES, PEPPER.decode()) == PEPPER


def test_an_embedded_database_keeps_its_pepper_in_a_private_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/deep/everturn.db"
    made = load_pepper(url, None)
    assert load_pepper(url, None) == made
    assert stat.S_IMODE((tmp_path / "deep" / "pepper").stat().st_mode) == 0o600
    assert load_pepper(url, PEPPER.decode()) == PEPPER


def test_workers_that_start_at_once_share_one_pepper(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/everturn.db"
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: load_pepper(url, None), range(64)))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["pepper"]


def test_a_damaged_pepper_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "pepper").write_text("")
    with pytest.raises(WeakPepperError, match="Restore it"):
        load_pepper(f"sqlite:///{tmp_path}/everturn.db", None)
    assert (tmp_path / "pepper").read_text() == ""


def test_what_was_looked_up_is_forgotten_with_time_and_number() -> None:
    time = 0.0
    recent: Recent[str, int] = Recent(3, 2, lambda: time)
    recent.put("a", 1)
    time = 2.9
    assert recent.get("a") == 1
    recent.put("b", 2)
    recent.put("c", 3)
    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (None, 2, 3)
    time = 5.9
    assert recent.get("b") is None
