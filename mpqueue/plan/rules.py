"""Combinations of a source and options that are refused, in one list: a condition and its message.

The first rule that applies raises. A check of one value alone belongs to `mpqueue.plan.options`.
"""

from collections.abc import Callable
from typing import NamedTuple

from mpqueue.plan.options import SampleOptions
from mpqueue.plan.sources import Source


class Rule(NamedTuple):
    """One combination that is refused.

    Attributes:
        applies: Returns whether a source and its options are such a combination.
        message: Returns the error message for them.
        error: The class of the error.
    """

    applies: Callable[[Source, SampleOptions], bool]
    message: Callable[[Source, SampleOptions], str]
    error: type[Exception] = ValueError


def check(source: Source, options: SampleOptions) -> None:
    """Raise the error of the first rule that applies."""
    for rule in RULES:
        if rule.applies(source, options):
            raise rule.error(rule.message(source, options))


def _only_for_streams(name: str) -> Rule:
    return Rule(
        lambda source, options: getattr(options, name) is not None and source.has_index,
        lambda source, options: (
            f"{name}={getattr(options, name)} is about streams, whose elements have no numbers (generator functions, "
            f"datasets behind a filter or a buffer), and {source.name} has __getitem__ and __len__: its batches are "
            "dealt by their numbers, its epochs end with them. Leave it out"
        ),
    )


def _threads(options: SampleOptions) -> str:
    return f"threads={options.threads}" if options.threads != "auto" else 'threads="auto"'


def _why_not_threads(source: Source, options: SampleOptions) -> str | None:
    is_asked = options.threads not in {1, "auto"}
    return source.why_not_threads(int(options.threads)) if is_asked else None


RULES = [
    Rule(
        lambda source, options: options.shuffle and not source.has_index,
        lambda *_: "shuffle needs a source with __getitem__ and __len__: a generator has an order of its own",
    ),
    Rule(
        lambda source, options: options.is_sampled and not source.has_index,
        lambda *_: "a sampler needs a source with __getitem__: a generator has an order of its own",
    ),
    Rule(
        lambda source, options: options.drop_last and options.batch_size is None and not source.has_index,
        lambda *_: "drop_last is about a last batch that is short: pass batch_size, too",
    ),
    Rule(
        lambda _, options: options.is_sampled and options.shuffle,
        lambda _, options: (
            f"a {'sampler' if options.batch_sampler is None else 'batch_sampler'} gives the order, and excludes shuffle"
        ),
    ),
    _only_for_streams("lanes"),
    _only_for_streams("epoch_batches"),
    Rule(
        lambda source, options: options.threads != 1 and not source.has_index,
        lambda source, options: (
            f"{_threads(options)} computes the samples of a batch by their indices, and the elements of {source.name}, "
            "a stream, come one after the other. Of a mpqueue.Dataset, the stage that waits takes it: map(function, "
            "threads=n)"
        ),
    ),
    Rule(
        lambda _, options: options.threads != 1 and not options.are_samples,
        lambda _, options: (
            f"{_threads(options)} computes the samples of a batch side by side, and an item of the source is a batch "
            "here: pass batch_size, for a source of samples; or use more workers"
        ),
    ),
    Rule(
        lambda source, options: _why_not_threads(source, options) is not None,
        lambda source, options: _why_not_threads(source, options) or "",
    ),
]
