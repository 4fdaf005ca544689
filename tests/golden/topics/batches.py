"""batch, batch_join, shuffle_batch, shuffle_batch_join, of sources that give their elements one by one."""

import threading
from collections import Counter

import mpqueue
from golden.outcomes import DEADLOCK_S, assert_outcome, is_error, run_by_queue_runners
from golden.values import decode, decode_array, encode
from mpqueue import errors, train


def run(case, folder):
    mpqueue.reset_default_graph()
    expected = case["expect"]
    if is_error(expected):
        assert_outcome(lambda: make(case, train, make_source), expected, case["op"])
        return
    batches = make(case, train, make_source)
    assert [list(shape) for shape in batches.shapes] == expected["static_shapes"]
    with run_by_queue_runners(expected):
        check(case, lambda: batches(timeout=DEADLOCK_S))


def make(case, functions, make_source):
    """Call the function of a case, of a module like `mpqueue.train`."""
    sources = [make_source(document) for document in case["sources"]]
    args = {name: decode(value) for name, value in case["args"].items()}
    if case["op"].endswith("_join"):
        return getattr(functions, case["op"])(sources, **args)
    return getattr(functions, case["op"])(sources[0] if sources else [], **args)


def check(case, next_batch):
    """Compare the batches, and the error at the end."""
    expected = case["expect"]
    got = [encode(next_batch()) for _ in expected["batches"]]
    compare(got, expected["batches"], given(case) if case.get("random") else None)
    if expected["end"] is not None:
        assert_outcome(next_batch, expected["end"], "end")


def make_source(document):
    elements = Elements(document)
    if document.get("bare"):
        return mpqueue.Source(elements, document["dtypes"][0], document["shapes"])
    return mpqueue.Source(elements, document["dtypes"], document["shapes"], document.get("names"))


class Elements:
    """Gives the elements of a source one by one, to any number of threads, then ends."""

    def __init__(self, document):
        self.document = document
        self.elements = [[decode_array(array) for array in element] for element in document["elements"]]
        self.lock = threading.Lock()

    def __call__(self):
        with self.lock:
            if not self.elements:
                raise errors.OutOfRangeError(None, None, "no more elements")
            element = self.elements.pop(0)
        if self.document.get("fail_on_negative") and (element[0] < 0).any():
            raise errors.InvalidArgumentError(None, None, "negative")
        if self.document.get("bare"):
            return element[0]
        return dict(zip(self.document["names"], element, strict=True)) if "names" in self.document else element


def given(case):
    """How often each example was given to the batch."""
    return Counter(str(example) for document in case["sources"] for example in examples_of(document, case))


def compare(got, expected, given=None):
    """Batches are equal; or, if there is a multiset of the examples that were given, any of these in any order."""
    if given is None:
        assert got == expected
        return
    assert [shapes_of(batch) for batch in got] == [shapes_of(batch) for batch in expected]
    came = examples_in(got)
    assert not came - given
    assert came == given or sum(came.values()) < sum(given.values())


def arrays_of(batch):
    if "dict" in batch:
        return [batch["dict"][name] for name in sorted(batch["dict"])]
    return batch["list"] if "list" in batch else [batch]


def shapes_of(batch):
    return [(array["dtype"], array["shape"]) for array in arrays_of(batch)]


def rows_of(arrays):
    """The rows of several encoded arrays, side by side."""
    decoded = [decode_array(array) for array in arrays]
    return [[encode(array[place]) for array in decoded] for place in range(len(decoded[0]))]


def examples_in(batches):
    return Counter(str(example) for batch in batches for example in rows_of(arrays_of(batch)))


def examples_of(document, case):
    order = sorted(range(len(document["dtypes"])), key=lambda place: document.get("names", [])[place:] or place)
    for element in document["elements"]:
        arrays = [element[place] for place in order]
        if case["args"].get("enqueue_many"):
            yield from rows_of(arrays)
        else:
            yield [encode(decode_array(array)[()]) for array in arrays]
