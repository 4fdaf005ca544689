"""The command line of `scripts/mutants`."""

import argparse
import os
import sys
from pathlib import Path
from typing import NamedTuple

from parts.mutants import alone, targets
from parts.mutants.mutations import Mutant, mutants_of
from parts.mutants.trying import Copy, Outcome

_ROOT = Path(__file__).resolve().parents[3]
_PACKAGE = _ROOT / "mpqueue"
_NICENESS = 15


class Tally(NamedTuple):
    """Counts of the mutants of a module.

    Attributes:
        module: Path in the package.
        killed: Number of killed mutants,
        stopped: of these, the number that were stopped because a test did not end.
        survived: The other mutants.
    """

    module: str
    killed: int
    stopped: int
    survived: list[Mutant]

    def __str__(self) -> str:
        count = self.killed + len(self.survived)
        share = self.killed / (count or 1)
        return f"{self.module:30} {count:6} {self.killed:7} {100 * share:6.1f} % {self.stopped:8}"


def main(about: str) -> int:
    """Run the command line; return the exit status."""
    parser = _parser(about)
    options = parser.parse_args()
    if not options.modules and not options.sample:
        parser.error("expected modules, or --sample N")
    if alone.FOLDER not in os.environ:
        return alone.run([sys.executable, *sys.argv])
    os.nice(_NICENESS)
    copy = Copy(_ROOT, Path(os.environ[alone.FOLDER]))
    copy.warm_up()
    chosen = _chosen(options)
    tests = sorted({f"tests/{name}" for module in chosen for name in _tests(module, options)})
    print(f"{' '.join(tests)} are run without a mutant", flush=True)
    copy.survey([f"mpqueue/{module}" for module in chosen], tests)
    tallies = [_try(copy, module, mutants, options) for module, mutants in chosen.items()]
    print(f"\n{'module':30} {'mutants':>6} {'killed':>6} {'share':>8} {'no end':>8}")
    for tally in tallies:
        print(tally)
    count = sum(tally.killed + len(tally.survived) for tally in tallies)
    killed = sum(tally.killed for tally in tallies)
    print(f"{killed} of {count} killed: {100 * killed / (count or 1):.1f} %")
    return 1 if any(tally.survived for tally in tallies) else 0


def _parser(about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about, epilog="The exit status is 1 if a mutant survived.")
    parser.add_argument("modules", nargs="*", help="paths below mpqueue/; with --sample: folders (default: all)")
    parser.add_argument("--lines", metavar="A-B", help="only mutants that start on these lines")
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="tests below tests/ instead of the module's own")
    parser.add_argument("--sample", type=int, metavar="N", help="N random mutants of the engine's folders instead")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample (default: 0)")
    parser.add_argument("--killers", action="store_true", help="print the outcome of each mutant")
    return parser


def _chosen(options: argparse.Namespace) -> dict[str, list[Mutant]]:
    if options.sample:
        return targets.sampled(_PACKAGE, options.sample, options.seed, options.modules or [""])
    first, _, last = (options.lines or "1-1000000").partition("-")
    lines = range(int(first), int(last or first) + 1)
    return {
        module: [mutant for mutant in mutants_of((_PACKAGE / module).read_bytes()) if mutant.line in lines]
        for module in options.modules
    }


def _tests(module: str, options: argparse.Namespace) -> list[str]:
    if options.tests:
        return list(options.tests)
    return targets.wider_tests_of(module) if options.sample else targets.tests_of(module, _ROOT)


def _try(copy: Copy, module: str, mutants: list[Mutant], options: argparse.Namespace) -> Tally:
    """Try all mutants of one module."""
    target = f"mpqueue/{module}"
    source = (copy.folder / target).read_bytes()  # not the tree's, which may be edited in the meantime
    killed, stopped, survived = 0, 0, []
    try:
        for mutant in mutants:
            copy.write(target, mutant.source)
            tests = copy.tests_of(target, mutant.line)
            outcome = copy.judge(tests) if tests else Outcome(None, True, 0.0)
            if options.killers:
                what = f"{module}:{mutant.line} {mutant.new!r}"
                end = "" if outcome.has_ended else " does not end"
                found = f"{outcome.killer or 'survives'}{end} ({len(tests)} tests, {outcome.seconds:.1f} s)"
                print(f"  {what}: {found}", flush=True)
            if outcome.killer is not None:
                killed, stopped = killed + 1, stopped + (not outcome.has_ended)
            else:
                survived.append(mutant)
                print(f"  mpqueue/{module}:{mutant.line} survives\n{_indented(mutant.difference)}", flush=True)
    finally:
        copy.write(target, source)
    return Tally(module, killed, stopped, survived)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
