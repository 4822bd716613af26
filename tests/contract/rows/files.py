"""Files."""

import hashlib

from tests.api.steps import call
from tests.contract.desk import Desk, checks
from tests.pictures import png

TEXT = b"Remember the milk."
PNG = png()


@checks("PUT /files/{path}", "GET /files/{path}", "HEAD /files/{path}", "DELETE /files/{path}")
async def keep_file(desk: Desk) -> None:
    """Written, read whole and in part, refused under a name that leads elsewhere, deleted."""
    made = await desk.owner.put("/files/notes/milk.txt", content=TEXT)
    assert made.status_code == 201
    read = await desk.owner.get("/files/notes/milk.txt")
    assert (read.status_code, read.content) == (200, TEXT)
    assert read.headers["etag"] == made.headers["etag"]
    part = await desk.owner.get("/files/notes/milk.txt", headers={"Range": "bytes=0-7"})
    assert (part.status_code, part.content) == (206, TEXT[:8])
    head = await desk.owner.head("/files/notes/milk.txt")
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(TEXT)))
    for path in ("notes/%2e%2e/secret", "%2Fetc/passwd"):
        assert (await desk.owner.put(f"/files/{path}", content=TEXT)).status_code in (400, 404, 422)
    assert (await desk.owner.delete("/files/notes/milk.txt")).status_code == 204
    assert (await desk.owner.get("/files/notes/milk.txt")).status_code == 404
    # Messages refer to files.
    await desk.owner.put("/files/milk.png", content=PNG, headers={"content-type": "image/png"})
    said = {"role": "user", "content": [{"type": "image", "file": "milk.png"}]}
    shown = await call(desk.owner, "POST", "/chat", said, expect=201)
    assert shown["received"]["content"][0]["sha256"] == hashlib.sha256(PNG).hexdigest()
    assert (await desk.owner.delete("/files/milk.png")).status_code == 204
    # Left for those who ask without a key.
    await desk.owner.put("/files/notes/milk.txt", content=TEXT)


@checks("GET /files")
async def list_files(desk: Desk) -> None:
    for path in ("notes/a", "notes/b", "other/c"):
        await desk.owner.put(f"/files/{path}", content=TEXT)
    page = await call(desk.owner, "GET", "/files?prefix=notes/", expect=200)
    assert [one["path"] for one in page["items"]] == ["notes/a", "notes/b"]
