"""An import inside a function is of an extra, or saves the time of a start that does not need the module."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache

import pytest
from helpers import package_structure

pytestmark = [pytest.mark.slow, pytest.mark.pure]

PACKAGE = package_structure.read(package_structure.ROOT / "mpqueue", "mpqueue")
# What to import from packages whose modules have other names.
NAMES = {"absl_py": "absl", "opentelemetry_api": "opentelemetry", "pillow": "PIL", "protobuf": "google"}
OF_PROGRAMS = {"torchdata"}  # only programs that use the package need the import
# Of the standard library and of required packages: they take 1 to 100 ms each, and most starts do not need them.
SLOW = {"cloudpickle", "concurrent.futures", "difflib", "hashlib", "hmac", "html", "importlib.util", "logging"}
SLOW |= {"importlib.metadata", "numpy", "psutil", "signal", "ssl", "subprocess", "tempfile"}
# The function is pickled by value and runs on a node of Ray, which may lack the package.
ON_A_NODE = {"importlib", "mpqueue.backends.ray.agent", "mpqueue.backends.ray.wire", "sys"}

# Modules of the package, by a start that imports the importer, and does not need them.
UNNEEDED = {
    "import mpqueue; mpqueue.Loader": """
        backends.job engine.async_batches loader.passes loader.questions loader.run loader.session
        loader.stream_questions plan.ids.sample_ids plan.order.resolve plan.order.rules system.signals.condition
        system.units system.user_code.extras system.user_code.object_walk tf1.root""",
    "import mpqueue; mpqueue.Loader([1])": """
        seeding.seeds worker.concurrency.async_sources worker.config worker.context
        backends.sending.source_send plan.options.ray_options system.descriptors.descriptors
        system.processes.child_process system.processes.limits""",
    "import mpqueue; next(iter(mpqueue.Loader([1], batch_size=1, workers=0)))": """
        backends.processes.process backends.processes.source_sync backends.sending.open_handles
        backends.sending.source_send backends.sending.source_watch backends.start.launcher backends.threads
        system.processes.child_process system.processes.limits
        worker.concurrency.async_iterators worker.concurrency.event_loop""",
    "import mpqueue; mpqueue.rng": "system.descriptors.descriptors",
    "import mpqueue.backends.start.launcher": "backends.sending.kept_source worker.failures",
    "import mpqueue; mpqueue.Loader(mpqueue.Dataset([1]).map(str).batch(1))": """
        dataset.description.fingerprint dataset.mix.mixtures dataset.running.lane_ids loader.epoch_iterator
        samples.sparse system.user_code.shared_state telemetry.epoch_starts telemetry.stats
        worker.concurrency.coroutines""",
    "import mpqueue; loader = mpqueue.Loader([1], batch_size=1, workers=1); next(iter(loader))": """
        backends.inline backends.processes.autosize backends.processes.lane_dispatcher backends.sending.open_handles
        backends.start.forker backends.threads loader.progress memory.unlocked_maps plan.options.balance
        plan.order.balanced plan.order.drawn plan.order.epoch_samples plan.order.packed plan.order.streams
        plan.position.exclusions plan.sources.columns plan.sources.stream_sources plan.states.of_plan
        plan.states.saved_states plan.states.states seeding.words system.callers telemetry.timeline
        telemetry.stats""",
    "import mpqueue; mpqueue.Loader([1], batch_sampler=[[0]])": "plan.position.exclusions",
    "import mpqueue; mpqueue.Loader([1, 2]).exclude([1])": "loader.replay",
    "import mpqueue; mpqueue.Loader([1]).state_dict()": """
        plan.order.balanced plan.order.streams plan.states.compact plan.states.stream_states""",
    "import mpqueue; mpqueue.Loader(mpqueue.Dataset([1]).filter(bool), lanes=1).state_dict()": "plan.states.index_states",
    "import mpqueue.plan.order.epoch_samples": "seeding.words",
    "import mpqueue.backends.start.fork_server": """
        worker.runners.coroutine_runners worker.runners.generator_lanes worker.runners.in_flight
        worker.runners.lane_runner worker.runners.sample_runner""",
    "import mpqueue; mpqueue.torch.DataLoader": """
        backends.sending.source_send frameworks.torch.source.awaited loader.stream_questions plan.position.draws
        worker.concurrency.coroutines worker.runners.in_flight""",
    "import mpqueue; mpqueue.OrderedEnqueuer": """
        backends.start.launcher engine.async_batches loader.launch worker.config worker.failures""",
    "import mpqueue; mpqueue.attach": "engine.async_batches",
    "import mpqueue; mpqueue.files.TarStream": "dataset.dataset",
    "import mpqueue; mpqueue.train.batch": "tf1.compat.names tf1.queues.hub tf1.train.process_op",
    "import mpqueue; mpqueue.decode_json_example": "tf1.parsing.example",
    "import mpqueue; mpqueue.parse_single_sequence_example": "tf1.parsing.example",
    "import mpqueue.commands.bench.bench": """
        commands.bench.advice commands.bench.measure commands.bench.ranks commands.bench.report loader.loader
        plan.options.options plan.options.validation""",
    "import mpqueue.commands.doctor.doctor": """
        dataset.caching.caches loader.loader memory.segment service.protocol.server_directory""",
    "import mpqueue.commands.state.state": "commands.state.next_batch",
}
UNNEEDED = {start: {f"mpqueue.{name}" for name in names.split()} for start, names in UNNEEDED.items()}


def extras():
    """Return the names of the modules that the extras install."""
    project = tomllib.loads((package_structure.ROOT / "pyproject.toml").read_text())["project"]
    packages = {re.match(r"[\w-]+", text)[0] for each in project["optional-dependencies"].values() for text in each}
    return {NAMES.get(name, name) for name in (package.replace("-", "_") for package in packages)} | OF_PROGRAMS


@cache
def in_functions():
    """Return what functions import, as pairs of the importer and the module."""
    pairs = set()
    for name, module in PACKAGE.items():
        for function in ast.walk(module.tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                pairs |= {(name, target) for node in ast.walk(function) for target in _imported(node)}
    return {pair for pair in pairs if pair[1].partition(".")[0] not in extras()}


def _imported(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    inner = [f"{node.module}.{alias.name}" for alias in node.names]
    return [name if name in PACKAGE else node.module for name in inner]


def test_functions_import_extras_and_listed_modules_only():
    assert {target for _, target in in_functions()} == set().union(SLOW, ON_A_NODE, *UNNEEDED.values())
    assert {importer for importer, target in in_functions() if target in ON_A_NODE} == {"mpqueue.backends.ray.agents"}


def test_each_import_in_a_function_saves_time_of_a_listed_start():
    """Otherwise, the import belongs at the top of its module."""
    saved = set()
    for start, names in UNNEEDED.items():
        script = f"import sys\n{start}\nprint(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
        loaded = set(done.stdout.split())
        saved |= {
            (importer, name) for importer, name in in_functions() if importer in loaded and name in names - loaded
        }
    own = {(importer, name) for importer, name in in_functions() if name.startswith("mpqueue.")}
    assert {(importer, name) for importer, name in own - saved if name not in ON_A_NODE} == set()
