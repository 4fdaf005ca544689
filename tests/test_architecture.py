"""The structure that the docstrings print is the one that the imports make; ``pytest tests/test_architecture.py -s`` tells its measures."""

import ast
import functools
import importlib
import subprocess
import sys

import pytest
from helpers import structure

import mpqueue

PACKAGE = structure.read(structure.ROOT / "mpqueue", "mpqueue")
SCRIPTS = structure.read(structure.ROOT / "scripts")
PACKAGES = {name: module for name, module in PACKAGE.items() if module.is_package}
PAGE = structure.ROOT / "docs" / "architecture.md"

# No processes, no descriptors, no threads: a test drives them in microseconds.
PURE = [
    *(f"mpqueue.memory.{name}" for name in ("slots", "arena", "layout")),
    *(f"mpqueue.engine.{name}" for name in ("seeds", "schedule", "progress", "outcomes", "ledger", "recovery")),
    *(f"mpqueue.tf1.queues.{name}" for name in ("machine", "order", "blocks")),
    *(f"mpqueue.tf1.parsing.{name}" for name in ("protobuf_wire", "csv", "number_text")),
    *(f"mpqueue.tf1.compat.{name}" for name in ("graph.plan", "ops.dims")),
]
IMPURE = {"os", "multiprocessing", "select", "selectors", "signal", "socket", "subprocess", "mmap", "threading", "time"}


@functools.cache
def imports():
    """Who imports whom in the package; read when it is asked for, not in each process that collects this file."""
    return structure.graph(PACKAGE)


def test_no_two_modules_import_each_other_in_a_circle():
    assert structure.circles(imports()) == []


def test_no_two_scripts_import_each_other_in_a_circle():
    assert structure.circles(structure.graph(SCRIPTS)) == []


def test_the_check_for_circles_finds_one():
    """Through a function's own import and a package, as they came to be."""
    assert structure.circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]


@pytest.mark.parametrize("name", PACKAGES)
def test_the_map_of_a_folder_names_all_that_lies_in_it(name):
    assert set(structure.printed_map(PACKAGES[name])) == structure.on_disk(PACKAGES[name])


@pytest.mark.parametrize("name", PACKAGES)
def test_imports_inside_of_a_folder_point_up_its_map(name):
    """Whatever a module imports stands in a line above its own, or in the same one."""
    package = PACKAGES[name]
    layers = structure.printed_map(package)
    downwards = []
    for importer, targets in imports().items():
        if not importer.startswith(f"{name}."):
            continue
        for target in targets:
            if not target.startswith(f"{name}."):
                continue
            here, there = structure.entry(PACKAGE[importer], package), structure.entry(PACKAGE[target], package)
            if layers[there] > layers[here]:
                downwards.append(f"{importer} imports {target}")
    assert downwards == []


def test_the_engines_wing_imports_nothing_of_tensorflow_1s():
    """Whoever reads, or runs, a loader needs nothing of queues, readers and graphs; the faces at the root offer both."""
    of_tensorflow_1 = ("mpqueue.tf1", "mpqueue.train", "mpqueue.python_io", "mpqueue.compat")
    across = [
        f"{importer} imports {target}"
        for importer, targets in imports().items()
        if importer != "mpqueue" and not importer.startswith(of_tensorflow_1)
        for target in targets
        if target.startswith(of_tensorflow_1)
    ]
    assert across == []


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_knows_no_processes(name):
    known = set()
    for node in ast.walk(PACKAGE[name].tree):
        if isinstance(node, ast.Import):
            known |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            known.add((node.module or "").partition(".")[0])
    assert not known & IMPURE


@pytest.mark.parametrize(
    ("heading", "most"), [("The way of one index", 15), ("The way of one queue element", 12)], ids=["index", "element"]
)
def test_a_walk_of_the_architecture_page_is_short_and_leads_through_what_is_there(heading, most):
    steps = structure.walk(PAGE, heading)
    assert len(steps) >= 5
    assert len({step.file for step in steps}) <= most
    modules = {str(module.path.relative_to(structure.ROOT)): module for module in PACKAGE.values()}
    missing = [
        f"{step.file}: {name}"
        for step in steps
        for name in step.names
        if not structure.is_defined(modules[step.file], name)
    ]
    assert missing == []
    assert all(step.names for step in steps)


def test_every_public_name_is_there_and_documented():
    for module in (mpqueue, importlib.import_module("mpqueue.errors")):
        for name in module.__all__:
            value = getattr(module, name)
            if name != "__version__":
                assert (value.__doc__ or "").strip(), name


def test_importing_the_package_imports_no_workers_and_no_frameworks():
    code = "import sys, mpqueue; print([m for m in sys.modules if m in {'numpy', 'keras', 'jax', 'tensorflow', 'torch', 'PIL'}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_measures_are_told():
    """One table, for whoever looks with ``-s``."""
    functions = sorted(structure.code_lines(node) for _, node in structure.definitions(PACKAGE, ast.FunctionDef))
    classes = [node for _, node in structure.definitions(PACKAGE, ast.ClassDef)]
    compat = sum(m.num_lines for name, m in PACKAGE.items() if name.startswith("mpqueue.tf1.compat"))
    total = sum(m.num_lines for m in PACKAGE.values())
    rows = {
        "modules; lines": f"{len(PACKAGE)}; {total}",
        "of them compat": str(compat),
        "imports between modules": str(sum(map(len, imports().values()))),
        "circles in mpqueue, in scripts": f"{len(structure.circles(imports()))}, {len(structure.circles(structure.graph(SCRIPTS)))}",
        "longest module": str(max(m.num_lines for m in PACKAGE.values())),
        "functions: median, p90, longest": f"{functions[len(functions) // 2]}, {functions[len(functions) * 9 // 10]}, {functions[-1]}",
        "most fields of a class": str(max(len(structure.fields(node)) for node in classes)),
        "files on the way of one index": f"{len({s.file for s in structure.walk(PAGE, 'The way of one index')})} (at most 15)",
        "files on the way of one queue element": f"{len({s.file for s in structure.walk(PAGE, 'The way of one queue element')})} (at most 12)",
    }
    width = max(map(len, rows))
    print("\n" + "\n".join(f"{what:<{width}}  {value}" for what, value in rows.items()))
    assert total > 0
