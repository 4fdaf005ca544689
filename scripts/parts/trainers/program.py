"""Runs one program in this process: ``python -m parts.trainers.program PROGRAM TASK`` with a `Task` as JSON."""

import importlib
import json
import sys

from parts.trainers.recording import Task

if __name__ == "__main__":
    importlib.import_module(f"parts.trainers.{sys.argv[1]}").main(Task(**json.loads(sys.argv[2])))
