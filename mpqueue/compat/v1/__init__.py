"""TensorFlow 1's names: ``import mpqueue.compat.v1 as tf`` in a script of its input toolbox.

Nodes, graphs and sessions are in `mpqueue.compat.graph`, what computes in `mpqueue.compat.ops`, the functions that make
nodes in `mpqueue.compat.functions`; the modules here only say which name is found where. Nothing is trained here.
"""

from typing import Any

from mpqueue.compat.functions import numpy_protocol, operators
from mpqueue.compat.names import Names

_INSTALLED = (numpy_protocol, operators)  # what operators, and NumPy's functions, do with nodes

newaxis = None

_NAMES = Names(
    __name__,
    {
        "mpqueue.compat.functions.array": (
            "broadcast_dynamic_shape broadcast_static_shape broadcast_to ensure_shape expand_dims identity "
            "invert_permutation matrix_transpose pad rank reshape reverse reverse_v2=reverse shape size "
            "squeeze stop_gradient tile transpose"
        ),
        "mpqueue.compat.functions.array_fill": "fill lin_space linspace one_hot ones ones_like range zeros zeros_like",
        "mpqueue.compat.functions.array_join": "concat split stack unstack",
        "mpqueue.compat.functions.checks": (
            "assert_equal assert_greater assert_greater_equal assert_integer assert_less assert_less_equal "
            "assert_near assert_negative assert_non_negative assert_non_positive assert_none_equal "
            "assert_positive assert_rank assert_rank_at_least assert_rank_in assert_scalar assert_type "
            "is_numeric_tensor"
        ),
        "mpqueue.compat.functions.cond": "cond",
        "mpqueue.compat.functions.control": (
            "Assert Print colocate_with control_dependencies device group no_op tuple"
        ),
        "mpqueue.compat.functions.decoding": "decode_csv decode_json_example decode_raw",
        "mpqueue.compat.functions.files": "matching_files read_file",
        "mpqueue.compat.functions.initializers": (
            "constant_initializer glorot_uniform_initializer ones_initializer random_normal_initializer "
            "random_uniform_initializer truncated_normal_initializer zeros_initializer"
        ),
        "mpqueue.compat.functions.keys": (
            "GraphKeys add_to_collection add_to_collections get_collection get_collection_ref"
        ),
        "mpqueue.compat.functions.math": (
            "abs acos acosh add add_n angle asin asinh atan atan2 atanh cast ceil clip_by_value "
            "conj cos cosh div div_no_nan divide equal erf erfc exp expm1 floor floordiv "
            "floormod=mod greater greater_equal imag is_finite is_inf is_nan less less_equal lgamma log log1p "
            "logical_and logical_not logical_or logical_xor maximum minimum mod multiply negative not_equal pow "
            "real realdiv reciprocal rint round rsqrt saturate_cast sigmoid sign sin sinh sqrt square "
            "squared_difference subtract tan tanh to_complex128 to_complex64 to_double to_float to_int32 to_int64 "
            "truediv truncatediv truncatemod"
        ),
        "mpqueue.compat.functions.parsing": "parse_example parse_single_example parse_single_sequence_example",
        "mpqueue.compat.functions.placeholders": "placeholder placeholder_with_default sparse_placeholder",
        "mpqueue.compat.functions.py_func": "numpy_function py_func",
        "mpqueue.compat.functions.queue_base": "QueueBase",
        "mpqueue.compat.functions.queues": "FIFOQueue PaddingFIFOQueue RandomShuffleQueue",
        "mpqueue.compat.functions.random": (
            "random_crop random_normal random_shuffle random_uniform set_random_seed truncated_normal"
        ),
        "mpqueue.compat.functions.readers": (
            "FixedLengthRecordReader IdentityReader ReaderBase TFRecordReader TextLineReader WholeFileReader"
        ),
        "mpqueue.compat.functions.reduce": (
            "arg_max=argmax arg_min=argmin argmax argmin count_nonzero cumprod cumsum matmul reduce_all "
            "reduce_any reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_sum"
        ),
        "mpqueue.compat.functions.scopes": (
            "AUTO_REUSE VariableScope get_variable get_variable_scope name_scope variable_scope"
        ),
        "mpqueue.compat.functions.select": (
            "boolean_mask dynamic_partition dynamic_stitch gather gather_nd scatter_nd sequence_mask setdiff1d "
            "slice strided_slice unique unique_with_counts where where_v2"
        ),
        "mpqueue.compat.functions.sparse": (
            "sparse_reduce_sum sparse_reorder sparse_reshape sparse_tensor_to_dense sparse_to_dense"
        ),
        "mpqueue.compat.functions.text": (
            "as_string decode_base64 encode_base64 reduce_join regex_replace string_join string_split "
            "string_strip string_to_hash_bucket_fast string_to_number substr"
        ),
        "mpqueue.compat.functions.variables": (
            "Variable all_variables assign assign_add assign_sub count_up_to global_variables "
            "global_variables_initializer initialize_all_tables initialize_all_variables "
            "initialize_local_variables initialize_variables is_variable_initialized local_variables "
            "local_variables_initializer model_variables report_uninitialized_variables tables_initializer "
            "trainable_variables variables_initializer"
        ),
        "mpqueue.compat.graph.convert": "constant convert_to_tensor",
        "mpqueue.compat.graph.graph": "Graph get_default_graph reset_default_graph",
        "mpqueue.compat.graph.nodes": "Operation Tensor",
        "mpqueue.compat.graph.session": "InteractiveSession Session get_default_session",
        "mpqueue.compat.graph.sparse": "SparseTensor",
        "mpqueue.values.sparse": "SparseTensorValue",
        "mpqueue.compat.graph.static": "get_static_value",
        "mpqueue.compat.ops.dimension": "Dimension",
        "mpqueue.compat.ops.tensorshape": "TensorShape",
        "mpqueue.compat.ops.dtypes": (
            "DType as_dtype bool=bool_ complex128 complex64 double float16 float32 float64 half int16 int32 int64 "
            "int8 resource string uint16 uint32 uint64 uint8"
        ),
        "mpqueue.compat.program.log": "get_logger",
        "mpqueue.compat.program.settings": (
            "ConfigProto GPUOptions GraphOptions OptimizerOptions RunMetadata RunOptions VERSION "
            "__version__=VERSION disable_eager_execution disable_v2_behavior executing_eagerly is_symbolic_tensor "
            "is_tensor"
        ),
        "mpqueue.compat.train.processes": "use_processes",
        "mpqueue.errors": "OpError",
        "mpqueue.parsing.features": "FixedLenFeature FixedLenSequenceFeature VarLenFeature",
    },
    submodules=(
        "app bitwise compat debugging dtypes errors flags gfile image initializers io keras logging math python_io "
        "queue random sparse strings summary train"
    ),
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
