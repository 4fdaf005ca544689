# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
import builtins
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import AbstractContextManager
from mpqueue.compat.v1 import app as app
from mpqueue.compat.v1 import bitwise as bitwise
from mpqueue.compat.v1 import compat as compat
from mpqueue.compat.v1 import debugging as debugging
from mpqueue.compat.v1 import dtypes as dtypes
from mpqueue.compat.v1 import errors as errors
from mpqueue.compat.v1 import flags as flags
from mpqueue.compat.v1 import gfile as gfile
from mpqueue.compat.v1 import image as image
from mpqueue.compat.v1 import initializers as initializers
from mpqueue.compat.v1 import io as io
from mpqueue.compat.v1 import keras as keras
from mpqueue.compat.v1 import logging as logging
from mpqueue.compat.v1 import math as math
from mpqueue.compat.v1 import python_io as python_io
from mpqueue.compat.v1 import queue as queue
from mpqueue.compat.v1 import random as random
from mpqueue.compat.v1 import sparse as sparse
from mpqueue.compat.v1 import strings as strings
from mpqueue.compat.v1 import summary as summary
from mpqueue.compat.v1 import train as train
from mpqueue.errors import OpError as OpError
from mpqueue.examples.features import FixedLenFeature as FixedLenFeature
from mpqueue.examples.features import FixedLenSequenceFeature as FixedLenSequenceFeature
from mpqueue.examples.features import VarLenFeature as VarLenFeature
from mpqueue.tf1.compat.functions.initializers import constant_initializer as constant_initializer
from mpqueue.tf1.compat.functions.initializers import glorot_uniform_initializer as glorot_uniform_initializer
from mpqueue.tf1.compat.functions.initializers import ones_initializer as ones_initializer
from mpqueue.tf1.compat.functions.initializers import random_normal_initializer as random_normal_initializer
from mpqueue.tf1.compat.functions.initializers import random_uniform_initializer as random_uniform_initializer
from mpqueue.tf1.compat.functions.initializers import truncated_normal_initializer as truncated_normal_initializer
from mpqueue.tf1.compat.functions.initializers import zeros_initializer as zeros_initializer
from mpqueue.tf1.compat.functions.keys import GraphKeys as GraphKeys
from mpqueue.tf1.compat.functions.queue_base import QueueBase as QueueBase
from mpqueue.tf1.compat.functions.queues import FIFOQueue as FIFOQueue
from mpqueue.tf1.compat.functions.queues import PaddingFIFOQueue as PaddingFIFOQueue
from mpqueue.tf1.compat.functions.queues import RandomShuffleQueue as RandomShuffleQueue
from mpqueue.tf1.compat.functions.readers import FixedLengthRecordReader as FixedLengthRecordReader
from mpqueue.tf1.compat.functions.readers import IdentityReader as IdentityReader
from mpqueue.tf1.compat.functions.readers import ReaderBase as ReaderBase
from mpqueue.tf1.compat.functions.readers import TFRecordReader as TFRecordReader
from mpqueue.tf1.compat.functions.readers import TextLineReader as TextLineReader
from mpqueue.tf1.compat.functions.readers import WholeFileReader as WholeFileReader
from mpqueue.tf1.compat.functions.scopes import AUTO_REUSE as AUTO_REUSE
from mpqueue.tf1.compat.functions.scopes import VariableScope as VariableScope
from mpqueue.tf1.compat.functions.select import newaxis as newaxis
from mpqueue.tf1.compat.functions.variables import Variable as Variable
from mpqueue.tf1.compat.graph.convert import constant as constant
from mpqueue.tf1.compat.graph.convert import convert_to_tensor as convert_to_tensor
from mpqueue.tf1.compat.graph.nodes import Graph as Graph
from mpqueue.tf1.compat.graph.nodes import Operation as Operation
from mpqueue.tf1.compat.graph.nodes import Tensor as Tensor
from mpqueue.tf1.compat.graph.nodes import get_default_graph as get_default_graph
from mpqueue.tf1.compat.graph.nodes import reset_default_graph as reset_default_graph
from mpqueue.tf1.compat.graph.session import InteractiveSession as InteractiveSession
from mpqueue.tf1.compat.graph.session import Session as Session
from mpqueue.tf1.compat.graph.session import get_default_session as get_default_session
from mpqueue.tf1.compat.graph.sparse import SparseTensor as SparseTensor
from mpqueue.tf1.compat.graph.static import get_static_value as get_static_value
from mpqueue.tf1.compat.ops.dtypes import DType as DType
from mpqueue.tf1.compat.ops.dtypes import as_dtype as as_dtype
from mpqueue.tf1.compat.ops.dtypes import bool_ as bool
from mpqueue.tf1.compat.ops.dtypes import complex128 as complex128
from mpqueue.tf1.compat.ops.dtypes import complex64 as complex64
from mpqueue.tf1.compat.ops.dtypes import double as double
from mpqueue.tf1.compat.ops.dtypes import float16 as float16
from mpqueue.tf1.compat.ops.dtypes import float32 as float32
from mpqueue.tf1.compat.ops.dtypes import float64 as float64
from mpqueue.tf1.compat.ops.dtypes import half as half
from mpqueue.tf1.compat.ops.dtypes import int16 as int16
from mpqueue.tf1.compat.ops.dtypes import int32 as int32
from mpqueue.tf1.compat.ops.dtypes import int64 as int64
from mpqueue.tf1.compat.ops.dtypes import int8 as int8
from mpqueue.tf1.compat.ops.dtypes import resource as resource
from mpqueue.tf1.compat.ops.dtypes import string as string
from mpqueue.tf1.compat.ops.dtypes import uint16 as uint16
from mpqueue.tf1.compat.ops.dtypes import uint32 as uint32
from mpqueue.tf1.compat.ops.dtypes import uint64 as uint64
from mpqueue.tf1.compat.ops.dtypes import uint8 as uint8
from mpqueue.tf1.compat.ops.tensorshape import Dimension as Dimension
from mpqueue.tf1.compat.ops.tensorshape import TensorShape as TensorShape
from mpqueue.tf1.compat.program.log import get_logger as get_logger
from mpqueue.tf1.compat.program.settings import ConfigProto as ConfigProto
from mpqueue.tf1.compat.program.settings import GPUOptions as GPUOptions
from mpqueue.tf1.compat.program.settings import GraphOptions as GraphOptions
from mpqueue.tf1.compat.program.settings import OptimizerOptions as OptimizerOptions
from mpqueue.tf1.compat.program.settings import RunMetadata as RunMetadata
from mpqueue.tf1.compat.program.settings import RunOptions as RunOptions
from mpqueue.tf1.compat.program.settings import VERSION as VERSION
from mpqueue.tf1.compat.program.settings import VERSION as __version__
from mpqueue.tf1.compat.program.settings import disable_eager_execution as disable_eager_execution
from mpqueue.tf1.compat.program.settings import disable_v2_behavior as disable_v2_behavior
from mpqueue.tf1.compat.program.settings import executing_eagerly as executing_eagerly
from mpqueue.tf1.compat.program.settings import is_tensor as is_symbolic_tensor
from mpqueue.tf1.compat.program.settings import is_tensor as is_tensor
from mpqueue.tf1.compat.train.processes import use_processes as use_processes
from mpqueue.values.sparse import SparseTensorValue as SparseTensorValue
from typing import Any

__all__ = [
    "AUTO_REUSE", "Assert", "ConfigProto", "DType", "Dimension", "FIFOQueue", "FixedLenFeature",
    "FixedLenSequenceFeature", "FixedLengthRecordReader", "GPUOptions", "Graph", "GraphKeys", "GraphOptions",
    "IdentityReader", "InteractiveSession", "OpError", "Operation", "OptimizerOptions", "PaddingFIFOQueue", "Print",
    "QueueBase", "RandomShuffleQueue", "ReaderBase", "RunMetadata", "RunOptions", "Session", "SparseTensor",
    "SparseTensorValue", "TFRecordReader", "Tensor", "TensorShape", "TextLineReader", "VERSION", "VarLenFeature",
    "Variable", "VariableScope", "WholeFileReader", "__version__", "abs", "acos", "acosh", "add", "add_n",
    "add_to_collection", "add_to_collections", "all_variables", "angle", "app", "arg_max", "arg_min", "argmax",
    "argmin", "as_dtype", "as_string", "asin", "asinh", "assert_equal", "assert_greater", "assert_greater_equal",
    "assert_integer", "assert_less", "assert_less_equal", "assert_near", "assert_negative", "assert_non_negative",
    "assert_non_positive", "assert_none_equal", "assert_positive", "assert_rank", "assert_rank_at_least",
    "assert_rank_in", "assert_scalar", "assert_type", "assign", "assign_add", "assign_sub", "atan", "atan2", "atanh",
    "bitwise", "bool", "boolean_mask", "broadcast_dynamic_shape", "broadcast_static_shape", "broadcast_to", "cast",
    "ceil", "clip_by_value", "colocate_with", "compat", "complex128", "complex64", "concat", "cond", "conj", "constant",
    "constant_initializer", "container", "control_dependencies", "convert_to_tensor", "cos", "cosh", "count_nonzero",
    "count_up_to", "cumprod", "cumsum", "debugging", "decode_base64", "decode_csv", "decode_json_example", "decode_raw",
    "device", "disable_eager_execution", "disable_v2_behavior", "div", "div_no_nan", "divide", "double", "dtypes",
    "dynamic_partition", "dynamic_stitch", "encode_base64", "ensure_shape", "equal", "erf", "erfc", "errors",
    "executing_eagerly", "exp", "expand_dims", "expm1", "fill", "flags", "float16", "float32", "float64", "floor",
    "floordiv", "floormod", "gather", "gather_nd", "get_collection", "get_collection_ref", "get_default_graph",
    "get_default_session", "get_logger", "get_static_value", "get_variable", "get_variable_scope", "gfile",
    "global_variables", "global_variables_initializer", "glorot_uniform_initializer", "greater", "greater_equal",
    "group", "half", "identity", "imag", "image", "initialize_all_tables", "initialize_all_variables",
    "initialize_local_variables", "initialize_variables", "initializers", "int16", "int32", "int64", "int8",
    "invert_permutation", "io", "is_finite", "is_inf", "is_nan", "is_numeric_tensor", "is_symbolic_tensor", "is_tensor",
    "is_variable_initialized", "keras", "less", "less_equal", "lgamma", "lin_space", "linspace", "local_variables",
    "local_variables_initializer", "log", "log1p", "logging", "logical_and", "logical_not", "logical_or", "logical_xor",
    "matching_files", "math", "matmul", "matrix_transpose", "maximum", "minimum", "mod", "model_variables", "multiply",
    "name_scope", "negative", "newaxis", "no_op", "not_equal", "numpy_function", "one_hot", "ones", "ones_initializer",
    "ones_like", "pad", "parse_example", "parse_single_example", "parse_single_sequence_example", "placeholder",
    "placeholder_with_default", "pow", "py_func", "python_io", "queue", "random", "random_crop", "random_normal",
    "random_normal_initializer", "random_shuffle", "random_uniform", "random_uniform_initializer", "range", "rank",
    "read_file", "real", "realdiv", "reciprocal", "reduce_all", "reduce_any", "reduce_join", "reduce_logsumexp",
    "reduce_max", "reduce_mean", "reduce_min", "reduce_prod", "reduce_sum", "regex_replace",
    "report_uninitialized_variables", "reset_default_graph", "reshape", "resource", "reverse", "reverse_v2", "rint",
    "round", "rsqrt", "saturate_cast", "scatter_nd", "sequence_mask", "set_random_seed", "setdiff1d", "shape",
    "sigmoid", "sign", "sin", "sinh", "size", "slice", "sparse", "sparse_placeholder", "sparse_reduce_sum",
    "sparse_reorder", "sparse_reshape", "sparse_tensor_to_dense", "sparse_to_dense", "split", "sqrt", "square",
    "squared_difference", "squeeze", "stack", "stop_gradient", "strided_slice", "string", "string_join", "string_split",
    "string_strip", "string_to_hash_bucket_fast", "string_to_number", "strings", "substr", "subtract", "summary",
    "tables_initializer", "tan", "tanh", "tile", "to_complex128", "to_complex64", "to_double", "to_float", "to_int32",
    "to_int64", "train", "trainable_variables", "transpose", "truediv", "truncated_normal",
    "truncated_normal_initializer", "truncatediv", "truncatemod", "tuple", "uint16", "uint32", "uint64", "uint8",
    "unique", "unique_with_counts", "unstack", "use_processes", "variable_scope", "variables_initializer", "where",
    "where_v2", "zeros", "zeros_initializer", "zeros_like",
]  # fmt: skip

def concat(values: Any, axis: Any, name: str | None = "concat") -> Tensor: ...
def split(
    value: Any, num_or_size_splits: Any, axis: Any = 0, num: int | None = None, name: str | None = "split"
) -> list[Tensor]: ...
def stack(values: Any, axis: int = 0, name: str | None = "stack") -> Tensor: ...
def unstack(value: Any, num: int | None = None, axis: int = 0, name: str | None = "unstack") -> list[Tensor]: ...
def broadcast_static_shape(shape_x: Any, shape_y: Any) -> TensorShape: ...
def identity(input: Any, name: str | None = None) -> Any: ...
def matrix_transpose(a: Any, name: str | None = "matrix_transpose", conjugate: builtins.bool = False) -> Tensor: ...
def pad(
    tensor: Any, paddings: Any, mode: str = "CONSTANT", name: str | None = None, constant_values: Any = 0
) -> Tensor: ...
def rank(input: Any, name: str | None = None) -> Tensor: ...
def shape(input: Any, name: str | None = None, out_type: Any = None) -> Any: ...
def size(input: Any, name: str | None = None, out_type: Any = None) -> Tensor: ...
def transpose(a: Any, perm: Any = None, name: str | None = "transpose", conjugate: builtins.bool = False) -> Tensor: ...
def one_hot(
    indices: Any,
    depth: Any,
    on_value: Any = None,
    off_value: Any = None,
    axis: int | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> Tensor: ...
def ones(shape: Any, dtype: Any = ..., name: str | None = None, layout: Any = None) -> Tensor: ...
def ones_like(tensor: Any, dtype: Any = None, name: str | None = None, optimize: Any = True) -> Tensor: ...
def range(start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str | None = "range") -> Tensor: ...
def zeros(shape: Any, dtype: Any = ..., name: str | None = None, layout: Any = None) -> Tensor: ...
def zeros_like(tensor: Any, dtype: Any = None, name: str | None = None, optimize: Any = True) -> Tensor: ...
def assert_equal(
    x: Any,
    y: Any,
    data: Sequence[Any] | None = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation: ...
def assert_greater(
    x: Any,
    y: Any,
    data: Sequence[Any] | None = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation: ...
def assert_greater_equal(
    x: Any,
    y: Any,
    data: Sequence[Any] | None = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation: ...
def assert_integer(x: Any, message: str | None = None, name: str | None = None) -> Operation: ...
def assert_less(
    x: Any,
    y: Any,
    data: Sequence[Any] | None = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation: ...
def assert_less_equal(
    x: Any,
    y: Any,
    data: Sequence[Any] | None = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation: ...
def assert_near(
    x: Any,
    y: Any,
    rtol: Any = None,
    atol: Any = None,
    data: Sequence[Any] | None = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation: ...
def assert_negative(
    x: Any,
    data: Sequence[Any] | None = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation: ...
def assert_non_negative(
    x: Any,
    data: Sequence[Any] | None = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation: ...
def assert_non_positive(
    x: Any,
    data: Sequence[Any] | None = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation: ...
def assert_none_equal(
    x: Any,
    y: Any,
    data: Sequence[Any] | None = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation: ...
def assert_positive(
    x: Any,
    data: Sequence[Any] | None = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation: ...
def assert_rank(
    x: Any,
    rank: Any,
    data: Sequence[Any] | None = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation: ...
def assert_rank_at_least(
    x: Any,
    rank: Any,
    data: Sequence[Any] | None = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation: ...
def assert_rank_in(
    x: Any,
    ranks: Any,
    data: Sequence[Any] | None = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation: ...
def assert_scalar(tensor: Any, name: str | None = None, message: str | None = None) -> Tensor: ...
def assert_type(tensor: Any, tf_type: Any, message: str | None = None, name: str | None = None) -> Operation: ...
def is_numeric_tensor(tensor: Any) -> builtins.bool: ...
def cond(
    pred: Any,
    true_fn: Callable[[], Any] | None = None,
    false_fn: Callable[[], Any] | None = None,
    strict: builtins.bool = False,
    name: str | None = None,
    fn1: Callable[[], Any] | None = None,
    fn2: Callable[[], Any] | None = None,
) -> Any: ...
def Print(
    input_: Any,
    data: Sequence[Any],
    message: str | None = None,
    first_n: int | None = None,
    summarize: int | None = None,
    name: str | None = None,
) -> Tensor: ...
def colocate_with(op: Any, ignore_existing: builtins.bool = False) -> AbstractContextManager[None]: ...
def container(container_name: str) -> AbstractContextManager[str]: ...
def control_dependencies(control_inputs: Iterable[Any] | None) -> AbstractContextManager[None]: ...
def device(device_name_or_function: Any) -> AbstractContextManager[None]: ...
def group(*inputs: Any, name: str | None = None) -> Operation: ...
def no_op(name: str | None = None) -> Operation: ...
def tuple(tensors: Sequence[Any], name: str | None = None, control_inputs: Any = None) -> list[Any]: ...
def Assert(condition: Any, data: Sequence[Any], summarize: int | None = None, name: str | None = None) -> Operation: ...
def broadcast_dynamic_shape(shape_x: Any, shape_y: Any, name: str | None = None) -> Tensor: ...
def broadcast_to(input: Any, shape: Any, name: str | None = None) -> Tensor: ...
def dynamic_partition(data: Any, partitions: Any, num_partitions: int, name: str | None = None) -> list[Tensor]: ...
def dynamic_stitch(indices: Any, data: Any, name: str | None = None) -> Tensor: ...
def ensure_shape(x: Any, shape: Any, name: str | None = None) -> Tensor: ...
def expand_dims(input: Any, axis: Any | None = None, name: str | None = None, dim: Any = None) -> Tensor: ...
def fill(dims: Any, value: Any, name: str | None = None, layout: Any = None) -> Tensor: ...
def lin_space(start: Any, stop: Any, num: Any, name: str | None = None, axis: Any = 0) -> Tensor: ...

linspace = lin_space

def realdiv(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def reshape(tensor: Any, shape: Any, name: str | None = None) -> Tensor: ...
def reverse(tensor: Any, axis: Any, name: str | None = None) -> Tensor: ...

reverse_v2 = reverse

def scatter_nd(indices: Any, updates: Any, shape: Any, name: str | None = None) -> Tensor: ...
def setdiff1d(x: Any, y: Any, index_dtype: Any = ..., name: str | None = None) -> builtins.tuple[Tensor, ...]: ...
def slice(input_: Any, begin: Any, size: Any, name: str | None = None) -> Tensor: ...
def sparse_to_dense(
    sparse_indices: Any,
    output_shape: Any,
    sparse_values: Any,
    default_value: Any = 0,
    validate_indices: builtins.bool = True,
    name: str | None = None,
) -> Tensor: ...
def squeeze(input: Any, axis: Any = None, name: str | None = None, squeeze_dims: Any = None) -> Tensor: ...
def stop_gradient(input: Any, name: str | None = None) -> Tensor: ...
def string_strip(input: Any, name: str | None = None) -> Tensor: ...
def string_to_hash_bucket_fast(input: Any, num_buckets: int, name: str | None = None) -> Tensor: ...
def string_to_number(
    string_tensor: Any | None = None, out_type: Any = ..., name: str | None = None, input: Any = None
) -> Tensor: ...
def tile(input: Any, multiples: Any, name: str | None = None) -> Tensor: ...
def truncatediv(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def truncatemod(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def unique(x: Any, out_idx: Any = ..., name: str | None = None) -> builtins.tuple[Tensor, ...]: ...
def unique_with_counts(x: Any, out_idx: Any = ..., name: str | None = None) -> builtins.tuple[Tensor, ...]: ...
def is_finite(x: Any, name: str | None = None) -> Tensor: ...
def is_inf(x: Any, name: str | None = None) -> Tensor: ...
def is_nan(x: Any, name: str | None = None) -> Tensor: ...
def as_string(
    input: Any,
    precision: int = -1,
    scientific: builtins.bool = False,
    shortest: builtins.bool = False,
    width: int = -1,
    fill: str = "",
    name: str | None = None,
) -> Tensor: ...
def decode_base64(input: Any, name: str | None = None) -> Tensor: ...
def decode_json_example(json_examples: Any, name: str | None = None) -> Tensor: ...
def decode_raw(
    input_bytes: Any | None = None,
    out_type: Any = None,
    little_endian: builtins.bool = True,
    name: str | None = None,
    bytes: Any = None,
    *,
    fixed_length: int | None = None,
) -> Tensor: ...
def encode_base64(input: Any, pad: builtins.bool = False, name: str | None = None) -> Tensor: ...
def matching_files(pattern: Any, name: str | None = None) -> Tensor: ...
def read_file(filename: Any, name: str | None = None) -> Tensor: ...
def acos(x: Any, name: str | None = None) -> Tensor: ...
def acosh(x: Any, name: str | None = None) -> Tensor: ...
def asin(x: Any, name: str | None = None) -> Tensor: ...
def asinh(x: Any, name: str | None = None) -> Tensor: ...
def atan(x: Any, name: str | None = None) -> Tensor: ...
def atan2(y: Any, x: Any, name: str | None = None) -> Tensor: ...
def atanh(x: Any, name: str | None = None) -> Tensor: ...
def ceil(x: Any, name: str | None = None) -> Tensor: ...
def cos(x: Any, name: str | None = None) -> Tensor: ...
def cosh(x: Any, name: str | None = None) -> Tensor: ...
def cumprod(
    x: Any, axis: Any = 0, exclusive: builtins.bool = False, reverse: builtins.bool = False, name: str | None = None
) -> Tensor: ...
def cumsum(
    x: Any, axis: Any = 0, exclusive: builtins.bool = False, reverse: builtins.bool = False, name: str | None = None
) -> Tensor: ...
def equal(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def erf(x: Any, name: str | None = None) -> Tensor: ...
def erfc(x: Any, name: str | None = None) -> Tensor: ...
def exp(x: Any, name: str | None = None) -> Tensor: ...
def expm1(x: Any, name: str | None = None) -> Tensor: ...
def floor(x: Any, name: str | None = None) -> Tensor: ...
def floordiv(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def floormod(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def greater(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def greater_equal(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def invert_permutation(x: Any, name: str | None = None) -> Tensor: ...
def less(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def less_equal(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def lgamma(x: Any, name: str | None = None) -> Tensor: ...
def log(x: Any, name: str | None = None) -> Tensor: ...
def log1p(x: Any, name: str | None = None) -> Tensor: ...
def logical_and(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def logical_not(x: Any, name: str | None = None) -> Tensor: ...
def logical_or(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def logical_xor(x: Any, y: Any, name: str | None = "LogicalXor") -> Tensor: ...
def maximum(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def minimum(x: Any, y: Any, name: str | None = None) -> Tensor: ...

mod = floormod

def multiply(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def negative(x: Any, name: str | None = None) -> Tensor: ...
def not_equal(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def pow(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def reciprocal(x: Any, name: str | None = None) -> Tensor: ...
def rint(x: Any, name: str | None = None) -> Tensor: ...
def rsqrt(x: Any, name: str | None = None) -> Tensor: ...
def sigmoid(x: Any, name: str | None = None) -> Tensor: ...
def sign(x: Any, name: str | None = None) -> Tensor: ...
def sin(x: Any, name: str | None = None) -> Tensor: ...
def sinh(x: Any, name: str | None = None) -> Tensor: ...
def sqrt(x: Any, name: str | None = None) -> Tensor: ...
def square(x: Any, name: str | None = None) -> Tensor: ...
def squared_difference(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def subtract(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def tan(x: Any, name: str | None = None) -> Tensor: ...
def tanh(x: Any, name: str | None = None) -> Tensor: ...
def regex_replace(
    input: Any, pattern: Any, rewrite: Any, replace_global: builtins.bool = True, name: str | None = None
) -> Tensor: ...
def substr(input: Any, pos: Any, len: Any, name: str | None = None, unit: str = "BYTE") -> Tensor: ...
def add_to_collection(name: str, value: Any) -> None: ...
def add_to_collections(names: str | Iterable[str], value: Any) -> None: ...
def get_collection(key: str, scope: str | None = None) -> list[Any]: ...
def get_collection_ref(key: str) -> list[Any]: ...
def clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None) -> Tensor: ...
def div(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def div_no_nan(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def to_complex128(x: Any, name: str | None = "ToComplex128") -> Any: ...
def to_complex64(x: Any, name: str | None = "ToComplex64") -> Any: ...
def to_double(x: Any, name: str | None = "ToDouble") -> Any: ...
def to_float(x: Any, name: str | None = "ToFloat") -> Any: ...
def to_int32(x: Any, name: str | None = "ToInt32") -> Any: ...
def to_int64(x: Any, name: str | None = "ToInt64") -> Any: ...
def cast(x: Any, dtype: Any, name: str | None = None) -> Any: ...
def saturate_cast(value: Any, dtype: Any, name: str | None = None) -> Any: ...
def abs(x: Any, name: str | None = None) -> Tensor: ...
def add(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def add_n(inputs: Any, name: str | None = None) -> Tensor: ...
def angle(input: Any, name: str | None = None) -> Tensor: ...
def conj(x: Any, name: str | None = None) -> Tensor: ...
def divide(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def imag(input: Any, name: str | None = None) -> Tensor: ...
def real(input: Any, name: str | None = None) -> Tensor: ...
def round(x: Any, name: str | None = None) -> Tensor: ...
def truediv(x: Any, y: Any, name: str | None = None) -> Tensor: ...
def decode_csv(
    records: Any,
    record_defaults: Any,
    field_delim: str = ",",
    use_quote_delim: builtins.bool = True,
    name: str | None = None,
    na_value: str = "",
    select_cols: Any = None,
) -> list[Tensor]: ...
def parse_example(
    serialized: Any, features: Mapping[Any, Any], name: str | None = None, example_names: Any = None
) -> Any: ...
def parse_single_example(
    serialized: Any, features: Mapping[Any, Any], name: str | None = None, example_names: Any = None
) -> dict[Any, Any]: ...
def parse_single_sequence_example(
    serialized: Any,
    context_features: Mapping[Any, Any] | None = None,
    sequence_features: Mapping[Any, Any] | None = None,
    example_name: Any = None,
    name: str | None = None,
) -> builtins.tuple[dict[Any, Any], dict[Any, Any]]: ...
def placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> Tensor: ...
def placeholder_with_default(input: Any, shape: Any, name: str | None = None) -> Tensor: ...
def sparse_placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> SparseTensor: ...
def numpy_function(
    func: Callable[..., Any], inp: Sequence[Any], Tout: Any, stateful: builtins.bool = True, name: str | None = None
) -> Any: ...

py_func = numpy_function

def random_normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = ..., seed: int | None = None, name: str | None = None
) -> Tensor: ...
def random_shuffle(value: Any, seed: int | None = None, name: str | None = None) -> Tensor: ...
def random_uniform(
    shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = ..., seed: int | None = None, name: str | None = None
) -> Tensor: ...
def random_crop(value: Any, size: Any, seed: int | None = None, name: str | None = None) -> Tensor: ...
def set_random_seed(seed: int) -> None: ...
def truncated_normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = ..., seed: int | None = None, name: str | None = None
) -> Tensor: ...
def arg_max(
    input: Any, axis: Any = None, name: str | None = None, dimension: Any = None, output_type: Any = ...
) -> Tensor: ...
def arg_min(
    input: Any, axis: Any = None, name: str | None = None, dimension: Any = None, output_type: Any = ...
) -> Tensor: ...
def matmul(
    a: Any,
    b: Any,
    transpose_a: builtins.bool = False,
    transpose_b: builtins.bool = False,
    adjoint_a: builtins.bool = False,
    adjoint_b: builtins.bool = False,
    a_is_sparse: Any = False,
    b_is_sparse: Any = False,
    output_type: Any = None,
    grad_a: Any = False,
    grad_b: Any = False,
    name: str | None = None,
) -> Any: ...

argmax = arg_max
argmin = arg_min

def count_nonzero(
    input_tensor: Any = None,
    axis: Any = None,
    keepdims: builtins.bool | None = None,
    dtype: Any = ...,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: Any = None,
    input: Any = None,
) -> Any: ...
def reduce_all(
    input_tensor: Any,
    axis: Any = None,
    keepdims: builtins.bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: Any = None,
) -> Tensor: ...
def reduce_any(
    input_tensor: Any,
    axis: Any = None,
    keepdims: builtins.bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: Any = None,
) -> Tensor: ...
def reduce_logsumexp(
    input_tensor: Any,
    axis: Any = None,
    keepdims: builtins.bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: Any = None,
) -> Tensor: ...
def reduce_max(
    input_tensor: Any,
    axis: Any = None,
    keepdims: builtins.bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: Any = None,
) -> Tensor: ...
def reduce_mean(
    input_tensor: Any,
    axis: Any = None,
    keepdims: builtins.bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: Any = None,
) -> Tensor: ...
def reduce_min(
    input_tensor: Any,
    axis: Any = None,
    keepdims: builtins.bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: Any = None,
) -> Tensor: ...
def reduce_prod(
    input_tensor: Any,
    axis: Any = None,
    keepdims: builtins.bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: Any = None,
) -> Tensor: ...
def reduce_sum(
    input_tensor: Any,
    axis: Any = None,
    keepdims: builtins.bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: Any = None,
) -> Tensor: ...
def get_variable(
    name: str,
    shape: Any = None,
    dtype: Any = None,
    initializer: Any = None,
    regularizer: Any = None,
    trainable: builtins.bool | None = None,
    collections: Iterable[str] | None = None,
    caching_device: Any = None,
    partitioner: Any = None,
    validate_shape: builtins.bool = True,
    use_resource: Any = None,
    custom_getter: Any = None,
    constraint: Any = None,
    synchronization: Any = None,
    aggregation: Any = None,
) -> Variable: ...
def get_variable_scope() -> VariableScope: ...
def name_scope(name: str | None, default_name: str | None = None, values: Any = None) -> Iterator[str]: ...
def variable_scope(
    name_or_scope: Any,
    default_name: str | None = None,
    values: Any = None,
    initializer: Any = None,
    regularizer: Any = None,
    caching_device: Any = None,
    partitioner: Any = None,
    custom_getter: Any = None,
    reuse: Any = None,
    dtype: Any = None,
    use_resource: Any = None,
    constraint: Any = None,
    auxiliary_name_scope: builtins.bool = True,
) -> AbstractContextManager[VariableScope]: ...
def boolean_mask(tensor: Any, mask: Any, name: str | None = "boolean_mask", axis: Any = None) -> Tensor: ...
def gather(
    params: Any,
    indices: Any,
    validate_indices: Any = None,
    name: str | None = None,
    axis: Any = None,
    batch_dims: int = 0,
) -> Tensor: ...
def gather_nd(
    params: Any, indices: Any, name: str | None = None, batch_dims: int = 0, bad_indices_policy: str = ""
) -> Tensor: ...
def sequence_mask(lengths: Any, maxlen: Any = None, dtype: Any = ..., name: str | None = None) -> Any: ...
def strided_slice(
    input_: Any,
    begin: Any,
    end: Any,
    strides: Any = None,
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
    var: Any = None,
    name: str | None = None,
) -> Tensor: ...
def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor: ...
def where_v2(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor: ...
def sparse_reduce_sum(
    sp_input: Any,
    axis: Any = None,
    keepdims: builtins.bool | None = None,
    reduction_axes: Any = None,
    keep_dims: Any = None,
) -> Tensor: ...
def sparse_reorder(sp_input: Any, name: str | None = None) -> SparseTensor: ...
def sparse_reshape(sp_input: Any, shape: Any, name: str | None = None) -> SparseTensor: ...
def sparse_tensor_to_dense(
    sp_input: Any, default_value: Any = None, validate_indices: builtins.bool = True, name: str | None = None
) -> Tensor: ...
def string_join(inputs: Any, separator: str = "", name: str | None = None) -> Tensor: ...
def string_split(
    source: Any,
    sep: Any = None,
    skip_empty: builtins.bool = True,
    delimiter: Any = None,
    result_type: str = "SparseTensor",
    name: str | None = None,
) -> SparseTensor: ...
def reduce_join(
    inputs: Any,
    axis: Any = None,
    keep_dims: builtins.bool | None = None,
    separator: str = "",
    name: str | None = None,
    reduction_indices: Any = None,
    keepdims: Any = None,
) -> Tensor: ...
def all_variables(scope: str | None = None) -> list[Any]: ...
def assign(
    ref: Variable,
    value: Any,
    validate_shape: builtins.bool | None = None,
    use_locking: builtins.bool | None = None,
    name: str | None = None,
) -> Tensor: ...
def assign_add(
    ref: Variable, value: Any, use_locking: builtins.bool | None = None, name: str | None = None
) -> Tensor: ...
def assign_sub(
    ref: Variable, value: Any, use_locking: builtins.bool | None = None, name: str | None = None
) -> Tensor: ...
def count_up_to(ref: Variable, limit: int, name: str | None = None) -> Tensor: ...

global_variables = all_variables

def global_variables_initializer() -> Operation: ...
def initialize_all_tables(name: str = "init_all_tables") -> Operation: ...

initialize_all_variables = global_variables_initializer

def initialize_local_variables() -> Operation: ...
def initialize_variables(var_list: Iterable[Variable], name: str = "init") -> Operation: ...
def is_variable_initialized(variable: Variable) -> Tensor: ...
def local_variables(scope: str | None = None) -> list[Any]: ...

local_variables_initializer = initialize_local_variables

def model_variables(scope: str | None = None) -> list[Any]: ...
def report_uninitialized_variables(
    var_list: Iterable[Variable] | None = None, name: str = "report_uninitialized_variables"
) -> Tensor: ...
def trainable_variables(scope: str | None = None) -> list[Any]: ...

variables_initializer = initialize_variables
tables_initializer = initialize_all_tables
