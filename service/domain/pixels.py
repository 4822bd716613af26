"""How wide and high an image is, read from its head: nothing is decoded, so nothing unpacks into gigabytes."""

from struct import error as StructError  # noqa: N812  # an exception's name
from struct import unpack_from

from service.domain.media import sniff_image

# PNG's own bound (its specification, 7.1); the others cannot say more.
LARGEST = 2**31 - 1
# Segments of a JPEG that hold a frame's size: SOF0 to SOF15, less DHT, JPG and DAC (ITU T.81, B.1.1.3).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})


def measure(data: bytes) -> tuple[str, int, int]:
    """The media type, width and height of an image. Raises ValueError for what is none of media.IMAGES, or broken."""
    kind = sniff_image(data[:16])
    if kind is None:
        raise ValueError("not an image")
    try:
        width, height = _SIZES[kind](data)
    except (StructError, IndexError):
        raise ValueError("an image without its size") from None
    if not width or not height:
        raise ValueError("an image without pixels")
    if max(width, height) > LARGEST:
        raise ValueError("an image larger than its format allows")
    return kind, width, height


def _png(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR":
        raise ValueError("a PNG without its header")
    width, height = unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes) -> tuple[int, int]:
    width, height = unpack_from("<HH", data, 6)
    return width, height


def _jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    while True:
        if data[at] != 0xFF:
            raise ValueError("a JPEG whose segments do not join")
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in _FRAMES:
            height, width = unpack_from(">HH", data, at + 5)
            return width, height
        elif marker in (0xD9, 0xDA):
            raise ValueError("a JPEG without a frame")
        else:
            at += 2 + unpack_from(">H", data, at + 2)[0]


def _webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + unpack_from("<I", data, 26)[0] // 256
    if kind == b"VP8L":
        bits = unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("a WebP without an image")


_SIZES = {"image/png": _png, "image/gif": _gif, "image/jpeg": _jpeg, "image/webp": _webp}
