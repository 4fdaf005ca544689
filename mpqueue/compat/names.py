"""Modules made of names that live elsewhere: each is found at its first use, and one that is missing says what is near.

Such a module has a `Names`, a table of homes, and lets it answer::

    _NAMES = Names(__name__, {"mpqueue.compat.functions.math": "add subtract multiply floormod=mod"})
    __all__ = list(_NAMES)

    def __getattr__(name):
        return _NAMES.find(name)
"""

import difflib
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final

_known: dict[str, "Names"] = {}  # by module

_TRAINING: Final = re.compile(
    r".*Optimizer|.*Saver\w*|Checkpoint\w*|\w*_checkpoint\w*|(cosine|linear|exponential|polynomial|natural|inverse)_\w+"
    r"|piecewise_constant\w*|ExponentialMovingAverage|nn|layers|losses|metrics|estimator|gradients|hessians|GradientTape"
    r"|contrib|feature_column|saved_model|distribute\w*|tpu|lite|get_gradient\w*|custom_gradient|RegisterGradient"
)


class Names:
    """The public names of one module.

    Args:
        module: Its name.
        homes: For each module where names live, these names, parted by blanks; ``public=own`` for one that has another
            name there.
        submodules: Modules inside it, imported at their first use.
        prefix: What users write before the names.
    """

    def __init__(self, module: str, homes: Mapping[str, str], submodules: str = "", prefix: str = "tf") -> None:
        self._module, self.prefix, self._submodules = module, prefix, submodules.split()
        self._homes: dict[str, tuple[str, str]] = {}
        for home, names in homes.items():
            for entry in names.split():
                public, _, own = entry.partition("=")
                self._homes[public] = (home, own or public)
        _known[module] = self

    def __iter__(self) -> Iterator[str]:
        return iter(sorted([*self._homes, *self._submodules]))

    def find(self, name: str) -> Any:
        """The thing of that name; it is kept in the module.

        Raises:
            AttributeError: There is none; the message tells what there is.
        """
        if name in self._submodules:
            return import_module(f"{self._module}.{name}")
        if name not in self._homes:
            raise AttributeError(self._missing(name))
        home, own = self._homes[name]
        value = getattr(import_module(home), own)
        setattr(sys.modules[self._module], name, value)
        return value

    def _missing(self, name: str) -> str:
        text = f"{self.prefix} has no {name!r}"
        if name.startswith("__"):
            return text
        if _TRAINING.fullmatch(name):
            return f"{text}: mpqueue feeds models and does not train them"
        near = self._nearest(name)
        return f"{text}: did you mean {near}?" if near else text

    def _nearest(self, name: str) -> str | None:
        """The same name elsewhere, else a similar one here, else a similar one elsewhere."""
        everywhere = {f"{names.prefix}.{each}": each for names in _all_known() for each in names}
        same = [path for path, last in everywhere.items() if last == name]
        if same:
            return same[0]
        here = difflib.get_close_matches(name, list(self), 1)
        if here:
            return f"{self.prefix}.{here[0]}"
        similar = difflib.get_close_matches(name, list(everywhere.values()), 1)
        return next((path for path, last in everywhere.items() if similar and last == similar[0]), None)


def _all_known() -> list[Names]:
    """All tables; those of submodules that nobody has used yet are loaded first."""
    seen: list[Names] = []
    while len(seen) < len(_known):
        for names in [each for each in _known.values() if each not in seen]:
            seen.append(names)
            for submodule in names._submodules:
                names.find(submodule)
    return seen
