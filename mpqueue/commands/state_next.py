"""The samples of the batch that follows a saved state."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import mpqueue
from mpqueue.commands.factories import source_of


def next_ids(name: str, state: Mapping[str, Any]) -> list[Any] | None:
    """Return the ids of the samples in the next batch, or None if there is none.

    Args:
        name: ``MODULE:FACTORY`` or ``FILE.py:FACTORY``. The factory returns the loader that saved the state, or its
            source.
        state: The state of a `Loader`.

    Raises:
        NotFound: The module, file or factory does not exist.
        ValueError: The state was saved for another source.
        Exception: The error of the module, the factory or the source.
    """
    loader = _loaded(source_of(name), dict(state))
    # The epoch may have ended with the last batch before the state.
    for epoch, batch in ((state["epoch"], state["position"]), (state["epoch"] + 1, 0)):
        try:
            return list(loader.explain(epoch, batch, run=True).samples)
        except LookupError:
            continue
    return None


def _loaded(made: Any, state: dict[str, Any]) -> mpqueue.Loader:
    """Return a loader with a state. If there is only a source, find the options with which the state fits."""
    refused: ValueError | None = None
    for loader in [made] if isinstance(made, mpqueue.Loader) else _loaders_of(made, state):
        try:
            loader.load_state_dict(state)
        except ValueError as error:
            refused = refused or error
        else:
            return loader
    raise refused or ValueError("the source fits no options of the state: pass a factory that returns the Loader")


def _loaders_of(source: Any, state: dict[str, Any]) -> Iterator[mpqueue.Loader]:
    """Yield loaders of a source with the options that a state can have."""
    options = {name: state[name] for name in ("lanes", "epoch_batches") if state.get(name) is not None}
    for batch_size, shuffle in itertools.product({state.get("batch_size"): None, None: None}, (False, True)):
        try:
            yield mpqueue.Loader(source, workers=0, batch_size=batch_size, shuffle=shuffle, **options)
        except (TypeError, ValueError):
            continue  # a dataset that makes batches or is shuffled itself does not take these options
