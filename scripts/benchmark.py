#!/usr/bin/env python3
"""How fast mpqueue hands batches from workers to a training loop, beside its peers and what the machine can do.

    python3 scripts/benchmark.py                    all of it: with every peer installed, most of an hour
    python3 scripts/benchmark.py --quick            a minute
    python3 scripts/benchmark.py --curves FOLDER    how it grows, as figures and plots

Any Python 3.11 or newer does: what it lacks is installed into ``.venv`` first. The parts lie in ``scripts/bench``.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
NEEDED = ("mpqueue", "numpy", "PIL", "skimage", "sklearn", "tqdm", "google_crc32c", "google.protobuf")


def main() -> None:
    from bench import options

    asked = options.parse(__doc__.partition("\n")[0])  # --help ends here, before anything is installed
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        _go_on_in_venv()
    from bench import command

    command.main(asked)


def _go_on_in_venv() -> None:
    set_up = ["sh", "-c", f". '{SCRIPTS}/_environment'", str(SCRIPTS / "demo")]
    subprocess.run(set_up, env=os.environ | {"EXTRAS": "demo,tfrecord"}, check=True)
    python = str(SCRIPTS.parent / ".venv/bin/python")
    os.execv(python, [python, *sys.argv])


if __name__ == "__main__":  # a peer whose workers are spawned imports this file in each
    main()
