"""Queues that are filled with the rows of a tensor, epoch after epoch, and values that are limited to some epochs.

Each producer creates a queue, one operation that enqueues the rows of an epoch, and a queue runner for it. The order is
drawn when the operation is run, so that epochs never mix and each is a complete permutation.
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
    """Return a tensor that has its value ``num_epochs`` times per session, and then raises `OutOfRangeError`.

    The count is a local variable, which must be initialized (`local_variables_initializer`).

    Args:
        tensor: The value.
        num_epochs: Number of times; None for no limit.
        name: Name of the node.

    Raises:
        TypeError: ``num_epochs`` is not an integer.
        ValueError: ``num_epochs`` is not positive.
    """
    limit = checked_epochs(num_epochs)
    if limit is None:
        return convert_to_tensor(tensor)
    with name_scope(name, "limit_epochs", [tensor]) as scope:
        local = [GraphKeys.LOCAL_VARIABLES]
        epochs = Variable(np.int64(0), trainable=False, collections=local, name="epochs")
        with control_dependencies([epochs.count_up_to(limit)]):
            counted: Tensor = identity(tensor, name=scope)
            return counted


def match_filenames_once(pattern: Any, name: str | None = None) -> Variable:
    """Return a variable with the matching files, which are listed when the local variables are initialized.

    Args:
        pattern: A glob pattern, or several.
        name: Name of the variable.
    """
    with name_scope(name, "matching_filenames", [pattern]) as scope:
        local = [GraphKeys.LOCAL_VARIABLES]
        names = direct.matching_files(pattern)
        return Variable(names, trainable=False, collections=local, validate_shape=False, name=scope)


@public("train.input_producer(...)", like=(producers.input_producer, FIFOQueue))
def input_producer(input_tensor: Any, element_shape: Any, name: str | None, cancel_op: Any, **given: Any) -> FIFOQueue:
    """Return a queue of the rows of a tensor, with a queue runner that fills it.

    Args:
        input_tensor: A tensor with at least one axis.
        num_epochs: Number of epochs before the queue is closed; None for no limit. The count is a local variable, which
            must be initialized.
        seed: Seed for the same order in every session; the order differs between epochs.
        cancel_op: Operation that the runner runs on a stop. If None, it cancels the queue.

    Raises:
        ValueError: The shape of a row is not fully known, or ``num_epochs`` is not positive.
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
    """Return a queue of strings, mostly file names, with a queue runner that fills it.

    Args:
        string_tensor: A vector of strings.

    Raises:
        ValueError: ``string_tensor`` is empty. If only the run shows this, it raises `InvalidArgumentError`.
    """
    empty = "string_input_producer requires a non-null input tensor"
    with name_scope(name, "input_producer", [string_tensor]) as scope:
        strings = convert_to_tensor(string_tensor, dtypes.string)
        if strings.op.type == "Const" and strings is not string_tensor and strings.known_dims == (0,):
            raise ValueError(empty)
        with control_dependencies([Assert(direct.greater(size(strings), 0), [empty])]):
            strings = identity(strings)
        return input_producer(strings, [], name=scope, cancel_op=cancel_op, **given)


@public("train.range_input_producer(...)", like=(producers.range_input_producer, input_producer))
def range_input_producer(limit: Any, name: str | None, **given: Any) -> FIFOQueue:
    """Return a queue of the integers from 0 to ``limit - 1``, with a queue runner that fills it.

    Args:
        limit: An int32 scalar.
    """
    with name_scope(name, "input_producer", [limit]) as scope:
        return input_producer(numbers(limit), [], name=scope, **given)


@public("train.slice_input_producer(...)", like=(producers.slice_input_producer, input_producer))
def slice_input_producer(tensor_list: Sequence[Any], name: str | None, **given: Any) -> list[Tensor]:
    """Return one row of each of several tensors, the same row of all tensors.

    Args:
        tensor_list: Tensors with at least as many rows as the first one.

    Raises:
        ValueError: ``tensor_list`` is empty.
    """
    with name_scope(name, "input_producer", tensor_list):
        tensors = [convert_to_tensor(each) for each in tensor_list]
        if not tensors:
            raise ValueError("slice_input_producer requires at least one tensor")
        index = range_input_producer(shape_of(tensors[0])[0], **given).dequeue()
        return [gather(each, index) for each in tensors]
