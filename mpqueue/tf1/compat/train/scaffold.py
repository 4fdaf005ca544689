"""Sessions with all variables initialised."""

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
    """The nodes and feeds that initialise a session. Nothing is saved, so that there is nothing to restore.

    Args:
        init_op: Node that initialises the global variables.
        init_feed_dict: Values fed to it.
        init_fn: Called with the scaffold and the session after that.
        ready_op: Node that gives the names of what is not initialised yet; there may be none in the end.
        local_init_op: Node that initialises the local variables.
        copy_from_scaffold: Scaffold that says what is not given here.
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
        """Make what is not given, and finalize the default graph."""
        for name, make in _DEFAULTS.items():
            if getattr(self, name) is None:
                setattr(self, name, _default(name, make))
        get_default_graph().finalize()  # nodes made in a loop over steps would fill the memory unnoticed
        return self

    def prepare(self, session: Session) -> None:
        """Initialise a session.

        Raises:
            RuntimeError: Some variables are not initialised afterwards.
        """
        session.run(self.init_op, self.init_feed_dict)
        if self.init_fn is not None:
            self.init_fn(self, session)
        session.run(self.local_init_op, self.local_init_feed_dict)
        missing = session.run(self.ready_op)
        if len(missing):
            names = ", ".join(each.decode() for each in missing.tolist())
            raise RuntimeError(f"the init operations left variables uninitialised: {names}")


_DEFAULTS: Final[dict[str, Callable[[], Any]]] = {  # by attribute, which is the name of a collection, too
    GraphKeys.INIT_OP: global_variables_initializer,
    GraphKeys.READY_OP: report_uninitialized_variables,
    GraphKeys.LOCAL_INIT_OP: lambda: group(local_variables_initializer(), tables_initializer()),
}


def _default(key: str, make: Callable[[], Any]) -> Any:
    """Return the only entry of a collection, or a new one."""
    graph = get_default_graph()
    found = graph.get_collection(key)
    if len(found) > 1:
        raise RuntimeError(f"the collection {key!r} has more than one entry: give the one to use to tf.train.Scaffold")
    if not found:
        graph.add_to_collection(key, make())
    return graph.get_collection(key)[0]


class ChiefSessionCreator:
    """Makes sessions of the default graph, initialised.

    Args:
        scaffold: The nodes that initialise them.
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
        """Return a new session; the graph is finalized."""
        self._scaffold.finalize()
        session = Session(self._master, config=self._config)
        self._scaffold.prepare(session)
        return session
