"""Calls that join datasets, on the class and on a dataset: no dataset is lost without an error."""

import pytest

from mpqueue import Dataset


class Tokens(Dataset):
    """A subclass."""


A, B, C = Dataset.range(4), Dataset.range(10, 14), Dataset.range(20, 24)

JOINS = {
    "concatenate": (lambda a, *others: a.concatenate(*others), lambda *all_: Dataset.concatenate(*all_)),
    "zip": (lambda a, *others: a.zip(*others), lambda *all_: Dataset.zip(*all_)),
    "mix": (lambda a, *others: a.mix(others), lambda *all_: Dataset.mix(all_)),
    "mix, all arguments": (
        lambda a, *others: a.mix(others, [1.0, *[2.0 for _ in others]], stop="all"),
        lambda *all_: Dataset.mix(all_, weights=[1.0, *[2.0 for _ in all_[1:]]], stop="all"),
    ),
}


@pytest.mark.sample(4)
@pytest.mark.parametrize("others", [(), (B,), (B, C), (A,)], ids=["none", "one", "two", "itself"])
@pytest.mark.parametrize("name", JOINS)
def test_a_call_on_a_dataset_equals_the_call_on_the_class_with_that_dataset_first(name, others):
    on_dataset, on_class = JOINS[name]
    joined, expected = on_dataset(A, *others), on_class(A, *others)
    assert list(joined) == list(expected)
    assert repr(joined) == repr(expected)
    seen = {part for element in joined for part in (element if isinstance(element, tuple) else (element,))}
    assert seen == {element for dataset in (A, *others) for element in dataset}


@pytest.mark.parametrize("name", JOINS)
def test_a_stream_keeps_its_elements_when_it_is_joined(name):
    stream = A.filter(lambda x: x >= 0)
    on_dataset, on_class = JOINS[name]
    assert list(on_dataset(stream, B)) == list(on_class(stream, B))
    assert repr(on_dataset(stream, B)) == repr(on_class(stream, B))


def public_callables():
    return [name for name in dir(Dataset) if not name.startswith("_") and callable(getattr(Dataset, name))]


def test_each_public_method_called_on_a_dataset_reads_the_dataset_or_raises():
    arguments = {
        "batch": (2,), "bucket": (int, [3], [2, 2]), "cache": (), "concatenate": (B,), "enumerate": (),
        "filter": (bool,), "flat_map": (range,), "map": (abs,), "mix": ([B],), "pack": (8,),
        "remove_columns": ("a",), "rename_columns": ({"a": "b"},), "repeat": (2,), "scan": (0, divmod),
        "select_columns": ("a",), "shuffle": (), "skip": (1,), "sort": (abs,), "split": ([0.5],), "take": (3,),
        "take_while": (bool,), "window": (2,), "zip": (B,),
    }  # fmt: skip
    of_samples, refused = {"get", "locate"}, {"range"}
    assert sorted({*arguments, *of_samples, *refused}) == public_callables()
    assert A.get(2) == A[2]
    with pytest.raises(LookupError, match="has no method locate"):
        A.locate(2)
    for name, call_arguments in arguments.items():
        method = getattr(A, name)
        made = method(*call_arguments)
        for dataset in made if isinstance(made, tuple) else (made,):
            assert A.root in [node for _, node in dataset.root.stages()]


def test_joined_datasets_have_the_class_of_the_caller():
    tokens = Tokens.range(3)
    for joined in (tokens.concatenate(A), tokens.zip(A), tokens.mix([A]), Tokens.zip(A), Tokens.mix([A])):
        assert type(joined) is Tokens
    assert type(Dataset.concatenate(tokens, A)) is Dataset
