"""Plans without processes: the order of each source."""

from mpqueue.plan.options.options import Options
from mpqueue.plan.order.orders import SamplesOrder
from mpqueue.plan.order.resolve import resolve
from mpqueue.plan.sources.sources import Items


def plan_of(source, seed=3, **options):
    return resolve(source, Options(**options), seed=seed)


def test_frontend_may_pass_its_own_source():
    class Own(Items):
        """Has one batch more than its length."""

        def length(self):
            return super().length() + 1

    assert plan_of(Own([1, 2])).order.length() == 3


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
    assert type(plan.order) is SamplesOrder
    assert (plan.order.length(), plan.options.shuffle, calls) == (2, False, [(True, None)])
