"""`install`: every `DataLoader` of the process on mpqueue's workers, those that libraries make included.

There is one hook, the method ``_get_iterator`` of `torch.utils.data.DataLoader`. It is set as long as an installation
stands. Loaders that make iterators of their own (a subclass that overrides the method and does not call torch's) keep
them, and so do loaders that mpqueue's workers cannot run.
"""

import threading
from collections.abc import Callable
from typing import Any, Self

from torch.utils import data

from mpqueue.torch.iterator import Iterator
from mpqueue.torch.supported import is_supported


def install() -> "Installation":
    """Let every `torch.utils.data.DataLoader` with workers run in mpqueue's, without a change of the program.

    It holds for each loader that is iterated from now on, also for one that was made before, in a library, or by a
    subclass.

    ```python
    mpqueue.torch.install()               # for the rest of the program
    with mpqueue.torch.install():         # or for a part of it
        trainer.fit(model, loader)
    ```

    Returns:
        A context manager: leaving it undoes this installation, and no other.

    Raises:
        ImportError: This torch's `DataLoader` is not one that is known.
    """
    return Installation()


class Installation:
    """An installation by `install`: leaving the ``with`` statement undoes it; else it stays."""

    def __init__(self) -> None:
        self._is_done = True
        _hook.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_done:
            self._is_done = False
            _hook.unset()

    def __repr__(self) -> str:
        return f"<mpqueue.torch.install(), {'done' if self._is_done else 'undone'}>"


class _Hook:
    """torch's method, and how many installations need it to be ours."""

    def __init__(self) -> None:
        self.replaced: Callable[[Any], Any] | None = None  # torch's own, while ours stands in its place
        self._holders = 0
        self._lock = threading.RLock()

    def set(self) -> None:
        with self._lock:
            if not self._holders:
                self.replaced = data.DataLoader._get_iterator
                data.DataLoader._get_iterator = _get_iterator
            self._holders += 1

    def unset(self) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders and data.DataLoader._get_iterator is _get_iterator:
                data.DataLoader._get_iterator = self.replaced


_hook = _Hook()


def _get_iterator(self: Any) -> Any:
    if not is_supported(self):
        assert _hook.replaced is not None
        return _hook.replaced(self)
    self.check_worker_number_rationality()
    return Iterator(self)
