"""Sessions: the calls that belong to a session, and the effect of closing it."""

import asyncio
import contextlib
import threading

import numpy as np
import pytest
from golden.outcomes import DEADLOCK_S, Background
from helpers.concurrent_calls import in_threads
from helpers.waits import until

from mpqueue import FIFOQueue, Session, get_default_session
from mpqueue.errors import CancelledError


def until_blocked(queue):
    until(lambda: queue.queue_ref.num_waiting, "no call waits")


def blocked(queue, *sessions):
    """Start a dequeue in a thread and in these sessions, and wait until it blocks."""

    def dequeue():
        with contextlib.ExitStack() as stack:
            for session in sessions:
                stack.enter_context(session.as_default())
            return queue.dequeue()

    background = Background(dequeue)
    until_blocked(queue)
    return background


def is_cancelled(call):
    """Return whether a call ended because its session was closed."""
    try:
        call.finish()
    except CancelledError:
        return True
    return False


@pytest.fixture
def queue():
    return FIFOQueue(1, np.int32, ())


def test_leaving_the_block_cancels_calls_of_threads_started_in_it(queue):
    with Session():
        call = blocked(queue)
    assert is_cancelled(call)


def test_call_outside_of_the_session_is_not_cancelled(queue):
    session = Session()
    call = blocked(queue)
    session.close()
    queue.enqueue(1)
    assert call.finish() == 1


def test_a_thread_belongs_to_the_session_it_entered_and_not_to_the_open_one(queue):
    mine = Session()
    with Session():
        call = blocked(queue, mine)
    mine.close()
    assert is_cancelled(call)


@pytest.mark.parametrize("which", [0, 1])
def test_closing_any_of_two_nested_sessions_cancels_a_call(queue, which):
    sessions = Session(), Session()
    call = blocked(queue, *sessions)
    sessions[which].close()
    assert is_cancelled(call)


def test_session_follows_into_threads_of_asyncio(queue):
    session = Session()

    async def main():
        with session.as_default():
            call = asyncio.create_task(asyncio.to_thread(queue.dequeue))
        await asyncio.to_thread(until_blocked, queue)
        session.close()
        with pytest.raises(CancelledError):
            await call

    asyncio.run(main())


def test_run_returns_what_the_op_returns_and_the_queue_outlives_its_session(queue):
    with Session() as session:
        assert session.run(lambda: queue.enqueue(7)) is None
        assert session.make_callable(queue.size)() == 1
    assert queue.dequeue() == 7


def test_closed_session_cannot_run_or_be_entered():
    session = Session()
    session.close()
    session.close()
    for use in (lambda: session.run(int), session.make_callable(int), session.__enter__):
        with pytest.raises(RuntimeError, match="closed") as caught:
            use()
        assert isinstance(caught.value, CancelledError)


def test_run_requires_a_callable():
    with pytest.raises(TypeError, match="callable"):
        Session().run(np.zeros(3))


def test_the_default_session_is_the_innermost_also_if_it_is_entered_twice():
    outermost = get_default_session()
    with Session() as outer:
        with Session() as inner:
            assert get_default_session() is inner
            with outer.as_default():
                assert get_default_session() is outer
        assert get_default_session() is outer
        assert not outer.is_closed
    assert outer.is_closed
    assert get_default_session() is outermost


def test_other_threads_see_the_session_that_the_program_has_open():
    with Session() as session:
        assert in_threads(get_default_session) == [session]
    assert in_threads(get_default_session) == [get_default_session()]


def test_sessions_of_two_threads_can_close_in_any_order():
    entered, leave = threading.Event(), threading.Event()

    def enter_and_leave():
        with Session():
            entered.set()
            assert leave.wait(DEADLOCK_S)

    with Session() as mine:
        other = Background(enter_and_leave)
        assert entered.wait(DEADLOCK_S)
        assert get_default_session() is mine
    leave.set()
    other.finish()
    assert get_default_session() is not mine


def test_a_closed_session_of_the_module_is_replaced():
    session = get_default_session()
    session.close()
    assert get_default_session() is not session
    assert not get_default_session().is_closed
