"""A dataset in every frontend: the same elements for any workers and ranks, and for options of NumPy's types."""

import json

import numpy as np
import pytest
from helpers.loader_runs import batches_of, plain
from helpers.server_directories import servers_directory  # noqa: F401 - a fixture

import mpqueue
from mpqueue import Balance, Dataset

DATASET = (
    Dataset.mix([Dataset.range(40).shuffle(), Dataset.range(100, 160)], [0.4, 0.6])
    .map(lambda x: {"x": x, "drawn": mpqueue.rng().random()})
    .batch(8)
)


def test_one_unordered_worker_keeps_the_order():
    expected = batches_of(DATASET, epochs=2, seed=3, workers=0)
    with mpqueue.Loader(DATASET, seed=3, workers=1, ordered=False) as loader:
        assert len(loader) == 13
        assert [plain(batch) for _ in range(2) for batch in loader] == expected


def test_sampler_selects_the_elements():
    assert batches_of(Dataset.range(10).map(str), batch_size=2, sampler=[7, 1, 5], workers=1) == [["7", "1"], ["5"]]


def test_torch_loaders_accept_a_dataset_of_samples():
    torch = pytest.importorskip("torch")
    import mpqueue.torch

    samples = Dataset.range(30).shuffle().map(lambda x: (x, mpqueue.rng().random()))
    for make in (torch.utils.data.DataLoader, mpqueue.torch.DataLoader):
        loader = make(samples, batch_size=4, num_workers=2)
        epochs = [[pair for batch in loader for pair in zip(*batch, strict=True)] for _ in range(2)]
        for epoch in epochs:  # each sample once, from any worker
            assert sorted(x.item() for x, _ in epoch) == list(range(30))
        assert epochs[0] != epochs[1]
        assert len({drawn.item() for epoch in epochs for _, drawn in epoch}) == 60


def test_torch_loader_without_workers_has_the_order_of_one_with_workers():
    torch = pytest.importorskip("torch")
    import mpqueue.torch

    dataset = Dataset.range(40).shuffle().map(lambda x: x + mpqueue.rng().random())

    def passes(workers, *, taken=0):
        loader = mpqueue.torch.DataLoader(dataset, batch_size=4, num_workers=workers)
        torch.manual_seed(5)
        first = [batch.tolist() for batch in loader]
        batches = iter(loader)
        head = [next(batches).tolist() for _ in range(taken)]
        resumed = mpqueue.torch.DataLoader(dataset, batch_size=4, num_workers=workers)
        resumed.load_state_dict(loader.state_dict()) if taken else None
        return [first, head + [batch.tolist() for batch in (resumed if taken else batches)]]

    alone = passes(0)
    assert alone[0] != alone[1]
    assert passes(0, taken=3) == alone
    assert passes(2) == alone


class Changing:
    """A source with another order in each epoch."""

    def __init__(self):
        self.order = list(range(12))

    def __len__(self):
        return len(self.order)

    def __getitem__(self, index):
        return self.order[index]

    def on_epoch_end(self):
        self.order.reverse()


def test_state_of_a_source_that_changes_between_epochs_is_rejected():
    with mpqueue.Loader(Dataset(Changing()), workers=0) as loader:
        list(loader)
        next(iter(loader))
        with pytest.raises(RuntimeError, match=r"on_epoch_end.*state_dict"):
            loader.state_dict()


@pytest.mark.parametrize(
    "run",
    [
        lambda: mpqueue.Loader(Dataset.range(4), workers=0, lanes=4),
        lambda: mpqueue.Loader(Dataset.range(4), workers=0, epoch_batches=4),
        lambda: list(mpqueue.Loader(Dataset([]), workers=0)),
        lambda: list(mpqueue.Loader(Dataset([]), workers=0, batch_size=2)),
        lambda: mpqueue.Server("numbers", Dataset(Changing()), workers=1, journal="journal").start(),
    ],
)
def test_messages_name_the_dataset_and_no_internal_class(run, servers_directory, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="Dataset") as raised:
        run()
    assert "IndexedSource" not in str(raised.value)
    assert "DatasetLanes" not in str(raised.value)


def test_enqueuer_calls_on_epoch_end_of_the_sources():
    class Growing(list):
        def on_epoch_end(self):
            self[:] = [number + 10 for number in self]

    enqueuer = mpqueue.OrderedEnqueuer(mpqueue.Dataset(Growing([1, 2])).map(lambda number: number * 2))
    enqueuer.start(workers=1)
    batches = enqueuer.get()
    assert [next(batches) for _ in range(4)] == [2, 4, 22, 24]
    enqueuer.stop()


# -- Options of the types of NumPy make the same states as those of Python


LENGTHS = (np.arange(301) * 7919 % 211 + 1).astype(np.int64)


def is_kept(number):
    return np.bool_(number % 3 > 0)


def of_samples(**options):
    return range(301), {"batch_size": 4, **options}


def by_sampler(kind, keys):
    return {key: index for index, key in enumerate(keys)}, {"batch_size": 2, "sampler": list(map(kind, keys))}


# Each is called with Python's types, and with the types of NumPy.
SETTINGS = {
    "integers": lambda i, f, b, s: of_samples(batch_size=i(5), shuffle=b(True), drop_last=b(True)),
    "blocks": lambda i, f, b, s: (Dataset.range(i(301)).shuffle(block=i(9), blocks=i(2)).batch(i(5)), {}),
    "balance": lambda i, f, b, s: of_samples(balance=Balance(LENGTHS, steps=i(2), accumulate=i(3))),
    "group": lambda i, f, b, s: of_samples(balance=Balance(LENGTHS, group=i(2))),
    "max_cost": lambda i, f, b, s: of_samples(drop_last=b(True), balance=Balance(LENGTHS, max_cost=f(300))),
    "stream": lambda i, f, b, s: (
        Dataset.range(i(301)).filter(is_kept).shuffle(buffer=i(9)).batch(i(4), drop_last=b(True)),
        {"lanes": i(4), "epoch_batches": i(9)},
    ),
    "weights": lambda i, f, b, s: (
        Dataset.mix(
            {s("a"): Dataset.range(301), s("b"): Dataset.range(9)}, stop=s("all"),
            weights=[(i(0), {s("a"): f(0.3), s("b"): f(0.7)}), (i(20), {s("a"): f(1), s("b"): i(1)})],
        ),
        {},
    ),
    "initial state": lambda i, f, b, s: (Dataset.range(9).scan((i(0), [f(0.5)], s("a")), lambda state, n: (state, n)), {}),
    "names": lambda i, f, b, s: (
        Dataset.range(9).filter(is_kept).map(lambda n: {"a": n, "b": n}).select_columns([s("a")]), {},
    ),
    "keys of strings": lambda i, f, b, s: by_sampler(s, ["one", "two", "three", "four"]),
    "keys of floats": lambda i, f, b, s: by_sampler(f, [0.5, 1.0, 2.5]),
    "keys of tuples": lambda i, f, b, s: by_sampler(lambda key: (i(key[0]), s(key[1])), [(0, "one"), (1, "two"), (2, "three")]),
}  # fmt: skip


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_numpy_make_the_same_state(name):
    states = []
    for types in ((int, float, bool, str), (np.int64, np.float64, np.bool_, np.str_)):
        source, options = SETTINGS[name](*types)
        with mpqueue.Loader(source, seed=3, workers=0, **options) as loader:
            next(iter(loader))
            state = loader.state_dict()
        # When snapshots of lanes are taken depends on the time, and a scan keeps the types of its state.
        of_lanes = {"counts", "starts", "checksum"}
        states.append(json.dumps({key: value for key, value in state.items() if key not in of_lanes}))
    assert states[0] == states[1]
