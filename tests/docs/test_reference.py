"""The reference has exactly one entry for each public name, and the pages of errors have one for each error."""

import ast
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.doc_pages import DOCS
from helpers.docstrings import MODULES, OF_TORCH, names_of, public_names

import mpqueue.errors
from mpqueue import errors
from mpqueue.memory.segment import Segment
from mpqueue.tf1.compat.names import Namespaces
from mpqueue.tf1.compat.surface import NOTES, SURFACE

PAGES = [*sorted(DOCS.glob("reference/*.md")), DOCS / "tensorflow-1/reference.md"]
REFERENCE = "".join(page.read_text("utf-8") for page in PAGES)
ENTRIES = re.findall(r"^\.\. (?:auto|py:)(?!module)\w+:: ([\w.]+)(?:\(.+\))?$", REFERENCE, re.M)
OF_MODULES = re.findall(r"^\.\. py:module:: ([\w.]+)$", REFERENCE, re.M)
# The settings of the site generate the entries of these modules.
DEFERRED = {f"mpqueue.compat.v1.{path}".rstrip(".") for path in Namespaces("mpqueue.compat.v1", SURFACE, NOTES).paths()}
SAME = re.findall(r"^\.\. py:\w+:: ([\w.]+)\n\n   The same as :py:obj:`([\w.]+)`\.$", REFERENCE, re.M)
PUBLIC = {f"{module}.{name}" for module in MODULES + OF_TORCH for name in names_of(module)}
# Argument and return types of public names that have no public name themselves.
WITHOUT_PUBLIC_NAME = {
    "mpqueue.plan.options.ray_options.RayOptions",
    "mpqueue.service.serving.reports.ServerStatistics",
    "mpqueue.telemetry.stats.ConsumerStatistics",
    "mpqueue.tf1.train.batch_op.BatchOp",
}
PAGE = "".join((DOCS / name).read_text("utf-8") for name in ("reference/errors.md", "tensorflow-1/errors.md"))
UNWRAPPED = re.sub(r"\n {4}(?=\S)", " ", PAGE)  # the page wraps long messages with this indent


def test_every_public_name_has_exactly_one_entry():
    assert sorted(PUBLIC - {*ENTRIES, *OF_MODULES, *DEFERRED}) == []
    assert sorted({name for name in ENTRIES if ENTRIES.count(name) > 1}) == []


def test_every_entry_is_a_public_name():
    assert {*ENTRIES} - PUBLIC == WITHOUT_PUBLIC_NAME
    assert {*OF_MODULES} == {*MODULES, *OF_TORCH, "mpqueue.compat"}


def test_entries_marked_as_the_same_are_the_same_object():
    assert [(name, other) for name, other in SAME if public_names()[name] is not public_names()[other]] == []


def test_the_site_lists_the_names_of_the_deferred_api():
    settings = (DOCS / "conf.py").read_text("utf-8")
    (comment,) = re.findall(r"^<!-- names of mpqueue\.compat\.v1 -->$", REFERENCE, re.M)
    assert f'"{comment}"' in settings
    assert "mpqueue.compat.v1.train" in DEFERRED


def test_every_error_class_is_public():
    tree = ast.parse(Path(mpqueue.errors.__file__).read_text("utf-8"))
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    assert sorted(classes) == sorted(mpqueue.errors.__all__)


def test_each_error_has_an_entry_with_cause_and_remedy():
    """The code with the remedy runs with the code of the other pages."""
    for name in mpqueue.errors.__all__:
        found = re.search(rf"^###? {name}\n\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)
        assert found is not None, name
        assert re.match(r"(?:```text\n.*?```\n\n)?\*\*Cause\.\*\* .*?\n\n\*\*Remedy\.\*\* ", found[1], re.S), name
        assert "```python\n" in found[1] or "frameworks/ray.md" in found[1], name


FULL_SHM = SimpleNamespace(kind="shm", free_bytes=int, available_bytes=int)
TRIED = "It was tried 2 times. Run it in the main process (`workers=0`) to find the cause"


@pytest.mark.parametrize(
    "error",
    [
        errors.WorkerDied(0, -signal.SIGKILL, 2, 0, peak_memory_bytes=24 << 20, remedy=TRIED),
        errors.BatchTimeout(0, 0, 0.5),
        errors.BatchTooLarge(80_000, 50_000),
        errors.SharedMemoryFull(1 << 28, 1 << 26, Segment.memory_full(FULL_SHM, 0).remedy),
        errors.StopTimeout(("mpqueue-worker-0",), 0.1),
        errors.TooManyErrors(4, 3, 0),
        errors.FileError("/data/texts.jsonl", 16, "value 1 of the file"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_page_of_errors_quotes_messages_exactly(error):
    assert re.search(rf"^### {type(error).__name__}\n\n```text\n{re.escape(str(error))}", UNWRAPPED, re.M)


def test_the_page_of_errors_has_only_existing_errors():
    headings = re.findall(r"^###? (\w+)$", PAGE, re.M)
    assert sorted(headings) == sorted(mpqueue.errors.__all__)
