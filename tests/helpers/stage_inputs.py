"""Inputs for tests of single stages."""

from mpqueue.dataset.indexed.readers import SourceNode
from mpqueue.dataset.lanes.stages import LaneStage
from mpqueue.worker.runners.lanes import LaneRun


def lane_run(skip=None):
    """Return the `LaneRun` of a lane that draws no random numbers."""
    return LaneRun(0, 1, seed=0, epoch=0, begin=lambda seed, epoch, position: None, skip=skip)


def opened_at(source, run, state):
    """Open the lane of a run at a saved state."""
    return source.open_lane(run._replace(state=state))


class Samples(LaneStage):
    """A root stage that yields the samples of a list, and raises its exceptions.

    Attributes:
        read_again: Tokens that were requested again.
    """

    def __init__(self, samples, run=None):
        super().__init__(SourceNode(source=samples), run or lane_run())
        self.samples, self.at, self.read_again = samples, 0, []

    def pull(self, count):
        block = []
        while len(block) < count and self.at < len(self.samples):
            if isinstance(self.samples[self.at], Exception):
                if block:
                    break
                self.at += 1
                raise self.samples[self.at - 1]
            block.append(self.at)
            self.at += 1
        return [self.samples[position] for position in block], block

    def get_state(self, states, held):
        states.append({"at": self.at, "held": list(held)})

    def set_state(self, states):
        state = next(states)
        self.at, self.may_rebuild = state["at"], set(state["held"])

    def again(self, tokens):
        assert self.may_rebuild.issuperset(tokens), "the input was not notified that these tokens are held"
        self.read_again += tokens
        return [self.samples[token] for token in tokens]


def saved(stage):
    """Return the state of a stage."""
    states = []
    stage.get_state(states, ())
    return states


def drain(stage, blocks=(1,), limit=10_000):
    """Return the values of a stage, with errors in their places, and the tokens. Block sizes are used in turn."""
    got, tokens = [], []
    for number in range(limit):
        try:
            values, some = stage.pull(blocks[number % len(blocks)])
        except Exception as error:
            values, some = [error], [None]
        if not some:
            assert values == []
            assert stage.pull(3) == ([], [])
            return got, tokens
        assert len(values) == len(some) <= blocks[number % len(blocks)] or isinstance(values[0], Exception)
        got += values
        tokens += some
    raise AssertionError("the stage does not end")
