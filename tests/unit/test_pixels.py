"""How large an image is, from its head; and what is none."""

import struct
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.domain.history import Line, estimate_prompt, fit, show
from service.domain.parts import ImagePart, TextPart, from_json, read, to_json
from service.domain.pixels import measure
from tests.pictures import gif, jpeg, png, webp

WHOLE = (png(), gif(), jpeg(), *(webp(kind) for kind in (b"VP8 ", b"VP8L", b"VP8X")))
IMAGE = ImagePart("a.png", "0" * 64, "image/png", 1_000_000, 1500, 1000)


@pytest.mark.parametrize("data", WHOLE, ids=("png", "gif", "jpeg", "lossy", "lossless", "extended"))
def test_an_image_cut_off_has_a_size_or_is_refused(data: bytes) -> None:
    """Wherever it is cut, nothing but ValueError comes of it, and no other size."""
    kind, width, height = measure(data)
    for end in range(len(data)):
        try:
            assert measure(data[:end]) == (kind, width, height)
        except ValueError:
            continue


@given(st.sampled_from(WHOLE), st.binary(max_size=64), st.integers(0, 60))
@example(WHOLE[2], b"\xff" * 64, 2)
def test_a_broken_image_is_refused_or_has_pixels(data: bytes, noise: bytes, at: int) -> None:
    try:
        kind, width, height = measure(data[:at] + noise + data[at + len(noise) :])
    except ValueError:
        return
    assert kind.startswith("image/")
    assert min(width, height) > 0


NOTHING = {"empty": b"", "svg": b"<svg/>", "png": png(0, 5), "gif": gif(5, 0), "jpeg": b"\xff\xd8\xff\xd9"}


@pytest.mark.parametrize("data", [*NOTHING.values(), b"RIFF....WEBPVP8?"], ids=[*NOTHING, "webp"])
def test_what_has_no_pixels_is_no_image(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"image|PNG|JPEG|WebP"):
        measure(data)


@pytest.mark.parametrize("size", [(2**32 - 1, 1), (1, 2**31)])
def test_what_is_larger_than_png_allows_is_no_image(size: tuple[int, int]) -> None:
    """An export of it could not be read back."""
    head = png()[:16]
    assert measure(head + struct.pack(">II", 2**31 - 1, 1)) == ("image/png", 2**31 - 1, 1)
    with pytest.raises(ValueError, match="larger"):
        measure(head + struct.pack(">II", *size))


def test_images_count_as_their_pixels_up_to_a_ceiling() -> None:
    small = ImagePart("a.png", "0" * 64, "image/png", 10, 30, 20)
    bare = estimate_prompt([Line("user", "Hi")])
    assert estimate_prompt([Line("user", "Hi", (TextPart("Hi"), small))]) == bare + 1
    assert estimate_prompt([Line("user", "Hi", (TextPart("Hi"), IMAGE))]) == bare + 1600
    lines = [Line("user", "Look", (IMAGE,)), Line("assistant", "I see"), Line("user", "And?")]
    assert fit(lines, 1000) == (lines[1:], 1)
    assert fit(lines, 2000) == (lines, 0)


def test_a_prompt_holds_the_newest_images() -> None:
    lines = [Line("user", f"{number}", (TextPart(f"{number}"), IMAGE)) for number in range(30)]
    shown, gone = show(lines, sighted=True)
    assert gone == 10
    assert [bool(line.parts) for line in shown] == [False] * 10 + [True] * 20
    assert shown[0] == Line("user", "0\n\n[an image was left out here: a.png]")
    heavy = ImagePart("b.png", "1" * 64, "image/png", 9_000_000, 10, 10)
    shown, gone = show([Line("user", "", (heavy, heavy, TextPart("x"), heavy))], sighted=True)
    assert (gone, shown[0].parts[1:]) == (1, (heavy, TextPart("x"), heavy))
    assert show(lines, sighted=False)[1] == 30


def test_parts_are_kept_as_they_are() -> None:
    parts = (TextPart("Look"), IMAGE)
    kept = to_json(parts)
    assert kept is not None
    assert from_json(kept) == read(kept, "Look") == parts
    assert to_json(()) is None


@pytest.mark.parametrize(
    "broken",
    [
        "text",
        5,
        [],
        [{"type": "text", "text": "x"}],
        [{"type": "image"}],
        [1],
        *(
            [{**to_json([IMAGE])[0], name: value}]  # type: ignore[index]  # it is no None
            for name, value in (
                ("sha256", "../" + "0" * 61),
                ("sha256", 5),
                ("media_type", "text/html"),
                ("media_type", ["image/png"]),
                ("size", True),
                ("width", -1),
                ("height", 2**40),
                ("file", "a\0b"),
                ("file", None),
                ("file", ""),
                ("file", "../../etc"),
                ("file", "/etc/passwd"),
                ("file", "x" * 256),
            )
        ),
        to_json([IMAGE] * 21),
    ],
)
def test_parts_from_elsewhere_are_checked(broken: object) -> None:
    with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
        read(broken, "")


@pytest.mark.parametrize("content", ["", "Look", "Look\n\nhere ", "here\n\nLook", "x" * 100])
def test_parts_that_say_something_else_than_their_message_are_none(content: str) -> None:
    kept = to_json((TextPart("Look"), IMAGE, TextPart("here")))
    assert read(kept, "Look\n\nhere")
    with pytest.raises(ValueError, match="parts"):
        read(kept, content)


def test_what_counts_is_what_is_sent() -> None:
    """However such a line came about: the text in its parts is what the provider gets."""
    line = Line("user", "c", (TextPart("x" * 4000), IMAGE))
    assert estimate_prompt([line]) == 4 + 1000 + 1600
    assert fit([line, Line("user", "?")], 2600) == ([Line("user", "?")], 1)
    shown, gone = show([replace(line, role="assistant"), replace(line, role="system"), line], sighted=True)
    assert shown == [Line("assistant", "x" * 4000), Line("system", "x" * 4000), line]
    assert gone == 0
