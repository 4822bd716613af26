"""Small images of every kind, each with content of its own."""

import base64
import struct
import zlib
from secrets import token_bytes


def png(width: int = 30, height: int = 20) -> bytes:
    """A whole PNG of grey noise."""
    rows = b"".join(b"\0" + token_bytes(width) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, *zip(*chunks, strict=True)))


def gif(width: int = 30, height: int = 20) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0;" + token_bytes(8)


def jpeg(width: int = 30, height: int = 20, *, before: int = 3000) -> bytes:
    """The segments up to the frame: an APP1 of `before` bytes, fill bytes, a table, the size, the scan's start."""
    app = b"\xff\xe1" + struct.pack(">H", before + 2) + token_bytes(before)
    table = b"\xff\xff\xff\xdb" + struct.pack(">H", 67) + bytes(65)
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00"
    return b"\xff\xd8" + app + table + frame + b"\xff\xda" + token_bytes(8)


def webp(kind: bytes, width: int = 30, height: int = 20) -> bytes:
    """The head of a WebP: `VP8 `, `VP8L` or `VP8X`."""
    body = {
        b"VP8 ": b"\x10\x02\x00\x9d\x01\x2a" + struct.pack("<HH", width | 0x4000, height),
        b"VP8L": b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14 | 1 << 28),
        b"VP8X": bytes(4) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3],
    }[kind]
    chunk = kind + struct.pack("<I", len(body)) + body + token_bytes(8)
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
