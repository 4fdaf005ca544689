"""Find the sample with an id: its source, and its index there."""

from typing import Any, NamedTuple

from mpqueue.dataset.description.ids import SampleId, as_index, as_integer
from mpqueue.dataset.description.nodes import JoinNode, LinkNode, StageNode, lengths_of
from mpqueue.dataset.indexed.readers import IndexedRun, ReaderMaker, SourceNode
from mpqueue.plan.ids.sample_ids import SampleSet


class FoundSample(NamedTuple):
    """A sample of a source.

    Attributes:
        node: The source.
        base: The number of stages of the whole tree before the source.
        position: The index of the sample.
    """

    node: SourceNode
    base: int
    position: int

    def read(self, run: IndexedRun) -> Any:
        """Return the sample, with the random numbers of the source at its index.

        Raises:
            Exception: The source raised.
        """
        reader = ReaderMaker(lengths_of(self.node)).make(self.node)
        return reader.at([self.position], run._replace(base=self.base, watches=False))[0]


def check_ids(root: StageNode, samples: SampleSet) -> None:
    """Raise a `ValueError` for a sample that no source of a dataset has."""
    for sample in samples.ends():
        try:
            find(root, sample)
        except SourceIsStream:
            continue  # how many samples it has is not known
        except (LookupError, TypeError) as error:
            raise ValueError(str(error)) from error


class SourceIsStream(LookupError):
    """The source of an id is a stream."""


def find(root: StageNode, sample_id: SampleId) -> FoundSample:
    """Return the sample with an id.

    Args:
        root: The last stage of the dataset.
        sample_id: The id; lists are accepted in place of tuples.

    Raises:
        TypeError: The id does not have the form of this dataset's ids.
        ValueError: A part does not exist.
        LookupError: The source is a stream, or does not have this sample.
    """
    node, base, rest, is_part = root, 0, sample_id, False
    while True:
        if isinstance(node, LinkNode):
            node = node.input
        elif isinstance(node, JoinNode):
            part, rest = _split(node, rest)
            at = _index_of(node, part)
            node, base, is_part = node.branches[at], base + node.starts[at], True
        else:
            break
    if not isinstance(node, SourceNode):
        raise SourceIsStream(
            f"the source ({node.line()}) is a stream, which has no samples by id: find them by iterating over it"
        )
    # The last item of an id remains in a tuple of one item.
    if is_part and isinstance(rest, tuple) and len(rest) == 1:
        (rest,) = rest
    return FoundSample(node, base, as_index(rest, node.length_by(), f"the source ({node.line()})"))


def _split(node: JoinNode, sample_id: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the part in an id, and the rest of the id."""
    if not isinstance(sample_id, tuple | list) or len(sample_id) < 2:
        raise TypeError(
            f"{node.name} reads several datasets, so the id of a sample must be a tuple (part, ..., index), "
            f"got {sample_id!r}"
        )
    return sample_id[0], tuple(sample_id[1:])


def _index_of(node: JoinNode, part: Any) -> int:
    """Return the index of an input from its name in ids."""
    names = [node.part_name(at) for at in range(len(node.branches))]
    if not isinstance(part, str):
        part = as_integer(part, f"the part in an id of {node.name}")
    if part not in names:
        shown = ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")
        raise ValueError(f"{node.name} has no part {part!r}: its parts are {shown}")
    return names.index(part)
