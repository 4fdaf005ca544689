"""Plans without processes: an epoch on several ranks, resumed on others, and the class of each source."""

import itertools
import random

from mpqueue.plan.cursors import Place
from mpqueue.plan.options import Options
from mpqueue.plan.plans import SamplesPlan
from mpqueue.plan.resolve import resolve
from mpqueue.plan.sources import Items

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
