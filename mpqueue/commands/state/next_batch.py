"""The samples of the batch that follows a saved state."""

from collections.abc import Mapping
from typing import Any

from mpqueue.commands.factories import NotFound, source_of
from mpqueue.loader.loader import Loader
from mpqueue.plan.ids.batch_info import SampleIds

_OF_STREAM = "a batch of a stream is known after it was made: load the state, call next, and read loader.last"


def loader_of(name: str) -> Loader:
    """Return the loader that a factory makes.

    Args:
        name: ``MODULE:FACTORY`` or ``FILE.py:FACTORY``.

    Raises:
        NotFound: The module, file or factory does not exist, or the factory makes something else.
        Exception: The error of the module or the factory.
    """
    made = source_of(name)
    if not isinstance(made, Loader):
        raise NotFound(
            f"{name} makes a {type(made).__name__}: expected a function that returns the mpqueue.Loader of the state"
        )
    return made


def following(loader: Loader, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ids of the samples in the next batch as ``next``, for a stream a string; or an ``error``.

    Args:
        loader: The loader, which loads the state.
        state: The state.

    Raises:
        Exception: The exception of the source.
    """
    try:
        loader.load_state_dict(dict(state))
    except (TypeError, ValueError) as error:
        return {"error": str(error)}
    if not loader._run.plan.has_index:
        return {"next": _OF_STREAM}
    try:
        return {"next": _next_ids(loader)}
    except LookupError as error:
        return {"error": str(error)}


def _next_ids(loader: Loader) -> SampleIds:
    # Not the position of the state, which counts the batches of all ranks.
    epoch, batch = loader.place
    try:
        return loader.explain(epoch, batch).samples
    except LookupError:  # the state was saved after the last batch of its epoch
        return loader.explain(epoch + 1, 0).samples
