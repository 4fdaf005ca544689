"""Queues that are filled with the rows of a tensor, epoch after epoch, and values that come once per epoch.

Each producer makes a queue, one operation that enqueues a whole epoch's rows, and a queue runner with it. The order of
an epoch is drawn when the operation is run, so that epochs never mix and each is a whole permutation.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpqueue.tf1.compat.functions.array import identity, size
from mpqueue.tf1.compat.functions.array import shape as shape_of
from mpqueue.tf1.compat.functions.array_fill import range as numbers
from mpqueue.tf1.compat.functions.control import Assert, control_dependencies
from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.functions.direct import direct
from mpqueue.tf1.compat.functions.keys import GraphKeys
from mpqueue.tf1.compat.functions.queues import FIFOQueue
from mpqueue.tf1.compat.functions.random import random_shuffle
from mpqueue.tf1.compat.functions.scopes import name_scope
from mpqueue.tf1.compat.functions.select import gather
from mpqueue.tf1.compat.functions.variables import Variable
from mpqueue.tf1.compat.graph import Tensor, convert_to_tensor
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.train.runners import QueueRunner, add_queue_runner
from mpqueue.tf1.train import producers
from mpqueue.tf1.train.epochs import checked_epochs


def limit_epochs(tensor: Any, num_epochs: int | None = None, name: str | None = None) -> Tensor:
    """Return a node that gives a value ``num_epochs`` times per session, and then raises `OutOfRangeError`.

    The count is a local variable, which has to be initialised (`local_variables_initializer`).

    Args:
        tensor: The value.
        num_epochs: Number of times; None for no end.
        name: Name of the node.

    Raises:
        TypeError: ``num_epochs`` is no integer.
        ValueError: It is not above 0.
    """
    limit = checked_epochs(num_epochs)
    if limit is None:
        return convert_to_tensor(tensor)
    with name_scope(name, "limit_epochs", [tensor]) as scope:
        local = [GraphKeys.LOCAL_VARIABLES]
        epochs = Variable(np.int64(0), trainable=False, collections=local, name="epochs")
        with control_dependencies([epochs.count_up_to(limit)]):
            return identity(tensor, name=scope)  # type: ignore[no-any-return]


def match_filenames_once(pattern: Any, name: str | None = None) -> Variable:
    """Return a variable of the files that match, looked for when the local variables are initialised.

    Args:
        pattern: A glob pattern, or several.
        name: Name of the variable.
    """
    with name_scope(name, "matching_filenames", [pattern]) as scope:
        local = [GraphKeys.LOCAL_VARIABLES]
        found = direct.matching_files(pattern)
        return Variable(found, trainable=False, collections=local, validate_shape=False, name=scope)


@public("train.input_producer(...)", like=(producers.input_producer, FIFOQueue))
def input_producer(input_tensor: Any, element_shape: Any, name: str | None, cancel_op: Any, **given: Any) -> FIFOQueue:
    """Return a queue of the rows of a tensor, with a queue runner that fills it.

    Args:
        input_tensor: A tensor of one or more axes.
        num_epochs: Number of epochs before the queue is closed, counted by a local variable, which has to be
            initialised; None for no end.
        seed: Makes the order the same in every session; it is another one in each epoch.
        cancel_op: Operation that the runner runs at a stop; cancels the queue if None.

    Raises:
        ValueError: The shape of a row is not fully known; ``num_epochs`` is not above 0.
    """
    with name_scope(name, "input_producer", [input_tensor]):
        rows = convert_to_tensor(input_tensor, name="input_tensor")
        shape = producers.row_shape(rows.shape[1:].known, element_shape)
        if given["shuffle"]:
            rows = random_shuffle(rows, seed=given["seed"])
        rows = limit_epochs(rows, given["num_epochs"])
        shared_name = given["shared_name"]
        queue = FIFOQueue(given["capacity"], [rows.dtype.base_dtype], [shape], shared_name=shared_name, name=name)
        add_queue_runner(QueueRunner(queue, [queue.enqueue_many([rows])], cancel_op=cancel_op))
        return queue


@public("train.string_input_producer(...)", like=(producers.string_input_producer, input_producer))
def string_input_producer(string_tensor: Any, name: str | None, cancel_op: Any, **given: Any) -> FIFOQueue:
    """Return a queue of texts, mostly file names, with a queue runner that fills it.

    Args:
        string_tensor: A vector of texts.

    Raises:
        ValueError: There are no texts. (If that shows only when it is run, `InvalidArgumentError`.)
    """
    empty = "string_input_producer requires a non-null input tensor"
    if not isinstance(string_tensor, Tensor) and not hasattr(string_tensor, "_as_tensor") and not len(string_tensor):
        raise ValueError(empty)
    with name_scope(name, "input_producer", [string_tensor]) as scope:
        texts = convert_to_tensor(string_tensor, dtypes.string)
        with control_dependencies([Assert(direct.greater(size(texts), 0), [empty])]):
            texts = identity(texts)
        return input_producer(texts, [], name=scope, cancel_op=cancel_op, **given)


@public("train.range_input_producer(...)", like=(producers.range_input_producer, input_producer))
def range_input_producer(limit: Any, name: str | None, **given: Any) -> FIFOQueue:
    """Return a queue of the ints from 0 to ``limit - 1``, with a queue runner that fills it.

    Args:
        limit: An int32 scalar.
    """
    with name_scope(name, "input_producer", [limit]) as scope:
        return input_producer(numbers(limit), [], name=scope, **given)


@public("train.slice_input_producer(...)", like=(producers.slice_input_producer, input_producer))
def slice_input_producer(tensor_list: Sequence[Any], name: str | None, **given: Any) -> list[Tensor]:
    """Return one row of each of several tensors, the same row of all.

    Args:
        tensor_list: Tensors with as many rows as the first of them has.

    Raises:
        ValueError: There are no tensors.
    """
    with name_scope(name, "input_producer", tensor_list):
        tensors = [convert_to_tensor(each) for each in tensor_list]
        if not tensors:
            raise ValueError("slice_input_producer needs at least one tensor")
        index = range_input_producer(shape_of(tensors[0])[0], **given).dequeue()
        return [gather(each, index) for each in tensors]
