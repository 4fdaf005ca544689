"""The tests that must detect a change, by module."""

import random
from collections.abc import Sequence
from pathlib import Path

from parts.mutants.mutations import Change, Mutant, changes_of, made

# The folders of the engine, and the folders of their tests.
FOLDERS = {
    "engine": ["engine", "plan", "loader", "samples"],
    "examples": ["tf1/parsing"],
    "dataset": ["dataset"],
    "files": ["files"],
    "loader": ["loader", "plan", "samples", "telemetry"],
    "samples": ["samples"],
    "service": ["service"],
    "transport": ["transport", "service"],
    "backends": ["backends"],
    "worker": ["backends", "samples"],
    "memory": ["memory", "loader", "telemetry"],
    "plan": ["plan", "loader", "samples"],
    "seeding": ["seeding", "loader", "samples"],
    "tf1/coordination": ["tf1/coordination", "tf1/queues"],
    "tf1/queues": ["tf1/queues"],
    "tf1/readers": ["tf1/readers"],
    "tf1/train": ["tf1/train"],
}


def tests_of(module: str, root: Path) -> list[str]:
    """Return the tests that are named after a module, or else the test folders of its folder, below ``tests/``."""
    folder, _, name = module.removesuffix(".py").rpartition("/")
    while folder:  # the tests of a room are in the folder of its package
        tests = root / "tests" / folder
        near = [*tests.glob(f"test_{name}.py"), *tests.glob(f"test_{name}_*.py")]
        if near:
            return sorted(path.relative_to(root / "tests").as_posix() for path in near)
        folder = folder.rpartition("/")[0]
    return wider_tests_of(module)


def wider_tests_of(module: str) -> list[str]:
    """Return the folders with tests of a module's folder."""
    return FOLDERS.get(_folder_of(module)) or [module.rpartition("/")[0]]


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
