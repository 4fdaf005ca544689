"""What both demo scripts begin with: the options, the files, the CPUs that there are."""

import argparse
import os
from pathlib import Path

import demo_photos

CACHE = Path(__file__).resolve().parent.parent / ".cache"
BATCH = 32
TRAIN_FILES, HELD_OUT_FILES = 160, 40  # of each class


def num_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def options() -> argparse.Namespace:
    """``workers`` and ``epochs`` of the command line; ``scripts/demo`` looks at ``--keras`` and chooses the script."""
    parser = argparse.ArgumentParser(description="Train a small classifier on photographs that workers decode.")
    parser.add_argument("--workers", type=int, default=num_cpus(), help="worker processes (default: one per CPU)")
    parser.add_argument("--epochs", type=int, default=4, help="passes over the training images (default: 4)")
    parser.add_argument("--keras", action="store_true", help="train a real Keras 3 model through model.fit")
    found = parser.parse_args()
    if found.workers < 1 or found.epochs < 1:
        parser.error(f"--workers and --epochs must be at least 1, got {found.workers} and {found.epochs}")
    return found


def photo_files() -> tuple[demo_photos.Files, demo_photos.Files]:
    """The files to train on and those held out, cut on first use."""
    folder = demo_photos.cut(CACHE, TRAIN_FILES, HELD_OUT_FILES)
    return demo_photos.files(folder, "train"), demo_photos.files(folder, "held_out")
