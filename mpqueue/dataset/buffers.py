"""A buffer of elements in a lane, of which the next one is picked: `shuffle(buffer=)`.

    fill     elements of the input until the buffer is full; nothing is given
    swap     each element takes the place of one that is picked, and given
    drain    the input has ended: what is left is put in a random order once, and given

The picks follow from (seed, epoch, lane, stage) and their numbers: a block of them is a block of NumPy's Philox, whose
counter is the number of the block. So a snapshot has the number of the next pick, and no state of a generator. They are
raw bits, which no version of NumPy changes, and are scaled by a product: for a buffer of a million elements one is
picked oftener than another by a 4,000th at most.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpqueue.dataset.stages import Block, LaneStage, Token, tokens_of
from mpqueue.engine.seeds import BatchSeed, sequence_of
from mpqueue.worker.lanes import LaneRun

_BLOCK = 1 << 11
_PICKS = 0x7069636B73  # separates these numbers from those of samples
_DRAIN = 1 << 62  # a block that no pick reaches


class Picks:
    """Random numbers of a stage in a lane, each by its number.

    Args:
        seed: Of the stage.
        run: What the lane was opened with.
    """

    def __init__(self, seed: int, run: LaneRun) -> None:
        words = sequence_of(BatchSeed(seed, run.epoch, (run.lane << 40) + _PICKS))
        self._key = words.generate_state(2, np.uint64)
        self._of: tuple[int, int] = (-1, 0)
        self._picks: list[int] = []

    def _bits(self, block: int, count: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
        philox: Any = np.random.Philox(key=self._key, counter=[0, 0, 0, block])
        bits: np.ndarray[Any, np.dtype[np.uint32]] = philox.random_raw(-(-count // 2)).view(np.uint32)[:count]
        return bits

    def take(self, first: int, count: int, bound: int) -> list[int]:
        """Return the picks of these numbers, each below ``bound``; ``count`` of them at most."""
        block, start = divmod(first, _BLOCK)
        if self._of != (block, bound):
            scaled = self._bits(block, _BLOCK).astype(np.uint64) * np.uint64(bound) >> np.uint64(32)
            self._of, self._picks = (block, bound), scaled.tolist()
        return self._picks[start : start + count]

    def order(self, count: int) -> list[int]:
        """Return a permutation."""
        order: list[int] = np.argsort(self._bits(_DRAIN, count), kind="stable").tolist()
        return order


class ShuffleStage(LaneStage):
    """The elements of its input in another order.

    Args:
        source: The input.
        size: Elements that are held.
        run, number, line: See `LaneStage`.
    """

    def __init__(self, source: LaneStage, size: int, run: LaneRun, number: int, line: str) -> None:
        super().__init__(run, number, line, source)
        self._input, self._size = source, size
        self._values: list[Any] = []
        self._tokens: list[Token] = []
        self._picks, self._next_pick = Picks(self.seed, run), 0
        self._is_draining = False

    def pull(self, count: int) -> Block:
        """Return the next elements; the first call takes as many from the input as the buffer holds."""
        while len(self._tokens) < self._size and not self._is_draining:
            values, tokens = self._input.pull(self._size - len(self._tokens))
            self._values += values
            self._tokens += tokens
            self.num_in += len(tokens)
            if not tokens:
                self._begin_to_drain()
        values, tokens = ([], []) if self._is_draining else self._input.pull(count)
        if tokens:
            self._swap(values, tokens)
        else:
            if not self._is_draining:
                self._begin_to_drain()
            values, tokens = self._values[-count:][::-1], self._tokens[-count:][::-1]
            del self._values[-count:], self._tokens[-count:]
        self.num_out += len(tokens)
        return values, tokens

    def _swap(self, values: list[Any], tokens: list[Token]) -> None:
        """Put elements into the buffer, and those that are picked into their place."""
        started = self._clock_in()
        self.num_in += len(tokens)
        held, held_tokens, at = self._values, self._tokens, 0
        while at < len(tokens):
            for pick in self._picks.take(self._next_pick + at, len(tokens) - at, self._size):
                values[at], held[pick] = held[pick], values[at]
                tokens[at], held_tokens[pick] = held_tokens[pick], tokens[at]
                at += 1
        self._next_pick += at
        self._clock_out(started)

    def _begin_to_drain(self) -> None:
        order = self._picks.order(len(self._tokens))
        self._values = [self._values[at] for at in order]
        self._tokens = [self._tokens[at] for at in order]
        self._is_draining = True

    def save(self, held: Sequence[Token] = ()) -> Any:
        """Return the state of the input, the tokens of what is held, and the number of the next pick."""
        return {
            "input": self._input.save([*held, *self._tokens]), "held": list(self._tokens),
            "pick": self._next_pick, "draining": self._is_draining,
        }  # fmt: skip

    def load(self, state: Any) -> None:
        """Go to where this was saved; what was held is computed again."""
        self._input.load(state["input"])
        self._tokens = tokens_of(state["held"])
        self._values = self._input.rebuild(self._tokens)
        self._next_pick, self._is_draining = state["pick"], state["draining"]

    def rebuild(self, tokens: Sequence[Token]) -> list[Any]:
        """Return the elements of these tokens, which are the input's."""
        return self._input.rebuild(tokens)
