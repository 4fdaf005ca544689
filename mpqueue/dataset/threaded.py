"""A function of the user's that is called in threads, for `map` and `filter`: results in order, some ahead.

At most ``4 * threads`` elements are at work; the input is asked for more when half of them have been taken, since one
by one they cost its stages 10 us more each. Those whose turn has not come wait as the elements of any other stage do:
a snapshot has their tokens, and they are computed again. An error of an element stays with it until its turn; one that
the input raised meanwhile comes behind all that were taken before it, and is the one thing of which a snapshot has
more than a token.

`mpqueue.rng` in a thread is that of the sample that the thread computes. The global generators are nobody's there.

The threads are those of `mpqueue.worker.helper_threads`.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from mpqueue.dataset.held import together
from mpqueue.dataset.nodes import FilterNode, MapNode, returned_none
from mpqueue.dataset.stages import (
    VERDICTS,
    Block,
    LaneStage,
    LinkStage,
    Token,
    no_verdict,
    tokens_of,
)
from mpqueue.seeding.seeds import place_of
from mpqueue.worker import context, failures
from mpqueue.worker.failures import passes_at_once
from mpqueue.worker.helper_threads import AHEAD, HelperCall, shared_helpers
from mpqueue.worker.lanes import LaneRun
from mpqueue.worker.retry_markers import RetryBegin


class ThreadedStage(LinkStage):
    """The results of a function that is called in threads, or the elements for which it returns True.

    Args:
        source, node, run: See `LinkStage`.
    """

    node: MapNode | FilterNode

    def __init__(self, source: LaneStage, node: MapNode | FilterNode, run: LaneRun) -> None:
        super().__init__(source, node, run)
        self._ahead, self._is_filter = AHEAD * node.threads, type(node) is FilterNode
        self._helpers = shared_helpers(node.threads)
        self._waiting: deque[tuple[Any, Token]] = deque()  # taken, and in no thread yet
        self._pending: deque[tuple[Any, Token, HelperCall]] = deque()
        self._error: BaseException | None = None  # of the input, behind what is pending

    def pull(self, count: int) -> Block:
        """Return the next elements, and have those behind them computed meanwhile."""
        values: list[Any] = []
        tokens: list[Token] = []
        call = self._in_helper()
        while len(values) < count:
            self._take(call)
            if not self._pending:
                if self._error is None or values:
                    break
                error, self._error = self._error, None
                raise error
            value, token, helped = self._pending[0]
            error_of = self._error_of(helped)
            if error_of is not None and values:
                break  # it is raised by the next call
            self._pending.popleft()
            # The time of the helper, also where this thread did not wait: the stage takes it from a CPU or a disk.
            self.ns += helped.ns
            self.waiting_ns += int(helped.ns * self._helpers.clock.waiting_share)
            if error_of is not None:
                if self.leaves_out(error_of, token):
                    if not values:  # or they would be lost with the error
                        self._note_fruitless(1)
                    continue
                raise failures.never_an_end(error_of)
            if not self._is_filter or helped.result():
                values.append(value if self._is_filter else helped.result())
                tokens.append(token)
                self._num_fruitless = 0
            elif not values:
                self._note_fruitless(1)
        self.num_out += len(values)
        return values, tokens

    def _take(self, call: Callable[[Any, Token], Any]) -> None:
        """Have as many elements at work as may be."""
        # A marked element is alone at work, or a death beside it would be blamed on it.
        most = self._ahead if self.may_run_ahead else 1
        # Half of them at a time: one by one they would cost the stages before 10 us more each.
        if len(self._pending) > most // 2:
            return
        # Those of a snapshot come before all that the input will give.
        while self._waiting and len(self._pending) < most:
            self._submit(call, *self._waiting.popleft())
        if self._waiting:
            return
        while self._error is None and len(self._pending) < most:
            try:
                values, tokens = self._input.pull(most - len(self._pending))
            except BaseException as error:
                if passes_at_once(error):
                    raise
                # Behind all that were taken before it: the call that comes to it raises it.
                self._error = error
                return
            if not tokens:
                return
            self.num_in += len(tokens)
            for value, token in zip(values, tokens, strict=True):
                self._submit(call, value, token)

    def _submit(self, call: Callable[[Any, Token], Any], value: Any, token: Token) -> None:
        self._pending.append((value, token, self._helpers.submit(call, value, token)))

    def _in_helper(self) -> Callable[[Any, Token], Any]:
        """Return what computes an element in a thread; made by the worker's own, for the batch that is at work."""
        return partial(self._call, context.in_any_thread(self.node.function, self.seed, self.run.epoch))

    def _call(self, ask: Callable[[int, Any], Any], value: Any, token: Token) -> Any:
        begin, place = self.run.begin, place_of(token)
        if type(begin) is RetryBegin:
            begin.look(self.seed, self.run.epoch, place)
        made = ask(place, value)
        if self._is_filter and type(made) not in VERDICTS:
            raise no_verdict(self.line, made)
        if made is None:
            raise returned_none(self.line)
        return made

    def _error_of(self, call: HelperCall) -> BaseException | None:
        """Wait for an element, and return the exception that was raised for it, or None."""
        if not call.is_done:
            self._helpers.check()
        return call.exception()

    def save_to(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the tokens of what is at work."""
        pending = [*[token for _, token, _ in self._pending], *[token for _, token in self._waiting]]
        states.append({
            "pending": pending,
            "error": None if self._error is None else failures.pack(self._error, "raised before the snapshot").hex(),
        })  # fmt: skip
        self._input.save_to(states, together(held, pending))

    def load_from(self, states: Iterator[Any]) -> None:
        """Go to where this was saved; what was at work is begun again."""
        state = next(states)
        self._input.load_from(states)
        tokens = tokens_of(state["pending"])
        if tokens:  # they are begun with the first `pull`
            self._waiting.extend(zip(self._input.rebuild(tokens), tokens, strict=True))
        self._error = None if state["error"] is None else failures.unpack(bytes.fromhex(state["error"]))

    def rebuild(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these elements, computed in the threads."""
        values = self._input.rebuild(tokens)
        if self._is_filter:
            return values
        call, submit = self._in_helper(), self._helpers.submit
        made = [submit(call, value, token) for value, token in zip(values, tokens, strict=True)]
        return [call.result() for call in made]
