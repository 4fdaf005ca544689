"""All peers, found in the files of `peers`. mpqueue is also a peer."""

import importlib
from pathlib import Path

from parts.benchmark import peers
from parts.benchmark.workload import Peer

PEERS: dict[str, Peer] = {}
for _file in sorted(Path(peers.__path__[0]).glob("[!_]*.py"), key=lambda file: (file.stem != "mpqueue", file.stem)):
    PEERS |= importlib.import_module(f"{peers.__name__}.{_file.stem}").PEERS
