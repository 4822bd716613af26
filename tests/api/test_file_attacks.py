"""Files under attack: OWASP's path tricks and confused types, greedy ranges, what one user learns of another."""

import asyncio
import hashlib
from pathlib import Path

import httpx2
import pytest

from tests.conftest import People, Running

HTML = b"<html><script>alert(document.domain)</script></html>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
GIF = b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)"

# What stands after /files/ on the request line, as OWASP's path traversal page has it and then some.
TRICKS = [
    "../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "%2E%2E%5C%2E%2E%5Cwindows%5Cwin.ini",
    "..%5c..%5cwindows%5cwin.ini",
    "..\\..\\windows\\win.ini",
    "....//....//etc/passwd",
    "..;/..;/etc/passwd/..",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "%2F%2Fserver%2Fshare",
    "file:%2f%2f%2fetc%2fpasswd",
    "C:%5Cwindows%5Cwin.ini",
    "C%3A/windows/win.ini",
    "a%00.png",
    "%00",
    "a%0d%0aX-Injected:%20yes",
    "a%0ab",
    "a%0a",
    "%0a",
    "%c0%ae%c0%ae/etc/passwd",
    "%c0%af",
    "%ff",
    "%ed%a0%80",
    "%e2%80%aegpj.exe",
    "%ef%bb%bfa",
    "a/./b",
    "a/",
    "a//b",
    ".",
    "",
    "%20",
    "a%20/b",
    "a./b",
    "CON.",
    "x" * 256,
    "/".join(["x" * 200] * 6),
]
# Escapes that are escaped again name odd files, and never come alive.
ODD = [
    "%252e%252e%252fetc%252fpasswd",
    "..%252f..%252fetc%252fpasswd",
    "%u002e%u002e%u2215etc",
    "~root",
    "$HOME",
    "`id`",
    "a;rm -rf",
]


async def raw(running: Running, request: bytes) -> bytes:
    """The status line and headers of the answer to bytes that no client would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.service.port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head


@pytest.mark.parametrize("trick", TRICKS, ids=ascii)
async def test_a_path_trick_is_refused(running_service: Running, people: People, trick: str) -> None:
    key = people.owner.headers["authorization"]
    for method, body in (("GET", b""), ("HEAD", b""), ("PUT", b"pwned"), ("DELETE", b"")):
        head = f"{method} /files/{trick} HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n"
        answer = await raw(running_service, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert answer.split()[1] in (b"422", b"400"), answer
        assert b"x-injected" not in answer.lower()
    assert (await people.owner.get("/files")).json()["total"] == 0


@pytest.mark.parametrize("odd", ODD)
async def test_an_odd_name_is_a_name_and_no_more(running_service: Running, people: People, odd: str) -> None:
    url = f"/files/{odd.replace(' ', '%20')}"
    before = {path for path in files_of(running_service) if path.is_file()}
    assert (await people.owner.put(url, content=b"odd")).status_code == 201
    assert (await people.owner.get(url)).content == b"odd"
    [written] = {path for path in files_of(running_service) if path.is_file()} - before
    assert written.name.startswith(hashlib.sha256(b"odd").hexdigest())


def files_of(running: Running) -> list[Path]:
    return list(Path(running.service.environment["EVERTURN_DATA_DIR"]).rglob("*"))


async def test_names_on_the_disk_are_the_services_own_and_nobody_elses_to_read(
    running_service: Running, people: People
) -> None:
    await people.owner.put("/files/secret-name.txt", content=b"x")
    found = files_of(running_service)
    assert found
    for path in found:
        assert "secret" not in path.name
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize(
    ("declared", "content"),
    [
        ("image/png", HTML),
        ("image/png", SVG),
        ("image/jpeg", PNG),
        ("image/gif", HTML),
        ("image/webp", b"RIFF\x00\x00\x00\x00WAVE" + HTML),
        ("image/png", b"\x89PNG"),
        ("IMAGE/PNG; name=x", HTML),
    ],
)
async def test_a_type_that_the_content_contradicts_is_refused(
    http: httpx2.AsyncClient, declared: str, content: bytes
) -> None:
    refused = await http.put("/files/a", content=content, headers={"Content-Type": declared})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["header", "content-type"]
    assert (await http.get("/files/a")).status_code == 404


@pytest.mark.parametrize(
    ("path", "declared", "content"),
    [
        ("a.html", "text/html", HTML),
        ("a.png", "text/html", HTML),
        ("a.svg", "image/svg+xml", SVG),
        ("a.xhtml", "application/xhtml+xml", HTML),
        ("a.txt", "text/plain", HTML),
        ("a.gif", "image/gif", GIF),
        ("a.html", None, HTML),
        ("a.pdf", "application/pdf", b"%PDF-1.7"),
        ("a.js", "text/javascript", b"alert(1)"),
    ],
)
async def test_no_content_runs_in_a_browser(
    http: httpx2.AsyncClient, path: str, declared: str | None, content: bytes
) -> None:
    headers = {"Content-Type": declared} if declared else {}
    assert (await http.put(f"/files/{path}", content=content, headers=headers)).status_code == 201
    for asked in ({}, {"Range": "bytes=0-3"}, {"Range": "bytes=0-1,4-5"}):
        read = await http.get(f"/files/{path}", headers=asked)
        assert read.headers["x-content-type-options"] == "nosniff"
        assert read.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert read.headers["cross-origin-resource-policy"] == "same-origin"
        shown = read.headers["content-disposition"].startswith("inline")
        assert shown is (declared in ("text/plain", "image/gif"))
        assert read.headers["content-type"].partition(";")[0] in (
            declared or "application/octet-stream",
            "multipart/byteranges",
        )


async def test_users_do_not_learn_of_each_others_content(people: People) -> None:
    """The same content takes its way and its place for each of them, so that neither answer nor quota tells."""
    mine = await people.owner.put("/files/a", content=HTML)
    theirs = await people.other.put("/files/a", content=HTML)
    assert mine.status_code == theirs.status_code == 201
    assert (await people.owner.delete("/files/a")).status_code == 204
    assert (await people.other.get("/files/a")).content == HTML
    tag = mine.headers["etag"]
    for headers in ({"If-Match": tag}, {"If-None-Match": tag}, {"If-Match": "*"}, {"Range": "bytes=0-"}):
        gone = await people.owner.get("/files/a", headers=headers)
        assert gone.status_code == 404
    unknown, foreign = await people.other.get("/files/nothing"), await people.owner.get("/files/a")
    assert unknown.json()["detail"] == foreign.json()["detail"]


async def test_greedy_ranges_cost_no_more_than_the_file(http: httpx2.AsyncClient) -> None:
    content = bytes(200_000)
    await http.put("/files/a", content=content)
    greedy = [
        "bytes=" + ",".join(["0-"] * 16),
        "bytes=" + ",".join(["0-"] * 5000),
        "bytes=" + ",".join(f"{n}-" for n in range(16)),
        "bytes=" + ",".join(f"-{n}" for n in range(1, 2000)),
        "bytes=0-" + "9" * 5000,
    ]
    for asked in greedy:
        read = await http.get("/files/a", headers={"Range": asked})
        assert read.status_code in (200, 206)
        assert len(read.content) <= len(content)


async def test_an_address_in_a_body_is_never_fetched(http: httpx2.AsyncClient) -> None:
    """A file that is an address is the text of an address."""
    made = await http.put("/files/a", content=b"http://127.0.0.1:1/", headers={"Content-Type": "text/uri-list"})
    assert made.json()["size"] == 19


async def test_a_key_that_only_reads_does_not_write(people: People) -> None:
    made = (await people.owner.post("/users/me/keys", json={"scopes": ["read"]})).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    await people.owner.put("/files/a", content=b"x")
    assert (await people.owner.get("/files/a", headers=headers)).status_code == 200
    assert (await people.owner.put("/files/a", content=b"y", headers=headers)).status_code == 403
    assert (await people.owner.delete("/files/a", headers=headers)).status_code == 403
