"""The tests that must detect a change, by module."""

import random
from collections.abc import Sequence
from pathlib import Path

from parts.mutants.mutations import Change, Mutant, changes_of, made

# The pure modules, each with its fast tests, which must kill nearly every mutant on their own.
PURE = {
    "memory/slots.py": ["memory/test_slot_states.py"],
    "memory/layout.py": ["memory/test_layout.py", "memory/test_any_tree.py"],
    "tf1/queues/arena.py": ["tf1/queues/test_arena.py"],
    "plan/cursors.py": ["plan/test_cursors.py", "plan/test_drawn_order.py", "plan/test_order.py"],
    "seeding/seeds.py": ["seeding/test_seeds.py"],
    "plan/plans.py": ["plan/test_plans.py"],
    "plan/resolve.py": ["plan/test_plans.py"],
    "seeding/global_rng.py": ["seeding/test_global_rng.py"],
    "seeding/lazy_seeding.py": ["seeding/test_lazy_seeding.py"],
    "engine/ledger.py": [
        "engine/test_ledger.py",
        "engine/test_pipeline.py",
        "plan/test_order.py",
        "plan/test_endless_lanes.py",
    ],
    "engine/outcomes.py": ["engine/test_ledger.py", "engine/test_pipeline.py"],
    "seeding/permutation.py": ["seeding/test_permutation.py"],
    "plan/ranks.py": ["plan/test_ranks.py"],
    "plan/batching.py": ["plan/test_ranks.py"],
    "plan/sampler_fingerprint.py": ["plan/test_draws.py"],
    "plan/draws.py": ["plan/test_draws.py"],
    "tf1/queues/machine.py": ["tf1/queues/test_machine.py", "tf1/queues/test_order.py"],
    "tf1/queues/windows.py": ["tf1/queues/test_windows.py"],
    "tf1/queues/blocks.py": ["tf1/queues/test_blocks.py"],
    "tf1/queues/selection.py": ["tf1/queues/test_selection.py"],
    "tf1/queues/wire.py": ["tf1/queues/test_wire.py", "tf1/queues/shared/test_records.py"],
    "examples/protobuf_wire.py": ["tf1/parsing/test_protobuf_parts.py", "tf1/parsing/test_protobuf_wire.py"],
    "tf1/parsing/number_text.py": ["tf1/parsing/test_number_text.py"],
    "tf1/parsing/csv_fields.py": ["tf1/parsing/test_csv_fields.py", "tf1/parsing/test_csv.py"],
    "tf1/parsing/csv_cut.py": ["tf1/parsing/test_csv_cut.py", "tf1/parsing/test_csv.py"],
    "tf1/parsing/csv_rows.py": ["tf1/parsing/test_csv.py"],
    "tf1/parsing/csv_columns.py": ["tf1/parsing/test_csv_columns.py", "tf1/parsing/test_csv.py"],
    "tf1/parsing/csv.py": ["tf1/parsing/test_csv.py"],
    "tf1/compat/graph/plan.py": ["tf1/compat/test_plan.py"],
    "tf1/compat/ops/dims.py": ["tf1/compat/test_dims.py"],
}
# Folders with slow tests (minutes): modules, and the names of their tests.
_NEAR = [
    ("dataset", "nodes dataset arguments", "dataset bad_input"),
    ("dataset", "indexed source applying", "indexed blocks"),
    ("dataset", "packing rows sequences", "packing rows"),
    ("dataset", "buckets", "buckets"),
    ("dataset", "mixing", "mixing"),
    ("dataset", "rounds", "rounds"),
    ("dataset", "threaded", "threaded"),
    ("dataset", "caches records record_files keeping fingerprint", "caches"),
    (
        "dataset",
        "stages lane passes batching buffers flattening joining roots opening",
        "lanes pipelines blocks snapshots",
    ),
    ("files", "tar tar_headers", "tar"),
    ("files", "mds mds_values", "mds"),
    ("files", "arrow arrow_messages arrow_slices arrow_values", "arrow"),
    ("files", "parquet", "parquet"),
    ("files", "columns groups rows", "parquet arrow mds"),
    ("files", "index index_file scanning window kept source", "index json_lines"),
    ("files", "ranges urls", "ranges"),
    ("files", "opened positioned", "opened"),
    ("files", "array_record", "array_record"),
    ("files", "decoded", "parquet mds"),
    ("files", "images", "images"),
    ("files", "json_lines unpacked", "json_lines"),
    ("files", "names", "names"),
    ("files", "tfrecord", "tfrecord"),
    ("workers", "autosize", "autosize"),
]
# Some tests of a folder, or tests in another folder than the neighbouring modules' tests.
OWN = {
    "plan/sequence.py": ["frameworks/enqueuers/test_enqueuer_forms.py"],
    "plan/refused.py": ["loader/test_mistakes.py", "dataset/test_bad_input.py"],
    "worker/retry_markers.py": ["dataset/test_lost_samples.py"],
    "tf1/queues/host.py": ["tf1/serving/test_queue_server.py"],
} | {
    f"{folder}/{module}.py": [f"{folder}/test_{test}.py" for test in tests.split()]
    for folder, modules, tests in _NEAR
    for module in modules.split()
}
# For a sample of the engine: the test folders for mutants of a folder, if it has no tests above, or if the mutants
# survive these.
FOLDERS = {
    "engine": ["engine", "loader"],
    "dataset": ["dataset"],
    "files": ["files"],
    "loader": ["loader"],
    "samples": ["samples"],
    "service": ["service"],
    "transport": ["transport", "service"],
    "workers": ["workers"],
    "worker": ["workers", "samples"],
    "memory": ["memory"],
    "tf1/coordination": ["tf1/coordination", "tf1/queues"],
    "tf1/queues": ["tf1/queues"],
    "tf1/readers": ["tf1/readers"],
    "tf1/train": ["tf1/train"],
}


def tests_of(module: str) -> list[str]:
    """Return the test files or folders of a module, below ``tests/``.

    Raises:
        ValueError: The module is not in a table.
    """
    tests = PURE.get(module) or OWN.get(module) or FOLDERS.get(_folder_of(module))
    if tests is None:
        raise ValueError(f"{module} is not in scripts/parts/mutants/targets.py; add its tests there")
    return tests


def wider_tests_of(module: str) -> list[str]:
    """Return the test folders for a sampled mutant that survives the module's tests; [] if there are no others."""
    tests = FOLDERS.get(_folder_of(module), [])
    return [] if tests == tests_of(module) else tests


def _folder_of(module: str) -> str:
    folder = module.rpartition("/")[0]
    while folder and folder not in FOLDERS:
        folder = folder.rpartition("/")[0]
    return folder


def sampled(package: Path, count: int, seed: int, below: Sequence[str] = ("",)) -> dict[str, list[Mutant]]:
    """Return random mutants of the engine's folders by module, each mutant with equal probability.

    Args:
        package: Folder of the package.
        count: Number of mutants.
        seed: Seed of the draw.
        below: Prefixes of the paths of modules to use.

    Raises:
        ValueError: No module in the folders has one of the prefixes.
    """
    everything: list[tuple[str, bytes, Change]] = []
    for folder in sorted(FOLDERS):
        for path in sorted((package / folder).rglob("*.py")):
            module = path.relative_to(package).as_posix()
            if module.startswith(tuple(below)):
                source = path.read_bytes()
                everything += [(module, source, change) for change in changes_of(source)]
    for start in below:
        if not any(module.startswith(start) for module, _, _ in everything):
            raise ValueError(f"{start} is not in scripts/parts/mutants/targets.py; add its folder there")
    random.Random(seed).shuffle(everything)
    drawn: dict[str, list[Mutant]] = {}
    for module, source, change in everything:
        mutant = made(source, change) if count else None
        if mutant is not None:
            drawn.setdefault(module, []).append(mutant)
            count -= 1
    return {module: sorted(mutants) for module, mutants in sorted(drawn.items())}
