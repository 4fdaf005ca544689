"""The stages `rename_columns`, `select_columns`, `remove_columns`: maps of samples that are dicts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mpqueue.dataset.description.nodes import Traits
from mpqueue.dataset.transformations.map import MapNode


class ColumnMissing(KeyError):
    """A sample does not have a column. The message names the columns that it has."""

    def __str__(self) -> str:
        # `KeyError` would return the message in quotes.
        return str(self.args[0])


@dataclass(frozen=True)
class ColumnsFunction:
    """A function of samples that are dicts.

    Attributes:
        names: The columns that the samples must have.
    """

    stage: ClassVar[str] = ""
    names: tuple[str, ...]

    def __call__(self, sample: Any) -> dict[Any, Any]:
        """Return the new sample; the old one is not changed.

        Raises:
            TypeError: The sample is not a dict.
            ColumnMissing: The sample does not have a column.
        """
        if not isinstance(sample, Mapping):
            raise TypeError(f"{self.stage} takes samples that are dicts, got {type(sample).__name__}")
        for name in self.names:
            if name not in sample:
                raise ColumnMissing(
                    f"{self.stage}: a sample has no column {name!r}: its columns are {', '.join(map(repr, sample))}"
                )
        return self.changed(sample)

    def changed(self, sample: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return the new sample."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{self.stage}({list(self.names)!r})"


@dataclass(frozen=True, repr=False)
class Selected(ColumnsFunction):
    """Returns some columns of a sample, in this order."""

    stage: ClassVar[str] = "select_columns"

    def changed(self, sample: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return the new sample."""
        return {name: sample[name] for name in self.names}


@dataclass(frozen=True, repr=False)
class Removed(ColumnsFunction):
    """Returns a sample without some columns."""

    stage: ClassVar[str] = "remove_columns"

    def changed(self, sample: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return the new sample."""
        return {name: value for name, value in sample.items() if name not in self.names}


@dataclass(frozen=True, repr=False)
class Renamed(ColumnsFunction):
    """Returns a sample with other names for some columns, in the same places.

    Attributes:
        new_names: A new name for each column.
    """

    stage: ClassVar[str] = "rename_columns"
    new_names: tuple[str, ...]

    def changed(self, sample: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return the new sample.

        Raises:
            ValueError: Two columns would have the same name.
        """
        new = dict(zip(self.names, self.new_names, strict=True))
        renamed = {new.get(name, name): value for name, value in sample.items()}
        if len(renamed) < len(sample):
            taken = next(name for name in sample if name not in new and name in self.new_names)
            raise ValueError(
                f"{self.stage}: a sample already has a column {taken!r}: remove or rename that column, too"
            )
        return renamed

    def __repr__(self) -> str:
        return f"{self.stage}({dict(zip(self.names, self.new_names, strict=True))!r})"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ColumnsNode(MapNode):
    """Samples with other columns; the function is a `ColumnsFunction`."""

    name: ClassVar[str] = "columns"
    traits: ClassVar[Traits] = MapNode.traits._replace(passes_elements=True)  # batches remain batches

    def line(self) -> str:
        """Return the name of the stage and the columns."""
        return repr(self.function)
