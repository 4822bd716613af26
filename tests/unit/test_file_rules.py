"""What files may be called, which ranges and conditions are asked for, and what files are shown as."""

import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.etags import Conditions, parse_tags
from service.domain.media import clean_media_type, contradicts, disposition, sniff_image
from service.domain.paths import LAST, clean_path
from service.domain.ranges import parse_range

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)

GOOD_PATHS = [
    "a",
    "a/b/c.txt",
    ".profile",
    "..hidden",
    "a..b/...c",
    "Straße/été 2026.jpg",
    "写真/猫.png",
    "Screenshot 2026-11-25 at 9.30.00\u202fPM.png",
    "👩\u200d💻.png",
    "100%.txt",
    "a b/c d",
    "x" * 255,
    "/".join(["x" * 204] * 5),
]
BAD_PATHS = [
    "",
    "/",
    "/etc/passwd",
    "//etc/passwd",
    "..",
    ".",
    "../x",
    "a/../b",
    "a/..",
    "a/./b",
    "a//b",
    "a/",
    "..\\..\\windows",
    "a\\b",
    "C:/windows",
    "c:x",
    "a/b.",
    "a./b",
    "...",
    "a /b",
    " a",
    "a\u00a0",
    "a\x00b",
    "a\nb",
    "a\x7fb",
    "a\x85b",
    "a\u2028b",
    "exe\u202egpj.scr",
    "a\u200bb",
    "\ufeffa",
    "a\ufffdb",
    "a\ud800b",
    "a\ue000b",
    "a\uffffb",
    LAST,
    "x" * 256,
    "é" * 128,
    "/".join(["x" * 205] * 5),
]


@pytest.mark.parametrize("path", GOOD_PATHS)
def test_a_path_is_kept(path: str) -> None:
    assert clean_path(path) == unicodedata.normalize("NFC", path)


@pytest.mark.parametrize("path", BAD_PATHS, ids=ascii)
def test_a_path_is_refused_with_a_sentence(path: str) -> None:
    with pytest.raises(ValueError, match=r"^A .*path.* must not .*\.$"):
        clean_path(path)


def test_two_spellings_are_one_path() -> None:
    assert clean_path("e\u0301te\u0301") == clean_path("été")


def test_compatible_spellings_do_not_become_dots_or_slashes() -> None:
    for text in ("\u2025/x", "\uff0e\uff0e/x", "a\uff0fb", "a\u2044b", "a\u2215b"):
        assert clean_path(text) == text


@given(st.text(max_size=60) | st.lists(st.sampled_from(["..", ".", "a", "", "\\", "C:", "e\u0301"])).map("/".join))
def test_no_path_leads_out_of_a_folder(text: str) -> None:
    try:
        path = clean_path(text)
    except ValueError:
        return
    assert clean_path(path) == path
    assert path < LAST
    for made in (PurePosixPath(path), PureWindowsPath(path)):
        assert not made.is_absolute()
        assert not made.anchor
        assert ".." not in made.parts
    assert str(PurePosixPath(path)) == path


@pytest.mark.parametrize(
    ("header", "spans"),
    [
        ("bytes=0-9", [(0, 10)]),
        ("bytes=0-0", [(0, 1)]),
        ("bytes=90-", [(90, 100)]),
        ("bytes=-10", [(90, 100)]),
        ("bytes=-1000", [(0, 100)]),
        ("bytes=50-9999999999", [(50, 100)]),
        ("BYTES = 0 - 9", [(0, 10)]),
        ("bytes=0-1,4-5", [(0, 2), (4, 6)]),
        ("bytes=4-5, 0-1,", [(0, 2), (4, 6)]),
        ("bytes=0-9,5-20,21-30", [(0, 31)]),
        ("bytes=0-,-1,0-,0-", [(0, 100)]),
        ("bytes=100-", []),
        ("bytes=-0", []),
        ("bytes=100-200,0-1", [(0, 2)]),
        ("bytes=9-0", None),
        ("bytes=-", None),
        ("bytes=", None),
        ("bytes", None),
        ("bytes=a-b", None),
        ("bytes=1-2-3", None),
        ("bytes=--1", None),
        ("bytes=٣-٤", None),
        ("bytes=+1-2", None),
        ("items=0-1", None),
        ("bytes=" + "9" * 5000 + "-", None),
        ("bytes=" + ",".join("0-0" for _ in range(17)), None),
        ("", None),
    ],
)  # fmt: skip
def test_ranges(header: str, spans: list[tuple[int, int]] | None) -> None:
    assert parse_range(header, 100) == spans


def test_nothing_has_no_ranges() -> None:
    assert parse_range("bytes=0-", 0) == []
    assert parse_range("bytes=-5", 0) == []


@given(st.text(alphabet="bytes=-,0123456789 ", max_size=80), st.integers(0, 60))
def test_ranges_lie_within_apart_and_in_order(text: str, size: int) -> None:
    spans = parse_range(f"bytes={text}", size) or []
    places = [place for span in spans for place in span]
    assert places == sorted(set(places))
    assert all(0 <= place <= size for place in places)


@pytest.mark.parametrize(
    ("match", "none_match", "there", "allowed"),
    [
        (None, None, None, True),
        (None, None, '"a"', True),
        ("*", None, None, False),
        ("*", None, '"a"', True),
        ('"a"', None, '"a"', True),
        ('"b", "a"', None, '"a"', True),
        ('"b"', None, '"a"', False),
        ('W/"a"', None, '"a"', False),
        ('"a"', None, None, False),
        (None, "*", None, True),
        (None, "*", '"a"', False),
        (None, '"a"', '"a"', False),
        (None, 'W/"a"', '"a"', False),
        (None, '"b"', '"a"', True),
        ('"a"', '"a"', '"a"', False),
    ],
)
def test_conditions(match: str | None, none_match: str | None, there: str | None, allowed: bool) -> None:
    parsed = [None if text is None else parse_tags(text) for text in (match, none_match)]
    assert Conditions(*parsed).allow_write(there) is allowed


@pytest.mark.parametrize("text", ["a", '"a', "'a'", '*, "a"', 'w/"a"', '"a" b', "W/*", "," * 50_000 + "a"])
def test_what_is_no_entity_tag_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="entity tags"):
        parse_tags(text)


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        (None, "application/octet-stream"),
        ("", "application/octet-stream"),
        ("Image/PNG", "image/png"),
        ("text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        ('text/plain;format="a b"', 'text/plain;format="a b"'),
        ("image/svg+xml", "image/svg+xml"),
    ],
)
def test_a_media_type_is_kept(given_: str | None, kept: str) -> None:
    assert clean_media_type(given_) == kept


@pytest.mark.parametrize(
    "text", ["text", "text/", "/plain", "text/plain\r\nX: y", "text/pläin", "text/plain; x", "a/b" * 100, "a b/c"]
)  # fmt: skip
def test_what_is_no_media_type_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="media type"):
        clean_media_type(text)


@pytest.mark.parametrize(
    "media_type",
    [
        *("text/html", "application/xhtml+xml", "image/svg+xml", "text/xml", "application/xml", "application/pdf"),
        *("text/javascript", "application/octet-stream", "application/x-shockwave-flash", "text/css", "x/y"),
        *("message/rfc822", "multipart/related", "text/html;a=image/png", "image/svg+xml; charset=utf-8"),
    ],
)
def test_what_a_browser_could_run_is_for_saving(media_type: str) -> None:
    assert disposition(media_type, "a/b").startswith("attachment;")


@pytest.mark.parametrize("media_type", ["image/png", "text/plain; charset=utf-8", "audio/mpeg", "video/mp4"])
def test_what_is_harmless_is_shown_in_place(media_type: str) -> None:
    assert disposition(media_type, "a/b").startswith("inline;")


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("a/b.txt", 'attachment; filename="b.txt"'),
        ('a"b.txt', "attachment; filename=\"a_b.txt\"; filename*=UTF-8''a%22b.txt"),
        ("été.txt", "attachment; filename=\"_t_.txt\"; filename*=UTF-8''%C3%A9t%C3%A9.txt"),
        ("a;b%41", "attachment; filename=\"a_b_41\"; filename*=UTF-8''a%3Bb%2541"),
    ],
)
def test_a_name_cannot_break_its_header(path: str, header: str) -> None:
    assert disposition("x/y", path) == header


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0" + bytes(12), "image/jpeg"),
        (b"GIF89a" + bytes(10), "image/gif"),
        (b"GIF87a" + bytes(10), "image/gif"),
        (b"RIFF\x0a\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x0a\x00\x00\x00WAVEfmt ", None),
        (b"<svg xmlns='http:", None),
        (b"GIF88a" + bytes(10), None),
        (b"", None),
    ],
)
def test_images_are_known_by_how_they_begin(head: bytes, kind: str | None) -> None:
    assert sniff_image(head) == kind


def test_a_declared_image_must_be_that_one() -> None:
    assert contradicts("image/png", b"<script>alert(1)")
    assert contradicts("image/jpeg; x=y", PNG)
    assert contradicts("image/png", b"")
    assert not contradicts("image/png", PNG)
    assert not contradicts("text/html", PNG)
