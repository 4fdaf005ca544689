"""Run a clean training and one with damaged samples, and compare them."""

import argparse
import json
import time
from collections.abc import Sequence

import numpy as np

from parts.machine import ROOT
from parts.rewind.patches import patches
from parts.rewind.training import Run, train

DATA = ROOT / "docs" / "data" / "rewind.json"
NUM_SAMPLES, NUM_DAMAGED, SEED = 50_000, 20, 7
_NUM_CLASSES, _POINTS = 32, 60


def main(description: str, arguments: Sequence[str] | None = None) -> int:
    """Return 0 if the repaired run ends with the weights of the clean one."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--save", action="store_true", help="store the run for the picture of docs/guides/rewind.md")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    source, damaged = patches(NUM_SAMPLES, NUM_DAMAGED, SEED)
    print(f"{NUM_SAMPLES:,} patches of photographs, {NUM_DAMAGED} of them damaged")
    clean = train(source, _NUM_CLASSES, seed=SEED, say=print, exclude=damaged)
    print(f"the clean run ends with a loss of {clean.losses[-1]:.6f} after {len(clean.losses)} steps")
    repaired = train(source, _NUM_CLASSES, seed=SEED, say=print)
    for sample in sorted(repaired.found)[:3]:
        print(f"sample {sample}: pixels from {source.pixels(sample).min()} to {source.pixels(sample).max()}")
    print(f"the repaired run ends with a loss of {repaired.losses[-1]:.6f} after {len(repaired.losses)} steps")
    is_same = clean.losses == repaired.losses and all(map(np.array_equal, clean.weights, repaired.weights))
    has_all = sorted(repaired.found) == damaged
    print(f"found {len(repaired.found)} of {NUM_DAMAGED} damaged samples in {time.monotonic() - started:.0f} s")
    print("all losses and weights are those of the clean run" if is_same else "the runs differ")
    if options.save:
        DATA.write_text(json.dumps(stored(repaired), indent=1) + "\n", "utf-8")
    return 0 if is_same and has_all else 1


def stored(run: Run) -> dict[str, list[float]]:
    """Return the points of the picture: the mean loss of equal parts of the run, and the steps where it broke."""
    size = len(run.losses) // _POINTS
    means = [round(float(np.mean(run.losses[at : at + size])), 4) for at in range(0, size * _POINTS, size)]
    return {"losses": means, "steps": [len(run.losses)], "breaks": run.breaks}
