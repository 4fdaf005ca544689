"""The golden data of a release: ``scripts/golden`` writes it, and ``test_released.py`` compares later versions with it.

::

    names.json       the public names
    orders.json      the batches of two epochs of each pipeline in `released_pipelines`, on both of two ranks
    states.json      states of the loaders in `helpers.saved_states`, and the batches after them
    torch.json       the same for torch's loader
    servers.json     journals of servers that were killed, the batches after them, and a handshake
    cache.json       the files of a cache

Batches are stored as a digest, and the first one also as it is. Files are stored in base64.
"""

import base64
import hashlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from helpers.docstrings import MODULES, OF_TORCH, names_of
from helpers.saved_states import CASES, NUM_AFTER, NUM_BEFORE, plain, play

import mpqueue
from golden import released_pipelines as pipelines
from mpqueue import Dataset
from mpqueue.service.protocol.handshake import Hello
from mpqueue.service.serving import checkpoints
from mpqueue.version import __version__
from mpqueue.worker.runners import lane_runner

HERE = Path(__file__).resolve().parent
SEED = 20_261_130
WORLDS = 1, 2
NUM_TAKEN = 5  # batches of a server before it is killed


def folder_of(version=__version__):
    """Return the folder of a version: a major and a minor version have one."""
    return HERE / ".".join(version.split(".")[:2])


def shortened(batches):
    """Return the golden form of a sequence of batches."""
    batches = [plain(batch) for batch in batches]
    digest = hashlib.sha256(json.dumps(batches).encode()).hexdigest()[:16]
    return {"first": batches[:1], "number": len(batches), "digest": digest}


# -- Orders


def orders():
    """Return the batches of all pipelines, by kind and name."""
    kinds = {"indexed": pipelines.INDEXED, "stream": pipelines.STREAMS}
    return {kind: {name: order_of(make) for name, make in table.items()} for kind, table in kinds.items()}


def order_of(make):
    """Return the batches of a pipeline, for each rank."""
    ranks = []
    for rank in range(2):
        source, options = make()
        with mpqueue.Loader(source, seed=SEED, workers=0, shard=(rank, 2), **options) as loader:
            ranks.append(shortened(itertools.chain(loader, loader)))
    return ranks


# -- States


@contextmanager
def snapshots_everywhere():
    """Let lanes take a snapshot after each element, so that a state does not depend on the time."""
    before = lane_runner._BETWEEN_NS, lane_runner._WORK_PER_SAVE
    lane_runner._BETWEEN_NS = lane_runner._WORK_PER_SAVE = 0
    try:
        yield
    finally:
        lane_runner._BETWEEN_NS, lane_runner._WORK_PER_SAVE = before


def num_after(name, loader):
    """Return the number of compared batches. A program must save the global generator for the epochs that follow."""
    return len(loader) - NUM_BEFORE if "global" in name else NUM_AFTER


def states():
    """Return the states of all kinds of loaders on each number of ranks, and the batches after them."""
    found = {}
    with snapshots_everywhere():
        for name, case in CASES.items():
            for world in (world for world in case.worlds if world in WORLDS):
                saved, rests = play(case, world)
                with case.make(0, world) as loader:
                    count = num_after(name, loader) if "global" in name else NUM_AFTER
                found[f"{name} of {world}"] = {"states": saved, "rests": [shortened(rest[:count]) for rest in rests]}
    return found


# -- Torch


def torch_loaders():
    """Return functions that make loaders of torch, by name."""
    import torch

    from mpqueue.torch import DataLoader

    class Lines(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(range(40))

    data, seeded = list(range(40)), lambda: torch.Generator().manual_seed(3)
    weighted = lambda: torch.utils.data.WeightedRandomSampler(range(1, 41), 40, generator=seeded())  # noqa: E731
    return {
        "in order": lambda: DataLoader(data, batch_size=4),
        "shuffled": lambda: DataLoader(data, batch_size=4, shuffle=True, generator=seeded()),
        "sampler": lambda: DataLoader(data, batch_size=4, sampler=weighted(), generator=seeded()),
        "workers": lambda: DataLoader(data, batch_size=4, shuffle=True, num_workers=1, generator=seeded()),
        "iterable": lambda: DataLoader(Lines(), batch_size=4, generator=seeded()),
    }


def torch_states():
    """Return the states of torch's loaders after two batches, and the batches after them."""
    found = {}
    for name, make in torch_loaders().items():
        loader = make()
        batches = iter(loader)
        next(batches), next(batches)
        state = loader.state_dict()
        found[name] = {"states": [state], "rests": [shortened(batches)]}
    return found


# -- Servers


def slowly_kept(value):
    """Keep some elements, in so much time that the journal gets snapshots of the lanes."""
    time.sleep(0.02)
    return value % 3 > 0


SERVERS = {
    "split": lambda: (list(range(60)), {"batch_size": 4, "shuffle": True, "mode": "split"}),
    "ranks": lambda: (list(range(60)), {"batch_size": 4, "shuffle": True, "mode": "split", "world": 2}),
    "broadcast": lambda: (Dataset.range(60).map(pipelines.draw).shuffle().batch(4), {"mode": "broadcast"}),
    "stream": lambda: (
        Dataset.range(90).filter(slowly_kept).shuffle(buffer=9).map(pipelines.draw).batch(4), {"mode": "split", "lanes": 4},
    ),
}  # fmt: skip


@contextmanager
def serving(name, folder):
    """Run a server with a journal in a folder, and yield the loops of its consumers."""
    source, options = SERVERS[name]()
    ranks = range(options.get("world", 1)) if "world" in options else [None]
    address, journal = os.path.join(folder, "s"), os.path.join(folder, "journal")
    with ExitStack() as stack:
        stack.enter_context(mpqueue.Server(address, source, workers=1, seed=SEED, journal=journal, **options))
        consumers = [stack.enter_context(mpqueue.attach(address, rank=rank, timeout=60)) for rank in ranks]
        yield [iter(consumer) for consumer in consumers]


def server_of(name):
    """Return the journal of a server that is killed, and the batches that the next one delivers."""
    # In a process of its own: a server waits for the consumers of the previous one while their process exists.
    code = "import sys; from golden import released; print(released.journal_of(sys.argv[1]))"
    path = {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE.parent.parent)])}
    command = [sys.executable, "-c", code, name]
    done = subprocess.run(command, env=os.environ | path, stdout=subprocess.PIPE, text=True, check=True)
    with tempfile.TemporaryDirectory() as folder:
        return {"journal": done.stdout.strip(), "rests": rest_of(name, base64.b64decode(done.stdout), folder)}


def journal_of(name):
    """Return the journal of a server while its consumers are attached, after some batches."""
    checkpoints.BETWEEN_S = 0.1
    with tempfile.TemporaryDirectory() as folder, serving(name, folder) as loops:
        for _ in range(NUM_TAKEN):
            for loop in loops:
                next(loop)
            time.sleep(0.2)  # longer than between two snapshots of the lanes
        return encoded(Path(folder, "journal").read_bytes())


def rest_of(name, journal, folder):
    """Return the batches that a server with a journal delivers."""
    write(Path(folder, "journal"), journal)
    with serving(name, folder) as loops:
        with ThreadPoolExecutor(len(loops)) as threads:  # no rank can be ahead of another one by an epoch
            return list(threads.map(shortened, loops))


def servers():
    """Return the journals of all servers, and the message that a consumer begins with."""
    return {"hello": Hello().encode().decode(), "servers": {name: server_of(name) for name in SERVERS}}


# -- Caches


def cached(folder, function, name="golden"):
    """Return a dataset with a cache in a folder."""
    return Dataset.range(40).map(function).cache(folder, name=name).shuffle().batch(4, collate=list)


def cache():
    """Return the files of a cache, and the batches that are read from it."""
    with tempfile.TemporaryDirectory() as folder:
        with mpqueue.Loader(cached(folder, cached_item), seed=SEED, workers=0) as loader:
            batches = shortened(loader)
        files = {path.name: encoded(path.read_bytes()) for path in sorted(Path(folder).iterdir())}
    return {"files": files, "batches": batches}


def cached_item(value):
    return [*pipelines.draw(value), np.arange(value % 4)]


def write_cache(files, folder):
    """Write the files of a cache into a folder."""
    for name, text in files.items():
        write(Path(folder, name), base64.b64decode(text))


# -- Names


def names():
    """Return the public names of each module."""
    return {module: sorted(names_of(module)) for module in (*MODULES, *OF_TORCH)}


# -- Files


def encoded(data):
    return base64.b64encode(data).decode()


def write(path, data):
    """Write a file that no other user can write."""
    path.write_bytes(data)
    path.chmod(0o600)


KINDS = {"names": names, "orders": orders, "states": states, "torch": torch_states, "servers": servers, "cache": cache}


def read(folder, kind):
    """Return the golden data of a kind."""
    return json.loads((folder / f"{kind}.json").read_text("utf-8"))["data"]


def main():
    """Write the golden data of this version."""
    folder = folder_of()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for kind, make in KINDS.items():
        random.seed(7)
        made_with = {"mpqueue": __version__, "numpy": np.__version__}
        text = json.dumps({"made_with": made_with, "data": make()}, separators=(",", ":"))
        path = folder / f"{kind}.json"
        path.write_text(f"{text}\n")
        print(f"{path}: {path.stat().st_size:,} bytes")
