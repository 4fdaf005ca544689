"""The stages `map` and `filter` with threads or coroutines: results in order, computed ahead.

At most four elements for each thread or coroutine are in flight; if the lane must not run ahead, only requested ones.
More elements are requested from the input when half of them have been taken: single requests cost the earlier stages 10
us more per element. The number of elements that were read follows from the number of taken ones, also after a snapshot.
So a snapshot does not have to wait until no element is in flight.

Later elements wait as in any other stage: a snapshot contains their tokens, and they are computed again. An error of an
element is raised in its turn. An error of the input is raised after all elements that were read before it. Only
then does a snapshot contain more than tokens.

Before a cache, all elements in flight end before the first one is returned, and the next ones are read after the last.
In that time no other code of a worker draws random numbers, so a draw in a thread is noticed
(`mpqueue.worker.runners.fixed_seeds`).

`mpqueue.rng` in a thread is seeded for the sample that the thread computes. The global generators are not seeded.

`mpqueue.worker.concurrency.helper_threads` provides the threads, and `mpqueue.worker.concurrency.coroutines` the
coroutines.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from mpqueue.dataset.description.ids import with_ids
from mpqueue.dataset.description.nodes import Function, StageNode, returned_none
from mpqueue.dataset.lanes.gates import is_excluded
from mpqueue.dataset.lanes.stages import Block, LaneStage, LinkStage, Token, tokens_of
from mpqueue.dataset.lanes.tokens import together
from mpqueue.dataset.lanes.user_calls import VERDICTS, no_verdict
from mpqueue.plan.options.batching import AHEAD
from mpqueue.seeding.seeds import position_of
from mpqueue.worker import failures
from mpqueue.worker.concurrency.helper_threads import HelperCall, Helpers, shared_helpers
from mpqueue.worker.concurrency.in_order import Helping
from mpqueue.worker.failures import passes_at_once
from mpqueue.worker.retry_markers import RetryBegin
from mpqueue.worker.runners.lanes import LaneRun


def helpers_of(node: Any) -> Helping:
    """Return the threads or coroutines of a stage, which other stages of this process may share."""
    if not node.concurrency:
        return shared_helpers(Helpers, node.threads)
    from mpqueue.worker.concurrency.coroutines import Coroutines  # imports asyncio

    return shared_helpers(Coroutines, node.concurrency)


class ThreadedStage(LinkStage):
    """The results of a function that is called in threads or coroutines, or the elements for which it returns True.

    Args:
        source, node, run: See `LinkStage`. The node has ``threads`` and ``concurrency``.
        function: The function.
        is_filter: The function decides which elements are returned; otherwise its results are returned.
        with_id: The function takes a pair (element, id) in place of an element.
    """

    def __init__(
        self, source: LaneStage, node: StageNode, run: LaneRun, function: Function, *, is_filter: bool = False,
        with_id: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(source, node, run)
        self._function, self._with_id = function, with_id
        self._helpers, self._is_filter = helpers_of(self.node), is_filter
        self._ahead = AHEAD * self._helpers.width
        self._waiting: deque[tuple[Any, Token]] = deque()  # read from the input, but not submitted yet
        self._pending: deque[tuple[Any, Token, HelperCall]] = deque()
        self._error: BaseException | None = None  # raised by the input after the pending elements
        self._num_taken = 0  # elements of the input whose result was taken

    def pull(self, count: int) -> Block:
        """Return the next elements, while later ones are computed."""
        values: list[Any] = []
        tokens: list[Token] = []
        call = self._in_helper()
        while len(values) < count:
            self._take(call, count - len(values))
            if not self._pending:
                if self._error is None or values:
                    break
                error, self._error = self._error, None
                raise error
            value, token, helped = self._pending[0]
            exception = self._exception_of(helped)
            if exception is not None and values:
                break  # the next call raises it
            self._pending.popleft()
            self._num_taken += 1
            # Add the helper's time even if this thread did not wait: it used a CPU or a disk.
            self.clock.ns += helped.ns
            self.clock.waiting_ns += int(helped.ns * self._helpers.clock.waiting_share)
            if exception is not None:
                if is_excluded(self.run.gate, self._input, token) or self.calls.handles(exception, token):
                    if not values:  # otherwise a RuntimeError would lose the values
                        self.search.note(self, 1)
                    continue
                raise failures.never_an_end(exception)
            if not self._is_filter or helped.result():
                values.append(value if self._is_filter else helped.result())
                tokens.append(token)
                self.search.end()
            elif not values:
                self.search.note(self, 1)
        else:
            # The elements in flight after the last element must not depend on the number of requested elements.
            if self.run.may_run_ahead:
                self._take(call, 1)
        self.num_out += len(values)
        return values, tokens

    def _take(self, call: Callable[[Any, Token], Any], count: int) -> None:
        """Submit elements until the allowed number is in flight; ``count`` are requested."""
        # An element with a retry marker is computed alone, so that a crash is not attributed to the wrong element.
        fixed = self.run.fixed
        if self.run.is_alone:
            most = 1
        elif not self.run.may_run_ahead:
            most = min(count, self._ahead)
        else:
            most = self._ahead
        if fixed is not None:
            if not self._pending:
                if not self._waiting:
                    self._read(most)
                fixed.watched(self._submit_all, call, most)
            return
        if self.run.may_run_ahead:
            # Half of them at a time: single requests would cost the earlier stages 10 us more per element.
            most -= self._num_taken % (self._ahead // 2)
        # Elements of a snapshot precede all later elements of the input.
        while self._waiting and len(self._pending) < most:
            self._submit(call, *self._waiting.popleft())
        if self._waiting:
            return
        while self._read(most):
            while self._waiting:
                self._submit(call, *self._waiting.popleft())

    def _read(self, most: int) -> bool:
        """Read elements of the input, until that many are in flight; return False if there are none to read."""
        missing = most - len(self._pending) - len(self._waiting)
        if self._error is not None or missing <= 0:
            return False
        try:
            values, tokens = self._input.pull(missing)
        except BaseException as error:
            if passes_at_once(error):
                raise
            # Raised by the call that reaches it, after all elements that were read before it.
            self._error = error
            return False
        self.num_in += len(tokens)
        self._waiting.extend(zip(self._arguments(values, tokens), tokens, strict=True))
        return bool(tokens)

    def _submit_all(self, call: Callable[[Any, Token], Any], most: int) -> None:
        """Submit the elements that were read, and wait for all of them, so that no other code draws numbers."""
        while self._waiting and len(self._pending) < most:
            self._submit(call, *self._waiting.popleft())
        for _, _, helped in self._pending:
            self._exception_of(helped)

    def _arguments(self, values: list[Any], tokens: Sequence[Token]) -> list[Any]:
        """Return the argument of the function for each element."""
        return with_ids(values, self._input.sample_ids(tokens)) if self._with_id else values

    def _submit(self, call: Callable[[Any, Token], Any], value: Any, token: Token) -> None:
        self._pending.append((value, token, self._helpers.submit(call, value, token)))

    def _in_helper(self) -> Callable[[Any, Token], Any]:
        """Return a function that computes an element elsewhere. To be called in the worker's thread per batch."""
        compute = self._helpers.in_context(self._function, self.seed, self.run.epoch)
        return partial(self._call_coroutine if self.node.concurrency else self._call, compute)

    def _call(self, compute: Callable[[int, Any], Any], value: Any, token: Token) -> Any:
        return self._checked(compute(self._position_of(token), value))

    async def _call_coroutine(self, compute: Callable[[int, Any], Any], value: Any, token: Token) -> Any:
        return self._checked(await compute(self._position_of(token), value))

    def _position_of(self, token: Token) -> int:
        begin, position = self.run.begin, position_of(token)
        if type(begin) is RetryBegin:
            begin.look(self.seed, self.run.epoch, position)
        return position

    def _checked(self, made: Any) -> Any:
        if self._is_filter and type(made) not in VERDICTS:
            raise no_verdict(self.line, made)
        if made is None:
            raise returned_none(self.line)
        return made

    def _exception_of(self, call: HelperCall) -> BaseException | None:
        """Wait for an element, and return the exception that it raised, or None."""
        if not call.is_done:
            self._helpers.check()
            self._helpers.wait(call)
        return call.exception()

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the tokens of the elements in flight."""
        pending = [*[token for _, token, _ in self._pending], *[token for _, token in self._waiting]]
        error = None if self._error is None else failures.pack(self._error, "raised before the snapshot").hex()
        states.append({"pending": pending, "done": self._num_taken, "error": error})
        self._input.get_state(states, together(held, pending))

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state; elements in flight are computed again."""
        state = next(states)
        self._input.set_state(states)
        tokens = tokens_of(state["pending"])
        self._num_taken = state["done"]
        if tokens:  # submitted by the first `pull`
            values = self._arguments(self._input.again(tokens), tokens)
            self._waiting.extend(zip(values, tokens, strict=True))
        self._error = None if state["error"] is None else failures.unpack(bytes.fromhex(state["error"]))

    def again(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these elements, computed in the threads."""
        values = self._input.again(tokens)
        if self._is_filter:
            return values
        arguments = self._arguments(values, tokens)
        if self.run.fixed is not None:
            return self.run.fixed.watched(self._results, arguments, tokens)
        return self._results(arguments, tokens)

    def _results(self, arguments: list[Any], tokens: Sequence[Token]) -> list[Any]:
        call, submit = self._in_helper(), self._helpers.submit
        made = [submit(call, value, token) for value, token in zip(arguments, tokens, strict=True)]
        for helped in made:
            self._exception_of(helped)
        return [helped.result() for helped in made]
