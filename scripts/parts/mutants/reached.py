"""The tests that run a function: recorded while the tests run in a copy whose functions report their calls.

A function reports its number. The recorder in the process, which may be a worker, adds the number of the running test,
which it reads from a file that all processes map.
"""

import ast
import json
import math
from pathlib import Path

RECORDER = """
import contextlib, mmap, os

_folder = os.path.dirname(os.path.dirname(__file__))
with open(f"{_folder}/.running", "rb") as _file:
    _running = mmap.mmap(_file.fileno(), 4, prot=mmap.PROT_READ)
_seen = set()


def reached(function):
    call = function, _running[:4]
    if call not in _seen:
        _seen.add(call)
        with contextlib.suppress(OSError), open(f"{_folder}/.reached", "ab", buffering=0) as file:
            file.write(b"%d %d\\n" % (function, int.from_bytes(call[1], "little")))
"""
_IMPORT = b"from mpqueue._reached import reached as _reached_\n"


class Functions:
    """The functions of some modules, with a number for each."""

    def __init__(self) -> None:
        self._spans: dict[str, list[tuple[int, int, int]]] = {}
        self._count = 0

    def instrumented(self, module: str, source: bytes) -> bytes:
        """Return the source of a module whose functions report their calls."""
        starts = [0]
        for line in source.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        tree = ast.parse(source)
        first = next(each for each in tree.body if not (_is_docstring(each) or _is_future(each)))
        edits = [(starts[_line_of(first) - 1], _IMPORT)]
        spans = self._spans.setdefault(module, [])
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = next((each for each in node.body if not _is_docstring(each)), None)
                if body is not None and _line_of(body) > node.lineno:
                    self._count += 1
                    spans.append((node.lineno, node.end_lineno or node.lineno, self._count))
                    indent = b" " * body.col_offset
                    edits.append((starts[_line_of(body) - 1], indent + b"_reached_(%d)\n" % self._count))
        for at, text in sorted(edits, reverse=True):
            source = source[:at] + text + source[at:]
        return source

    def at(self, module: str, line: int) -> int | None:
        """Return the number of the innermost function with a line; None: it has none."""
        around = [(end - first, number) for first, end, number in self._spans[module] if first <= line <= end]
        return min(around)[1] if around else None


class Recording:
    """A pytest plugin that records the duration of each test, and which function calls belong to which test.

    Args:
        folder: Folder of the copy.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tests = [""]  # 0: no test runs yet
        self._seconds: dict[str, float] = {}
        (folder / ".running").write_bytes(bytes(4))
        (folder / ".reached").write_bytes(b"")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Write the number of the running test where all processes read it."""
        self._tests.append(nodeid)
        with (self._folder / ".running").open("r+b") as file:  # in place, because processes map it
            file.write((len(self._tests) - 1).to_bytes(4, "little"))

    def pytest_runtest_logreport(self, report: object) -> None:
        """Add to the duration of a test."""
        # A test that fails here is not used.
        lasted = math.inf if report.failed else report.duration
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0) + lasted

    def pytest_sessionfinish(self) -> None:
        """Write the durations, and the tests of each function."""
        reached: dict[int, list[str]] = {}
        for line in (self._folder / ".reached").read_text().splitlines():
            function, test = map(int, line.split())
            reached.setdefault(function, []).append(self._tests[test])
        (self._folder / ".recorded").write_text(json.dumps([self._seconds, list(reached.items())]))


def _line_of(node: ast.AST) -> int:
    return min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"
