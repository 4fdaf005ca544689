"""`states_of`: the class of the states of a plan."""

from mpqueue.plan.options.backend_kinds import BackendName
from mpqueue.plan.order.orders import IndexOrder
from mpqueue.plan.order.plans import Plan
from mpqueue.plan.states.states import States


def states_of(plan: Plan, workers: int, backend: BackendName) -> States:
    """Return the states of the runs of a plan.

    Args:
        plan: The plan.
        workers: Number of workers.
        backend: The backend of the workers.
    """
    order, balance = plan.order, plan.options.balance
    # Imported here: a program has one kind of order.
    if not isinstance(order, IndexOrder):
        from mpqueue.plan.order.streams import StreamOrder
        from mpqueue.plan.states.stream_states import StreamStates

        assert isinstance(order, StreamOrder)
        return StreamStates(plan, workers, backend, order)
    from mpqueue.plan.states.index_states import DrawnStates, IndexStates, WindowStates

    if order.is_drawn:
        return DrawnStates(plan, workers, backend, order)
    if balance is not None and not balance.makes_lists:
        from mpqueue.plan.order.balanced import WindowOrder

        assert isinstance(order, WindowOrder)
        return WindowStates(plan, workers, backend, order)
    return IndexStates(plan, workers, backend, order)
