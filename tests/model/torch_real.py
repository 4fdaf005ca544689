"""The datasets and loaders of a `torch_pass.Setup`: source lines for a program, with the classes that they need."""

import random
import types

import numpy as np
import torch
from torch.utils import data

HEAD = [
    "import copy, random, numpy as np, torch",
    "from torch.utils import data",
    "from model import torch_pass, torch_real",
]
INSTALL = "installation = mpqueue.torch.install()"
LOADERS = {
    "stock": ("", "data.DataLoader"),
    "torch": ("import mpqueue.torch", "mpqueue.torch.DataLoader"),
    "installed": (f"import mpqueue.torch\n{INSTALL}", "data.DataLoader"),
    "stateful": (
        f"from torchdata.stateful_dataloader import StatefulDataLoader\nimport mpqueue.torch\n{INSTALL}",
        "StatefulDataLoader",
    ),
}


def drawn(key):
    """Return a sample: the key, and a number of torch, of Python and of NumPy."""
    return key, int(torch.randint(1000, ())), random.randrange(1000), int(np.random.randint(1000))


class Unusual(BaseException):
    """An error that is not an `Exception`."""


class Map(data.Dataset):
    def __init__(self, length, raising=(), error="OSError"):
        self.length, self.raising, self.error = length, raising, {"OSError": OSError, "Unusual": Unusual}[error]

    def __len__(self):
        return self.length

    def __getitem__(self, key):
        if key in self.raising:
            raise self.error(str(key))
        return drawn(key)


class Getitems(Map):
    def __getitems__(self, keys):
        return [self[key] for key in keys]


class Iterable(data.IterableDataset):
    """Each worker returns every n-th element."""

    __init__, sample = Map.__init__, Map.__getitem__

    def __iter__(self):
        return map(self.sample, self.keys())

    def keys(self):
        info = data.get_worker_info()
        return range(self.length) if info is None else range(info.id, self.length, info.num_workers)


class OwnIterator(Iterable):
    """Begins again in each ``__iter__``."""

    def __iter__(self):
        self.left = iter(self.keys())
        return self

    def __next__(self):
        return self.sample(next(self.left))


class Stateful(Iterable):
    """Adds 1000 to the ids in each iteration after the first. Its state is its place and the count."""

    def __init__(self, *given):
        super().__init__(*given)
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


class Kept(Iterable):
    """Begins each iteration at the place that was loaded."""

    start = at = 0

    def __iter__(self):
        self.at = self.start
        for key in self.keys()[self.start :]:
            self.at += 1
            yield drawn(key)

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.start = self.at = state["at"]


KINDS = {"map": "Map", "getitems": "Getitems", "iterable": "Iterable", "stateful iterable": "Stateful",
         "kept iterable": "Kept", "own iterable": "OwnIterator"}  # fmt: skip


class Held(data.Sampler):
    """Shuffles with each of its generators, which are in the attributes of these names; with "a/b", b is in a."""

    def __init__(self, length, names):
        self.length, self.generators = length, [random.Random(index) for index, _ in enumerate(names)]
        for name, generator in zip(names, self.generators, strict=True):
            first, _, second = name.partition("/")
            setattr(self, first, types.SimpleNamespace(**{second: generator}) if second else generator)

    def __len__(self):
        return self.length

    def __iter__(self):
        keys = list(range(self.length))
        for generator in self.generators:
            generator.shuffle(keys)
        yield from keys


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


def numbers():
    """Return the states of the generators of this program."""
    return torch.get_rng_state(), random.getstate(), np.random.get_state()


def set_numbers(states):
    """Set the generators to these states."""
    torch.set_rng_state(states[0]), random.setstate(states[1]), np.random.set_state(states[2])


def refusal(setup, kind, state):
    """Return the name of the error for a state that is loaded into another loader; None: none."""
    from model import program

    def resumed():
        namespace = {}
        exec("\n".join([*head(kind, installs=False), *lines(setup, kind)]), namespace)
        namespace["loader"].load_state_dict(state)
        return sum(1 for _ in namespace["loader"])

    before = numbers()
    try:
        return program.kind_of(resumed)
    finally:
        set_numbers(before)


def head(kind, *, installs=True):
    """Return the imports of a program."""
    return [each for each in [*HEAD, *LOADERS[kind][0].splitlines()] if installs or each != INSTALL]


def lines(setup, kind):
    """Return the lines of a program that seed the generators, and make ``dataset``, ``sampler`` and ``loader``."""
    _, loader = LOADERS[kind]
    name, *options = setup.sampler
    given = {
        "random": "data.RandomSampler(dataset, {}, {}, generator)", "weighted": "data.WeightedRandomSampler({}, {}, {}, generator)",
        "subset": "data.SubsetRandomSampler({}, generator)", "batches": "{}",
        "distributed": "data.DistributedSampler(dataset, {1}, {0}, {2}, {3}, {4})",
        "held": "torch_real.Held(len(dataset), {})",
    }.get(name, "None")  # fmt: skip
    size = f"batch_size={setup.batch_size}, drop_last={setup.drop_last}, sampler=sampler"
    workers = f"num_workers={setup.num_workers}, persistent_workers={setup.persistent}, generator=generator"
    workers += f", worker_init_fn=torch_real.Draws({setup.init_draws})" if setup.num_workers else ""
    made = "None" if setup.generator_seed is None else f"torch.Generator().manual_seed({setup.generator_seed})"
    workers += "" if setup.balance is None else f", balance={setup.balance.code()}"
    errors = f", {setup.raising}, {setup.error!r}" if setup.raising else ""
    return [
        f"torch.manual_seed({setup.seed}), random.seed({setup.seed}), np.random.seed({setup.seed})",
        f"dataset, generator = torch_real.{KINDS[setup.kind]}({setup.length}{errors}), {made}",
        f"sampler = {given.format(*options)}",
        f"loader = {loader}(dataset, {'batch_sampler=sampler' if name == 'batches' else size}, {workers})",
    ]
