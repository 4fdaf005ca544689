"""The states of a worker: every transition of the diagram, and no other."""

import pytest

from mpqueue.workers.handle import Cause, LifeError, WorkerLife, WorkerState

SERVING, STARVED, KILLED, ABANDONED, ENDED = WorkerState


def brought_to(state):
    """Return a worker's life in a state."""
    life = WorkerLife()
    if state is STARVED:
        life.starve()
    if state in (KILLED, ABANDONED):
        life.kill(Cause.HUNG)
    if state is ABANDONED:
        life.abandon()
    if state is ENDED:
        life.end()
    assert life.state is state
    return life


@pytest.mark.parametrize(
    ("state", "move", "after"),
    [
        (SERVING, "starve", STARVED),
        (STARVED, "feed", SERVING),
        (SERVING, "kill", KILLED),
        (STARVED, "kill", KILLED),
        (KILLED, "abandon", ABANDONED),
        (SERVING, "end", ENDED),
        (STARVED, "end", ENDED),
        (KILLED, "end", ENDED),
        # Without an effect: a dying worker needs no memory, and exits only once.
        (KILLED, "starve", KILLED),
        (ABANDONED, "starve", ABANDONED),
        (ENDED, "starve", ENDED),
        (KILLED, "kill", KILLED),
        (ABANDONED, "kill", ABANDONED),
        (ENDED, "kill", ENDED),
        (ABANDONED, "end", ABANDONED),
        (ENDED, "end", ENDED),
    ],
)
def test_transition_of_the_diagram(state, move, after):
    life = brought_to(state)
    has_moved = getattr(life, move)(*[Cause.UNTRUSTED] * (move == "kill"))
    assert life.state is after
    if move in ("starve", "kill"):
        assert has_moved == (after is not state)


@pytest.mark.parametrize(
    ("state", "move"),
    [(STARVED, "starve")]
    + [(state, "feed") for state in WorkerState if state is not STARVED]
    + [(state, "abandon") for state in WorkerState if state is not KILLED],
)
def test_other_transition_is_an_error_and_changes_nothing(state, move):
    life = brought_to(state)
    with pytest.raises(LifeError, match="a worker that"):
        getattr(life, move)()
    assert life.state is state


def test_first_cause_of_a_kill_is_kept():
    life = WorkerLife()
    life.kill(Cause.SACRIFICED)
    life.kill(Cause.CLOSED)
    assert life.cause is Cause.SACRIFICED


@pytest.mark.parametrize("state", list(WorkerState))
def test_properties_match_the_state(state):
    life = brought_to(state)
    assert life.is_starved == (state is STARVED)
    assert life.is_abandoned == (state is ABANDONED)
