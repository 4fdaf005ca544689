"""The names of `mpqueue.compat.v1`: all there, all told, and what is said of those that are not."""

import importlib
import pickle
import subprocess
import sys
import types

import pytest

import mpqueue.compat.v1 as tf
from mpqueue.tf1.compat.names import Entry, read_table


def names_of(module, path="tf"):
    for name in dir(module):
        value = getattr(module, name)
        if isinstance(value, types.ModuleType):
            yield from names_of(value, f"{path}.{name}")
        else:
            yield f"{path}.{name}", value


ALL = dict(names_of(tf))
# Classes that protobuf makes have no text of their own.
MESSAGES = "BytesList Example Feature FeatureList FeatureLists Features FloatList Int64List SequenceExample".split()
# The names that the scripts of TensorFlow 1's input toolbox use.
WANTED = """
Session InteractiveSession Graph get_default_graph reset_default_graph Tensor Operation name_scope variable_scope device
control_dependencies group tuple no_op get_collection add_to_collection GraphKeys ConfigProto GPUOptions
global_variables_initializer local_variables_initializer initialize_all_variables initialize_local_variables
variables_initializer Variable get_variable assign assign_add train.get_or_create_global_step global_variables
local_variables train.start_queue_runners train.Coordinator train.QueueRunner train.add_queue_runner train.LooperThread
train.MonitoredSession train.MonitoredTrainingSession train.SingularMonitoredSession train.Supervisor
train.queue_runner.QueueRunner train.queue_runner.add_queue_runner train.queue_runner.start_queue_runners
train.coordinator.Coordinator train.coordinator.LooperThread errors.OutOfRangeError errors.OpError set_random_seed
python_io.TFRecordWriter python_io.tf_record_iterator python_io.TFRecordOptions python_io.TFRecordCompressionType
gfile.Glob gfile.Exists gfile.GFile gfile.FastGFile gfile.Open gfile.ListDirectory gfile.IsDirectory gfile.MakeDirs
app.run flags.FLAGS app.flags.DEFINE_string logging.info compat.as_bytes compat.as_text compat.as_str summary.scalar
keras.utils.Sequence keras.utils.SequenceEnqueuer float32 as_dtype TensorShape Dimension SparseTensor SparseTensorValue
convert_to_tensor constant cast to_float to_double to_int32 to_int64 reshape transpose slice strided_slice concat stack
unstack split squeeze expand_dims tile pad one_hot shape size rank gather range zeros ones fill zeros_like ones_like where
cond boolean_mask reverse argmax argmin equal not_equal less less_equal greater greater_equal logical_and logical_or
logical_not add subtract multiply divide maximum minimum clip_by_value floor mod div matmul reduce_sum reduce_mean
reduce_max reduce_min reduce_prod reduce_all reduce_any identity py_func Print Assert assert_equal assert_greater
assert_less assert_positive assert_rank assert_type random_uniform random_normal random_shuffle random_crop
dynamic_partition string_join string_split substr as_string string_to_number string_to_hash_bucket_fast reduce_join
decode_base64 encode_base64 sparse_tensor_to_dense sparse_to_dense sparse_reshape sparse_reduce_sum
parse_single_sequence_example train.SequenceExample train.FeatureLists train.FeatureList FixedLenSequenceFeature
image.decode_jpeg image.decode_png image.decode_image image.encode_jpeg image.encode_png image.resize_images
image.resize_bilinear image.resize_nearest_neighbor image.resize_bicubic image.resize_area
image.resize_image_with_crop_or_pad image.crop_to_bounding_box image.pad_to_bounding_box image.central_crop
image.flip_left_right image.flip_up_down image.random_flip_left_right image.random_flip_up_down image.random_brightness
image.random_contrast image.random_saturation image.random_hue image.adjust_brightness image.adjust_contrast
image.adjust_saturation image.adjust_hue image.per_image_standardization image.convert_image_dtype
image.rgb_to_grayscale ReaderBase TextLineReader WholeFileReader IdentityReader TFRecordReader FixedLengthRecordReader
decode_csv decode_raw decode_json_example VarLenFeature FixedLenFeature parse_example parse_single_example train.Example
train.Features train.Feature train.BytesList train.FloatList train.Int64List matching_files read_file
train.match_filenames_once train.limit_epochs train.input_producer train.range_input_producer train.slice_input_producer
train.string_input_producer train.batch train.batch_join train.shuffle_batch train.shuffle_batch_join placeholder
placeholder_with_default sparse_placeholder FIFOQueue PaddingFIFOQueue RandomShuffleQueue QueueBase
""".split()


@pytest.mark.parametrize("name", WANTED)
def test_a_name_is_there(name):
    assert f"tf.{name}" in ALL


def test_everything_that_can_be_called_is_told():
    untold = [
        name
        for name, value in ALL.items()
        if callable(value) and not (value.__doc__ or "").strip() and name.rpartition(".")[2] not in MESSAGES
    ]
    assert untold == []


@pytest.mark.parametrize(
    ("module", "name", "near"),
    [
        ("", "parse_exampel", "tf.parse_example"),
        ("", "batch", "tf.train.batch"),
        (".train", "shuffel_batch", "tf.train.shuffle_batch"),
        (".image", "resize_image", "tf.image.resize_images"),
        (".train", "TextLineReader", "tf.TextLineReader"),
        (".gfile", "glob", "tf.gfile.Glob"),
        (".flags", "DEFINE_str", "tf.flags.DEFINE_string"),
    ],
)
def test_a_missing_name_is_answered_with_the_nearest(module, name, near):
    with pytest.raises(AttributeError, match=rf"has no '{name}': did you mean {near}\?"):
        getattr(importlib.import_module(f"mpqueue.compat.v1{module}"), name)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (".train", "AdamOptimizer"),
        (".train", "GradientDescentOptimizer"),
        (".train", "Saver"),
        (".train", "ExponentialMovingAverage"),
        (".train", "exponential_decay"),
        (".train", "piecewise_constant"),
        (".train", "latest_checkpoint"),
        ("", "nn"),
        ("", "layers"),
        ("", "losses"),
        ("", "gradients"),
        ("", "contrib"),
    ],
)
def test_what_trains_is_not_here(module, name):
    with pytest.raises(AttributeError, match="feeds models and does not train them"):
        getattr(importlib.import_module(f"mpqueue.compat.v1{module}"), name)


def test_a_name_without_a_neighbour_is_just_missing():
    with pytest.raises(AttributeError, match=r"^tf has no 'qqqqq'$"):
        tf.qqqqq
    assert not hasattr(tf, "__wrapped__")


def test_modules_can_be_imported_in_every_way():
    code = """
import mpqueue.compat.v1.train
from mpqueue.compat.v1 import *
from mpqueue.compat.v1 import image, float32 as kind
from mpqueue.compat.v1.train import Coordinator
from mpqueue.compat.v1.train.queue_runner import QueueRunner
import mpqueue.compat.v1 as tf
assert train is tf.train is mpqueue.compat.v1.train and image is tf.image and kind is tf.float32
assert Coordinator is tf.train.Coordinator and constant is tf.constant and flags is tf.app.flags
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_importing_it_imports_no_pillow_and_no_tensorflow():
    code = "import sys, mpqueue.compat.v1; print({'PIL', 'tensorflow', 'google'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"


def test_a_table_says_where_the_names_of_each_module_live():
    table = """
math
    tf deep.er: sqrt
        floor
    deep: root=sqrt
"""
    sqrt, floor = Entry("math", "sqrt"), Entry("math", "floor")
    both = {"sqrt": sqrt, "floor": floor}
    assert read_table(table) == {"": both, "deep": {"root": sqrt}, "deep.er": both}


def test_the_docstring_of_a_name_says_which_names_of_tensorflow_it_follows():
    assert tf.gfile.Exists.__doc__.endswith("\n\nFollows: ``tf.gfile.Exists``.")
    assert tf.gfile.GFile.__doc__.endswith("Follows: ``tf.gfile.FastGFile``, ``tf.gfile.GFile``, ``tf.gfile.Open``.")
    own_words = tf.train.MonitoredSession.__doc__.partition("Follows:")[2]
    assert own_words.startswith(" ``tf.train.MonitoredSession``, but")
    assert "Follows:" not in own_words
    assert "tf." not in tf.flags.FlagValues.__doc__, "a class of absl's"


@pytest.mark.parametrize("name", [name for name, value in ALL.items() if isinstance(value, types.FunctionType | type)])
def test_functions_and_classes_can_be_pickled(name):
    assert pickle.loads(pickle.dumps(ALL[name])) is ALL[name]


def test_tf_data_is_answered_with_what_there_is_instead():
    with pytest.raises(
        AttributeError, match=r"tf\.data is not offered: use tf\.train\.string_input_producer .* mpqueue\.Loader"
    ):
        tf.data
