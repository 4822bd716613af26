"""Files over HTTP: written, read whole and in ranges, replaced, deleted and listed, under conditions."""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.api.steps import call
from tests.conftest import People

TEXT = b"Remember the milk. And the bread."
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


def tag_of(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()}"'


async def put(client: httpx2.AsyncClient, path: str, content: bytes, **headers: str) -> httpx2.Response:
    return await client.put(
        f"/files/{path}", content=content, headers={n.replace("_", "-"): v for n, v in headers.items()}
    )


async def test_what_is_written_is_read(http: httpx2.AsyncClient) -> None:
    made = await put(http, "notes/milk.txt", TEXT, content_type="text/plain; charset=utf-8")
    assert made.status_code == 201
    assert made.headers["location"] == "/files/notes/milk.txt"
    assert made.headers["etag"] == tag_of(TEXT)
    body = made.json()
    assert (body["path"], body["size"], body["content_type"]) == ("notes/milk.txt", 33, "text/plain; charset=utf-8")
    read = await http.get("/files/notes/milk.txt")
    assert (read.status_code, read.content) == (200, TEXT)
    assert read.headers["content-type"] == "text/plain; charset=utf-8"
    assert read.headers["content-length"] == "33"
    assert read.headers["etag"] == tag_of(TEXT)
    assert read.headers["accept-ranges"] == "bytes"
    assert read.headers["repr-digest"] == f"sha-256=:{b64encode(hashlib.sha256(TEXT).digest()).decode()}:"
    [listed] = (await call(http, "GET", "/files", expect=200))["items"]
    assert listed == body


async def test_head_says_all_but_the_content(http: httpx2.AsyncClient) -> None:
    await put(http, "a", TEXT)
    read, head = await http.get("/files/a"), await http.head("/files/a")
    assert (head.status_code, head.content) == (200, b"")
    changing = {"date", "server-timing", "x-request-id"}
    assert {n: v for n, v in head.headers.items() if n not in changing} == {
        n: v for n, v in read.headers.items() if n not in changing
    }
    ranged = await http.head("/files/a", headers={"Range": "bytes=0-3"})
    assert (ranged.status_code, ranged.headers["content-length"]) == (206, "4")
    assert (await http.head("/files/b")).status_code == 404


async def test_writing_again_replaces_and_the_same_changes_nothing(http: httpx2.AsyncClient) -> None:
    first = (await put(http, "a", b"one", content_type="text/plain")).json()
    same = await put(http, "a", b"one", content_type="text/plain")
    assert (same.status_code, same.json()) == (200, first)
    other = await put(http, "a", b"three", content_type="text/plain")
    assert (other.status_code, "location" in other.headers) == (200, False)
    assert other.json()["created_at"] == first["created_at"]
    assert other.json()["updated_at"] > first["updated_at"]
    assert (await http.get("/files/a")).content == b"three"
    retyped = await put(http, "a", b"three", content_type="text/html")
    assert retyped.json()["content_type"] == "text/html"
    assert (await call(http, "GET", "/files", expect=200))["total"] == 1


async def test_the_same_content_at_two_paths_outlives_one_of_them(http: httpx2.AsyncClient) -> None:
    for path in ("a", "b"):
        assert (await put(http, path, TEXT)).status_code == 201
    assert (await http.delete("/files/a")).status_code == 204
    assert (await http.get("/files/a")).status_code == 404
    assert (await http.get("/files/b")).content == TEXT
    assert (await http.delete("/files/b")).status_code == 204
    assert (await http.delete("/files/b")).status_code == 404
    assert (await put(http, "a", TEXT)).status_code == 201
    assert (await http.get("/files/a")).content == TEXT


async def test_nothing_is_a_file_too(http: httpx2.AsyncClient) -> None:
    assert (await put(http, "empty", b"")).json()["size"] == 0
    assert (await http.get("/files/empty")).content == b""
    assert (await http.get("/files/empty", headers={"Range": "bytes=0-"})).status_code == 416


async def test_megabytes_pass_in_both_directions_without_a_length(http: httpx2.AsyncClient) -> None:
    block = bytes(range(256)) * 1024

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield block

    made = await http.put("/files/large.bin", content=pieces())
    assert (made.status_code, made.json()["size"]) == (201, 20 * len(block))
    digest, size = hashlib.sha256(), 0
    async with http.stream("GET", "/files/large.bin") as read:
        async for piece in read.aiter_bytes():
            digest.update(piece)
            size += len(piece)
    assert (size, f'"{digest.hexdigest()}"') == (20 * len(block), made.headers["etag"])


async def test_a_list_can_be_narrowed_by_prefix_in_the_order_of_bytes(http: httpx2.AsyncClient) -> None:
    paths = ["a/1", "a/2", "aa", "b", "B", "A/1", "a", "a/ä", "a%", "a_", "ä", "猫/1"]
    for path in paths:
        assert (await http.put(httpx2.URL(http.base_url, raw_path=b"/files/" + quoted(path)), content=b"x")).is_success
    expected = sorted(paths, key=str.encode)
    for prefix in ("", "a", "a/", "A", "a%", "a_", "ä", "猫", "none"):
        page = await http.get("/files", params={"prefix": prefix, "limit": 100})
        wanted = [path for path in expected if path.startswith(prefix)]
        assert [one["path"] for one in page.json()["items"]] == wanted, prefix
        assert page.json()["total"] == len(wanted)


def quoted(path: str) -> bytes:
    return "".join(f"%{byte:02x}" for byte in path.encode()).encode()


async def test_two_spellings_and_escapes_name_one_file(http: httpx2.AsyncClient) -> None:
    assert (await http.put("/files/e%CC%81te%CC%81%2Ejpg", content=b"x")).json()["path"] == "été.jpg"
    assert (await http.get("/files/%C3%A9t%C3%A9.jpg")).content == b"x"
    assert (await http.put("/files/a%2Fb", content=b"y")).json()["path"] == "a/b"
    assert (await http.get("/files/a/b")).content == b"y"


@pytest.mark.parametrize(
    ("asked", "status", "content", "content_range"),
    [
        ("bytes=0-7", 206, b"Remember", "bytes 0-7/33"),
        ("bytes=-6", 206, b"bread.", "bytes 27-32/33"),
        ("bytes=27-", 206, b"bread.", "bytes 27-32/33"),
        ("bytes=27-999", 206, b"bread.", "bytes 27-32/33"),
        ("bytes=0-3,4-7", 206, b"Remember", "bytes 0-7/33"),
        ("bytes=33-", 416, None, "bytes */33"),
        ("bytes=-0", 416, None, "bytes */33"),
        ("bytes=9-1", 200, TEXT, None),
        ("lines=0-1", 200, TEXT, None),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 33, 2)), 200, TEXT, None),
    ],
)
async def test_ranges(
    http: httpx2.AsyncClient, asked: str, status: int, content: bytes | None, content_range: str | None
) -> None:
    await put(http, "a", TEXT)
    read = await http.get("/files/a", headers={"Range": asked})
    assert (read.status_code, read.headers.get("content-range")) == (status, content_range)
    if content is None:
        assert read.json()["code"] == "range_not_satisfiable"
    else:
        assert read.content == content
        assert read.headers["etag"] == tag_of(TEXT)


async def test_several_ranges_come_as_parts(http: httpx2.AsyncClient) -> None:
    await put(http, "a", TEXT, content_type="text/plain")
    read = await http.get("/files/a", headers={"Range": "bytes=27-32,0-7"})
    kind, _, boundary = read.headers["content-type"].partition("; boundary=")
    assert (read.status_code, kind) == (206, "multipart/byteranges")
    assert "content-range" not in read.headers
    _, first, second, end = read.content.split(f"--{boundary}".encode())
    assert first == b"\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-7/33\r\n\r\nRemember\r\n"
    assert second == b"\r\nContent-Type: text/plain\r\nContent-Range: bytes 27-32/33\r\n\r\nbread.\r\n"
    assert end == b"--\r\n"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": "{tag}"}, 304),
        ({"If-None-Match": 'W/{tag}, "x"'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"x"'}, 200),
        ({"If-Match": "{tag}"}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"x"'}, 412),
        ({"If-Match": "W/{tag}"}, 412),
        ({"If-Match": "x"}, 400),
        ({"If-None-Match": "{tag}", "Range": "bytes=0-3"}, 304),
        ({"If-Range": "{tag}", "Range": "bytes=0-3"}, 206),
        ({"If-Range": '"x"', "Range": "bytes=0-3"}, 200),
        ({"If-Range": "W/{tag}", "Range": "bytes=0-3"}, 200),
        ({"If-Range": "Wed, 25 Nov 2026 21:30:31 GMT", "Range": "bytes=0-3"}, 200),
        ({"If-Range": '"x"', "Range": "bytes=99-"}, 200),
    ],
)
async def test_conditions_of_a_read(http: httpx2.AsyncClient, headers: dict[str, str], status: int) -> None:
    await put(http, "a", TEXT)
    sent = {name: value.replace("{tag}", tag_of(TEXT)) for name, value in headers.items()}
    read = await http.get("/files/a", headers=sent)
    assert read.status_code == status
    if status == 304:
        assert (read.content, read.headers["etag"]) == (b"", tag_of(TEXT))


async def test_conditions_of_a_write(http: httpx2.AsyncClient) -> None:
    assert (await put(http, "a", b"1", if_match="*")).status_code == 412
    assert (await put(http, "a", b"1", if_none_match="*")).status_code == 201
    refused = await put(http, "a", b"2", if_none_match="*")
    assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
    assert (await put(http, "a", b"2", if_match=tag_of(b"0"))).status_code == 412
    assert (await put(http, "a", b"2", if_match=tag_of(b"1"))).status_code == 200
    assert (await put(http, "a", b"2", if_match="2")).status_code == 400
    assert (await http.delete("/files/a", headers={"If-Match": tag_of(b"1")})).status_code == 412
    assert (await http.get("/files/a")).content == b"2"
    assert (await http.delete("/files/a", headers={"If-Match": tag_of(b"2")})).status_code == 204


async def test_a_content_must_be_the_announced_one(http: httpx2.AsyncClient) -> None:
    right, wrong = (f"sha-256=:{b64encode(hashlib.sha256(one).digest()).decode()}:" for one in (TEXT, b"other"))
    assert (await put(http, "a", TEXT, content_digest=f"md5=:eA==:, {right}")).status_code == 201
    assert (await put(http, "b", TEXT, repr_digest=wrong)).status_code == 400
    assert (await http.get("/files/b")).status_code == 404
    assert (await put(http, "b", TEXT, content_digest="md5=:eA==:")).status_code == 201


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "nonsense"}, 415),
        ({"Content-Type": "text/plain", "Content-Encoding": "gzip"}, 415),
        ({"Content-Type": "text/plain", "Content-Range": "bytes 0-3/10"}, 400),
        ({"Content-Type": "application/json"}, 201),
    ],
)
async def test_what_cannot_be_kept_as_it_is_gets_refused(
    http: httpx2.AsyncClient, headers: dict[str, str], status: int
) -> None:
    reply = await http.put("/files/a", content=b"{broken", headers=headers)
    assert reply.status_code == status, reply.text
    assert (await http.get("/files/a")).status_code == (200 if status == 201 else 404)


async def test_only_one_of_many_creates_at_once_wins(http: httpx2.AsyncClient) -> None:
    contents = [f"content {number}".encode() for number in range(20)]
    replies = await asyncio.gather(*(put(http, "race", one, if_none_match="*") for one in contents))
    assert sorted(reply.status_code for reply in replies) == [201] + [412] * 19
    [winner] = [one for one, reply in zip(contents, replies, strict=True) if reply.status_code == 201]
    assert (await http.get("/files/race")).content == winner


async def test_writes_reads_and_deletes_of_one_path_at_once_stay_whole(http: httpx2.AsyncClient) -> None:
    contents = [f"{number}".encode() * 100_000 for number in range(4)]

    async def write(number: int) -> int:
        return (await put(http, "busy", contents[number % 4])).status_code

    async def read() -> int:
        reply = await http.get("/files/busy")
        assert reply.status_code == 404 or reply.content in contents
        return reply.status_code

    async def delete() -> int:
        return (await http.delete("/files/busy")).status_code

    work = [job for number in range(12) for job in (write(number), read(), delete(), read())]
    assert set(await asyncio.gather(*work)) <= {200, 201, 204, 404}
    assert (await put(http, "busy", contents[0])).is_success
    assert (await http.get("/files/busy")).content == contents[0]


async def test_an_erased_user_leaves_no_file(people: People) -> None:
    await put(people.owner, "a", TEXT)
    await put(people.owner, "b", TEXT)
    receipt = await call(people.admin, "DELETE", f"/users/{people.owner_id}", expect=200)
    assert receipt["erased"]["files"] == 2
