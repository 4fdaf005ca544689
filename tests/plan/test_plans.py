"""Plans without processes: an epoch on several ranks, resumed on others, and the class of each source."""

import functools
import itertools
import random
from types import SimpleNamespace

import pytest

import mpqueue
from mpqueue.plan.batching import Form
from mpqueue.plan.cursors import Place
from mpqueue.plan.options import Options
from mpqueue.plan.plans import BatchesPlan, DrawnPlan, SamplesPlan, StreamPlan
from mpqueue.plan.resolve import resolve
from mpqueue.plan.sources import Function, Items, Iterator, Lanes, Source

MANY = 1_000_000


def plan_of(source, seed=3, **options):
    return resolve(source, Options(**options), seed=seed)


def begun(plan, place=None):
    cursor = plan.cursor(1, "process", plan.draws())
    cursor.go_to(Place() if place is None else place)
    return cursor


def units(plan, count, place=None):
    """Return the first units that are dealt from a place on."""
    return [work_item.unit for work_item in begun(plan, place).deal(count)]


def numbers():
    yield from range(3)


class Laned:
    streams = ()

    def open_lane(self, run): ...

    def shape(self):
        return ["numbers"]


def test_epoch_of_a_million_batches_on_7_ranks_resumes_on_other_worlds():
    """Each batch is dealt to one rank; 100 places are resumed with 1 to 9 ranks, without a gap."""
    ranks = [plan_of(range(MANY), batch_size=1, shard=(rank, 7)) for rank in range(7)]
    assert [plan.length() for plan in ranks] == [-(-MANY // 7)] * 7
    for rank, plan in enumerate(ranks):
        cursor, expected = begun(plan), iter(range(rank, 7 * -(-MANY // 7), 7))
        while (work_items := cursor.deal(1000)) and work_items[0].epoch == 0:
            assert [work_item.unit for work_item in work_items] == list(itertools.islice(expected, len(work_items)))
        assert next(expected, None) is None
    choose = random.Random(1)
    for _ in range(100):
        taken, world = choose.randrange(MANY // 7), choose.randrange(1, 10)
        state = ranks[0].state(Place(0, taken)) | {"seed": 3}
        first = [
            units(plan, 1, plan.begun_at(state, plan.place([state], 1, "process")))
            for plan in (plan_of(range(MANY), batch_size=1, shard=(rank, world)) for rank in range(world))
        ]
        assert list(itertools.chain(*first)) == [7 * taken + rank for rank in range(world)]


def test_three_ranks_resume_a_shuffled_epoch_of_two():
    two = [plan_of(list(range(20)), shuffle=True, shard=(rank, 2)) for rank in range(2)]
    whole = units(plan_of(list(range(20)), shuffle=True), 20)
    had = [units(plan, 4) for plan in two]
    state = two[1].state(Place(0, 4)) | {"seed": 3}
    three = [plan_of(list(range(20)), shuffle=True, shard=(rank, 3)) for rank in range(3)]
    left = [units(plan, 99, plan.begun_at(state, plan.place([state], 1, "process"))) for plan in three]
    assert sorted([*itertools.chain(*had), *itertools.chain(*left)]) == sorted(whole)


@pytest.mark.parametrize(
    ("source", "options", "plan", "form"),
    [
        ([1, 2], {}, BatchesPlan, Form.ITEMS),
        ([1, 2], {"batch_size": 1}, SamplesPlan, Form.SAMPLES),
        ([1, 2], {"batch_size": 1, "threads": 2}, SamplesPlan, Form.THREADED),
        ([1, 2], {"batch_size": 1, "sampler": [0]}, DrawnPlan, Form.SAMPLES),
        ([1, 2], {"batch_sampler": [[0]]}, DrawnPlan, Form.SAMPLES),
        (Laned(), {}, StreamPlan, Form.LANES),
        (numbers, {}, StreamPlan, Form.FUNCTION),
        (functools.partial(numbers), {"batch_size": 2}, StreamPlan, Form.FUNCTION),
        (iter([1]), {}, StreamPlan, Form.ITERATOR),
        (mpqueue.Dataset.range(3), {}, BatchesPlan, Form.ITEMS),
        (mpqueue.Dataset.range(3).batch(2), {}, SamplesPlan, Form.SAMPLES),
        (mpqueue.Dataset.range(3).filter(bool), {}, StreamPlan, Form.LANES),
    ],
)
def test_source_and_options_determine_the_kind_of_plan(source, options, plan, form):
    found = plan_of(source, **options)
    assert type(found) is plan
    assert found.form is form
    assert found.has_index is (plan is not StreamPlan)


@pytest.mark.parametrize(
    ("source", "kind"), [([1], Items), (Laned(), Lanes), (numbers, Function), (iter([1]), Iterator)]
)
def test_source_class_is_selected_by_the_object(source, kind):
    found = plan_of(source).source
    assert type(found) is kind
    assert found.can_replay is (kind is not Iterator)
    assert (found.length(), found.length_now()) == ((1, 1) if kind is Items else (None, None))
    assert found.shape() == (["numbers"] if kind is Lanes else None)


def test_frontend_may_pass_its_own_source():
    class Own(Items):
        """Has one batch more than its length."""

        def length(self, of="batches"):
            return super().length(of) + 1

    assert plan_of(Own([1, 2])).length() == 3


def test_an_object_may_provide_its_source_and_the_options_that_remain():
    class Batched(Items):
        def remaining(self, options):
            return Options(batch_size=2)

    class Provides:
        def __mpqueue_source__(self, options, needs):
            calls.append((options.shuffle, needs))
            return Batched([4, 5, 6])

    calls = []
    plan = plan_of(Provides(), shuffle=True)
    assert type(plan) is SamplesPlan
    assert (plan.length(), plan.options.shuffle, calls) == (2, False, [(True, None)])


def test_a_plan_with_another_seed_is_another_plan():
    plan = plan_of(list(range(50)), shuffle=True)
    other = plan.with_seed(4)
    assert (plan.seed, other.seed, other.seed_given) == (3, 4, True)
    assert units(plan, 50) != units(other, 50)
    assert units(plan, 50) == units(other.with_seed(3), 50)


def test_plan_is_immutable():
    plan = plan_of([1, 2])
    with pytest.raises(AttributeError):
        plan.seed = 5
    assert isinstance(plan.source, Source)


def test_identity_of_a_plan_contains_function_name_but_no_address():
    """A journal stores its hash, and is read by another process, where the function has another address."""

    def joined(samples):
        return samples

    identity = plan_of([1, 2], batch_size=1, collate=joined).identity()
    assert "joined" in identity[-1]
    assert "0x" not in identity[-1]


def test_drawn_batches_are_kept_by_the_run_not_by_the_plan():
    plan = plan_of(list(range(9)), sampler=[4, 2, 8], batch_size=1)
    one, other = plan.draws(), plan.draws()
    assert one is not other
    for draws in (one, other):
        cursor = plan.cursor(1, "process", draws)
        cursor.go_to(Place())
        assert [list(work_item.listed.indices) for work_item in cursor.deal(9)] == [[4], [2], [8]]


def test_only_streams_without_lanes_depend_on_the_number_of_workers():
    cursors = SimpleNamespace(
        of_workers=plan_of(numbers).cursor(3, "process"), of_lanes=plan_of(numbers, lanes=5).cursor(3, "process")
    )
    assert (cursors.of_workers.num_lanes, cursors.of_lanes.num_lanes) == (3, 5)
