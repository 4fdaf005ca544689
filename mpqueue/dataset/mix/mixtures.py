"""The mixture of a dataset: find it, change its weights, count the samples of its parts.

All functions are pure, and take the last stage of a dataset. The weights of a mix can only be changed if the dataset
has one mix, and its samples are used in their order: then "from here on" has a meaning, and elements that were read
before are not affected. With an index, a change returns a new tree, which shares all stages before the mix. In a lane
of a stream, the mix itself begins the new weights at its next pick.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mpqueue.dataset.description.arguments import check_count
from mpqueue.dataset.description.nodes import StageNode, lengths_of, own_fields
from mpqueue.dataset.mix.schedule import Change, with_change
from mpqueue.dataset.mix.weights import Name, Weights, check_sample, check_weights, is_schedule


class Mixture(NamedTuple):
    """The only mix of a dataset, with samples that are used in their order.

    Attributes:
        node: The mix, a `mpqueue.dataset.transformations.mix.MixNode`.
        stage_index: Its index among the stages of the dataset.
        path: The stages from the last one of the dataset to the mix, both included.
    """

    node: Any
    stage_index: int
    path: tuple[StageNode, ...]

    @property
    def names(self) -> tuple[Name, ...]:
        """The names of the parts, or their indices if they have no names."""
        return tuple(self.node.part_names)


def mixture_of(root: StageNode) -> Mixture:
    """Return the mix of a dataset.

    Raises:
        ValueError: The dataset has no mix, or several, or a later stage does not use its samples in their order, or
            reads them by index for a stream.
    """
    if not root.facts.num_mixes:
        raise ValueError("the dataset has no mixture, so it has no weights: expected a stage Dataset.mix")
    if root.facts.num_mixes > 1:
        raise ValueError(
            f"the dataset has {root.facts.num_mixes} mixtures, so it is not clear which one has the weights: expected "
            "one stage Dataset.mix"
        )
    path = list(_path_to_mix(root))
    # From the mix to the last stage, so that the message names the first stage that is out of order.
    for base, node in reversed(path):
        if not node.traits.keeps_order:
            raise ValueError(
                f"the samples of the mixture are not used in their order: stage {base + node.stage_index}, "
                f"{node.line()}, comes after it. Put that stage before the mix, on its datasets"
            )
        if node.is_indexed and not (node.traits.is_opened_in_lanes or root.is_indexed):
            raise ValueError(
                f"the virtual shards do not pick the samples of the mixture: stage {base + node.stage_index}, "
                f"{node.line()}, reads them by index. Put that stage before the mix, on its datasets, or after the "
                "first stage that makes a stream"
            )
    base, mix = path[-1]
    return Mixture(mix, base + mix.stage_index, tuple(node for _, node in path))


def _path_to_mix(root: StageNode) -> Iterator[tuple[int, StageNode]]:
    """Yield the stages from the last one to the only mix, each with the number of stages before its subtree."""
    base, node = 0, root
    yield base, node
    while not node.traits.is_mix:
        start, node = next(
            (start, each) for start, each in zip(node.starts, node.inputs, strict=True) if each.facts.num_mixes
        )
        base += start
        yield base, node


def check_new_weights(root: StageNode, weights: Any) -> Weights:
    """Return new weights for the mix of a dataset, one per part.

    Args:
        root: The last stage.
        weights: A dict with the names of the parts, or a list if they have no names.

    Raises:
        TypeError: The weights are not numbers.
        ValueError: The weights belong to other parts, a weight is negative or not finite, or all are zero; or see
            `mixture_of`.
    """
    return _checked(mixture_of(root), weights)


def _checked(mixture: Mixture, weights: Any) -> Weights:
    if weights is None:
        raise TypeError("mix: weights must be a dict or a list of numbers, got None")
    if is_schedule(weights):
        raise ValueError(f"mix: expected weights that hold from one sample on, got the schedule {weights!r}")
    return check_weights(weights, mixture.names)


def with_weights(root: StageNode, epoch: int, weights: Any, at: int) -> StageNode:
    """Return a dataset with other weights from a sample of an epoch on.

    In earlier epochs, and before that sample, the dataset is the same. In later epochs, all samples have the new
    weights. Changes at or after that sample are replaced. Each part continues where it is.

    Args:
        root: The last stage.
        epoch: The epoch.
        weights: See `check_new_weights`.
        at: The index of the first sample of the mix with the new weights. If the mix ends before it in that epoch,
            only later epochs have the new weights.

    Raises:
        TypeError: A weight is not a number, or a number of an epoch or a sample is not an integer.
        ValueError: A number is negative; or see `check_new_weights`.
    """
    mixture = mixture_of(root)
    *later, mix = mixture.path
    change = Change(check_count("mix", "epoch", epoch, 0), check_sample("mix", "at", at), _checked(mixture, weights))
    before, made = mix, _copied(mix, mix.inputs, changes=with_change(mixture.node.changes, change))
    for node in reversed(later):
        made, before = _copied(node, tuple(made if each is before else each for each in node.inputs)), node
    return made


def _copied(node: StageNode, inputs: Sequence[StageNode], **fields: Any) -> StageNode:
    kind: Any = type(node)
    own = {name: getattr(node, name) for name in own_fields(kind)}
    return node.reading(inputs, **own | fields)


def samples_before(root: StageNode, position: int) -> int:
    """Return the number of samples of the mix that the elements before an index use.

    Args:
        root: The last stage of an indexed dataset.
        position: The index.

    Raises:
        ValueError: See `mixture_of`.
    """
    path = mixture_of(root).path
    lengths = lengths_of(root)
    for node, before in itertools.pairwise(path):
        of_inputs = [lengths[id(each)] for each in node.inputs]
        position = node.num_read(position, next(at for at, each in enumerate(node.inputs) if each is before), of_inputs)
    return position


def length_in(root: StageNode, epoch: int, seed: int = 0) -> int | None:
    """Return the number of elements of an indexed dataset in an epoch; None if endless.

    It differs between epochs, and depends on the seed, if weights are changed.

    Args:
        root: The last stage.
        epoch: The epoch.
        seed: The seed of the loader.
    """
    return lengths_of(root, seed, epoch)[id(root)]
