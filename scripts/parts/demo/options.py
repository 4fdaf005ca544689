"""The command line of the demo programs."""

import argparse

from parts.machine import num_cpus


def options() -> argparse.Namespace:
    """Return ``workers``, ``epochs`` and ``seed``. ``scripts/demo`` uses the other options to choose the program."""
    parser = argparse.ArgumentParser(description="Train a small classifier on photographs that workers decode.")
    parser.add_argument("--workers", type=int, default=num_cpus(), help="worker processes (default: one per CPU)")
    parser.add_argument("--epochs", type=int, default=4, help="passes over the training images (default: 4)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random numbers (default: 1)")
    parser.add_argument("--keras", action="store_true", help="train a real Keras 3 model through model.fit")
    parser.add_argument("--ray", action="store_true", help="train on a Ray cluster, and kill one of its nodes")
    parser.add_argument("--service", action="store_true", help="train three models with and without one server")
    found = parser.parse_args()
    if found.workers < 1 or found.epochs < 1:
        parser.error(f"--workers and --epochs must be at least 1, got {found.workers} and {found.epochs}")
    return found
