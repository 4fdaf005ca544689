"""An attribute of another library that is ours as long as somebody needs it.

    hold     the first holder has ours put in the place of the library's own
    let_go   the last one has the library's own put back; no other does
    hold_for is both: a holder as long as an object lives
    install  a holder that is a context manager, and counted

If another program puts something of its own over ours, that stays, with ours beneath it. So ours must ask whether it is
needed (`num_installations`), and do as the library does (`replaced`) when it is not.
"""

import weakref
from collections.abc import Callable, Mapping
from typing import Any, Self

from mpqueue.system.locks import RLock

_MISSING: Any = object()


class Replacement:
    """One attribute of another library, and how many need it to be ours.

    Args:
        name: Of our module, for the reader of an `Installation`.
        find: Returns what has the attribute: a module, or a class.
        attribute: Its name.
        ours: What is put there.
        check: Raises an `ImportError` if what was found does not fit.
        beside: What else it has as long as ours stands, by name; what it had under these names is put back.

    Attributes:
        num_installations: How many installations stand.
        replaced: The library's own; None before the first holder.
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
        self._is_covered = False  # ours stands, without a holder, beneath something of another program's
        self._lock = RLock()  # a garbage collection in here may end a holder

    @property
    def is_held(self) -> bool:
        """True if ours is in place."""
        return self._num_holders > 0

    def hold(self) -> None:
        """Have ours in place until `let_go`.

        Raises:
            ImportError: The library is not there, or does not fit.
        """
        owner = self._find()
        with self._lock:
            if not self._num_holders:
                self._check(owner)
                self._put(owner)
            self._num_holders += 1

    def hold_for(self, holder: object) -> None:
        """Have ours in place as long as an object lives.

        Raises:
            ImportError: The library is not there, or does not fit.
        """
        self.hold()
        weakref.finalize(holder, self.let_go).atexit = False

    def _put(self, owner: Any) -> None:
        found = getattr(owner, self._attribute)
        if not self._is_covered or found is self.replaced:
            self.replaced = found
            setattr(owner, self._attribute, self._ours)
        for name, value in self._beside.items():
            self._put_aside[name] = vars(owner).get(name, _MISSING)
            setattr(owner, name, value)

    def let_go(self) -> None:
        """Undo one `hold`."""
        owner = self._find()
        with self._lock:
            self._num_holders -= 1
            if self._num_holders:
                return
            self._is_covered = getattr(owner, self._attribute) is not self._ours
            if not self._is_covered:
                setattr(owner, self._attribute, self.replaced)
            self._take_away(owner)

    def _take_away(self, owner: Any) -> None:
        for name, earlier in self._put_aside.items():
            if vars(owner).get(name, _MISSING) is not self._beside[name]:
                continue  # another program's stands there by now
            if earlier is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, earlier)

    def install(self) -> "Installation":
        """Have ours in place until the installation is left.

        Raises:
            ImportError: The library is not there, or does not fit.
        """
        return install_all(self)

    def count(self) -> None:
        """Hold, for one installation more.

        Raises:
            ImportError: The library is not there, or does not fit.
        """
        self.hold()
        with self._lock:
            self.num_installations += 1

    def uninstall(self) -> None:
        """Undo one `install`."""
        with self._lock:
            self.num_installations -= 1
        self.let_go()


class Installation:
    """An installation by `install`: leaving the ``with`` statement undoes it; else it stays.

    Args:
        name: Of our module, for the reader of it.
        replacements: What was installed; none: there is nothing to undo.
    """

    def __init__(self, name: str, *replacements: Replacement) -> None:
        self._name, self._replacements, self._is_done = name, replacements, bool(replacements)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_done:
            self._is_done = False
            for replacement in reversed(self._replacements):
                replacement.uninstall()

    def __repr__(self) -> str:
        return f"<{self._name}.install(), {'done' if self._is_done else 'undone'}>"


def install_all(*replacements: Replacement) -> Installation:
    """Have all of them in place until the installation is left.

    Raises:
        ImportError: One of the libraries is not there, or does not fit; none is replaced then.
    """
    done: list[Replacement] = []
    try:
        for replacement in replacements:
            replacement.count()
            done.append(replacement)
    except ImportError:
        for replacement in reversed(done):
            replacement.uninstall()
        raise
    return Installation(replacements[0].name, *replacements)


def nothing_installed(name: str) -> Installation:
    """Return the installation of a module that cannot replace anything in this version of the library."""
    return Installation(name)
