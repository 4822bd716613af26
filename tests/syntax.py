"""What the house rules measure, read from syntax trees."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)


@dataclass(frozen=True)
class Module:
    """A file, its text and its tree."""

    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.name)

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @property
    def path(self) -> Path:
        return Path(self.name)

    @cached_property
    def functions(self) -> list[tuple[Function, ast.ClassDef | None]]:
        """Every function, with its class where it is a method."""
        return list(self._functions())

    def _functions(self) -> Iterator[tuple[Function, ast.ClassDef | None]]:
        for owner in ast.walk(self.tree):
            for node in ast.iter_child_nodes(owner):
                if isinstance(node, Function):
                    yield node, owner if isinstance(owner, ast.ClassDef) else None


def lengths(module: Module) -> list[tuple[Function, int]]:
    return [(f, (f.end_lineno or f.lineno) - f.lineno + 1) for f, _ in module.functions]


def depth(node: ast.AST) -> int:
    """Blocks inside one another; an `elif` stands beside its `if`, a nested function counts for itself."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            continue
        beside = isinstance(node, ast.If) and node.orelse == [child] and isinstance(child, ast.If)
        deepest = max(deepest, depth(child) + (isinstance(child, BLOCKS) and not beside))
    return deepest


def positions(function: Function, owner: ast.ClassDef | None) -> list[ast.arg]:
    """The arguments that may be given by position, without self and cls."""
    arguments = [*function.args.posonlyargs, *function.args.args]
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list)
    return arguments[1:] if owner is not None and not static else arguments


def counts(module: Module) -> list[tuple[Function, int]]:
    return [(f, len(positions(f, owner)) + len(f.args.kwonlyargs)) for f, owner in module.functions]


def decorators(function: Function) -> str:
    return " ".join(ast.unparse(d) for d in function.decorator_list)


def annotation(argument: ast.arg) -> str:
    return ast.unparse(argument.annotation) if argument.annotation else ""


def imported(module: Module) -> Iterator[str]:
    """The dotted names that a module imports, or imports from."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def imports(module: Module, name: str) -> Iterator[ast.stmt]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module == name:
            yield node
        if isinstance(node, ast.Import) and any(alias.name == name for alias in node.names):
            yield node


def event_stream_lines(module: Module) -> list[int]:
    """Lines that hold a stream's content type or its bytes, without dictionary keys and comparisons."""
    spared: set[int] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Dict):
            spared.update(id(key) for key in node.keys)
        if isinstance(node, ast.Compare):
            spared.update(id(side) for side in (node.left, *node.comparators))
    constants = [n for n in ast.walk(module.tree) if isinstance(n, ast.Constant) and id(n) not in spared]
    return [n.lineno for n in constants if _is_sse(n.value)]


def _is_sse(value: object) -> bool:
    if isinstance(value, bytes):
        return b"\n" in value and bool(re.search(rb"(data|event|id): ", value))
    return value == "text/event-stream"


def is_broad(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    return node.type is None or bool(re.search(r"\b(Base)?Exception\b", ast.unparse(node.type)))


def is_sentence(line: str) -> bool:
    return bool(re.fullmatch(r"[A-Z0-9`].*[.:?]", line))
