"""Whether the player notices faults that were mended: it plays against copies of the package that have one of them.

A patch in ``mutants`` takes a mend back. Its first lines say what it breaks, and which features must meet to show it.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time

from model import command

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mutants")
FRONT_OF = {"torch": "torch", "torch-iterable": "torch", "stateful": "torch", "keras": "keras", "jax": "jax",
            "prefetch": "prefetch-ahead", "server": "server", "enqueuer": "ordered"}  # fmt: skip


def names():
    return sorted(name.removesuffix(".patch") for name in os.listdir(FOLDER))


def main(chosen, minutes, seed, jobs=2, report=print):
    """Play against each mutant until it is found; return True if all are."""
    missed = []
    for name in chosen or names():
        with open(os.path.join(FOLDER, f"{name}.patch"), encoding="utf-8") as file:
            title, needs, *_ = file.read().splitlines()
        fronts = {FRONT_OF[word] for word in re.findall(r"[\w-]+", needs) if word in FRONT_OF}
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            began = time.monotonic()
            found, count = tried(name, folder, minutes * 60, seed, jobs, max(fronts, default="loader"))
            took = time.monotonic() - began
            lines = (
                command.shrunk_program(found["seed"], found["front"], folder).count("\n")
                if found and found["error"][:3] != "the"
                else 0
            )
        missed += [] if found else [name]
        if found and not lines:
            report(found["error"][:500])
        report(f"| {name} | {title} | {count if found else f'not in {count}'} | {took:.0f} | {lines or ''} |")
    report(f"{len(missed)} not found: {', '.join(missed)}")
    return not missed


def tried(name, folder, seconds, seed, jobs, front):
    """Play against a mutant; return the first difference, or None, and the number of plays."""
    shutil.copytree(
        os.path.join(command.TESTS, "..", "mpqueue"),
        os.path.join(folder, "mpqueue"),
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    subprocess.run(["patch", "-p1", "-s", "-i", os.path.join(FOLDER, f"{name}.patch")], cwd=folder, check=True)
    count, plays = 0, command.plays(seconds, seed, jobs, front, folder)
    for found in plays:
        count += 1
        if found["error"]:
            plays.close()
            return found, count
    return None, count
