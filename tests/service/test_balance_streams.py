"""Balanced streams: finished batches are divided among the ranks of a server, exactly once, also after crashes."""

import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers.gates import Gate
from helpers.laned import AtGate, Counted, cost_of_word
from helpers.puppets import all_do
from helpers.served_streams import loaded, plain, some, stream

import mpqueue
from mpqueue.plan.batch_costs import function_of
from mpqueue.service import checkpoints
from mpqueue.service.balanced_stream import divided

pytestmark = pytest.mark.usefixtures("servers_directory")

STREAM = stream(240)


class Row(NamedTuple):
    tokens: Any
    ids: Any


def cost(batch):
    """Return very different costs."""
    return float(np.square(np.asarray(batch)[:, 0]).sum())


def shares(whole, world, steps, cost=cost):
    """Return the expected batches of each rank, from the batches in the order of the stream."""
    size, ordered = world * steps, []
    for start in range(0, len(whole), size):
        window = whole[start : start + size]
        if len(window) == size:
            window = [window[item] for item in divided(np.array([*map(cost, window)], float), world, start // size)]
        ordered += window
    ordered = ordered[: len(ordered) // world * world]
    return [ordered[rank::world] for rank in range(world)]


def taken(world, loop=plain, source=STREAM, **options):
    """Return what each rank of a server takes."""

    def take(rank):
        with mpqueue.attach("s", rank=rank, timeout=60) as consumer:
            return loop(consumer)

    with (
        mpqueue.Server("s", source, seed=3, mode="split", world=world, **{"workers": 1} | options),
        ThreadPoolExecutor(world) as threads,
    ):
        return list(threads.map(take, range(world)))


def rounds(count, loops):
    """Take batches with all loops in turn; return those of each loop."""
    return [list(each) for each in zip(*([next(loop).tolist() for loop in loops] for _ in range(count)), strict=True)]


@pytest.mark.parametrize("world", [2, 3])
def test_batches_of_each_window_are_divided_among_ranks(world):
    steps = 4
    (whole,) = loaded(STREAM, lanes=6)
    unbalanced = taken(world, lanes=6)
    by_workers = [
        taken(world, balance=mpqueue.Balance(cost, steps=steps), workers=workers, max_queue_size=length, lanes=6)
        for workers, length in ((1, 10), (3, 1))
    ]
    assert by_workers[0] == by_workers[1] == shares(whole, world, steps)
    found, size = by_workers[0], world * steps
    assert unbalanced == [whole[: len(whole) // world * world][rank::world] for rank in range(world)]
    num_windows = len(whole) // size
    sums = {}
    for name, ranks in (("plain", unbalanced), ("balanced", found)):
        of_windows = [[rank[at * steps : (at + 1) * steps] for rank in ranks] for at in range(num_windows)]
        sums[name] = np.array([[sum(map(cost, part)) for part in parts] for parts in of_windows])
        for at, parts in enumerate(of_windows):
            assert [len(part) for part in parts] == [steps] * world
            assert sorted(itertools.chain.from_iterable(parts)) == sorted(whole[at * size : (at + 1) * size])
    waits = {name: (each.max(axis=1) / each.mean(axis=1) - 1).mean() for name, each in sums.items()}
    assert waits["balanced"] < waits["plain"] / 4
    assert [rank[num_windows * steps :] for rank in found] == [rank[num_windows * steps :] for rank in unbalanced]


def test_each_epoch_of_an_endless_stream_begins_with_a_window():
    options = {"epoch_batches": 10}
    epochs = taken(
        2, lambda consumer: [plain(consumer) for _ in range(3)], balance=mpqueue.Balance(cost, steps=3), **options
    )
    expected = [shares(epoch, 2, 3) for epoch in loaded(STREAM, 3, epoch_batches=20)]
    assert [list(each) for each in zip(*epochs, strict=True)] == expected


def test_micro_batches_count_like_steps():
    (whole,) = loaded(STREAM)
    assert taken(2, balance=mpqueue.Balance(cost, steps=2, accumulate=3)) == shares(whole, 2, 6)


def test_consumer_knows_samples_of_its_batches():
    numbers = mpqueue.Dataset.range(60).filter(lambda number: number % 3 > 0).batch(2)
    balance = mpqueue.Balance(lambda batch: int(batch.sum() ** 2), steps=2)

    def loop(consumer):
        return [(batch.tolist(), consumer.last.samples) for batch in consumer]

    for known in taken(2, loop, numbers, balance=balance, lanes=2):
        assert known
        assert all(tuple(batch) == samples for batch, samples in known)


def test_packed_rows_are_divided_by_attention():
    documents = [np.full(int(length), length, np.int32) for length in np.random.default_rng(0).integers(1, 60, 400)]
    rows = mpqueue.Dataset(documents).pack(64).batch(4)
    attention = mpqueue.Balance.attention("segment_ids")

    def loop(consumer):
        return [attention(batch) for batch in consumer]

    plain_costs = taken(2, loop, rows)
    costs = taken(2, loop, rows, balance=mpqueue.Balance(attention, steps=4))
    assert sorted(costs[0] + costs[1]) == sorted(plain_costs[0] + plain_costs[1])
    waits = []
    for of_ranks in (plain_costs, costs):
        windows = np.array(of_ranks)[:, : len(costs[0]) // 4 * 4].reshape(2, -1, 4).sum(axis=2)
        waits.append((windows.max(axis=0) / windows.mean(axis=0) - 1).mean())
    assert waits[1] < waits[0] / 4


# -- Costs


def test_division_is_a_permutation_with_similar_costs_in_each_round():
    costs = np.array([9.0, 1, 1, 5, 4, 8, 2, 2])
    for number in range(3):
        items = divided(costs, 2, number)
        assert sorted(items) == list(range(8))
        ranks = [items[rank::2] for rank in range(2)]
        rounds = [sorted(costs[items[at : at + 2]]) for at in range(0, 8, 2)]
        assert sorted(rounds) == [[1, 1], [2, 2], [4, 5], [8, 9]]
        assert sorted(costs[rank].sum() for rank in ranks) == [16, 16]
    assert divided(costs, 2, 0)[::2] == divided(costs, 2, 1)[1::2]  # no rank always has the same part
    assert sorted(divided(costs * 1e300, 4, 0)) == sorted(divided(costs * 0, 4, 0)) == list(range(8))


def test_attention_is_the_sum_of_squared_segment_lengths():
    attention = pickle.loads(pickle.dumps(mpqueue.Balance.attention("segment_ids")))
    rows = np.array([[1, 1, 1, 2, 2, 0], [3, 1, 1, 1, 1, 3], [0, 0, 0, 0, 0, 0]], np.int32)
    assert attention({"segment_ids": rows}) == 3**2 + 2**2 + 4**2 + 2**2
    assert attention({"segment_ids": rows[0]}) == 9 + 4
    assert attention({"segment_ids": np.array([[1, 1], [1, 1]])}) == 4 + 4  # of different rows
    assert attention({"segment_ids": rows[:0]}) == attention({"segment_ids": rows[:, :0]}) == 0


def test_name_of_a_field_counts_its_values():
    count = function_of("ids")
    ids = np.array([[1, 0, 2], [0, 0, 5]])
    assert count({"ids": ids}) == count(Row(None, ids)) == 3
    for batch, known in (({"a": 1, "b": 2}, "its fields are a, b"), (ids, "it is a ndarray")):
        with pytest.raises(ValueError, match=rf"a batch has no field 'ids', .*: {known}"):
            count(batch)


@pytest.mark.parametrize("bad", ["raises", -1, float("nan"), "text"])
def test_cost_that_fails_is_an_error_in_place_of_its_batch(bad):
    def fails(batch):
        if batch[0] != 5:
            return int(batch[0])
        if bad == "raises":
            raise StopIteration
        return bad

    def loop(consumer):
        found, batches = [], iter(consumer)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return found
            except (RuntimeError, ValueError, TypeError) as error:
                found.append("; ".join(error.__notes__))
            else:
                found.append(int(batch[0]))

    numbers = mpqueue.Dataset.range(40).filter(lambda number: True).batch(1)
    found = taken(2, loop, numbers, balance=mpqueue.Balance(fails, steps=4), lanes=2)
    assert [len(rank) for rank in found] == [20, 20]
    (note,) = (each for rank in found for each in rank if isinstance(each, str))
    assert "raised by the cost of the balance" in note
    numbers_of = [[5 if each == note else each for each in rank] for rank in found]
    assert numbers_of == shares(list(range(40)), 2, 4, lambda number: 0 if number == 5 else number)


def test_batches_whose_cost_fails_leave_the_ring():
    def loop(consumer):
        batches, count = iter(consumer), 0
        while True:
            try:
                assert next(batches, None) is None
            except KeyError:
                count += 1
            else:
                return count

    numbers = mpqueue.Dataset.range(400).filter(lambda number: True).batch(1)  # more batches than slots
    assert taken(2, loop, numbers, balance=mpqueue.Balance(lambda batch: {}[1], steps=2), lanes=2) == [200, 200]


def test_error_of_the_source_has_cost_zero_and_one_place():
    def fails(number):
        if number in {3, 17}:
            raise ValueError(f"bad {number}")
        return number

    def loop(consumer):
        found, batches = [], iter(consumer)
        while True:
            try:
                batch = next(batches, None)
            except ValueError as error:
                found.append(-int(str(error).split()[1]))
            else:
                if batch is None:
                    return found
                found.append(int(batch[0]))

    numbers = mpqueue.Dataset.range(48).filter(lambda number: True).map(fails).batch(1)
    whole = [-number if number in {3, 17} else number for number in range(48)]
    found = taken(2, loop, numbers, balance=mpqueue.Balance(lambda batch: int(batch[0]), steps=4), lanes=2)
    assert found == shares(whole, 2, 4, lambda number: max(0, number))


def test_skipped_batches_leave_no_gap():
    def fails(number):
        if number in {3, 17}:
            raise ValueError
        return number

    numbers = mpqueue.Dataset.range(50).filter(lambda number: True).map(fails).batch(1)
    (whole,) = loaded(numbers, lanes=2, on_error="skip")
    balance = mpqueue.Balance(lambda batch: int(batch[0]), steps=4)
    found = taken(2, source=numbers, balance=balance, lanes=2, on_error="skip")
    assert found == shares(whole, 2, 4, lambda batch: batch[0])


# -- Crashes


def test_replacement_of_killed_rank_continues_in_the_middle_of_a_window(puppets):
    (whole,) = loaded(STREAM)
    expected = shares(whole, 2, 3)
    options = {"workers": 1, "seed": 3, "world": 2, "max_queue_size": 2, "balance": mpqueue.Balance(cost, steps=3)}
    with mpqueue.Server("s", STREAM, **options):
        first, second = both = [puppets("s", rank=rank).attached() for rank in range(2)]
        all_do(both, "loop")
        found = [list(rank) for rank in zip(*(all_do(both, "take") for _ in range(5)), strict=True)]
        first.kill()  # the last batch was not taken, and is delivered again
        found[1] += second.take(14)  # many more than the seat of the other rank keeps
        third = puppets("s", rank=0).attached()
        second.tell("take_all"), third.tell("take_all")
        found[0][-1:] = third.answer()
        found[1] += second.answer()
    assert found == expected


@pytest.mark.parametrize("length", [{}, {"epoch_batches": 25}])
def test_server_may_crash_anywhere_in_a_window(puppets, start_server, tmp_path, length):
    options = {"lanes": 4, "world": 2, "seed": 3, "length": 20, "steps": 3, "mode": "split"} | length
    of_all = {name: 2 * number for name, number in length.items()}
    epochs = loaded(Counted(tmp_path / "log of a loader", 20), 2, lanes=4, **of_all)
    expected = [shares(epoch, 2, 3, cost_of_word) for epoch in epochs]
    server = start_server(**options)
    both = [puppets("s", reconnect=True, rank=rank).attached() for rank in range(2)]
    all_do(both, "loop")
    found = [[[], []] for _ in epochs]
    crashes = itertools.chain((1, 2, 4, 5, 7), itertools.repeat(8))
    left = next(crashes)
    for epoch in found:
        while True:
            batches = all_do(both, "take")
            if None in batches:
                assert batches == [None, None]
                all_do(both, "loop")
                break
            for own, batch in zip(epoch, batches, strict=True):
                own.append(batch)
            left -= 1
            if not left:
                left = next(crashes)
                server.kill()
                server.wait()
                server = start_server(**options)
    assert found == expected


def test_ranks_may_be_at_different_places_when_the_server_crashes(puppets, start_server, tmp_path):
    options = {"lanes": 4, "world": 2, "seed": 3, "length": 20, "steps": 3, "mode": "split", "max_queue_size": 12}
    (whole,) = loaded(Counted(tmp_path / "log of a loader", 20), lanes=4)
    server = start_server(**options)
    both = [puppets("s", reconnect=True, rank=rank).attached() for rank in range(2)]
    all_do(both, "loop")
    found = [list(rank) for rank in zip(*(all_do(both, "take") for _ in range(6)), strict=True)]
    found[0] += both[0].take(1)
    server.kill()
    server.wait()
    start_server(**options)
    for one in both:
        one.tell("take_all")
    for own, one in zip(found, both, strict=True):
        own += one.answer()
    assert found == shares(whole, 2, 3, cost_of_word)


def test_checkpoint_is_not_within_a_collected_window(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "BETWEEN_S", 0)
    balance = mpqueue.Balance(cost_of_word, steps=4)
    options = {"workers": 1, "world": 2, "seed": 3, "lanes": 2, "journal": tmp_path / "journal", "balance": balance}
    (whole,) = loaded(Counted(tmp_path / "log of a loader", 20), lanes=2)
    with Gate() as gate, ThreadPoolExecutor(2) as threads:
        # The third batch of the second window is not computed before the gate opens.
        source = Counted(tmp_path / "log", 20, AtGate(gate.address, tmp_path / "fuse", 0, 5))
        source.is_always_saved = True
        with (
            mpqueue.Server("s", source, **options),
            mpqueue.attach("s", rank=0, timeout=30) as first,
            mpqueue.attach("s", rank=1, timeout=30) as second,
        ):
            both = iter(first), iter(second)
            found = rounds(4, both)
            arrival = gate.arrival()
            asked = [threads.submit(some, loop, 1) for loop in both]
            arrival.let_go()
            for own, answer in zip(found, asked, strict=True):
                own += answer.result()
            for own, rest in zip(found, rounds(2, both), strict=True):
                own += rest
        with (
            mpqueue.Server("s", source, **options),
            mpqueue.attach("s", rank=0, timeout=30) as first,
            mpqueue.attach("s", rank=1, timeout=30) as second,
        ):
            for own, rest in zip(found, threads.map(plain, (first, second)), strict=True):
                own[-1:] = rest
    assert found == shares(whole, 2, 4, cost_of_word)


# -- Changes


def test_excluded_samples_are_left_out_from_the_next_window_on():
    numbers = mpqueue.Dataset.range(96).filter(lambda number: True).batch(1)
    excluded = [13, 14, *range(18, 96, 6), *range(21, 96, 6)]
    balance = mpqueue.Balance(lambda batch: int(batch[0]), steps=4)
    with (
        mpqueue.Server("s", numbers, world=2, workers=1, seed=3, lanes=2, balance=balance) as server,
        mpqueue.attach("s", rank=0, timeout=60) as first,
        mpqueue.attach("s", rank=1, timeout=60) as second,
    ):
        loops = [iter(first), iter(second)]
        found = [some(loop, 6) for loop in loops]  # in the middle of the second window
        server.exclude(excluded)
        with ThreadPoolExecutor(2) as threads:
            for own, rest in zip(found, threads.map(plain, loops), strict=True):
                own += rest
    left = [[number for number in range(16 + lane, 96, 2) if number not in excluded] for lane in range(2)]
    whole = [*range(16), *itertools.chain.from_iterable(zip(*left, strict=True))]
    assert found == shares([[number] for number in whole], 2, 4, lambda batch: batch[0])


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("count", [6, 10])  # in the middle of a window, and of the last one, which is incomplete
def test_change_before_and_after_a_restart_begins_after_the_same_batches(tmp_path, count, is_restarted):
    numbers = mpqueue.Dataset.range(22).filter(lambda number: True).batch(1)
    balance = mpqueue.Balance(lambda batch: int(batch[0]), steps=4)
    options = {"workers": 1, "world": 2, "seed": 3, "lanes": 2, "journal": tmp_path / "journal", "balance": balance}
    excluded = [13, 17, 19, 21]
    with (
        mpqueue.Server("s", numbers, **options) as server,
        mpqueue.attach("s", rank=0, timeout=30) as first,
        mpqueue.attach("s", rank=1, timeout=30) as second,
    ):
        both = iter(first), iter(second)
        found = [
            list(rank) for rank in zip(*([next(loop).tolist() for loop in both] for _ in range(count)), strict=True)
        ]
        if not is_restarted:
            server.exclude(excluded)
    with (
        mpqueue.Server("s", numbers, **options) as server,
        mpqueue.attach("s", rank=0, timeout=30) as first,
        mpqueue.attach("s", rank=1, timeout=30) as second,
        ThreadPoolExecutor(2) as threads,
    ):
        if is_restarted:
            server.exclude(excluded)
        for own, rest in zip(found, threads.map(plain, (first, second)), strict=True):
            own[-1:] = rest  # the last batch was not taken, and is delivered again
    at = 16 if count == 6 else 2 * (count - is_restarted)
    whole = [[number] for number in range(22) if number < at or number not in excluded]
    assert found == shares(whole, 2, 4, lambda batch: batch[0])


@pytest.mark.parametrize("crashes", [False, True])
def test_windows_follow_an_undivided_one_if_a_change_lengthens_the_epoch(tmp_path, monkeypatch, crashes):
    monkeypatch.setattr(checkpoints, "BETWEEN_S", 0)
    parts = [mpqueue.Dataset.range(100), mpqueue.Dataset.range(1000, 1030)]
    mixed = mpqueue.Dataset.mix(parts, weights=[1, 1], stop="first").filter(lambda number: True).batch(1)
    balance = mpqueue.Balance(lambda batch: int(batch[0]), steps=4)
    options = {"workers": 1, "world": 2, "seed": 3, "lanes": 2, "journal": tmp_path / "journal", "balance": balance}
    (before,) = loaded(mixed, lanes=2)
    count = len(before) // 8 * 4 + 1  # in the last window, which is incomplete
    assert len(before) // 2 > count
    with (
        mpqueue.Server("s", mixed, **options) as server,
        mpqueue.attach("s", rank=0, timeout=30) as first,
        mpqueue.attach("s", rank=1, timeout=30) as second,
    ):
        both = iter(first), iter(second)
        found = rounds(count, both)
        server.set_weights([1, 0])
        more = rounds(12, both)  # to the middle of a later window
        if not crashes:
            more = [own + rest for own, rest in zip(more, rounds(3, both), strict=True)]
    if crashes:
        with (
            mpqueue.Server("s", mixed, **options),
            mpqueue.attach("s", rank=0, timeout=30) as first,
            mpqueue.attach("s", rank=1, timeout=30) as second,
        ):
            more = [own[:-1] + rest for own, rest in zip(more, rounds(4, (iter(first), iter(second))), strict=True)]
    with mpqueue.Loader(mixed, workers=0, seed=3, lanes=2) as loader:
        loop = iter(loader)
        whole = some(loop, 2 * count)
        loader.set_weights([1, 0])
        whole += plain(loop)
    assert len(whole) >= 2 * (count + 15)
    size, at = 8, 2 * count
    following = -(-at // size) * size
    expected = shares(whole[:at], 2, 4, lambda batch: batch[0]), shares(whole[at:following], 2, 4, None)
    rest = shares([[0]] * following + whole[following:], 2, 4, lambda batch: batch[0])
    assert found == expected[0]
    for rank in range(2):
        assert more[rank] == (expected[1][rank] + rest[rank][following // 2 :])[:15]


# -- Options


@pytest.mark.parametrize(
    ("balance", "error", "text"),
    [
        ({}, ValueError, r"2 or more of them, got steps=1"),
        ({"group": 4}, ValueError, "excludes group"),
        ({"steps": 2, "tokens": "ids"}, ValueError, "excludes tokens"),
        ({"steps": 2, "apply": False}, ValueError, "excludes apply"),
        ({"max_cost": 4.0}, ValueError, "a server has no micro-batches"),
        ({"steps": 2, "cost": np.arange(240)}, TypeError, "must be a function of a finished batch"),
    ],
)
def test_balance_of_a_stream_excludes_options(balance, error, text):
    with pytest.raises(error, match=text):
        mpqueue.Server("s", STREAM, workers=1, world=2, balance=mpqueue.Balance(**{"cost": cost} | balance))


def test_balance_of_a_stream_needs_ranks_of_a_server():
    balance = mpqueue.Balance(cost, steps=2)
    with pytest.raises(ValueError, match="divides samples among ranks"):
        mpqueue.Server("s", STREAM, workers=1, mode="broadcast", world=2, balance=balance)
    with pytest.raises(ValueError, match=r"balance needs a source with __getitem__.*Server"):
        mpqueue.Loader(STREAM, shard=(0, 2), balance=balance)


def test_journal_of_another_division_is_refused(tmp_path):
    options = {"workers": 1, "world": 2, "seed": 1, "journal": tmp_path / "journal"}
    with mpqueue.Server("s", STREAM, balance=mpqueue.Balance(cost, steps=2), **options):
        pass
    for other in (None, mpqueue.Balance(cost, steps=3), mpqueue.Balance("ids", steps=2)):
        with pytest.raises(mpqueue.errors.ServiceError, match="belongs to another stream"):
            mpqueue.Server("s", STREAM, balance=other, **options).start()
