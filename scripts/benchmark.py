#!/usr/bin/env python3
"""Measures mpqueue's hand-over of batches to a training loop, beside its peers and the limits of the machine.

    python3 scripts/benchmark.py                    all of it, at most half an hour
    python3 scripts/benchmark.py --quick            what figures to be reached need, at most ten minutes
    python3 scripts/benchmark.py --join A.json B.json --json RUN.json    makes one run of runs of some workloads each

Any Python 3.11 or newer does: missing packages are installed into ``.venv`` first.
The parts are in ``scripts/parts/benchmark``.
"""

from parts.own_venv import require

NEEDED = ("mpqueue", "numpy", "PIL", "skimage", "sklearn", "tqdm", "google_crc32c", "google.protobuf")


def main() -> None:
    from parts.benchmark import options

    asked = options.parse(__doc__.partition("\n")[0])  # --help ends here, before anything is installed
    require(*NEEDED, extras="tfrecord", groups="demo")
    from parts.benchmark import command

    command.main(asked)


if __name__ == "__main__":  # a peer whose workers are spawned imports this file in each
    main()
