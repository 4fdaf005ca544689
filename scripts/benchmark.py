#!/usr/bin/env python3
"""Measure the delivery of batches to a training loop by mpqueue and its peers.

    python3 scripts/benchmark.py                    all measurements, at most half an hour
    python3 scripts/benchmark.py --quick            only the figures of the front page, at most ten minutes

Any Python 3.11 or newer works: missing packages are first installed into ``.venv``.
The parts are in ``scripts/parts/benchmark``.
"""

from parts.own_venv import require

NEEDED = ("mpqueue", "numpy", "PIL", "skimage", "sklearn", "tqdm", "google_crc32c", "google.protobuf")


def main() -> None:
    from parts.benchmark import options

    chosen = options.parse(__doc__.partition("\n")[0])  # --help ends here, before anything is installed
    require(*NEEDED, extras="tfrecord", groups="demo")
    from parts.benchmark import command

    command.main(chosen)


if __name__ == "__main__":  # a peer's spawned workers import this file
    main()
