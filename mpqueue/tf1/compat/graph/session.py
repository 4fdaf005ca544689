"""Sessions: a session runs parts of a graph and owns the state of the graph's variables, queues and readers.

The state is held in `SessionState` and is released with the session. Two sessions of one graph share no state.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Self

from mpqueue.errors import UnimplementedError
from mpqueue.system.signals.contexts import context_manager
from mpqueue.tf1.compat.graph.feeds import Fetches, fed_values
from mpqueue.tf1.compat.graph.nodes import Graph, Tensor, get_default_graph
from mpqueue.tf1.compat.graph.plan import Plan
from mpqueue.tf1.compat.graph.run import Run, owned
from mpqueue.tf1.compat.graph.scopes import sessions
from mpqueue.tf1.compat.graph.settings import ConfigProto, RunMetadata, RunOptions, checked, limit_s
from mpqueue.tf1.compat.graph.state import SessionState
from mpqueue.tf1.queues.session import SessionClosedError


class Session(SessionState):
    """A session that runs nodes of a graph.

    As a context manager, it is the default session, and its graph is the default graph. On exit it is closed.

    Args:
        target: "" or "local": all operations run in this process.
        graph: The graph to run. If None, the default graph.
        config: A `ConfigProto`. Its ``operation_timeout_in_ms`` is the time limit of each run; the other settings have
            no effect. Queue runners have no limit.

    Raises:
        TypeError: ``graph`` is not a graph, ``target`` is not a ``str``, or ``config`` is not a `ConfigProto`.
        UnimplementedError: ``target`` is the address of a server.

    Follows: ``tf.Session``.
    """

    def __init__(self, target: str = "", graph: Graph | None = None, config: Any = None) -> None:
        if graph is not None and not isinstance(graph, Graph):
            raise TypeError(f"graph must be a Graph, but got {type(graph).__name__}")
        checked(config, ConfigProto, "config")
        limit_ms = 0 if config is None else config.operation_timeout_in_ms
        self._limit_s = limit_s(limit_ms, "operation_timeout_in_ms")
        _check_target(target)
        super().__init__()
        self.graph = get_default_graph() if graph is None else graph
        self.sess_str = target
        self._num_runs = 0
        self._plans: dict[Any, Plan] = {}
        self._closed = False
        self._contexts = ExitStack()

    @property
    def graph_def(self) -> Any:
        """The graph itself, instead of TensorFlow's protocol buffer."""
        return self.graph

    def run(self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> Any:
        """Run the nodes that ``fetches`` depend on, each at most once, and return the values.

        Args:
            fetches: A node, the name of a node, or nested lists, tuples, named tuples and dicts of them.
            feed_dict: Values to use in place of tensors.
            options: A `RunOptions`. Its ``timeout_in_ms`` is the time limit of the run, for operations of queues and
                readers that wait; the other settings have no effect. Default: the limit of the session.
            run_metadata: A `RunMetadata`, which remains empty.

        Returns: The structure of ``fetches`` with values in place of nodes: NumPy scalars, ``bytes`` for strings, and
            arrays that the caller owns; None for operations; `SparseTensorValue` for sparse tensors.

        Raises:
            RuntimeError: The session is closed, or the graph is empty.
            TypeError: A fetch or a key of ``feed_dict`` is not a node, or another argument has the wrong type.
            ValueError: A node belongs to another graph, or a fed value has an incompatible shape.
            DeadlineExceededError: An operation still waited at the time limit. It has had no effect on its queue.
            OpError: An operation failed; ``op`` is the operation.

        Follows: ``tf.Session.run``.
        """
        limit = self._limit_of(options, run_metadata)
        self._check_usable()
        values = fed_values(self.graph, feed_dict)
        return self._run(Fetches(self.graph, fetches), values, limit)

    def _limit_of(self, options: Any = None, run_metadata: Any = None) -> float | None:
        checked(run_metadata, RunMetadata, "run_metadata")
        if checked(options, RunOptions, "options") is None:
            return self._limit_s
        return limit_s(options.timeout_in_ms, "timeout_in_ms") or self._limit_s

    def make_callable(self, fetches: Any, feed_list: Any = None, accept_options: bool = False) -> Callable[..., Any]:
        """Return a function that runs ``fetches`` and feeds its arguments to ``feed_list``; it is faster than `run`.

        Args:
            fetches: As for `run`.
            feed_list: The tensors to feed.
            accept_options: Whether the function has the keyword arguments ``options`` and ``run_metadata`` of `run`.

        Raises:
            TypeError: As for `run`, raised immediately.
            ValueError: As for `run`, raised immediately.
        """
        nodes = Fetches(self.graph, fetches)
        keys = list(feed_list or ())

        def call(*values: Any, **given: Any) -> Any:
            if given and not accept_options:
                raise TypeError(f"{', '.join(given)} requires make_callable(..., accept_options=True)")
            limit = self._limit_of(**given)
            self._check_usable()
            return self._run(nodes, fed_values(self.graph, dict(zip(keys, values, strict=True))), limit)

        return call

    def repeated(self, op: Any) -> Callable[[], Any]:
        """Return a function that runs an operation without a time limit; for queue runners."""
        nodes = Fetches(self.graph, op)

        def call() -> Any:
            self._check_usable()
            return self._run(nodes, {}, None)

        return call

    def _check_usable(self) -> None:
        if self._closed:
            raise SessionClosedError(None, None, "Attempted to use a closed Session.")
        if not self.graph.version:
            raise RuntimeError("The Session graph is empty. Add operations to the graph before calling run().")

    def _run(self, fetches: Fetches, values: dict[Tensor, Any], limit: float | None) -> Any:
        results: dict[Tensor, Any] = dict(values)
        targets = [each for each in fetches.targets if each not in values]
        if targets:
            # Training loops repeat the same fetches. A cached plan remains valid: a node's inputs never change.
            key = (tuple(targets), frozenset(values))
            plan = self._plans.get(key)
            if plan is None:
                plan = self._plans[key] = Plan(targets, values)
            with self.running(limit) as run:
                slots = run.carry_out(plan, values)
            places = plan.slot_of
            # Callers may modify results, so copy arrays of constants and variables. `[()]` turns 0-d into scalars.
            results |= {each: owned(slots[places[each]])[()] for each in targets if isinstance(each, Tensor)}
        return fetches.build(results)

    @context_manager
    def running(self, limit: float | None = None) -> Iterator[Run]:
        """Return a context for one run, during which the session keeps its state.

        Args:
            limit: Time limit of the run in seconds.

        Raises:
            RuntimeError: The session is closed, or the graph is empty.
        """
        with self.lock:
            self._check_usable()
            # `close` during a run keeps the state until the run ends: kernels would create it again, empty.
            self._num_runs += 1
        try:
            yield Run(self, limit)
        finally:
            with self.lock:
                self._num_runs -= 1
                self._forget_if_unused()

    def as_default(self) -> Any:
        """Return a context that makes this the default session of the thread; it does not close the session."""
        return sessions.context(self)

    def close(self) -> None:
        """Close the session: blocked calls raise `CancelledError`, and the state is released after the last run."""
        with self.lock:
            self._closed = True
            self._forget_if_unused()
        self.scope.cancel("the session is closed")

    def _forget_if_unused(self) -> None:
        if self._closed and not self._num_runs:
            self.state.clear()
            self._plans.clear()

    def __enter__(self) -> Self:
        self._contexts.enter_context(self.graph.as_default())
        self._contexts.enter_context(self.as_default())
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
        self._contexts.close()


class InteractiveSession(Session):
    """A session that is the default session, with the default graph, from its creation on.

    Follows: ``tf.InteractiveSession``.
    """

    def __init__(self, target: str = "", graph: Graph | None = None, config: Any = None) -> None:
        super().__init__(target, graph, config)
        super().__enter__()

    def __enter__(self) -> Self:
        return self

    def close(self) -> None:
        """Close the session; it is then not the default session."""
        super().close()
        self._contexts.close()


def _check_target(target: Any) -> None:
    if not isinstance(target, str):
        raise TypeError(f'Argument `target` must be a string, but got "{type(target).__name__}"')
    if target not in ("", "local"):
        problem = f"target must be '', got {target!r}: a session runs in its own process. Between programs, use "
        raise UnimplementedError(None, None, f"{problem}mpqueue.Server and mpqueue.attach, which carry batches")


def get_default_session() -> Session | None:
    """Return the innermost session entered in this thread, or None.

    Follows: ``tf.get_default_session``.
    """
    session: Session | None = sessions.innermost
    return session
