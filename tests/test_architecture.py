"""The structure that the package's head promises: imports point downwards, what is public is said by ``__all__``."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import mpqueue

ROOT = Path(mpqueue.__file__).parent
# From the ground up: a module may import from its own layer and from those below.
LAYERS = [
    ["errors", "stats"],
    ["memory", "system", "values"],
    ["control", "coordination"],
    ["workers"],
    ["sequence", "sources"],
    ["engine", "idle"],
    ["enqueuers", "loader", "passes", "coordinator"],
    ["queues"],
    ["train"],
    ["keras"],
]
PURE = ["memory.slots", "memory.layout", "control.schedule", "control.seeds", "workers.records"]


def layer_of(module):
    for number, names in enumerate(LAYERS):
        if module.partition(".")[0] in names:
            return number
    return None


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        yield name, ast.parse(path.read_text("utf-8"))


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mpqueue":
            inner = node.module.partition(".")[2]
            yield from [inner] if inner else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from [a.name.partition(".")[2] for a in node.names if a.name.startswith("mpqueue.")]


def test_imports_point_downwards():
    upward = []
    for name, tree in modules():
        here = layer_of(name)
        for target in imports(tree):
            there = layer_of(target)
            if here is not None and there is not None and there > here:
                upward.append(f"{name} imports {target}")
    assert upward == []


def test_the_pure_modules_know_no_processes():
    for name, tree in modules():
        if name in PURE:
            names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
            names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
            assert not names & {"os", "multiprocessing", "select", "signal", "subprocess", "mmap", "threading"}, name


def test_modules_stay_readable_in_an_evening():
    too_long = {}
    for path in ROOT.rglob("*.py"):
        lines = len(path.read_text("utf-8").splitlines())
        if lines > 450:
            too_long[path.name] = lines
    assert too_long == {}


def test_every_public_name_is_there_and_documented():
    for module in (mpqueue, importlib.import_module("mpqueue.errors")):
        for name in module.__all__:
            value = getattr(module, name)
            if name != "__version__":
                assert (value.__doc__ or "").strip(), name


def test_importing_the_package_imports_no_workers_and_no_frameworks():
    code = (
        "import sys, mpqueue; print([m for m in sys.modules if m in {'numpy', 'keras', 'tensorflow', 'torch', 'PIL'}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
