"""What the Markdown pages say is so: the README's commands run and answer as shown, events, links and targets exist."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from shutil import which
from typing import Any, NamedTuple, get_args

import pytest
from llmock.testing import LLMockServer

from service.api.sse import encode
from service.domain.events import Event, EventKind
from tests.conftest import service_environment
from tests.servers.service import Service

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").glob("*.md")])
README = (ROOT / "README.md").read_text("utf-8")
ADDRESS = "http://127.0.0.1:8000"
SECONDS = 60
# A block of commands that run, and what they answer where the next block shows it.
BLOCKS = re.compile(
    r"^```(sh|python) run\n(.*?)^```\n(?:[^`#]*?^```(json|text)\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE
)
FENCED = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """One command of the README with its answer as it stands there."""

    language: str
    command: str
    form: str
    answer: str


COMMANDS = [Block(*found) for found in BLOCKS.findall(README)]
needs_curl = pytest.mark.skipif(which("curl") is None or which("sh") is None, reason="the commands are curl's")


@pytest.fixture(params=["llmock", pytest.param("local", marks=pytest.mark.local_model)])
def first_start(request: pytest.FixtureRequest, llmock_server: LLMockServer, tmp_path: Path) -> Iterator[Service]:
    """A service as `make run` starts it, with an empty data directory; its model is played, or is the local one."""
    environment = {"EVERTURN_DATA_DIR": str(tmp_path / "data")}
    if request.param == "llmock":
        played = service_environment("", llmock_server)
        environment |= {name: played[name] for name in played if "OPENAI" in name or "MODEL" in name}
        environment["EVERTURN_DEFAULT_MODEL"] = "gpt-4.1-mini"
    with Service(environment, tmp_path) as service:
        yield service


@needs_curl
@pytest.mark.usefixtures("llmock")
def test_commands_answer_as_the_readme_shows(first_start: Service) -> None:
    printed = re.search(r"^ +curl http.*?}'$", first_start.log_text(), re.DOTALL | re.MULTILINE)
    assert printed, "the first start prints a curl line"
    [key] = set(re.findall(r"evt_\w+", printed[0]))
    assert len([block for block in COMMANDS if block.answer]) >= 4
    for block in COMMANDS:
        said = run(block, first_start.url, key)
        assert said.strip(), block.command
        found = differences(block, said)
        assert not found, f"{block.command}\nanswers otherwise than the README shows: {found}\n{said}"
    brief = printed[0].replace('{"messages"', '{"max_tokens": 20, "messages"')
    assert json.loads(run(Block("sh", brief, "", ""), first_start.url, key))["content"]


def run(block: Block, url: str, key: str) -> str:
    """What a command prints; one that reads a turn is repeated while the turn runs."""
    text = block.command.replace(ADDRESS, url)
    program = [sys.executable, "-c", text] if block.language == "python" else ["sh", "-c", text]
    deadline = time.monotonic() + SECONDS
    while True:
        environment = os.environ | {"KEY": key}
        done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, f"{block.command}\n{done.stdout}{done.stderr}"
        if '"status":"in_progress"' not in done.stdout:
            return done.stdout
        assert time.monotonic() < deadline, f"the turn does not end: {done.stdout}"
        time.sleep(0.05)


def differences(block: Block, said: str) -> list[str]:
    """Where an answer has another shape than the one that is shown."""
    if block.form == "json":
        return list(unlike(json.loads(block.answer), json.loads(said), "answer"))
    if block.form == "text" and (shown := frames(block.answer)) != (got := frames(said)):
        return [f"events {got}, not {shown}"]
    return []


def unlike(shown: Any, got: Any, place: str) -> Iterator[str]:
    """The places where two JSON values have other members or other types; null stands for any type."""
    if shown is None or got is None:
        return
    if type(shown) is not type(got):
        yield f"{place}: {type(got).__name__}, not {type(shown).__name__}"
    elif isinstance(shown, dict):
        if shown.keys() != got.keys():
            yield f"{place}: members {sorted(shown.keys() ^ got.keys())}"
        for name in shown.keys() & got.keys():
            yield from unlike(shown[name], got[name], f"{place}.{name}")
    elif shown and isinstance(shown, list) and place != "answer.warnings":
        if len(shown) != len(got):
            yield f"{place}: {len(got)} items, not {len(shown)}"
        for index, item in enumerate(got):
            yield from unlike(shown[0], item, f"{place}.{index}")


def frames(text: str) -> list[str]:
    """A stream's events by name and members, several of the same in a row as one."""
    names = []
    for frame in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.splitlines())
        data = fields["data"]
        members = data if data == "[DONE]" else ",".join(json.loads(data))
        names.append(f"{fields.get('event', 'message')} {members}")
    return [name for name, _ in groupby(names)]


@pytest.mark.parametrize("kind", get_args(EventKind))
def test_every_event_is_documented(kind: EventKind) -> None:
    data: object = "a" if kind in ("text", "reasoning") else {"code": "x"}
    sent = encode(7, Event(1, kind, data)).decode()
    rows = [line for line in (ROOT / "docs/streaming.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    named = re.search(r"^event: (\w+)$", sent, re.MULTILINE)
    if named:
        assert [row for row in rows if row.startswith(f"| `{named[1]}` |")], (
            f"docs/streaming.md has no row for {named[1]}"
        )
    else:
        unnamed = [row for row in rows if row.startswith("| (none) |")]
        mark = "[DONE]" if "[DONE]" in sent else next(iter(json.loads(sent.split("data: ")[1])))
        assert [row for row in unnamed if mark in row], f"docs/streaming.md has no row for {mark}"


def test_settings_of_the_readme_are_those_of_the_settings_page() -> None:
    rows = re.findall(r"^\| `EVERTURN_.*$", README, re.MULTILINE)
    assert rows
    known = (ROOT / "docs/settings.md").read_text("utf-8").splitlines()
    assert not [row for row in rows if row not in known]


def test_pages_were_found() -> None:
    names = {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert {"README.md", "CHANGELOG.md", "docs/architecture.md", "docs/operating.md", "bench/README.md"} <= names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCED.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link} is not there"
        assert target.is_relative_to(ROOT), f"{link} leads out of the project"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_make_targets_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    code = [*FENCED.findall(text), *re.findall(r"`make [^`]*`", text)]
    used = {target for part in code for target in re.findall(r"(?:^|`|[A-Z]=\S+ |' )make ([a-z]+)", part, re.MULTILINE)}
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert used <= made, f"the Makefile does not know {used - made}"


def test_decisions_are_listed_and_short() -> None:
    folder = ROOT / "docs/decisions"
    listed = LINK.findall((folder / "README.md").read_text("utf-8"))
    records = sorted(path.name for path in folder.glob("0*.md"))
    assert listed == records, "docs/decisions/README.md lists every record, in order"
    for name in records:
        lines = (folder / name).read_text("utf-8").splitlines()
        assert len(lines) <= 50, f"{name} has {len(lines)} lines"
        assert lines[0].startswith(f"# {int(name[:4])}. "), f"the heading of {name} has another number"
