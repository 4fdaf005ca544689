"""The table of TensorFlow 1's names: the module that implements each name, and the public modules that offer it.

    implementing.module
        public modules: names

Public modules are written without the ``tf.`` prefix; ``tf`` is the root. ``public=own`` renames: the implementing
module calls the name ``own``, which can also be ``Class.attribute``. After adding a name to this table, regenerate the
stubs (``scripts/stubs``).
"""

from typing import Final

NOTES: Final = {
    "flags": "They are absl-py's (extra ``[compat]``).",
    "image": "Reading and writing files needs Pillow (extra ``[files]``).",
    "keras": "Only the names for input pipelines.",
    "keras.utils": "Only the names for input pipelines.",
    "summary": "Accepted for compatibility; nothing is written.",
    "train": "Only the names for input pipelines: mpqueue does not train models.",
}
"""A sentence for the docstring of each public module."""

SURFACE: Final = """
mpqueue
    keras.utils: GeneratorEnqueuer OrderedEnqueuer Sequence SequenceEnqueuer
mpqueue.tf1.compat.functions.array
    tf: concat split stack unstack broadcast_static_shape identity matrix_transpose pad rank shape size transpose
mpqueue.tf1.compat.functions.array_fill
    tf: one_hot ones ones_like range zeros zeros_like
mpqueue.tf1.compat.functions.checks
    tf debugging: assert_equal assert_greater assert_greater_equal assert_integer assert_less assert_less_equal
        assert_near assert_negative assert_non_negative assert_non_positive assert_none_equal assert_positive
        assert_rank assert_rank_at_least assert_rank_in assert_scalar assert_type is_numeric_tensor
mpqueue.tf1.compat.functions.cond
    tf: cond
mpqueue.tf1.compat.functions.control
    tf: Print colocate_with container control_dependencies device group no_op tuple
    tf debugging: Assert
mpqueue.tf1.compat.functions.direct
    tf: broadcast_dynamic_shape broadcast_to dynamic_partition dynamic_stitch ensure_shape expand_dims fill lin_space
        linspace=lin_space realdiv reshape reverse reverse_v2=reverse scatter_nd setdiff1d slice sparse_to_dense squeeze
        stop_gradient string_strip string_to_hash_bucket_fast string_to_number tile truncatediv truncatemod unique
        unique_with_counts
    tf debugging math: is_finite is_inf is_nan
    tf dtypes strings: as_string
    tf io: decode_base64 decode_json_example decode_raw encode_base64 matching_files read_file
    tf math: acos acosh asin asinh atan atan2 atanh ceil cos cosh cumprod cumsum equal erf erfc exp expm1 floor floordiv
        floormod=mod greater greater_equal invert_permutation less less_equal lgamma log log1p logical_and logical_not
        logical_or logical_xor maximum minimum mod multiply negative not_equal pow reciprocal rint rsqrt sigmoid sign
        sin sinh sqrt square squared_difference subtract tan tanh
    tf strings: regex_replace substr
    bitwise: bitwise_and bitwise_or bitwise_xor invert
    image: crop_to_bounding_box flip_left_right flip_up_down grayscale_to_rgb pad_to_bounding_box
        per_image_standardization resize_image_with_crop_or_pad resize_with_crop_or_pad=resize_image_with_crop_or_pad
        transpose=transpose_image transpose_image hsv_to_rgb resize_area resize_bicubic resize_bilinear
        resize_nearest_neighbor rgb_to_hsv
    image io: decode_bmp decode_gif decode_jpeg decode_png encode_jpeg encode_png extract_jpeg_shape
    strings: length lower regex_full_match strip=string_strip to_hash_bucket_fast=string_to_hash_bucket_fast
        to_number=string_to_number upper
mpqueue.tf1.compat.functions.image
    image io: decode_image is_jpeg
    image: ResizeMethod central_crop random_flip_left_right random_flip_up_down resize=resize_images resize_images rot90
mpqueue.tf1.compat.functions.image_color
    image: adjust_brightness adjust_contrast adjust_gamma adjust_hue adjust_saturation convert_image_dtype
        random_brightness random_contrast random_hue random_saturation rgb_to_grayscale
mpqueue.tf1.compat.functions.initializers
    tf: constant_initializer ones_initializer zeros_initializer
    initializers: constant=constant_initializer ones=ones_initializer zeros=zeros_initializer
mpqueue.tf1.compat.functions.keys
    tf: GraphKeys add_to_collection add_to_collections get_collection get_collection_ref
mpqueue.tf1.compat.functions.math
    tf: clip_by_value div div_no_nan to_complex128 to_complex64 to_double to_float to_int32 to_int64
    tf dtypes: cast saturate_cast
    tf math: abs add add_n angle conj divide imag real round truediv
    math: divide_no_nan=div_no_nan
mpqueue.tf1.compat.functions.parsing
    tf io: decode_csv parse_example parse_single_example parse_single_sequence_example
mpqueue.tf1.compat.functions.placeholders
    tf: placeholder placeholder_with_default sparse_placeholder
    sparse: placeholder=sparse_placeholder
mpqueue.tf1.compat.functions.py_func
    tf: numpy_function=py_func py_func
mpqueue.tf1.compat.functions.queue_base
    tf io queue: QueueBase
mpqueue.tf1.compat.functions.queues
    tf io queue: FIFOQueue PaddingFIFOQueue RandomShuffleQueue
mpqueue.tf1.compat.functions.random
    tf: random_normal random_shuffle random_uniform
    tf image: random_crop
    tf random: set_random_seed truncated_normal
    random: normal=random_normal shuffle=random_shuffle uniform=random_uniform
mpqueue.tf1.compat.functions.readers
    tf: FixedLengthRecordReader IdentityReader ReaderBase TFRecordReader TextLineReader WholeFileReader
mpqueue.tf1.compat.functions.reduce
    tf: arg_max=argmax arg_min=argmin matmul
    tf math: argmax argmin count_nonzero reduce_all reduce_any reduce_logsumexp reduce_max reduce_mean reduce_min
        reduce_prod reduce_sum
mpqueue.tf1.compat.functions.scopes
    tf: name_scope
mpqueue.tf1.compat.functions.select
    tf: boolean_mask gather gather_nd newaxis sequence_mask strided_slice where where_v2
mpqueue.tf1.compat.functions.sparse
    tf: sparse_reduce_sum sparse_reorder sparse_reshape sparse_tensor_to_dense
    sparse: reduce_sum=sparse_reduce_sum reorder=sparse_reorder reshape=sparse_reshape to_dense=sparse_tensor_to_dense
mpqueue.tf1.compat.functions.text
    tf: string_join string_split
    tf strings: reduce_join
    strings: join=string_join split
mpqueue.tf1.compat.functions.variables
    tf: Variable all_variables=global_variables assign assign_add assign_sub count_up_to global_variables
        global_variables_initializer initialize_all_tables=tables_initializer
        initialize_all_variables=global_variables_initializer initialize_local_variables=local_variables_initializer
        initialize_variables=variables_initializer is_variable_initialized local_variables local_variables_initializer
        model_variables report_uninitialized_variables trainable_variables variables_initializer
    tf initializers: tables_initializer
    initializers: global_variables=global_variables_initializer local_variables=local_variables_initializer
        variables=variables_initializer
mpqueue.tf1.compat.graph.convert
    tf: constant convert_to_tensor
mpqueue.tf1.compat.graph.nodes
    tf: Graph Operation Tensor get_default_graph reset_default_graph
mpqueue.tf1.compat.graph.session
    tf: InteractiveSession Session get_default_session
mpqueue.tf1.compat.graph.settings
    tf: ConfigProto GPUOptions GraphOptions OptimizerOptions RunMetadata RunOptions
mpqueue.tf1.compat.graph.sparse
    tf sparse: SparseTensor
mpqueue.tf1.compat.graph.static
    tf: get_static_value
mpqueue.tf1.compat.ops.dtypes
    tf dtypes: DType as_dtype bool=bool_ complex128 complex64 double float16 float32 float64 half int16 int32 int64 int8
        resource string uint16 uint32 uint64 uint8
mpqueue.tf1.compat.ops.tensorshape
    tf: Dimension TensorShape
    compat: dimension_value
mpqueue.tf1.compat.program.flags
    flags: DEFINE_bool=DEFINE_boolean DEFINE_boolean DEFINE_enum DEFINE_float DEFINE_integer DEFINE_list
        DEFINE_multi_float DEFINE_multi_integer DEFINE_multi_string DEFINE_string DuplicateFlagError Error FLAGS
        FlagValues IllegalFlagValueError mark_flag_as_required mark_flags_as_required
    app: run
mpqueue.tf1.compat.program.gfile
    gfile: Copy DeleteRecursively Exists Glob IsDirectory ListDirectory MakeDirs MkDir Remove Rename Stat Walk
    gfile: FastGFile=GFile GFile Open=GFile
mpqueue.tf1.compat.program.log
    tf: get_logger
    logging: DEBUG ERROR FATAL INFO WARN debug error fatal flush get_verbosity info log log_every_n log_first_n log_if
        set_verbosity vlog=log warn warning=warn
mpqueue.tf1.compat.program.version
    tf: VERSION __version__=VERSION disable_eager_execution disable_v2_behavior executing_eagerly
        is_symbolic_tensor=is_tensor is_tensor
    errors: OK
mpqueue.tf1.compat.program.summaries
    summary: FileWriter audio=scalar histogram=scalar image=scalar merge merge_all scalar tensor_summary=scalar
        text=scalar
mpqueue.tf1.compat.program.texts
    compat: as_bytes as_str=as_text as_str_any as_text bytes_or_text_types complex_types integral_types path_to_str
        real_types
mpqueue.tf1.compat.train.batching
    train: batch batch_join shuffle_batch shuffle_batch_join
mpqueue.tf1.compat.train.processes
    tf: use_processes
mpqueue.tf1.compat.train.producers
    io train: match_filenames_once
    train: limit_epochs input_producer range_input_producer slice_input_producer string_input_producer
mpqueue.tf1.compat.train.runners
    train train.queue_runner: QueueRunner add_queue_runner start_queue_runners
mpqueue.tf1.compat.train.steps
    train: assert_global_step create_global_step get_global_step get_or_create_global_step global_step
mpqueue.compat.v1
    app: flags
mpqueue.tf1.coordinator
    train train.coordinator: Coordinator
mpqueue.errors
    tf errors: OpError
    errors: AbortedError AlreadyExistsError CancelledError DataLossError DeadlineExceededError FailedPreconditionError
        InternalError InvalidArgumentError NotFoundError OutOfRangeError PermissionDeniedError ResourceExhaustedError
        UnauthenticatedError UnavailableError UnimplementedError UnknownError ABORTED=AbortedError.code
        ALREADY_EXISTS=AlreadyExistsError.code CANCELLED=CancelledError.code DATA_LOSS=DataLossError.code
        DEADLINE_EXCEEDED=DeadlineExceededError.code FAILED_PRECONDITION=FailedPreconditionError.code
        INTERNAL=InternalError.code INVALID_ARGUMENT=InvalidArgumentError.code NOT_FOUND=NotFoundError.code
        OUT_OF_RANGE=OutOfRangeError.code PERMISSION_DENIED=PermissionDeniedError.code
        RESOURCE_EXHAUSTED=ResourceExhaustedError.code UNAUTHENTICATED=UnauthenticatedError.code
        UNAVAILABLE=UnavailableError.code UNIMPLEMENTED=UnimplementedError.code UNKNOWN=UnknownError.code
mpqueue.tf1.parsing.example
    train: BytesList Example Feature FeatureList FeatureLists Features FloatList Int64List SequenceExample
mpqueue.examples.features
    tf io: FixedLenFeature FixedLenSequenceFeature VarLenFeature
mpqueue.python_io
    io python_io: TFRecordCompressionType TFRecordOptions TFRecordWriter tf_record_iterator
mpqueue.tf1.train.looper
    train train.coordinator: LooperThread
mpqueue.tf1.train.queue_runner_def
    train: QueueRunnerDef
mpqueue.values.sparse
    tf: SparseTensorValue
"""
