"""Initialization of sessions."""

from collections.abc import Callable
from typing import Any, Final

from mpqueue.tf1.compat.functions.control import group
from mpqueue.tf1.compat.functions.keys import GraphKeys
from mpqueue.tf1.compat.functions.variables import (
    global_variables_initializer,
    local_variables_initializer,
    report_uninitialized_variables,
    tables_initializer,
)
from mpqueue.tf1.compat.graph import Session, get_default_graph


class Scaffold:
    """The nodes and feeds that initialize a session. Nothing is saved or restored.

    Args:
        init_op: Node that initializes the global variables.
        init_feed_dict: Values fed to ``init_op``.
        init_fn: Called with the scaffold and the session after ``init_op``.
        ready_op: Node with the names of uninitialized variables, which must be empty in the end.
        local_init_op: Node that initializes the local variables.
        copy_from_scaffold: Scaffold with the defaults of arguments that are None.
        local_init_feed_dict: Values fed to ``local_init_op``.
        ready_for_local_init_op, summary_op, saver: No effect.
    """

    def __init__(
        self,
        init_op: Any = None,
        init_feed_dict: Any = None,
        init_fn: Callable[["Scaffold", Session], Any] | None = None,
        ready_op: Any = None,
        ready_for_local_init_op: Any = None,
        local_init_op: Any = None,
        summary_op: Any = None,
        saver: Any = None,
        copy_from_scaffold: "Scaffold | None" = None,
        local_init_feed_dict: Any = None,
    ) -> None:
        del ready_for_local_init_op
        self.init_op, self.init_feed_dict, self.init_fn = init_op, init_feed_dict, init_fn
        self.ready_op, self.local_init_op, self.local_init_feed_dict = ready_op, local_init_op, local_init_feed_dict
        self.summary_op, self.saver = summary_op, saver
        for name, value in vars(copy_from_scaffold).items() if copy_from_scaffold is not None else ():
            if getattr(self, name) is None:
                setattr(self, name, value)

    def finalize(self) -> "Scaffold":
        """Create the nodes that are missing, and finalize the default graph."""
        for name, make in _DEFAULTS.items():
            if getattr(self, name) is None:
                setattr(self, name, _default(name, make))
        get_default_graph().finalize()  # nodes created in a training loop would fill the memory unnoticed
        return self

    def prepare(self, session: Session) -> None:
        """Initialize a session.

        Raises:
            RuntimeError: Some variables are still uninitialized afterwards.
        """
        session.run(self.init_op, self.init_feed_dict)
        if self.init_fn is not None:
            self.init_fn(self, session)
        session.run(self.local_init_op, self.local_init_feed_dict)
        missing = session.run(self.ready_op)
        if len(missing):
            names = ", ".join(each.decode() for each in missing.tolist())
            raise RuntimeError(f"Variables are still uninitialized after the init operations: {names}")


_DEFAULTS: Final[dict[str, Callable[[], Any]]] = {  # keys are both attributes and names of collections
    GraphKeys.INIT_OP: global_variables_initializer,
    GraphKeys.READY_OP: report_uninitialized_variables,
    GraphKeys.LOCAL_INIT_OP: lambda: group(local_variables_initializer(), tables_initializer()),
}


def _default(key: str, make: Callable[[], Any]) -> Any:
    """Return the only entry of a collection, or a new entry."""
    graph = get_default_graph()
    entries = graph.get_collection(key)
    if len(entries) > 1:
        raise RuntimeError(f"The collection {key!r} must have one entry, got {len(entries)}: pass one to Scaffold")
    if not entries:
        graph.add_to_collection(key, make())
    return graph.get_collection(key)[0]


class ChiefSessionCreator:
    """A factory of initialized sessions of the default graph.

    Args:
        scaffold: The nodes that initialize the sessions.
        master: The sessions' target.
        config, checkpoint_dir, checkpoint_filename_with_path: No effect.
    """

    def __init__(
        self,
        scaffold: Scaffold | None = None,
        master: str = "",
        config: Any = None,
        checkpoint_dir: Any = None,
        checkpoint_filename_with_path: Any = None,
    ) -> None:
        del checkpoint_dir, checkpoint_filename_with_path
        self._scaffold, self._master, self._config = scaffold or Scaffold(), master, config

    def create_session(self) -> Session:
        """Finalize the graph and return a new session."""
        self._scaffold.finalize()
        session = Session(self._master, config=self._config)
        self._scaffold.prepare(session)
        return session
