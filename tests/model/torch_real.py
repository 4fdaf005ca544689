"""The datasets and loaders of a `torch_pass.Setup`: source lines for a program, with the classes that they need."""

import random

import numpy as np
import torch
from torch.utils import data

HEAD = ["import random, numpy as np, torch", "from torch.utils import data", "from model import torch_real"]
LOADERS = {
    "stock": ("", "data.DataLoader"),
    "mpqueue": ("import mpqueue.torch", "mpqueue.torch.DataLoader"),
    "installed": ("import mpqueue.torch\nmpqueue.torch.install()", "data.DataLoader"),
    "stateful": (
        "import mpqueue.torch\nfrom torchdata.stateful_dataloader import StatefulDataLoader\nmpqueue.torch.install()",
        "StatefulDataLoader",
    ),
}


def drawn(key):
    """Return a sample: the key, and a number of torch, of Python and of NumPy."""
    return key, int(torch.randint(1000, ())), random.randrange(1000), int(np.random.randint(1000))


class Map(data.Dataset):
    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, key):
        return drawn(key)


class Getitems(Map):
    def __getitems__(self, keys):
        return [drawn(key) for key in keys]


class Iterable(data.IterableDataset):
    """Each worker returns every n-th element."""

    def __init__(self, length):
        self.length = length

    def __iter__(self):
        return map(drawn, self.keys())

    def keys(self):
        info = data.get_worker_info()
        return range(self.length) if info is None else range(info.id, self.length, info.num_workers)


class Stateful(Iterable):
    """Adds 1000 to the ids in each iteration after the first. Its state is its place and the count."""

    def __init__(self, length):
        super().__init__(length)
        self.iteration, self.at, self.is_loaded = -1, 0, False

    def __iter__(self):
        if not self.is_loaded:
            self.iteration, self.at = self.iteration + 1, 0
        self.is_loaded = False
        for key in self.keys()[self.at :]:
            self.at += 1
            yield drawn(key + 1000 * self.iteration)

    def state_dict(self):
        return {"iteration": self.iteration, "at": self.at}

    def load_state_dict(self, state):
        self.iteration, self.at, self.is_loaded = state["iteration"], state["at"], True


KINDS = {"map": "Map", "getitems": "Getitems", "iterable": "Iterable", "stateful iterable": "Stateful"}


class Draws:
    """A ``worker_init_fn`` that draws the numbers of some samples."""

    def __init__(self, count):
        self.count = count

    def __call__(self, worker):
        for _ in range(self.count):
            drawn(0)


def rows(batch):
    """Return a batch as a list of samples."""
    columns = [each.tolist() if isinstance(each, torch.Tensor) else each for each in batch]
    return [tuple(columns)] if isinstance(columns[0], int) else list(zip(*columns, strict=True))


def lines(setup, kind):
    """Return the lines of a program that seed the generators, and make ``dataset``, ``sampler`` and ``loader``."""
    imports, loader = LOADERS[kind]
    name, *options = setup.sampler
    given = {
        "random": "data.RandomSampler(dataset, {}, {}, generator)", "weighted": "data.WeightedRandomSampler({}, {}, {}, generator)",
        "subset": "data.SubsetRandomSampler({}, generator)", "batches": "{}",
        "distributed": "data.DistributedSampler(dataset, {1}, {0}, {2}, {3}, {4})",
    }.get(name, "None")  # fmt: skip
    size = f"batch_size={setup.batch_size}, drop_last={setup.drop_last}, sampler=sampler"
    workers = f"num_workers={setup.num_workers}, persistent_workers={setup.persistent}, generator=generator"
    workers += f", worker_init_fn=torch_real.Draws({setup.init_draws})" if setup.num_workers else ""
    made = "None" if setup.generator_seed is None else f"torch.Generator().manual_seed({setup.generator_seed})"
    return [
        *HEAD, *imports.splitlines(),
        f"torch.manual_seed({setup.seed}), random.seed({setup.seed}), np.random.seed({setup.seed})",
        f"dataset, generator = torch_real.{KINDS[setup.kind]}({setup.length}), {made}",
        f"sampler = {given.format(*options)}",
        f"loader = {loader}(dataset, {'batch_sampler=sampler' if name == 'batches' else size}, {workers})",
        *([f"loader.exclude({setup.excluded})"] if setup.excluded else []),
    ]  # fmt: skip
