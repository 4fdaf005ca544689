"""``scripts/demo`` on two small pictures."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import mpqueue
from helpers.script_modules import SCRIPTS

SMALL = """
import hashlib, json, runpy, sys
from pathlib import Path
from parts.demo import compare
from parts.photographs import cut, dataset
folder = Path(__file__).parent
dataset.CACHE, dataset.TRAIN_FILES, dataset.HELD_OUT_FILES = folder / "cache", {}, {}
cut.photographs = lambda: [(name, folder / f"{{name}}.png") for name in ("left", "right")]
"""


def run(folder, code, *options, files=(64, 16), **environ):
    """Run a program in a folder on two small pictures, and return its output.

    Args:
        folder: The folder.
        code: The program, which has the imports of `SMALL`.
        options: Options of the program.
        files: Numbers of training files and of held-out files.
        environ: Environment variables.
    """
    for position, name in enumerate(("left", "right")):
        noise = np.random.default_rng(position).integers(0, 256, (300, 320, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{name}.png")
    (folder / "program.py").write_text(SMALL.format(*files) + code)
    paths = os.pathsep.join([str(SCRIPTS), str(Path(mpqueue.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "program.py", "--workers", "2", *options], cwd=folder,
        env=os.environ | {"PYTHONPATH": paths} | environ, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
