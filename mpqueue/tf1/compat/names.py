"""Public modules with names that are implemented in other modules.

`Namespaces` reads a table such as `mpqueue.tf1.compat.surface.SURFACE` and creates one module for each public module in
the table. Implementing modules are imported lazily: a public module imports a name on first use and caches it. The
docstring of a class or function then lists the TensorFlow names that it follows. For a missing name, the error message
suggests the closest name in any public module.
"""

import difflib
import inspect
import re
import sys
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from operator import attrgetter
from types import FunctionType, ModuleType
from typing import Any, Final, NamedTuple

_TRAINING: Final = "mpqueue feeds models and does not train them"
# Names that are not offered, and the hint in the error.
_NOT_OFFERED: Final = {
    re.compile(names): hint
    for names, hint in {
        "data": "tf.data is not offered: use tf.train.string_input_producer with tf.train.batch, or mpqueue.Loader",
        "connect|Server|ServerDef|JobDef|Cluster(Def|Spec)": (
            "queues belong to one process: mpqueue.Server carries batches between programs"
        ),
        r"Supervisor|Scaffold|\w*MonitoredSession|MonitoredTrainingSession|\w*SessionCreator|SessionRun\w+|\w+Hook": (
            f"{_TRAINING}: use tf.Session with tf.train.Coordinator and tf.train.start_queue_runners"
        ),
        "AUTO_REUSE|VariableScope|(get_)?variable_scope|get_(local_)?variable": "variables are not found by name: "
        "keep the tf.Variable itself, and use tf.name_scope for names",
        r"\w+_initializer|(glorot|he|lecun)_\w+|variance_scaling|orthogonal": (
            "pass the initial value to tf.Variable, such as tf.random_normal(shape)"
        ),
        r".*Optimizer|.*Saver\w*|Checkpoint\w*|\w*_checkpoint\w*|ExponentialMovingAverage|piecewise_constant\w*"
        r"|(cosine|linear|exponential|polynomial|natural|inverse)_\w+|nn|layers|losses|metrics|estimator|gradients"
        r"|hessians|GradientTape|contrib|feature_column|saved_model|distribute\w*|tpu|lite|get_gradient\w*"
        r"|custom_gradient|RegisterGradient": _TRAINING,
        r"maybe_(?P<kind>(?:shuffle_)?batch(?:_join)?)": r"use tf.train.\g<kind> with enqueue_many=True, and "
        "tf.boolean_mask(tf.expand_dims(tensor, 0), [keep_input]) for each tensor: no rows add no element",
    }.items()
}


class Entry(NamedTuple):
    """The location where a name is implemented."""

    home: str
    own: str


def read_table(table: str) -> dict[str, dict[str, Entry]]:
    """Return the names of each public module, including modules that only contain other modules; ``""`` is the root."""
    modules: dict[str, dict[str, Entry]] = {"": {}}
    home, paths = "", [""]
    for line in table.splitlines():
        if not line.startswith(" "):
            home = line
            continue
        before, colon, names = line.rpartition(":")
        if colon:
            paths = ["" if path == "tf" else path for path in before.split()]
        for path in paths:
            parts = path.split(".")
            for count in range(len(parts)):  # "a.b" also needs the module "a"
                modules.setdefault(".".join(parts[: count + 1]), {})
            modules[path] |= {
                public: Entry(home, own or public) for public, _, own in (name.partition("=") for name in names.split())
            }
    return modules


class Namespaces:
    """The public modules of a table.

    Args:
        root: Full name of the module that provides the names of ``tf``. It is being imported.
        table: Names by implementing module and public module.
        notes: A sentence for the docstring of each public module.
    """

    def __init__(self, root: str, table: str, notes: Mapping[str, str]) -> None:
        self._root, self._tables, self._notes = root, read_table(table), notes

    def open(self) -> None:
        """Create the modules, with attribute lookup for their names."""
        for path in self.paths():
            module = self._module_of(path)
            vars(module).update(
                __all__=self.names(path),
                __getattr__=partial(self.find, path),
                __dir__=partial(self.names, path),
            )

    def _module_of(self, path: str) -> ModuleType:
        if not path:
            return sys.modules[self._root]
        name, shown = f"{self._root}.{path}", f"tf.{path}"
        module = ModuleType(name, f"The names of ``{shown}``. {self._notes.get(path, '')}".rstrip())
        module.__spec__ = ModuleSpec(name, None, is_package=bool(self.inside(path)))
        module.__package__ = name if self.inside(path) else name.rpartition(".")[0]
        if self.inside(path):
            module.__path__ = []  # makes nested modules importable, without a search for files
        outer, _, last = name.rpartition(".")
        sys.modules[name] = module
        setattr(sys.modules[outer], last, module)
        return module

    def inside(self, path: str) -> list[str]:
        """Return the last name components of the modules nested in a public module."""
        outer_and_last = [each.rpartition(".") for each in self._tables if each]
        return [last for outer, _, last in outer_and_last if outer == path]

    def paths(self) -> list[str]:
        """Return the paths of the public modules; the root is ``""``, and parents precede their nested modules."""
        return sorted(self._tables)

    def entries(self, path: str) -> Mapping[str, Entry]:
        """Return the implementation of each name of a public module."""
        return self._tables[path]

    def names(self, path: str) -> list[str]:
        """Return the names of a public module, including its nested modules, sorted."""
        return sorted([*self._tables[path], *self.inside(path)])

    def find(self, path: str, name: str) -> Any:
        """Import a name of a public module and cache it there.

        Raises:
            AttributeError: The module does not have this name. The message suggests the closest one.
        """
        entry = self._tables[path].get(name)
        if entry is None:
            raise AttributeError(self._missing(path, name))
        value = attrgetter(entry.own)(import_module(entry.home))
        if isinstance(value, type | FunctionType) and value.__module__.startswith("mpqueue.tf1.compat."):
            self._complete_docstring(value, entry)
        setattr(sys.modules[f"{self._root}.{path}".rstrip(".")], name, value)
        return value

    def _complete_docstring(self, value: Any, entry: Entry) -> None:
        """Add the TensorFlow names that a class or function follows to its docstring, unless it lists them itself."""
        text = inspect.cleandoc(value.__doc__ or "")
        if "Follows:" not in text:
            places = ((path, name) for path, table in self._tables.items() for name in table if table[name] == entry)
            names = [f"``{_shown(path)}.{name}``" for path, name in sorted(places)]
            value.__doc__ = f"{text}\n\nFollows: {', '.join(names)}."

    def _missing(self, path: str, name: str) -> str:
        text = f"{_shown(path)} has no {name!r}"
        if name.startswith("__"):
            return text
        hint = hint_of_missing(name)
        if hint:
            return f"{text}: {hint}"
        near = self._nearest(path, name)
        return f"{text}: did you mean {near}?" if near else text

    def _nearest(self, path: str, name: str) -> str | None:
        """Return the same name in another module, or a similar name in this or another module."""
        everywhere = {f"{_shown(each)}.{last}": last for each in self._tables for last in self.names(each)}
        here = {f"{_shown(path)}.{last}": last for last in self.names(path)}
        for names, cutoff in ((everywhere, 1.0), (here, 0.7), (everywhere, 0.7)):
            near = difflib.get_close_matches(name, list(names.values()), 1, cutoff)
            if near:
                return next(shown for shown, last in names.items() if last == near[0])
        return None


def hint_of_missing(name: str) -> str:
    """Return a hint for a name that is not offered; empty if TensorFlow does not have this name."""
    matches = ((names.fullmatch(name), hint) for names, hint in _NOT_OFFERED.items())
    return next((match.expand(hint) for match, hint in matches if match), "")


def _shown(path: str) -> str:
    return f"tf.{path}" if path else "tf"
