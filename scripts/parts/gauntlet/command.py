"""The program of ``scripts/gauntlet``."""

import argparse
import dataclasses
import importlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from parts.gauntlet import table
from parts.gauntlet.peers import ENTRIES, OURS, install
from parts.gauntlet.pipeline import Setup
from parts.gauntlet.scenarios import CHANGES, Gauntlet, Outcome
from parts.machine import ROOT


def main(description: str, arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 if mpqueue was exact."""
    options = _parsed(description, arguments)
    if options.install:
        install()
        return 0
    if options.model or options.mutants is not None:
        return 0 if _modelled(options) else 1
    rows, exact = [], True
    for name in options.only or ENTRIES:
        entry = ENTRIES[name]
        if not entry.is_installed:
            _report(f"{name} is not installed: scripts/gauntlet --install")
            continue
        for variant in (table.BATCHES, table.ROWS) if entry.packs else (table.BATCHES,):
            outcomes = _played(name, variant, options.seed)
            rows.append(table.row_of(name, variant, entry.version(), outcomes))
            exact &= name != OURS or all(outcome.is_exact for outcome in outcomes.values())
            if options.write:  # save each result at once, because the whole takes long
                table.save(rows[-1:])
    print(table.drawn(table.RESUMES, rows))
    if options.write:
        table.PAGE.write_text(table.with_current_tables(table.PAGE.read_text("utf-8"), table.load()), "utf-8")
    return 0 if exact else 1


def _modelled(options: argparse.Namespace) -> bool:
    """Compare mpqueue, or copies with a fault, with the model of the tests."""
    sys.path.insert(0, str(ROOT / "tests"))
    command, mutants = (importlib.import_module(f"model.{name}") for name in ("command", "mutants"))
    if options.mutants is not None:
        return bool(mutants.main(options.mutants, options.minutes, options.seed))
    return bool(command.main(float(options.minutes), options.seed, folder=".", jobs=2, report=_report))


def _played(name: str, variant: str, seed: int) -> dict[str, Outcome]:
    setup = Setup(0, is_packed=variant == table.ROWS)
    if setup.is_packed:
        setup = dataclasses.replace(setup, batch=4)  # for the same number of batches per epoch as with samples
    found = {}
    with tempfile.TemporaryDirectory(prefix="gauntlet-") as folder:
        plain = dataclasses.replace(setup, workers=2) if name == OURS else None
        runs = Gauntlet(ENTRIES[name], setup, Path(folder), seed, plain)
        for change, stages in CHANGES.items():
            found[change] = runs.play(stages)
            _report(f"{name}, {variant}, {change}: {found[change]}")
    return found


def _report(line: str) -> None:
    print(line, flush=True)


def _parsed(description: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/gauntlet", description=description)
    parser.add_argument("--install", action="store_true", help="create the peers' virtual environments, and exit")
    parser.add_argument("--model", action="store_true", help="compare random pipelines of mpqueue with a model instead")
    parser.add_argument("--mutants", nargs="*", metavar="NAME", help="find faults in this way; all by default")
    parser.add_argument("--minutes", type=float, default=10.0, help="time of --model, or for each mutant (default: 10)")
    parser.add_argument("--seed", type=int, default=1, help="seed of all random choices (default: 1)")
    parser.add_argument("--only", type=_names, metavar="NAME;...", help=f"of: {'; '.join(ENTRIES)}")
    parser.add_argument("--write", action="store_true", help="write docs/data/gauntlet.json, and its table")
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(";")]
    if unknown := [name for name in names if name not in ENTRIES]:
        raise argparse.ArgumentTypeError(f"expected one of {'; '.join(ENTRIES)}; got {unknown[0]!r}")
    return names
