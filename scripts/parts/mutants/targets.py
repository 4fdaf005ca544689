"""The tests that are to see a change, by module."""

import random
from pathlib import Path

from parts.mutants.mutations import Mutant, changes_of, made

# The pure modules, and the fast tests that are theirs: nearly every mutant must die by these alone.
PURE = {
    "memory/slots.py": ["memory/test_slot_states.py"],
    "memory/layout.py": ["memory/test_layout.py"],
    "memory/recipes.py": ["memory/test_layout.py"],
    "memory/arena.py": ["memory/test_arena.py"],
    "memory/leases.py": ["memory/test_leases.py"],
    "control/schedule.py": ["control/test_order.py", "control/test_drawn_order.py"],
    "control/progress.py": ["control/test_order.py"],
    "control/seeds.py": ["control/test_seeds.py"],
    "control/twisters.py": ["control/test_seeds.py"],
    "control/ledger.py": ["control/test_ledger.py"],
    "control/outcomes.py": ["control/test_ledger.py"],
    "samples/permutation.py": ["samples/test_permutation.py"],
    "samples/shards.py": ["samples/test_shards.py"],
    "samples/plan.py": ["samples/test_shards.py"],
    "samples/marks.py": ["samples/test_drawing.py"],
    "samples/drawing.py": ["samples/test_drawing.py"],
    "queues/machine.py": ["queues/test_machine.py"],
    "queues/order.py": ["queues/test_order.py"],
    "queues/windows.py": ["queues/test_windows.py"],
    "queues/blocks.py": ["queues/test_blocks.py"],
    "queues/selection.py": ["queues/test_selection.py"],
    "queues/wire.py": ["queues/test_wire.py", "queues/shared/test_records.py"],
    "parsing/protobuf_wire.py": ["parsing/test_protobuf_parts.py", "parsing/test_protobuf_wire.py"],
    "parsing/number_text.py": ["parsing/test_number_text.py"],
    "parsing/csv_fields.py": ["parsing/test_csv_fields.py", "parsing/test_csv.py"],
    "parsing/csv_cut.py": ["parsing/test_csv_cut.py", "parsing/test_csv.py"],
    "parsing/csv_rows.py": ["parsing/test_csv.py"],
    "parsing/csv_columns.py": ["parsing/test_csv_columns.py", "parsing/test_csv.py"],
    "parsing/csv.py": ["parsing/test_csv.py"],
    "compat/graph/plan.py": ["compat/test_plan.py"],
    "compat/ops/dims.py": ["compat/test_dims.py"],
}
# For a sample over the engine: the folders of tests that are run for a mutant of a folder.
FOLDERS = {
    "control": ["control", "engine"],
    "workers": ["workers"],
    "memory": ["memory"],
    "queues": ["queues"],
    "readers": ["readers"],
    "train": ["train"],
}


def tests_of(module: str) -> list[str]:
    """Test files or folders of a module, below ``tests/``.

    Raises:
        ValueError: No table names it.
    """
    tests = PURE.get(module) or FOLDERS.get(module.partition("/")[0])
    if tests is None:
        raise ValueError(f"{module} has no tests here: name it in scripts/parts/mutants/targets.py")
    return tests


def sampled(package: Path, count: int, seed: int) -> dict[str, list[Mutant]]:
    """So many mutants by module, drawn over the engine's folders: each mutant of each module is as likely as any."""
    everything = []
    for folder in sorted(FOLDERS):
        for path in sorted((package / folder).rglob("*.py")):
            source = path.read_bytes()
            everything += [(path.relative_to(package).as_posix(), source, change) for change in changes_of(source)]
    random.Random(seed).shuffle(everything)
    drawn: dict[str, list[Mutant]] = {}
    for module, source, change in everything:
        mutant = made(source, change) if count else None
        if mutant is not None:
            drawn.setdefault(module, []).append(mutant)
            count -= 1
    return {module: sorted(mutants) for module, mutants in sorted(drawn.items())}
