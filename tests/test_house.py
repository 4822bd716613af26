"""The house rules that no linter knows, read from the syntax trees; each failure says the way out."""

import ast
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.syntax import (
    Function,
    Module,
    annotation,
    counts,
    decorators,
    depth,
    event_stream_lines,
    imported,
    imports,
    is_broad,
    is_sentence,
    lengths,
    positions,
)

ROOT = Path(__file__).resolve().parents[1]
FILE, ROUTER, FUNCTION, NESTING, ARGUMENTS, POSITIONAL = 300, 200, 50, 4, 7, 2
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "handler", "handlers"}
# What every function of a floor is handed first, and nobody confuses: no position of its own, nor is the owner.
CONTEXT = {"AsyncConnection", "Connection", "Database", "Request", "Response", "Engine", "Registry", "Settings"}
OWNER = {"owner", "owner_id", "user_id", "caller"}
PURE = re.compile(r"service\.domain\b")
# Broad excepts by file and function: the outermost edges, where everything must become an answer or a record, and a
# worker's pulse, without which it loses all its turns.
BROAD = {
    ("service/turns/recovery.py", "_take"),
    ("service/turns/watch.py", "_survive"),
    ("service/turns/engine.py", "_run"),
    ("service/api/middleware.py", "run"),
}


def read(folder: str) -> list[Module]:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths, f"{folder}/ holds no Python: the test looks in the wrong place"
    texts = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in paths}
    return [Module(name, text) for name, text in texts.items()]


SERVICE = read("service")
OTHERS = read("tests") + read("bench") + read("torture")
MIGRATIONS = read("migrations")
ALL = SERVICE + OTHERS + MIGRATIONS


def none_of(broken: Iterable[str], way_out: str) -> None:
    found = list(broken)
    assert not found, "\n".join([way_out, *found])


def test_files_are_short() -> None:
    none_of(
        [f"{m.name}: {m.lines} lines" for m in SERVICE + OTHERS if m.lines > FILE],
        f"A file has at most {FILE} lines: move a noun, or a step of the work, into a module of its own.",
    )


def test_router_files_are_short() -> None:
    routers = [m for m in SERVICE if m.path.parent.as_posix() == "service/api/rest"]
    assert routers
    none_of(
        [f"{m.name}: {m.lines} lines" for m in routers if m.lines >= ROUTER],
        f"A router file stays under {ROUTER} lines: routes only; what the product does belongs in usecases/.",
    )


def test_functions_are_short() -> None:
    none_of(
        (f"{m.name}:{f.lineno} {f.name}: {n} lines" for m in SERVICE + OTHERS for f, n in lengths(m) if n > FUNCTION),
        f"A function has at most {FUNCTION} lines: name its steps and make them functions below it.",
    )


def test_code_is_not_nested_deeply() -> None:
    none_of(
        (f"{m.name}:{f.lineno} {f.name}: {depth(f)} deep" for m in ALL for f, _ in m.functions if depth(f) > NESTING),
        f"At most {NESTING} blocks stand inside one another: return early, or move the inner block into a function.",
    )


def test_functions_take_few_arguments() -> None:
    none_of(
        (
            f"{m.name}:{f.lineno} {f.name}: {n}"
            for m in ALL
            for f, n in counts(m)
            if n > ARGUMENTS and not _injected(m, f)
        ),
        f"A function takes at most {ARGUMENTS} arguments: what travels together is a dataclass.",
    )


def test_public_functions_name_their_third_argument() -> None:
    """A third position passes where the types tell all three apart; routes and commands are called by name anyway."""
    public = (
        (m, f, [annotation(a) for a in positions(f, owner) if annotation(a) not in CONTEXT and a.arg not in OWNER])
        for m in SERVICE
        for f, owner in m.functions
        if not f.name.startswith("_") and not _injected(m, f)
    )
    none_of(
        (f"{m.name}:{f.lineno} {f.name}({', '.join(types)})" for m, f, types in public if _confusable(types)),
        "After the second argument a public function takes keywords only: put a `*` there, or bundle a dataclass.",
    )


@pytest.mark.parametrize(
    ("what", "pattern", "places", "way_out"),
    [
        ("commit", r"\.commit\(", {"service/db/engine.py"}, "Use `async with database.transaction()`: it commits."),
        (
            "settings",
            r"(?<!\w)Settings\(\)",
            {"service/main.py", "service/commands.py"},
            "Take the value as an argument.",
        ),
        (
            "comparison of secrets",
            r"\bcompare_digest\b",
            {"service/domain/keys.py", "service/domain/cursors.py"},
            "Call service/domain/keys.py or cursors.py.",
        ),
    ],
)
def test_one_place_rules(what: str, pattern: str, places: set[str], way_out: str) -> None:
    found = {m.name: len(re.findall(pattern, m.text)) for m in SERVICE if re.search(pattern, m.text)}
    assert found, f"{what}: found nowhere; the pattern no longer fits the code"
    none_of(
        [f"{name}: {count}" for name, count in found.items() if name not in places],
        f"The {what} belongs in {' and '.join(sorted(places))} alone. {way_out}",
    )


def test_settings_are_imported_by_the_root_alone() -> None:
    allowed = {"service/main.py", "service/adapters.py", "service/cli.py", "service/commands.py", "service/config.py"}
    none_of(
        (f"{m.name}:{n.lineno}" for m in SERVICE if m.name not in allowed for n in imports(m, "service.config")),
        "Only main.py and the command line read the settings: take the value as an argument.",
    )


def test_domain_imports_the_standard_library_only() -> None:
    """The import contracts name libraries one by one; this is the rule itself."""
    domain = [m for m in SERVICE if m.name.startswith("service/domain/")]
    assert domain
    foreign = [(m.name, name) for m in domain for name in imported(m) if not PURE.match(name)]
    none_of(
        [f"{where}: {name}" for where, name in foreign if name.split(".")[0] not in sys.stdlib_module_names],
        "domain/ is plain Python: keep the rule there and the library on the floor that uses it.",
    )


def test_event_stream_bytes_are_made_in_one_place() -> None:
    """Dictionary keys document it and comparisons read it; whatever else names it makes it."""
    maker = "service/api/sse.py"
    made = {m.name: event_stream_lines(m) for m in SERVICE}
    assert made[maker], "api/sse.py makes no events: the test no longer fits the code"
    none_of(
        (f"{name}:{line}" for name, lines in made.items() if name != maker for line in lines),
        "Only api/sse.py makes server-sent events: return `sse.stream(…)`.",
    )


def test_packages_are_empty() -> None:
    inits = [m for m in ALL if m.path.name == "__init__.py" and m.name != "service/__init__.py"]
    none_of(
        [m.name for m in inits if m.text.strip()],
        "An __init__.py stays empty: import from the module that defines the name.",
    )


def test_module_names_say_something() -> None:
    none_of(
        [m.name for m in ALL if VAGUE & set(m.path.stem.split("_"))],
        "A module is named for what it holds, not utils, helpers, common, manager or handler.",
    )


def test_broad_excepts_stand_where_they_are_named() -> None:
    found = {(m.name, f.name) for m in SERVICE for f, _ in m.functions for n in ast.walk(f) if is_broad(n)}
    none_of(
        [f"{name}: {function}" for name, function in sorted(found - BROAD)],
        "Catch what you expect by its class. An outermost edge that needs more is named, with its reason, in BROAD.",
    )
    assert found >= BROAD, f"These catch narrowly now: take them out of BROAD: {BROAD - found}"
    outside = [m.name for m in SERVICE if sum(map(is_broad, ast.walk(m.tree))) and m.name not in dict(BROAD)]
    none_of(outside, "A broad except at module level hides mistakes: catch by class.")


def test_modules_begin_with_a_sentence() -> None:
    modules = [m for m in ALL if m.path.name != "__init__.py"]
    none_of(
        [m.name for m in modules if not is_sentence((ast.get_docstring(m.tree) or "").split("\n")[0])],
        'A module begins with one sentence on one line, as in """A user\'s keys.""", that says what it holds.',
    )


def test_the_ceilings_can_fail() -> None:
    """The measures themselves, on a function that breaks each of them."""
    head, body = (
        "def f(a, b, c, d, e, g, h, i):\n if a:\n",
        "   while d:\n    with e:\n     try: g()\n     except: h()\n",
    )
    bad = f"{head}  for b in c:\n{body}"
    module = Module("service/bad.py", bad)
    [(function, owner)] = module.functions
    assert (depth(function), len(positions(function, owner)), lengths(module)[0][1]) == (5, 8, 7)
    assert [n for _, n in counts(module)] == [8]
    assert sum(map(is_broad, ast.walk(function))) == 1
    assert not is_sentence("nothing")
    assert is_sentence("One thing.")


def _confusable(types: list[str]) -> bool:
    return len(types) > POSITIONAL + (len(set(types)) == len(types))


def _injected(module: Module, function: Function) -> bool:
    """Called by a framework, by name: FastAPI's routes and dependencies, pytest's tests and fixtures."""
    if module.name.startswith("tests/"):
        return function.name.startswith("test_") or "fixture" in decorators(function)
    if module.name == "service/cli.py":
        return ".command" in decorators(function)
    return "router." in decorators(function) or module.name == "service/api/deps.py"
