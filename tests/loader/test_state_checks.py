"""States that do not match their loader, and damaged states, raise an error with the reason."""

import copy
import functools
import io
import json
import operator

import numpy as np
import pytest
from helpers.saved_states import CASES, Changing, play, saved_with, take

from mpqueue import Dataset, Loader
from mpqueue.errors import StateDamaged

RANGE = Dataset.range(300)


def list_of(length, **options):
    return Loader(list(range(length)), **{"batch_size": 4, "workers": 0, "seed": 1} | options)


def loader_of(dataset):
    return Loader(dataset, workers=0, seed=1)


def begun(loader, count=3):
    """Return the state of a loader after some batches."""
    with loader:
        _, batches = take(loader, count)
        state = loader.state_dict()
        del batches
    return state


MIX, PARTS = Dataset.mix([RANGE, RANGE], [0.5, 0.5]), Dataset.concatenate(Dataset.range(30), Dataset.range(20))
OTHER_MIX = Dataset.mix([RANGE, RANGE], [0.6, 0.4])
OTHER_PARTS = Dataset.concatenate(Dataset.range(20), Dataset.range(30))
# Two loaders, and words of the message about the first and about the second.
OTHERS = {
    "another length and order": (
        lambda: loader_of(RANGE.shuffle().batch(4)), lambda: loader_of(Dataset.range(200).batch(4)),
        ["length 300", "0: 300 samples, 1: shuffle()", "length 200", "in order"],
    ),
    "another order": (
        lambda: list_of(40, shuffle=True), lambda: list_of(40),
        ['length 40, order "shuffled"', 'length 40, order "in order"'],
    ),
    "another length of an order that is shuffled": (
        lambda: list_of(40, shuffle=True), lambda: list_of(50, shuffle=True), ["length 40", "length 50"],
    ),
    "a shorter source": (lambda: list_of(40), lambda: list_of(39), ["length 40", "length 39"]),
    "another batch size": (
        lambda: list_of(40), lambda: list_of(40, batch_size=5), ["batch_size=4, length 40", "batch_size=5, length 40"],
    ),
    "batches in place of samples": (
        lambda: list_of(40), lambda: list_of(10, batch_size=None),
        ["batch_size=4, length 40", "batch_size=None, length 10"],
    ),
    "a sampler": (
        lambda: list_of(40), lambda: list_of(40, sampler=list(range(40))), ['order "in order"', 'order "sampler"'],
    ),
    "a sampler of batches": (
        lambda: list_of(40, batch_size=None, sampler=list(range(40))),
        lambda: list_of(40, batch_size=None, batch_sampler=[[1, 2]] * 20),
        ['order "sampler"', 'order "batch_sampler"'],
    ),
    "a sampler of a shorter source": (
        lambda: list_of(40, sampler=list(range(20))), lambda: list_of(30, sampler=list(range(20))),
        ["length 40", "length 30"],
    ),
    "an endless source": (
        lambda: loader_of(RANGE.repeat().batch(4)), lambda: loader_of(RANGE.batch(4)), ["no length", "length 300"],
    ),
    "samples that are skipped": (
        lambda: loader_of(RANGE.skip(10).batch(4)), lambda: loader_of(RANGE.skip(20).batch(4)),
        ["in order: skip(10)", "in order: skip(20)"],
    ),
    "a shuffle at another place": (
        lambda: loader_of(RANGE.shuffle().map(abs).batch(4)), lambda: loader_of(RANGE.map(abs).shuffle().batch(4)),
        ["1: shuffle()", "2: shuffle()"],
    ),
    "other weights": (
        lambda: loader_of(MIX.take(80).batch(4)), lambda: loader_of(OTHER_MIX.take(80).batch(4)),
        ["weights=(0.5, 0.5)", "weights=(0.6, 0.4)"],
    ),
    "parts of other lengths": (
        lambda: loader_of(PARTS.batch(4)), lambda: loader_of(OTHER_PARTS.batch(4)),
        ["30 samples, 1: 20 samples", "20 samples, 1: 30 samples"],
    ),
}  # fmt: skip


@pytest.mark.sample(7)
@pytest.mark.parametrize("num_batches", [0, 3])
@pytest.mark.parametrize("name", OTHERS)
def test_state_of_other_source_or_order_raises_and_names_both(name, num_batches):
    make_first, make_second, words = OTHERS[name]
    state = begun(make_first(), num_batches)
    with make_second() as loader:
        before = loader.state_dict()
        with pytest.raises(ValueError, match=r"the state was saved with .*, and this loader has ") as reported:
            loader.load_state_dict(json.loads(json.dumps(state)))
        assert loader.state_dict() == before
    saved, here = str(reported.value).split(", and this loader has ")
    assert all(word in saved for word in words[: len(words) // 2])
    assert all(word in here for word in words[len(words) // 2 :])


LONGER = {
    "list": (lambda: list_of(40), lambda: list_of(50)),
    "batches": (lambda: list_of(40, batch_size=None), lambda: list_of(50, batch_size=None)),
    "dataset": (
        lambda: loader_of(Dataset.range(40).map(abs).batch(4)),
        lambda: loader_of(Dataset.range(50).map(abs).batch(4)),
    ),
    "take": (lambda: loader_of(RANGE.take(40).batch(4)), lambda: loader_of(RANGE.take(50).batch(4))),
    "skip": (lambda: loader_of(RANGE.take(40).skip(3).batch(4)), lambda: loader_of(RANGE.take(50).skip(3).batch(4))),
    "sampler": (lambda: list_of(40, sampler=list(range(40))), lambda: list_of(50, sampler=list(range(50)))),
    "dataset by an option": (lambda: Loader(RANGE, batch_size=4, workers=0, seed=1), lambda: loader_of(RANGE.batch(4))),
}


@pytest.mark.parametrize("name", LONGER)
def test_longer_source_in_same_order_continues(name):
    make_first, make_second = LONGER[name]
    with make_second() as loader:
        whole = take(loader, 12)[0]
        loader.load_state_dict(begun(make_first()))
        assert take(loader, 9)[0] == whole[3:]


def test_source_with_state_may_change_length():
    class Growing(Changing):
        def __len__(self):
            return 10 + self.epochs

    with Loader(Growing(), shuffle=True, workers=0, seed=1) as loader:
        whole = take(loader, 33)[0]
    state = begun(Loader(Growing(), shuffle=True, workers=0, seed=1), 13)
    with Loader(Growing(), shuffle=True, workers=0, seed=1) as loader:
        loader.load_state_dict(state)
        assert take(loader, 20)[0] == whole[13:]


def test_place_beyond_end_of_source_raises():
    state = saved_with(begun(list_of(80), 19), length=40)
    with pytest.raises(
        ValueError, match="saved after batch 19 of an epoch, and the source of this loader has 10 batches"
    ):
        list_of(40).load_state_dict(state)


@pytest.mark.parametrize("version", [1, 3, 5])
@pytest.mark.parametrize("keys", [{}, {"position": None}, {"epoch": "of another form"}])
def test_state_of_another_version_raises(version, keys):
    """Before its other keys are read."""
    state = list_of(40).state_dict() | {"version": version} | keys
    del state["checksum"]
    with pytest.raises(ValueError, match=f"version {version}, and this release reads version 4: load the state with"):
        list_of(40).load_state_dict(state)


@pytest.mark.parametrize("name", ["version", "checksum"])
def test_state_without_version_or_checksum_raises(name):
    state = list_of(40).state_dict()
    del state[name]
    with pytest.raises(StateDamaged, match=f"not a state of a Loader, because it lacks {name}"):
        list_of(40).load_state_dict(state)


def test_additional_keys_of_state_are_ignored():
    state = begun(list_of(40)) | {"global_step": 17, "loss": object()}
    with list_of(40) as loader:
        loader.load_state_dict(state)
        assert take(loader, 1)[0] == [[12, 13, 14, 15]]


def by_torch(state):
    torch = pytest.importorskip("torch")
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def as_arrays(state):
    """Return the state with arrays, like formats of arrays."""
    return state | {
        name: np.array(value) for name, value in state.items() if isinstance(value, int | tuple) and name != "checksum"
    }


class Stateful:
    """A sampler with all kinds of plain data in its state."""

    state = {
        1: (1, 2.5, None), "nested": {"text": "é\ud800", "empty": [], 2: True}, "big": -(1 << 70), "tiny": 5e-324,
        "nan": float("nan"), "more": [[1, 2], [3, -4], [1 << 80, 0]],
    }  # fmt: skip

    def __iter__(self):
        return iter(range(40))

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        pass


@pytest.mark.parametrize("way", [lambda state: json.loads(json.dumps(state)), by_torch, copy.deepcopy, as_arrays])
@pytest.mark.parametrize("options", [{}, {"sampler": Stateful()}], ids=["in order", "sampler"])
def test_state_survives_any_file_format(way, options):
    state = way(begun(list_of(40, **options)))
    with list_of(40, **options) as loader:
        loader.load_state_dict(state)
        assert take(loader, 1)[0] == [[12, 13, 14, 15]]


MISSING = object()


def edits(state):
    """Yield copies of nested data that differ in one place, with the name of the place."""
    for path, value in positions(state, ()):
        *folder, last = path
        missing = [] if isinstance(last, int) else [MISSING]
        for other in [*others(value), *missing]:
            changed = copy.deepcopy(state)
            parent = functools.reduce(operator.getitem, folder, changed)
            if other is MISSING:
                del parent[last]
            else:
                parent[last] = other
            yield path, changed


def positions(value, path):
    if path:
        yield path, value
    if isinstance(value, dict):
        for key in value:
            yield from positions(value[key], (*path, key))
    if isinstance(value, list):
        for number in range(min(len(value), 3)):  # the others are similar
            yield from positions(value[number], (*path, number))


def others(value):
    # Like a list from some file formats, a NumPy scalar has `tolist`.
    changes = (None, -(2**63), 7, "x", [], {}, [[1]], 1.5, np.float64(2.5), {"x": 1})
    yield from (each for each in changes if not same(each, value))
    if isinstance(value, int) and not isinstance(value, bool):
        yield from (value + 1, value - 1)
    if isinstance(value, list) and value:
        yield from (value[:-1], [*value, value[-1]])


def same(one, other):
    return type(one) is type(other) and one == other


KINDS = [
    *("batches", "samples_in_epoch_1", "dataset_mix", "source_with_state", "sampler_with_state", "batches_unordered"),
    *("sampler_with_numpy_generator", "stream_buffer", "stream_pack", "stream_of_iterator_with_state", "function"),
]


@pytest.mark.filterwarnings("ignore:the state was saved by rank:UserWarning")
@pytest.mark.parametrize("name", KINDS)
def test_each_change_of_state_raises(name):
    case = CASES[name]
    world = 2 if 2 in case.worlds else 1
    state = json.loads(json.dumps(play(case, world)[0][0]))
    loader, count = case.make(0, world), 0
    before = loader.state_dict()
    for path, changed in edits(state):
        with pytest.raises((StateDamaged, ValueError)) as reported:
            loader.load_state_dict(changed)
        assert type(reported.value) is StateDamaged or "version" in path, path
        count += 1
    assert count > 50
    assert loader.state_dict() == before
    loader.load_state_dict(state)


def test_all_ranks_of_a_stream_are_checked():
    states = [json.loads(json.dumps(state)) for state in play(CASES["stream_buffer"], 2)[0]]
    states[1]["counts"][0] += 1
    with pytest.raises(StateDamaged, match="the state has changed since it was saved"):
        CASES["stream_buffer"].make(0, 1).load_state_dict(states)
