"""The interpreter of the Keras cases finds what is wrong with an enqueuer: lies are told to it, one kind each."""

import json
import types
from pathlib import Path

import pytest

from golden.topics import keras3, keras_old

HERE = Path(__file__).resolve().parent


class Honest:
    """The smallest enqueuer that keeps the contract of one thread: it computes an item when it is asked for."""

    def __init__(self, sequence, use_multiprocessing=False, shuffle=False):
        self.sequence, self.has_started = sequence, False
        self.running = False

    def start(self, workers=1, max_queue_size=10):
        if self.running:
            raise RuntimeError("it runs already")
        self.running, self.has_started, self.position = True, True, 0

    def stop(self, timeout=None):
        self.running = False

    def is_running(self):
        return self.running

    def pick(self, position):
        return self.sequence[position]

    def turn(self):
        self.sequence.on_epoch_end()

    def get(self):
        if not self.has_started:
            raise RuntimeError("start it first")
        while self.running:
            if self.position == self.sequence.setup["len"]:
                self.turn()
                self.position = 0
            try:
                item = self.pick(self.position)
            except Exception:
                self.running = False
                raise
            self.position += 1
            if item is not None:
                yield item


class Swaps(Honest):
    def pick(self, position):
        return self.sequence[position ^ 1]


class Doubles(Honest):
    def pick(self, position):
        return self.sequence[max(0, position - 1)]


class ForgetsTheEpochEnd(Honest):
    def turn(self):
        pass


class EndsTheEpochTwice(Honest):
    def turn(self):
        self.sequence.on_epoch_end()
        self.sequence.on_epoch_end()


class SwallowsErrors(Honest):
    def pick(self, position):
        try:
            return self.sequence[position]
        except ValueError:
            return None


class RunsOnAfterStop(Honest):
    def stop(self, timeout=None):
        pass


class GivesFloats(Honest):
    def pick(self, position):
        item = self.sequence[position]
        return float(item) if isinstance(item, int) else item


class StartsTwice(Honest):
    def start(self, workers=1, max_queue_size=10):
        self.running, self.has_started, self.position = True, True, 0


def play(topic, enqueuer_class, number):
    document = json.loads((HERE / f"{topic.__name__.rpartition('.')[2]}.json").read_text("utf-8"))
    case = next(case for case in document["cases"] if case["id"].endswith(number))
    topic.run(case, HERE, types.SimpleNamespace(OrderedEnqueuer=enqueuer_class))


# Cases without steps that look into prefetching, which the honest one has not.
OLD, NEW = ["s003", "s004", "s005", "s016", "s018", "s030", "s033"], ["s001", "s003", "s007", "s010"]


@pytest.mark.parametrize(("topic", "number"), [(keras_old, one) for one in OLD] + [(keras3, one) for one in NEW])
def test_an_enqueuer_that_keeps_the_contract_passes(topic, number):
    """The cases themselves hold for it, the deliberate differences included."""
    play(topic, Honest, number)


@pytest.mark.parametrize(
    ("lie", "topic", "number"),
    [
        (Swaps, keras_old, "s018"),
        (Doubles, keras_old, "s003"),
        (Doubles, keras_old, "s020"),
        (ForgetsTheEpochEnd, keras_old, "s005"),
        (ForgetsTheEpochEnd, keras3, "s001"),
        (EndsTheEpochTwice, keras_old, "s030"),
        (SwallowsErrors, keras_old, "s004"),
        (RunsOnAfterStop, keras_old, "s016"),
        (GivesFloats, keras_old, "s005"),
        (StartsTwice, keras3, "s007"),
    ],
)
def test_an_enqueuer_that_breaks_it_is_found_out(lie, topic, number):
    """One kind of lie each, and a case that shows it."""
    with pytest.raises(AssertionError, match="step"):
        play(topic, lie, number)
