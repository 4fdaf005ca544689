"""The structure in the docstrings equals the structure of the imports. The option ``-s`` prints the path of a batch."""

import ast
import functools
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from typing import get_args

import pytest
from helpers import batch_path, package_structure

from mpqueue.plan.options.backend_kinds import BackendName
from mpqueue.tf1 import root as tf1_root

pytestmark = [pytest.mark.slow, pytest.mark.pure]

PACKAGE = package_structure.read(package_structure.ROOT / "mpqueue", "mpqueue")
SCRIPTS = package_structure.read(package_structure.ROOT / "scripts")
PACKAGES = {name: module for name, module in PACKAGE.items() if module.is_package}
DOCS = package_structure.ROOT / "docs"
ARCHITECTURE = DOCS / "internals/architecture.md"


# Upper limits for the path of a batch, in the trainer and the worker. Lower them if you shorten the path.
MAX_FILES, MAX_CALLS = 15, 30

# Files that the path uses only on a busy machine, where a side has to wait in each of its windows.
PASSED_IN_A_WAIT = {"mpqueue/telemetry/recorder.py"}  # also for timed batches: a fixed number per second is timed

# The packages of the backends may compare their names. In the other modules, "thread" or "process" is an unrelated
# option.
WHERE_BACKENDS_ARE_NAMED = ("mpqueue.backends.", "mpqueue.tf1.train.queue_runner", "mpqueue.tf1.compat.train.processes")

# Modules without processes, descriptors and threads, which a test can drive in microseconds.
PURE = [
    *(f"mpqueue.memory.{name}" for name in ("slots", "layout")),
    *(f"mpqueue.engine.{name}" for name in ("outcomes", "ledger")),
    *(f"mpqueue.plan.options.{name}" for name in ("batching", "validation")),
    *(
        f"mpqueue.plan.position.{name}"
        for name in ("cursors", "drawn_cursor", "draws", "lanes", "sampler_fingerprint", "stream_cursor")
    ),
    *(f"mpqueue.plan.order.{name}" for name in ("orders", "plans", "resolve", "rules")),
    *(f"mpqueue.plan.sources.{name}" for name in ("recognise", "sources", "stream_sources")),
    "mpqueue.plan.states.lane_states",
    "mpqueue.seeding.seeds",
    *(f"mpqueue.tf1.queues.{name}" for name in ("arena", "machine", "blocks")),
    *(f"mpqueue.tf1.parsing.{name}" for name in ("csv", "number_text")),
    "mpqueue.examples.protobuf_wire",
    *(f"mpqueue.tf1.compat.{name}" for name in ("graph.plan", "ops.dims")),
]
IMPURE = {"os", "multiprocessing", "select", "selectors", "signal", "socket", "subprocess", "mmap", "threading", "time"}


@functools.cache
def imports():
    """Return the imports of each module, read on first use and not in each process that collects this file."""
    return package_structure.graph(PACKAGE)


def nodes(kind, without=()):
    """Yield each syntax node of a kind with the name of its module, except those in modules with some prefixes."""
    for name, module in PACKAGE.items():
        if not name.startswith(without):
            yield from (
                (name.removeprefix("mpqueue."), node) for node in ast.walk(module.tree) if isinstance(node, kind)
            )


def names_of_files():
    """Return the name of the module in each file of the package."""
    return {str(module.path.relative_to(package_structure.ROOT)): name for name, module in PACKAGE.items()}


def test_modules_have_no_cyclic_imports():
    assert package_structure.cycle(imports()) == []


def test_scripts_have_no_cyclic_imports():
    assert package_structure.cycle(package_structure.graph(SCRIPTS)) == []


@pytest.mark.parametrize("name", PACKAGES)
def test_the_map_of_a_folder_lists_all_its_files(name):
    assert set(package_structure.printed_map(PACKAGES[name])) == package_structure.on_disk(PACKAGES[name])


def test_the_list_of_helpers_is_complete():
    helpers = package_structure.ROOT / "tests/helpers"
    listed = re.findall(r"^    (\w+\.py) ", (helpers / "__init__.py").read_text("utf-8"), re.M)
    assert listed == sorted(path.name for path in helpers.glob("*.py") if path.name != "__init__.py")


def test_each_helper_is_used_by_several_files():
    """What one test file needs is in that file. Exceptions run in programs, workers, or the fixtures of all tests."""
    elsewhere = {"batch_path", "costs", "faulty_source", "reused_fork_servers", "tensorflow_draws"}
    texts = {path: path.read_text("utf-8") for path in (package_structure.ROOT / "tests").rglob("*.py")}
    for helper in (package_structure.ROOT / "tests/helpers").glob("[!_]*.py"):
        use = re.compile(rf"\bhelpers\.{helper.stem}\b|from helpers import .*\b{helper.stem}\b")
        users = [path for path, text in texts.items() if path != helper and use.search(text)]
        assert len(users) > 1 or helper.stem in elsewhere, f"{helper.name} is used by {users}"


@pytest.mark.parametrize("name", PACKAGES)
def test_imports_in_a_folder_point_to_the_same_or_an_upper_line_of_its_map(name):
    """A module imports only modules in lines above its own line, or in the same line."""
    layers = package_structure.printed_map(PACKAGES[name])

    def layer(module):
        return layers[package_structure.entry(PACKAGE[module], PACKAGES[name])]

    downwards = [
        f"{importer} imports {target}"
        for importer, targets in imports().items()
        if importer.startswith(f"{name}.")
        for target in targets
        if target.startswith(f"{name}.") and layer(target) > layer(importer)
    ]
    assert downwards == []


def test_a_transformation_of_a_dataset_does_not_import_another():
    """What several need is in a folder below. A column's stage is a map, and the modules of `pack` are one."""
    folder = "mpqueue.dataset.transformations"
    across = {
        (importer.removeprefix(f"{folder}."), target.removeprefix(f"{folder}."))
        for importer, targets in imports().items()
        for target in targets
        if importer.startswith(f"{folder}.") and target.startswith(f"{folder}.")
    }
    assert {(a, b) for a, b in across if a.partition(".")[0] != b.partition(".")[0]} == {("columns", "map")}


def test_the_path_from_a_source_to_a_batch_equals_its_diagram():
    """Each line of the diagram imports only its neighbours: the plan none, the engine only the plans' cursors."""
    page = ARCHITECTURE.read_text("utf-8")
    block = re.search(r"## From a source to a batch\n\n```text\n(.*?)```", page, re.S)[1]
    lines = [re.findall(r"(\w+)/", line[:46]) for line in block.splitlines() if not line.startswith(" ")]
    frontends, plan, engine, backends, worker = lines
    assert (plan, engine, backends, worker) == (["plan"], ["engine"], ["backends"], ["worker"])
    assert frontends == ["loader", "frameworks", "service"]
    known = defaultdict(set)
    for importer, targets in imports().items():
        known[importer.split(".")[1] if "." in importer else importer] |= {
            target.removeprefix("mpqueue.")
            for target in targets
            if not target.startswith(f"{importer.rpartition('.')[0]}.")
        }
    folders = {folder: {target.partition(".")[0] for target in targets} for folder, targets in known.items()}
    assert folders["plan"] <= {"errors", "plan", "seeding", "system"}
    assert {target for target in known["engine"] if target.startswith("plan")} == {
        "plan.position.cursors",
        "plan.position.lanes",
        "plan.position.stream_cursor",
    }
    assert not folders["engine"] & {*frontends, *backends, *worker, "dataset"}
    assert not folders["backends"] & {*frontends, "dataset"}
    assert not folders["worker"] & {*frontends, *backends, "dataset"}


def test_only_one_module_checks_the_operating_system():
    checks_of_system = re.compile(r"sys\.platform|hasattr\((os|select|signal|mmap|fcntl|faulthandler)\b")
    modules = [name for name, module in PACKAGE.items() if checks_of_system.search(module.path.read_text())]
    assert modules == ["mpqueue.system.platform_support"]


# The modules that mirror TensorFlow's names; only these import the package `tf1`.
DOORS = ("mpqueue.train", "mpqueue.python_io", "mpqueue.compat")
OF_TENSORFLOW_1 = ("mpqueue.tf1", *DOORS)
# A server loads the queues for a client that requests them; the other module lists class names.
NAMING_TENSORFLOW_1 = {"mpqueue.backends.sending.open_handles"}
# Tests of the whole package, which use its TensorFlow 1 part: its structure, its pages and its examples.
TESTS_OF_ALL = ("golden/", "docs/", "conftest.py", "helpers/docstrings.py", "helpers/batch_path.py", "test_")


def test_only_the_modules_that_mirror_tensorflows_names_import_tf1():
    across = [
        f"{importer} imports {target}"
        for importer, targets in imports().items()
        if importer != "mpqueue" and not importer.startswith(OF_TENSORFLOW_1)
        for target in targets
        if target.startswith(OF_TENSORFLOW_1)
    ]
    assert across == []


def test_no_other_module_loads_tf1_by_name():
    found = nodes(ast.Constant, without=OF_TENSORFLOW_1)
    naming = {f"mpqueue.{name}" for name, node in found if str(node.value).startswith("mpqueue.tf1")}
    assert naming == NAMING_TENSORFLOW_1


def test_the_package_works_without_tf1(tmp_path):
    """In a copy without tf1, all but three modules can be imported, `__all__` is complete, and batches arrive."""
    left_out = shutil.ignore_patterns("tf1", "__pycache__")
    shutil.copytree(package_structure.ROOT / "mpqueue", tmp_path / "mpqueue", ignore=left_out)
    modules = [name for name in PACKAGE if not name.startswith((*OF_TENSORFLOW_1, "mpqueue.__main__"))]
    of_frameworks = ("mpqueue.frameworks.", "mpqueue.torch", "mpqueue.backends.ray", "mpqueue.metrics")
    script = f"""
from importlib import import_module
import mpqueue
for name in {[name for name in modules if not name.startswith(of_frameworks)]}:
    import_module(name)
assert mpqueue.__file__.startswith({str(tmp_path)!r})
assert all(getattr(mpqueue, name) for name in mpqueue.__all__)
assert not hasattr(mpqueue, "FIFOQueue")
for name in {[*DOORS]}:
    try:
        import_module(f"{{name}}.v1" if name.endswith("compat") else name)
    except ModuleNotFoundError as error:
        assert error.name.startswith("mpqueue.tf1"), error
    else:
        raise AssertionError(f"{{name}} works without its package")
if __name__ == "__main__":
    with mpqueue.Loader(range(6), batch_size=2, workers=1) as loader:
        print([batch.tolist() for batch in loader])
    with mpqueue.Loader(mpqueue.Dataset(range(6)).filter(lambda value: value % 2 == 1).batch(3), workers=1, lanes=1) as loader:
        print([batch.tolist() for batch in loader])
    with mpqueue.Server({str(tmp_path / "s")!r}, [1, 2], workers=1) as server, mpqueue.attach(server.folder) as consumer:
        print(sorted(map(int, consumer)))
"""
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[[0, 1], [2, 3], [4, 5]]\n[[1, 3, 5]]\n[1, 2]\n", "")


def test_tests_outside_tf1_do_not_use_tf1():
    """Tests outside `tests/tf1` neither import it nor use its names, not even in the scripts that they run."""
    names = "|".join(sorted(tf1_root.__all__))
    uses = re.compile(
        rf"mpqueue\.(tf1|train|python_io|compat|(?:{names}))\b|from mpqueue import [^\n]*\b(?:{names}|python_io|train|compat)\b"
        r"|\bfrom tf1\b"
    )
    tests = package_structure.ROOT / "tests"
    found = {str(path.relative_to(tests)) for path in tests.rglob("*.py") if uses.search(path.read_text("utf-8"))}
    assert sorted(name for name in found if not name.startswith(("tf1/", *TESTS_OF_ALL))) == []


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_does_not_import_process_modules(name):
    known = set()
    for node in ast.walk(PACKAGE[name].tree):
        if isinstance(node, ast.Import):
            known |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            known.add((node.module or "").partition(".")[0])
    assert not known & IMPURE


CHANGES, MOST_FILES_OF_A_CHANGE = ("An exclusion", "New weights of a mixture", "A resume on other ranks"), 12
BATCHES = [
    f"A batch {which}" for which in ("by index", "of a stream", "ahead of its user", "to a consumer of a server")
]
WALKS = [
    *((ARCHITECTURE, heading) for heading in (*BATCHES, "A state of a loader", *CHANGES)),
    (DOCS / "tensorflow-1/internals.md", "An element of a queue"),
]


@pytest.mark.parametrize(("page", "heading"), WALKS)
def test_the_path_on_a_page_names_existing_files_and_functions(page, heading):
    steps, names = package_structure.walk(page, heading), names_of_files()
    assert len(steps) >= 5
    missing = [
        f"{step.file}: {name}"
        for step in steps
        for name in step.names
        if not package_structure.is_defined(PACKAGE[names[step.file]], name)
    ]
    assert missing == []
    assert all(step.names for step in steps)


def test_the_path_of_a_state_goes_down_only():
    """Each step calls a module that it imports, itself or by others; none calls back."""
    names = names_of_files()
    steps = package_structure.walk(ARCHITECTURE, "A state of a loader")
    edges, below = package_structure.graph(PACKAGE), set(PACKAGE)
    for name in (names[step.file] for step in steps):
        if name == "mpqueue.plan.states.states":  # called by the loader, not by the place before it
            below = reached(edges, "mpqueue.loader.loader")
        assert name in below, f"{name} is not below the step before it"
        below = reached(edges, name)
        assert "mpqueue.frameworks.jax" not in below


@pytest.mark.parametrize("heading", CHANGES)
def test_the_path_of_a_change_has_few_files_and_climbs_nowhere(heading):
    """No step imports a module of an earlier one."""
    names, edges = names_of_files(), package_structure.graph(PACKAGE)
    files = [names[step.file] for step in package_structure.walk(ARCHITECTURE, heading)]
    assert [*dict.fromkeys(files)] == files
    assert len(files) <= MOST_FILES_OF_A_CHANGE
    for index, name in enumerate(files):
        assert not edges[name] & {*files[:index]}, name


def reached(edges, name):
    """Return the modules that a module imports, itself or by others."""
    found, left = set(), [name]
    while left:
        left += (new := edges[left.pop()] - found)
        found |= new
    return found


def test_the_path_of_a_batch_uses_few_files_and_calls(tmp_path):
    legs = batch_path.of_an_index(tmp_path)
    for leg, passed in legs.items():
        print(f"  {leg}: {len(passed.files)} files, {passed.calls:.1f} calls")
        print("".join(f"    {file}\n" for file in passed.files), end="")
    assert len({file for leg in legs.values() for file in leg.files} - PASSED_IN_A_WAIT) <= MAX_FILES
    assert sum(leg.calls for leg in legs.values()) <= MAX_CALLS


def test_no_two_classes_have_the_same_name():
    """Classes of TensorFlow 1 are an exception, because they mirror names, and no module needs both."""
    homes = defaultdict(list)
    for name, node in nodes(ast.ClassDef, without="mpqueue.tf1."):
        homes[node.name].append(name)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_only_plan_and_engine_check_the_classes_of_cursors():
    checks = Counter()
    for name, node in nodes(ast.Call, without=("mpqueue.engine.", "mpqueue.plan.")):
        if ast.unparse(node.func) == "isinstance":
            checks[name] += "Cursor" in ast.unparse(node.args[1])
    assert +checks == {}


# Attributes that distinguish kinds of sources, and the modules that may examine them. A sample runner calls
# ``__getitems__`` if it exists. TensorFlow 1, file readers and stages of a dataset have their own sources.
MARKS_OF_SOURCES = {
    "open_lane", "__getitem__", "__getitems__", "num_batches", "__next__", "thread_safe", "on_epoch_end",
    "on_epoch_begin", "index_array", "__mpqueue_source__",
}  # fmt: skip
WHERE_SOURCES_ARE_KNOWN = (
    "mpqueue.plan.sources.",
    "mpqueue.plan.options.validation",
    "mpqueue.plan.options.coroutines",
    "mpqueue.dataset.",
    "mpqueue.files.",
    "mpqueue.tf1.",
)
SOURCES_EXAMINED = {
    "plan.order.resolve": 1, "worker.runners.generator_lanes": 1, "worker.runners.sample_runner": 2, "worker.runners.in_flight": 1,
    "worker.runners.coroutine_runners": 1, "frameworks.torch.source.worker": 2, "frameworks.torch.checks": 1,
    "frameworks.torch.source.awaited": 1,
}  # fmt: skip


def test_only_the_plan_examines_the_kind_of_a_source():
    """All other modules use the result: a source class, or the form that workers run."""
    checks = Counter()
    for name, node in nodes(ast.Call, without=WHERE_SOURCES_ARE_KNOWN):
        if ast.unparse(node.func) in {"hasattr", "getattr"}:
            of = [constant.value for constant in node.args[1:2] if isinstance(constant, ast.Constant)]
            checks[name] += bool(MARKS_OF_SOURCES & set(of))
    assert checks - Counter(SOURCES_EXAMINED) == {}


def test_only_a_backend_compares_its_name():
    """Other modules query a backend's properties: whether it shares memory, pickles, can be polled."""
    compared = Counter()
    for name, node in nodes(ast.Compare, without=WHERE_BACKENDS_ARE_NAMED):
        sides = [constant.value for side in node.comparators for constant in _constants(side)]
        compared[name] += bool(set(get_args(BackendName)) & set(sides))
    assert +compared == {}


def _constants(node):
    """Return the constants that a value is compared with, except those inside calls and subscripts."""
    parts = node.elts if isinstance(node, ast.Set | ast.Tuple | ast.List) else [node]
    return [part for part in parts if isinstance(part, ast.Constant)]


# Functions that catch every exception and raise none, by the reason why they take no interrupt for an error.
KEEP_EVERY_EXCEPTION = {
    "it runs in another thread, where no handler of a signal runs": {
        "backends.threads": ("_Computation.compute", "_Computation.initialise", "ThreadBackend._take"),
        "service.serving.loop": ("Loop.run",),
        "service.stream.stream": ("Stream._open", "Stream.take"),
        "tf1.coordination.members": ("Ending._wait",),
        "tf1.queues.hub": ("Hub._fail",),
        "worker.concurrency.async_iterators": ("_drive",),
        "worker.concurrency.event_loop": ("_serve",),
        "worker.concurrency.helper_threads": ("HelperCall.compute",),
    },
    "it runs in a worker, a fork server, or a process that ends": {
        "backends.start.fork_server": ("_ForkServer._take_source", "main", "spawned"),
        "system.processes.child_process": ("_call",),
        "worker.main": ("_Worker._batch_ahead", "run_and_exit"),
    },
    "signals are deferred": {
        "system.user_code.exception_texts": ("text_of", "traceback_text_of"),
        "tf1.coordinator": ("_call",),
        "worker.failures": ("_pickle_of", "_pickle_of_kind"),
    },
    "the exception is raised afterwards": {
        "backends.waiting_consumers": ("WaitingConsumers.sleep",),
        "engine.async_batches": ("_take",),
        "system.signals.deferred": ("_replace", "allow_signals", "restore"),
        "tf1.coordinator": ("Coordinator.stop_on_exception",),
    },
}
_ASKS = {"is_interrupt", "ends_iterator", "unreadable"}  # the other ones ask the first one


def _keepers(node, name):
    """Yield the names of functions with an ``except`` clause that keeps every exception."""
    for child in ast.iter_child_nodes(node):
        inside = (
            f"{name}.{child.name}" if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else name
        )
        if isinstance(child, ast.ExceptHandler) and _catches_all(child.type):
            called = {ast.unparse(each.func) for each in ast.walk(child) if isinstance(each, ast.Call)}
            if not called & _ASKS and not any(isinstance(each, ast.Raise) for each in ast.walk(child)):
                yield inside
        elif isinstance(child, ast.Call) and ast.unparse(child.func) == "contextlib.suppress":
            if any(map(_catches_all, child.args)):
                yield inside
        yield from _keepers(child, inside)


def _catches_all(kinds):
    return kinds is None or any(ast.unparse(each) == "BaseException" for each in ast.walk(kinds))


def test_a_clause_for_every_exception_raises_or_asks_for_interrupts():
    found = {
        keeper for name, module in PACKAGE.items() for keeper in _keepers(module.tree, name.removeprefix("mpqueue."))
    }
    of_modules = [each for modules in KEEP_EVERY_EXCEPTION.values() for each in modules.items()]
    assert found == {f"{module}.{function}" for module, functions in of_modules for function in functions}


def test_only_files_catch_expected_errors_unless_a_handler_raised_them():
    found = nodes(ast.ImportFrom, without="mpqueue.files.")
    assert [name for name, node in found if any(alias.name == "not_of_handler" for alias in node.names)] == []
