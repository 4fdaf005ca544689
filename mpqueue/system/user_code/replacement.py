"""Attributes of other libraries that are replaced while they are needed.

    hold      the first holder replaces the library's attribute
    let_go    the last holder restores the library's attribute
    hold_for  `hold` for the lifetime of an object
    install   a holder that is a context manager, and is counted

If another program replaces our attribute, its attribute is kept, and may still call ours. So ours must check whether it
is needed (`num_installations`), and otherwise call the library's own (`replaced`).
"""

from collections.abc import Callable, Mapping
from typing import Any, Self

from mpqueue.system.signals.collected import WhenCollected
from mpqueue.system.signals.deferred import allow_signals, defer_signals
from mpqueue.system.signals.locks import RLock

_MISSING: Any = object()


class Replacement:
    """An attribute of a library, and the number of its holders.

    Args:
        name: Name of our module, for the repr of an `Installation`.
        find: Returns the owner of the attribute: a module or a class.
        attribute: Name of the attribute.
        ours: The replacement.
        check: Raises an `ImportError` if the owner is not supported.
        beside: Other attributes to set in the meantime, by name; the previous ones are restored.

    Attributes:
        num_installations: Number of current installations.
        replaced: The library's own attribute; None before the first holder.
    """

    def __init__(
        self,
        name: str,
        find: Callable[[], Any],
        attribute: str,
        ours: Any,
        check: Callable[[Any], None] = lambda _: None,
        *,
        beside: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.num_installations = name, 0
        self.replaced: Any = None
        self._find, self._attribute, self._ours, self._check = find, attribute, ours, check
        self._beside, self._put_aside = dict(beside or {}), dict[str, Any]()
        self._num_holders = 0
        self._is_covered = False  # ours has no holder, but another program's attribute may still call it
        self._lock = RLock()  # reentrant: a garbage collection in a method may end a holder

    @property
    def is_held(self) -> bool:
        """True if the attribute is replaced."""
        return self._num_holders > 0

    def hold(self, *, num_installations: int = 0) -> None:
        """Replace the attribute until `let_go`.

        Args:
            num_installations: Added to the number of installations.

        Raises:
            ImportError: The library is not installed, or is not supported.
        """
        owner = allow_signals(self._find)  # it may import the library, which takes seconds
        with self._lock:
            if not self._num_holders:
                self._check(owner)
                self._put(owner)
            self._num_holders += 1
            self.num_installations += num_installations

    def hold_for(self, holder: object) -> None:
        """Replace the attribute for the lifetime of an object.

        Raises:
            ImportError: The library is not installed, or is not supported.
        """
        self.hold()
        WhenCollected(holder, self.let_go, at_exit=False)

    def _put(self, owner: Any) -> None:
        current = getattr(owner, self._attribute)
        if not self._is_covered or current is self.replaced:
            self.replaced = current
            setattr(owner, self._attribute, self._ours)
        for name, value in self._beside.items():
            self._put_aside[name] = vars(owner).get(name, _MISSING)
            setattr(owner, name, value)

    def let_go(self, *, num_installations: int = 0) -> None:
        """Undo one `hold` with the same argument."""
        owner = self._find()
        with self._lock:
            self.num_installations -= num_installations
            self._num_holders -= 1
            if self._num_holders:
                return
            # If another program has replaced our attribute since, its own must remain: restoring would remove it.
            self._is_covered = getattr(owner, self._attribute) is not self._ours
            if not self._is_covered:
                setattr(owner, self._attribute, self.replaced)
            self._take_away(owner)

    def _take_away(self, owner: Any) -> None:
        for name, earlier in self._put_aside.items():
            if vars(owner).get(name, _MISSING) is not self._beside[name]:
                continue  # another program has replaced it
            if earlier is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, earlier)

    def install(self) -> "Installation":
        """Replace the attribute until the installation is left.

        Raises:
            ImportError: The library is not installed, or is not supported.
        """
        return install_all(self)


class Installation:
    """The result of `install`: leaving its ``with`` statement undoes it; without one, it is permanent.

    Args:
        name: Name of our module, for the repr.

    Attributes:
        done: The replacements that are installed.
    """

    def __init__(self, name: str) -> None:
        self._name, self.done = name, list[Replacement]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with defer_signals():  # otherwise the library would keep the rest of the replacements
            while self.done:
                self.done.pop().let_go(num_installations=1)

    def __repr__(self) -> str:
        return f"<{self._name}.install(), {'done' if self.done else 'undone'}>"


def install_all(*replacements: Replacement) -> Installation:
    """Replace all attributes until the installation is left.

    Raises:
        ImportError: One of the libraries is not installed or not supported; then all are restored.
    """
    # Created first: a signal handler that raised in a call after the replacements would leave them to no one.
    installation = Installation(replacements[0].name)
    try:
        with defer_signals():
            for replacement in replacements:
                replacement.hold(num_installations=1)
                installation.done.append(replacement)
    except BaseException:
        installation.__exit__()
        raise
    return installation
