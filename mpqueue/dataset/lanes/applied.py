"""The bases of stages that call a user function for each element of their input."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from mpqueue.dataset.description import nodes
from mpqueue.dataset.lanes.gates import admitted, is_excluded
from mpqueue.dataset.lanes.stages import Block, LaneStage, LinkStage, Token
from mpqueue.dataset.lanes.tokens import together
from mpqueue.worker.failures import never_an_end, passes_at_once
from mpqueue.worker.runners.lanes import LaneRun


class Applied(LinkStage):
    """A stage that calls a user function for each element of its input.

    Elements that were read and not used wait in ``_values`` and ``_tokens``, for example after an error. The failed
    element is the first of them until its error is raised. A snapshot taken before that computes it, and raises the
    error, again.

    Args:
        source, node, run: See `LinkStage`.
    """

    def __init__(self, source: LaneStage, node: nodes.StageNode, run: LaneRun) -> None:
        super().__init__(source, node, run)
        self._values: list[Any] = []
        self._tokens: list[Token] = []
        self._error: BaseException | None = None
        # After an error, elements wait after the entry that requests one by one would not have read.
        self._is_entered = source.node.facts.flows and not node.traits.flows

    def _take(self, count: int) -> Block:
        """Return the next elements of the input, or raise the error of the first of them."""
        while self._tokens:
            if self._error is not None:
                error, self._error = self._error, None
                is_dropped = is_excluded(self.run.gate, self._input, self._tokens[0])
                # Remove the failed element only now: from a snapshot taken before, it is computed, and its error
                # raised, again.
                del self._values[0], self._tokens[0]
                self.search.end()  # as after a resume from here
                if not is_dropped:
                    raise error
                continue
            waiting: Block = self._values[:count], self._tokens[:count]
            del self._values[:count], self._tokens[:count]
            if self._is_entered:
                waiting = admitted(self, *waiting)
            if waiting[1]:
                return waiting
        # No error is waiting, either: it would wait together with its element.
        block = self._input.pull(count)
        self.num_in += len(block[1])
        return block

    def _each(self, enter: Callable[[Any, Token], bool | None], values: list[Any], tokens: Sequence[Token]) -> int:
        """Call a function with each element and its token, and return the number of successful calls; keep an error.

        If the function returns True, no further element is needed, and the remaining ones wait.
        """
        done, mark = 0, self.calls.mark
        try:
            for value, token in zip(values, tokens, strict=True):
                mark(token)
                is_enough = enter(value, token)
                done += 1
                if is_enough:
                    self._values[:0], self._tokens[:0] = values[done:], tokens[done:]
                    break
        except BaseException as error:
            if passes_at_once(error):
                raise
            self._keep(error, values[done:], tokens[done:])
        return done

    def _keep(self, error: BaseException, values: list[Any], tokens: Sequence[Token]) -> None:
        """Keep an error with the elements from the failed one on, or skip the failed element."""
        is_skipped = self.calls.handles(error, tokens[0])
        # Before the waiting elements, which follow in the stream. A skipped element is dropped.
        self._values[:0], self._tokens[:0] = values[is_skipped:], tokens[is_skipped:]
        if not is_skipped:
            self._error = never_an_end(error)

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the tokens of the waiting elements."""
        self._save_with(states, held, {})

    def _save_with(self, states: list[Any], held: Sequence[Token], own: dict[str, Any]) -> None:
        """Add the tokens of the waiting elements and the state of a subclass; ``held`` are tokens of the input."""
        states.append({"waiting": list(self._tokens), **own})
        self._input.get_state(states, together(held, self._tokens))

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state."""
        self._load_own(states)

    def _load_own(self, states: Iterator[Any]) -> Any:
        """Restore a saved state, and return the item of this stage."""
        state = next(states)
        self._input.set_state(states)
        self._values, self._tokens = self._input.held(state["waiting"])
        return state


class InTurnStage(Applied):
    """A stage that enters the elements of its input one after the other, until it is exhausted."""

    _has_ended = False

    def pull(self, count: int) -> Block:
        """Return the next elements."""
        out: list[Any] = []
        out_tokens: list[Token] = []
        enter = partial(self._enter, out, out_tokens)
        while not out and not self._has_ended:
            values, tokens = self._take(count)
            if not tokens:
                return [], []
            started = self.clock.start()
            self._each(enter, values, tokens)
            self.clock.stop(started)
            if not out and not self._has_ended and self._error is None:  # all were skipped
                self.search.note(self, len(tokens))
        self.search.end()
        self.num_out += len(out)
        return out, out_tokens

    def _enter(self, out: list[Any], out_tokens: list[Token], value: Any, token: Token) -> None:
        """Append the result for an element, if it has one, and the token of the result."""
        raise NotImplementedError
