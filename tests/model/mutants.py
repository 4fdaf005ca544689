"""Whether the player notices mended faults: it plays against copies of the package that have one fault each.

A patch in ``mutants`` takes a mend back. Its first lines name the fault, and the front end, features and operations
that must meet to show it. All plays have these.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time

from model import command

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mutants")


def names():
    return sorted(name.removesuffix(".patch") for name in os.listdir(FOLDER))


def main(chosen, minutes, seed, jobs=2, report=print):
    """Play against each mutant until it is found; return True if all are, and the package shows no difference itself."""
    missed, own = [], []
    for name in chosen or names():
        with open(os.path.join(FOLDER, f"{name}.patch"), encoding="utf-8") as file:
            title, needs, *_ = file.read().splitlines()
        front, *focus = re.findall(r"[^ ,:]+", needs.removeprefix("needs:"))
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            began = time.monotonic()
            found, count = tried(name, folder, minutes * 60, seed, jobs, front, focus, own.append)
            took = time.monotonic() - began
            is_shrunk = found and found["error"][:3] != "the"
            program = command.shrunk_program(found["seed"], found["front"], focus, folder) if is_shrunk else ""
            lines = program.count("\n")
        missed += [] if found else [name]
        if found and not lines:
            report(found["error"][:500])
        report(f"| {name} | {title} | {count if found else f'not in {count}'} | {took:.0f} | {lines or ''} |")
    for each in own:
        report(f"the package itself, seed {each['seed']}, {each['front']}: {each['error'][:500]}")
    report(f"{len(missed)} not found: {', '.join(missed)}")
    return not (missed or own)


def tried(name, folder, seconds, seed, jobs, front, focus, of_package):
    """Play against a mutant; return the first difference, or None, and the number of plays.

    A play that also shows a difference without the fault does not detect it: ``of_package`` receives the play.
    """
    package, left_out = os.path.join(command.TESTS, "..", "mpqueue"), shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, os.path.join(folder, "mpqueue"), ignore=left_out)
    subprocess.run(["patch", "-p1", "-s", "-i", os.path.join(FOLDER, f"{name}.patch")], cwd=folder, check=True)
    count, plays = 0, command.plays(seconds, seed, jobs, front, folder, focus)
    for found in plays:
        count += 1
        if found["error"]:
            error = command.replayed(found["seed"], found["front"], focus)
            if error is None:
                plays.close()
                return found, count
            of_package({**found, "error": error})
    return None, count
