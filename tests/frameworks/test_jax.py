"""`mpqueue.jax.device_iterator` with the real JAX: the batches, their order, and the owner of their memory."""

import pytest
from helpers.concurrent_calls import in_threads

pytest.importorskip("jax")

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import weakref

import jax
import ml_dtypes
import numpy as np
from helpers.injected_exceptions import Alarms, Struck, each_strike
from helpers.kept_batches import last_of
from helpers.numbered_batches import Mixed, Numbered, numbers_of

import mpqueue
from mpqueue import Loader
from mpqueue.jax import device_iterator


def test_the_batches_are_device_arrays_of_one_epoch_per_call():
    with Loader(Numbered(), workers=2) as loader:
        for number in range(3):
            iterator = device_iterator(loader)
            batches = list(iterator)
            assert all(isinstance(batch, jax.Array) for batch in batches)
            assert numbers_of(batches) == [0, 1, 2, 3, 4]
            assert list(iterator) == [], "it begins no epoch"
            assert loader.state_dict()["epoch"] == number + 1
    assert batches[0].dtype == np.float32


def test_numbers_become_arrays_and_strings_are_unchanged():
    with Loader(Mixed(2), workers=1) as loader:
        _, batch = device_iterator(loader)
    assert isinstance(batch["pixels"], jax.Array)
    assert (batch["pixels"].dtype, batch["pixels"].tolist()) == (np.uint8, [[1, 1, 1]] * 4)
    assert isinstance(batch["number"], jax.Array)
    assert int(batch["number"]) == 1
    assert batch["names"] == ["1a", "1b"]
    assert batch["words"].tolist() == ["x", "y"]
    assert batch["day"].dtype == np.dtype("M8[D]")
    assert batch["none"] is None


def test_arrays_of_all_jax_dtypes_are_returned():
    dtypes = [np.bool_, np.int8, np.float16, np.complex64, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2]
    with Loader([np.ones(3, dtype) for dtype in dtypes], workers=1) as loader:
        for dtype, batch in zip(dtypes, device_iterator(loader), strict=True):
            assert isinstance(batch, jax.Array)
            assert batch.dtype == dtype
            assert np.asarray(batch).tolist() == np.ones(3, dtype).tolist()


@pytest.mark.parametrize("prefetch", [0, 1, 2, 20])
def test_prefetch_determines_the_number_of_transfers(prefetch):
    taken = []

    def batches():
        for number in range(6):
            taken.append(number)
            yield np.full(3, number)

    iterator = device_iterator(batches(), prefetch=prefetch)
    assert int(next(iterator)[0]) == 0
    assert len(taken) == min(prefetch + 1, 6)
    assert f"{min(prefetch, 5)} transferred ahead" in repr(iterator)
    assert [int(batch[0]) for batch in iterator] == [1, 2, 3, 4, 5]


def test_error_of_jax_is_raised_instead_of_its_batch():
    device, *_ = jax.devices()
    mesh = jax.sharding.Mesh(np.array([device]), ("data",))
    scalars = [np.ones(4, "float32"), np.float32(3), np.ones(4, "float32")]
    batches = device_iterator(scalars, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
    assert next(batches).shape == (4,)
    with pytest.raises(ValueError, match="rank"):
        next(batches)
    assert next(batches).shape == (4,)


def test_threads_share_one_iterator_without_repeated_batches():
    with Loader(Numbered(200), workers=2) as loader:
        batches = device_iterator(loader)
        taken = in_threads(*[lambda: numbers_of(batches)] * 4)
    assert sorted(number for mine in taken for number in mine) == list(range(200))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("is_resumed", [False, True])
def test_epoch_ends_after_the_last_batch_was_returned(is_resumed, workers, monkeypatch):
    monkeypatch.setattr("mpqueue.engine.epoch_end.EPOCH_END_DELAY_S", 600)  # transfers may be slower than the delay

    class Ending(Numbered):
        ends = 0

        def on_epoch_end(self):
            self.ends += 1

    with Loader(Ending(4), workers=workers) as loader:
        if is_resumed:
            next(iter(loader))
            loader.load_state_dict(loader.state_dict())
        batches = device_iterator(loader, prefetch=9)
        found = [(int(batch[0, 0]), loader.source.ends) for batch in batches]
        assert found == [(number, 0) for number in range(is_resumed, 4)]
        assert (loader.epoch, loader.source.ends) == (1, 1)


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("of_a_loader", [True, False], ids=["loader", "list"])
def test_interrupt_at_any_place_loses_and_repeats_no_batch(prefetch, of_a_loader):
    for after, strike in each_strike(5):
        with Loader(Numbered(4), workers=0) as loader:
            batches = device_iterator(loader if of_a_loader else [*loader], prefetch=prefetch)
            found = [next(batches)]
            with strike:
                while len(found) < 4:
                    with contextlib.suppress(Struck):
                        found.append(next(batches))
            assert numbers_of(found) == [0, 1, 2, 3], after
            assert list(batches) == []


@pytest.mark.parametrize("error", [Struck, TimeoutError])
def test_signals_at_random_moments_lose_no_batch_and_states_are_correct(error):
    """Also if the handler raises an Exception, which must not be taken for an error of the loader or of JAX."""
    with Loader(Numbered(5), workers=1, max_queue_size=4) as loader, Alarms(3, error) as alarms:
        for epoch in itertools.count():
            batches, found = device_iterator(loader), []
            while True:
                try:
                    found += alarms.call(next, batches)
                except StopIteration:
                    break
                state = batches.state_dict()
                assert (state["epoch"], state["position"]) in {(epoch, len(found)), (epoch + (len(found) == 5), 0)}
            assert numbers_of(found) == [0, 1, 2, 3, 4]
            if alarms.count > 50:
                break


def test_state_and_last_of_an_iterable_that_is_not_a_loader_are_rejected():
    batches = device_iterator([np.ones(1)])
    for call in (batches.state_dict, lambda: batches.load_state_dict({}), lambda: batches.last):
        with pytest.raises(TypeError, match=r"needs? a mpqueue\.Loader, but the batches are from a list"):
            call()


# -- Whose memory


def aliases(batch):
    """Return whether an array of JAX uses the memory of a ring."""
    address = batch.unsafe_buffer_pointer()
    with open("/proc/self/maps") as maps:
        for line in maps:
            begin, end = (int(number, 16) for number in line.split()[0].split("-"))
            if begin <= address < end:
                return "psm_" in line or "memfd" in line or "/dev/shm" in line
    return False


def test_cpu_array_uses_the_memory_of_the_slot():
    """Otherwise the following tests would always pass."""
    with Loader(Numbered(50), workers=2) as loader:
        assert any(aliases(batch) for batch in device_iterator(loader, prefetch=0))


@pytest.mark.parametrize("kept", [1, 100], ids="{} kept".format)
@pytest.mark.parametrize("prefetch", [0, 12])
def test_slot_is_not_overwritten_while_an_array_exists(kept, prefetch):
    """While 600 other batches go through a ring of a few slots."""
    with Loader(Numbered(600), workers=2, max_queue_size=4) as loader:
        old = last_of(device_iterator(loader, prefetch=prefetch), kept, every=97)
        assert numbers_of(old) == list(range(600 - kept, 600))
    assert numbers_of(old) == list(range(600 - kept, 600))  # from a loader that no longer exists


@pytest.mark.parametrize(
    "use",
    [
        lambda array: array.addressable_shards[0].data,
        np.asarray,
        jax.jit(lambda array: array),
        jax.jit(lambda array: array, donate_argnums=0),
        jax.jit(lambda array: array.reshape(-1)),
        lambda array: jax.device_put(array, jax.devices()[0]),
        jax.dlpack.from_dlpack,
    ],
    ids=["shard", "NumPy", "identity", "donated", "reshaped", "put again", "dlpack"],
)
@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
def test_slot_is_not_overwritten_while_a_derived_array_exists(use):
    with Loader(Numbered(400), workers=2, max_queue_size=2) as loader:
        assert numbers_of(last_of(device_iterator(loader, prefetch=1), 5, use=use)) == list(range(395, 400))


def test_running_step_keeps_its_batch():
    """The computation is running when the loop requests the next batch."""

    @jax.jit
    def step(total, batch):
        for _ in range(5):
            batch = batch @ (np.eye(512, dtype="float32"))
        return total + batch.mean()

    total = np.float32(0)
    with Loader(Numbered(300), workers=2, max_queue_size=2) as loader:
        for batch in device_iterator(loader):
            total = step(total, batch)
            del batch
    assert float(total) == sum(range(300))


def test_dropped_arrays_release_their_slots():
    with Loader(Numbered(500), workers=2, max_queue_size=4) as loader:
        for batch in device_iterator(loader):
            del batch
        assert loader.statistics().copies == 0


class Slow:
    """An array with a transfer that lasts until the test ends it."""

    def __init__(self):
        self.done = False

    def is_ready(self):
        return self.done

    def is_deleted(self):
        return False


def test_slot_is_leased_until_its_transfer_is_ready(monkeypatch):
    """Simulates an accelerator: its arrays have separate memory. A slot is leased while its view exists."""
    arrays, views = [], []

    def put(new, _):
        views.extend(map(weakref.ref, new))
        arrays.extend(Slow() for _ in new)
        return arrays[-len(new) :]

    def num_leased():
        return sum(view() is not None for view in views)

    monkeypatch.setattr(jax, "device_put", put)
    with Loader(Numbered(6), workers=1) as loader:
        batches = device_iterator(loader, prefetch=1)
        for number in range(3):
            next(batches)
            assert num_leased() == number + 2  # including the returned ones
        for array in arrays[:3]:
            array.done = True
        next(batches)
        assert num_leased() == 2
        del batches
        assert num_leased() == 0


# -- Mistakes


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"prefetch": -1}, ValueError, "prefetch must be 0 or more, got -1"),
        ({"prefetch": 1.5}, TypeError, "prefetch must be an integer, got 1.5"),
        ({"prefetch": True}, TypeError, "prefetch must be an integer"),
    ],
)
def test_invalid_option_is_rejected_immediately(arguments, error, text):
    with pytest.raises(error, match=text):
        device_iterator([], **arguments)


def test_enqueuer_is_rejected_with_the_remedy():
    with pytest.raises(TypeError, match=r"got OrderedEnqueuer: pass its get\(\)"):
        device_iterator(mpqueue.OrderedEnqueuer(Numbered()))


# Several devices, in separate programs: their number is fixed at JAX's first use

SHARDED = """
import gc, os, sys
sys.path.insert(0, {tests!r})
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from helpers.kept_batches import last_of
from helpers.numbered_batches import Mixed, Numbered, numbers_of
from mpqueue import Loader
from mpqueue.jax import device_iterator
mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("data", "model"))
rows, columns, all_of_it = (NamedSharding(mesh, P(*axes)) for axes in (("data",), (None, "model"), ()))
"""
PROGRAMS = {
    "every sharding": """
for sharding in (rows, columns, all_of_it, NamedSharding(mesh, P(("data", "model")))):
    def checked(batch):
        assert batch.sharding.is_equivalent_to(sharding, 2) and len(batch.devices()) == 4
        return batch
    with Loader(Numbered(100), workers=2, max_queue_size=2) as loader:
        assert numbers_of(last_of(device_iterator(loader, sharding), 6, use=checked)) == list(range(94, 100))
""",
    "one device": """
with Loader(Numbered(3), workers=1) as loader:
    assert [batch.devices() for batch in device_iterator(loader, jax.devices()[2])] == [{jax.devices()[2]}] * 3
""",
    "a tree of shardings": """
class Pairs(Numbered):
    def __getitem__(self, index):
        return {"x": (np.full((4, 6), index), np.full((4, 2), index)), "n": index, "names": ["a"]}
with Loader(Pairs(2), workers=1) as loader:
    for batch in device_iterator(loader, {"x": (rows, columns), "n": all_of_it, "names": None}):
        assert batch["x"][0].sharding.is_equivalent_to(rows, 2)
        assert batch["x"][1].sharding.is_equivalent_to(columns, 2)
        assert len(batch["n"].devices()) == 4 and batch["names"] == ["a"]
    for batch in device_iterator(loader, {"x": rows, "n": None, "names": None}):
        assert {len(part.devices()) for part in batch["x"]} == {4} and len(batch["n"].devices()) == 1
""",
    "shards that outlive their array": """
with Loader(Numbered(150), workers=2, max_queue_size=2) as loader:
    old = []
    for number, batch in enumerate(device_iterator(loader, rows)):
        old = [*old, batch.addressable_shards[number % 4].data][-5:]
        del batch
        gc.collect() if number % 50 == 0 else None
        if number > 5:
            assert numbers_of(old) == list(range(number - 4, number + 1))
""",
    "a step over all devices": """
step = jax.jit(lambda total, batch: total + batch.mean(), out_shardings=all_of_it, donate_argnums=0)
total = jax.device_put(np.float32(0), all_of_it)
with Loader(Numbered(60), workers=2, max_queue_size=2) as loader:
    for batch in device_iterator(loader, rows):
        total = step(total, batch)
assert float(total) == sum(range(60))
""",
    "dense batches are divided among the devices": """
texts = [np.arange(number % 4) for number in range(16)]
with Loader(texts, batch_size=8, collate="ragged", workers=1) as loader:
    for number, batch in enumerate(device_iterator(loader, rows, dense=True)):
        assert batch.sharding == rows and batch.shape == (8, 3)
        assert [list(row[: len(text)]) for row, text in zip(batch.tolist(), texts[8 * number :])] == [
            text.tolist() for text in texts[8 * number : 8 * number + 8]
        ]
""",
    "rows that cannot be divided": """
class Odd(Numbered):
    def __getitem__(self, index):
        return np.ones((3 if index == 2 else 4, 2), "float32")
with Loader(Odd(4), workers=1) as loader:
    batches, found = device_iterator(loader, rows), []
    try:
        for batch in batches:
            found.append(batch.shape)
    except ValueError as error:
        assert "axis 0 is partitioned 2 times" in str(error) or "dimension 0 should be divisible by 2" in str(error), error
    assert found == [(4, 2)] * 2 and next(batches).shape == (4, 2)
""",
}


def run(code, num_devices=4, **environ):
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    environ = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"} | environ
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], env=environ, **pipes)


def finish(process):
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err[-3000:]
    return out


def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture(scope="module")
def errors_on_a_mesh():
    """Return the errors of all programs by name, from one process: importing JAX takes most of the time."""
    code = (
        SHARDED.format(tests=TESTS)
        + f"""
import json, traceback
errors = {{}}
for name, program in {PROGRAMS!r}.items():
    try:
        exec(program)
    except BaseException:
        errors[name] = traceback.format_exc()
print(json.dumps(errors))
"""
    )
    return json.loads(finish(run(code)).splitlines()[-1])


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_mesh_of_four_devices(name, errors_on_a_mesh):
    assert name not in errors_on_a_mesh, errors_on_a_mesh[name]


PROCESSES = """
import json, os, sys
sys.path.insert(0, {tests!r})
import jax, numpy as np
rank = int(os.environ["NUMBER"])
jax.distributed.initialize(os.environ["COORDINATOR"], num_processes=2, process_id=rank)
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from helpers.numbered_batches import Numbered
from mpqueue import Loader
from mpqueue.jax import device_iterator
rows = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), P("data"))
assert not rows.is_fully_addressable
with Loader(Numbered(100), workers=1, max_queue_size=2) as loader:
    old = []
    for number, batch in enumerate(device_iterator(loader, rows)):
        assert batch.shape == (16, 512), batch.shape  # both processes' parts
        old = [*old, batch][-5:]
        for age, one in enumerate(reversed(old)):
            for shard in one.addressable_shards:
                assert shard.data.shape == (4, 512)
                assert (np.asarray(shard.data) == number - age).all()
rows_here = sorted(shard.index[0].start or 0 for shard in batch.addressable_shards)
with Loader(list(range(24)), batch_size=4, shard="auto", shuffle=True, seed=1, workers=1) as loader:
    epochs = [[batch.tolist() for batch in loader] for _ in range(2)]
print(json.dumps([rows_here, epochs]))
"""


@pytest.fixture(scope="module")
def of_two_processes():
    """Return the rows of each of two processes of one group, and the batches of its share."""
    address, code = free_address(), PROCESSES.format(tests=TESTS)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RANK", "WORLD_SIZE"):  # only JAX reports the rank
            patch.delenv(name, raising=False)
        both = [run(code, num_devices=2, NUMBER=str(rank), COORDINATOR=address) for rank in range(2)]
    return list(zip(*(json.loads(finish(process)) for process in both), strict=True))


def test_sharding_over_two_processes_combines_their_batches(of_two_processes):
    rows, _ = of_two_processes
    assert rows == ([0, 4], [8, 12])


def test_ranks_of_two_processes_share_all_batches(of_two_processes):
    _, (first, second) = of_two_processes
    for epoch in range(2):
        assert [len(first[epoch]), len(second[epoch])] == [3, 3]
        assert sorted(itertools.chain(*first[epoch], *second[epoch])) == list(range(24))


class BeginsAgain:
    """The numbers 0 to 5; it is its own iterator."""

    def __iter__(self):
        self.numbers = iter(range(6))
        return self

    def __next__(self):
        return next(self.numbers)


def test_iterator_that_begins_again_in_iter_is_read_once():
    batches = device_iterator(BeginsAgain())
    assert [int(batch) for batch in itertools.islice(batches, 9)] == [0, 1, 2, 3, 4, 5]


# -- Ragged and sparse batches

RAGGED = [(np.arange(number % 4), np.full((number % 3, 2), number, np.float16), number, "x") for number in range(9)]


def padded_by_hand(arrays, inner=()):
    longest = max(map(len, arrays))
    return [[*array.tolist(), *([np.zeros(inner).tolist()] * (longest - len(array)))] for array in arrays]


def test_ragged_batches_are_two_device_arrays():
    with Loader(RAGGED, batch_size=4, collate="ragged", workers=1) as loader:
        batch = next(device_iterator(loader))
    assert type(batch[0]) is mpqueue.Ragged
    assert all(isinstance(part, jax.Array) for part in (*batch[0], *batch[1], batch[2]))
    assert [each.tolist() for each in batch[0].to_list()] == [[], [0], [0, 1], [0, 1, 2]]


def test_dense_batches_are_padded_on_the_device():
    with Loader(RAGGED, batch_size=4, collate="ragged", workers=1) as loader:
        for _ in range(2):
            batches = list(device_iterator(loader, dense=True))
            for index, (tokens, images, numbers, names) in enumerate(batches):
                samples = RAGGED[4 * index : 4 * index + 4]
                assert all(isinstance(part, jax.Array) for part in (tokens, images, numbers))
                assert tokens.tolist() == padded_by_hand([sample[0] for sample in samples])
                assert images.tolist() == padded_by_hand([sample[1] for sample in samples], 2)
                assert images.dtype == np.float16
                assert numbers.tolist() == [sample[2] for sample in samples]
                assert names == ["x"] * len(samples)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float32, ml_dtypes.bfloat16], ids=str)
def test_dense_batches_of_sparse_rows(dtype):
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.where(np.random.default_rng(3).random((9, 30)) < 0.2, np.arange(30) + 1, 0)
    dense[[0, 4]] = 0
    made = np.float32 if dtype is ml_dtypes.bfloat16 else dtype  # scipy has no such dtype
    rows = [sparse.csr_matrix(row[None].astype(made)) for row in dense]
    with Loader(rows, batch_size=4, workers=1) as loader:
        kept = list(device_iterator(loader))
        batches = list(device_iterator(loader, dense=True))
    assert all(type(batch) is sparse.csr_matrix for batch in kept)
    assert all(isinstance(batch, jax.Array) and batch.dtype == made for batch in batches)
    assert np.array_equal(np.concatenate(batches), dense.astype(made))


def test_dense_batches_go_to_the_devices_of_a_sharding():
    device = jax.devices()[0]
    mesh = jax.sharding.Mesh(np.array([device]), ("x",))
    named = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    for sharding in (device, named, jax.sharding.SingleDeviceSharding(device), (device, named, None, None)):
        with Loader(RAGGED, batch_size=4, collate="ragged", workers=1) as loader:
            tokens, *_ = next(device_iterator(loader, sharding, dense=True))
        assert tokens.tolist() == padded_by_hand([sample[0] for sample in RAGGED[:4]])
        assert tokens.devices() == {device}


def test_similar_batches_share_a_program():
    from mpqueue.frameworks.jax import programs

    _, fill = programs()
    count_programs = fill._cache_size
    before = count_programs()
    sparse = pytest.importorskip("scipy.sparse")
    rows = [sparse.random(1, 50, 0.5, "csr", random_state=seed) for seed in range(64)]
    for at, row in enumerate(rows):
        row.data = row.data[: len(row.data) - at % 3]
        row.indices, row.indptr[-1] = row.indices[: len(row.data)], len(row.data)
    with Loader(rows, batch_size=8, workers=1) as loader:
        assert len({batch.nnz for batch in loader}) > 2
        assert len(list(device_iterator(loader, dense=True))) == 8
    assert count_programs() - before <= 2


def test_states_and_interrupts_count_dense_batches_like_others():
    with Loader(RAGGED, batch_size=2, collate="ragged", workers=1) as loader:
        iterator = device_iterator(loader, dense=True)
        next(iterator)
        next(iterator)
        assert iterator.state_dict()["position"] == 2
        assert iterator.last.samples == (2, 3)
        iterator.load_state_dict(iterator.state_dict())
        assert next(iterator)[2].tolist() == [4, 5]


@pytest.mark.parametrize("inner", [(), (3,)], ids=str)
@pytest.mark.parametrize("lengths", [(2, 0, 3), (0, 0), (4,), ()], ids=str)
@pytest.mark.parametrize("length", [None, 1, 6])
def test_padded_array_has_the_samples_and_the_padding(inner, lengths, length):
    values = np.arange(sum(lengths) * int(np.prod(inner)), dtype=np.float32).reshape(sum(lengths), *inner)
    batch = mpqueue.Ragged(values, np.array([0, *np.cumsum(lengths)]))
    padded = np.asarray(mpqueue.jax.to_padded(batch, length, padding=-1))
    size = max(lengths, default=0) if length is None else length
    assert (padded.shape, padded.dtype) == ((len(lengths), size, *inner), np.float32)
    for row, sample in zip(padded, batch.to_list(), strict=True):
        assert np.array_equal(row[: len(sample)], sample[:size])
        assert (row[len(sample) :] == -1).all()


def test_dense_is_checked():
    with pytest.raises(TypeError, match="dense must be True or False, got 'yes'"):
        device_iterator([], dense="yes")


def test_steps_of_micro_batches_are_moved_as_a_whole():
    costs = np.arange(1, 25)
    balance = mpqueue.Balance(costs, max_cost=60)
    with Loader(costs, batch_size=8, workers=1, seed=1, shard=(0, 2), balance=balance) as loader:
        expected = [[batch.tolist() for batch in step] for step in loader]
        found = list(device_iterator(loader))
    assert all(isinstance(batch, jax.Array) for step in found for batch in step)
    assert [len(step) for step in found] == [len(step) for step in expected]
