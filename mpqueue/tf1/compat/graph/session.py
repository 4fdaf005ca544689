"""The session: runs parts of a graph, and owns the state of the graph's variables, queues and readers.

State is kept in `SessionState` and ends with the session. Two sessions of one graph share nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from mpqueue.errors import NotFoundError
from mpqueue.tf1.compat.graph.feeds import Fetches, fed_values
from mpqueue.tf1.compat.graph.nodes import Graph, Tensor, get_default_graph
from mpqueue.tf1.compat.graph.plan import Plan
from mpqueue.tf1.compat.graph.run import Run, owned
from mpqueue.tf1.compat.graph.scopes import sessions
from mpqueue.tf1.compat.graph.state import SessionState
from mpqueue.tf1.compat.graph.targets import queue_directory_of
from mpqueue.tf1.queues.making import reset_containers
from mpqueue.tf1.queues.session import SessionClosedError


class Session(SessionState):
    """Runs nodes of a graph.

    As a context manager it is the default session, and its graph the default graph; at the end it is closed.

    Args:
        target: The server, a `tf.train.Server` of this machine, that has the queues with shared names; all else is
            computed here. "": no server.
        graph: The graph to run, default the default graph.
        config: Has no effect, but for ``operation_timeout_in_ms``: how long to wait for the server.

    Raises:
        TypeError: ``graph`` is no graph, or ``target`` is no str.
        NotFoundError: The target is of no known form.
        UnimplementedError: It is on another machine.
        UnavailableError: There is no server in time.

    Follows: ``tf.Session``.
    """

    def __init__(self, target: str = "", graph: Graph | None = None, config: Any = None) -> None:
        if graph is not None and not isinstance(graph, Graph):
            raise TypeError(f"graph must be a Graph, but got {type(graph).__name__}")
        super().__init__(queue_directory_of(target, config))
        self.graph = get_default_graph() if graph is None else graph
        self.sess_str = target
        self._num_runs = 0
        self._plans: dict[Any, Plan] = {}
        self._closed = False
        self._contexts = ExitStack()

    @property
    def graph_def(self) -> Any:
        """The graph itself: there is no protocol buffer of it."""
        return self.graph

    def run(self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> Any:
        """Run what ``fetches`` need, each node at most once, and return the values.

        Args:
            fetches: A node, or the name of one, or any nested lists, tuples, named tuples and dicts of them.
            feed_dict: Values to use in place of tensors.
            options: Accepted for TensorFlow's sake.
            run_metadata: Accepted for TensorFlow's sake.

        Returns: The structure of ``fetches`` with values for nodes: arrays that belong to the caller, NumPy scalars,
            ``bytes`` for text; None for operations; `SparseTensorValue` for sparse tensors.

        Raises:
            RuntimeError: The session is closed, or the graph is empty.
            TypeError: A fetch or a fed thing is no node, or a fed value does not fit its type.
            ValueError: A node of another graph, or a fed value of another shape.
            OpError: What an operation raised; ``op`` tells which.

        Follows: ``tf.Session.run``.
        """
        del options, run_metadata
        self._check_usable()
        values = fed_values(self.graph, feed_dict)
        return self._run(Fetches(self.graph, fetches), values)

    def make_callable(self, fetches: Any, feed_list: Any = None, accept_options: bool = False) -> Callable[..., Any]:
        """A function that runs ``fetches``, its arguments being fed to ``feed_list``; cheaper than `run`.

        Raises:
            TypeError: As for `run`, at once.
            ValueError: As for `run`, at once.
        """
        del accept_options
        wanted = Fetches(self.graph, fetches)
        keys = list(feed_list or ())

        def call(*values: Any) -> Any:
            self._check_usable()
            return self._run(wanted, fed_values(self.graph, dict(zip(keys, values, strict=True))))

        return call

    def _check_usable(self) -> None:
        if self._closed:
            raise SessionClosedError(None, None, "Attempted to use a closed Session.")
        if not self.graph.version:
            raise RuntimeError("The Session graph is empty. Add operations to the graph before calling run().")

    def _run(self, wanted: Fetches, values: dict[Tensor, Any]) -> Any:
        results: dict[Tensor, Any] = dict(values)
        targets = [each for each in wanted.targets if each not in values]
        if targets:
            # A loop asks for the same again and again, and a plan stays right: the inputs of a node never change.
            key = (tuple(targets), frozenset(values))
            plan = self._plans.get(key)
            if plan is None:
                plan = self._plans[key] = Plan(targets, values)
            with self.running() as run:
                slots = run.carry_out(plan, values)
            places = plan.slot_of
            # Callers write into results: a constant's or a variable's array is copied. `[()]` makes a scalar of 0-d.
            results |= {each: owned(slots[places[each]])[()] for each in targets if isinstance(each, Tensor)}
        return wanted.build(results)

    @contextmanager
    def running(self) -> Iterator[Run]:
        """A context of one run, during which the session keeps its state.

        Raises:
            RuntimeError: The session is closed, or the graph is empty.
        """
        with self.lock:
            self._check_usable()
            # A `close` during the run leaves the state until its end: kernels would make it anew, and empty.
            self._num_runs += 1
        try:
            yield Run(self)
        finally:
            with self.lock:
                self._num_runs -= 1
                self._forget_if_unused()

    @staticmethod
    def reset(target: str, containers: Sequence[str] | None = None, config: Any = None) -> None:
        """Forget the queues with shared names at a server: they begin anew where their names are used next.

        Args:
            target: The server.
            containers: Only those in these containers.
            config: As for the constructor, and so are the errors.
        """
        directory = queue_directory_of(target, config)
        if directory is None:
            raise NotFoundError(None, None, "a session without a target has nothing that other sessions share")
        reset_containers(directory, containers or ())

    def as_default(self) -> Any:
        """A context in which this is the default session of this thread; the session stays open after it."""
        return sessions.context(self)

    def close(self) -> None:
        """End the session: calls that wait in it raise `CancelledError`; when the last has ended, its state is gone."""
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
    """A session that is the default one, and whose graph is the default graph, from the moment it is made.

    Follows: ``tf.InteractiveSession``.
    """

    def __init__(self, target: str = "", graph: Graph | None = None, config: Any = None) -> None:
        super().__init__(target, graph, config)
        super().__enter__()

    def __enter__(self) -> Self:
        return self

    def close(self) -> None:
        """End the session, and being the default one."""
        super().close()
        self._contexts.close()


def get_default_session() -> Session | None:
    """The innermost session entered in this thread, None if there is none.

    Follows: ``tf.get_default_session``.
    """
    return sessions.innermost  # type: ignore[no-any-return]
