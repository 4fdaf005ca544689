"""The messages of `mpqueue.train`, and their coexistence with TensorFlow's."""

import os
import pickle
import subprocess
import sys

import pytest

import mpqueue
from mpqueue import train

ROOT = os.path.dirname(os.path.dirname(mpqueue.__file__))
# Another interpreter with TensorFlow, if this one does not have it.
PEERS = os.environ.get("MPQUEUE_PEERS_PYTHON", sys.executable)


def run(code, python=sys.executable):
    environment = {**os.environ, "PYTHONPATH": ROOT, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run([python, "-c", code], env=environment, capture_output=True, text=True, timeout=280)


def an_example():
    return train.Example(
        features=train.Features(
            feature={
                "i": train.Feature(int64_list=train.Int64List(value=[1, -2])),
                "f": train.Feature(float_list=train.FloatList(value=[0.5])),
                "s": train.Feature(bytes_list=train.BytesList(value=[b"text"])),
            }
        )
    )


def test_sequence_examples_have_contexts_and_lists():
    sequence = train.SequenceExample(
        context=an_example().features,
        feature_lists=train.FeatureLists(
            feature_list={"x": train.FeatureList(feature=[train.Feature(int64_list=train.Int64List(value=[3]))])}
        ),
    )
    context, lists = mpqueue.parse_single_sequence_example(
        sequence.SerializeToString(),
        {"s": mpqueue.FixedLenFeature([], "string")},
        {"x": mpqueue.FixedLenSequenceFeature([], "int64")},
    )
    assert context == {"s": b"text"}
    assert lists["x"].tolist() == [3]


def test_messages_can_be_pickled():
    example = an_example()
    assert pickle.loads(pickle.dumps(example)) == example


def test_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="Nonsense"):
        train.Nonsense


def test_error_without_protobuf_names_the_extra():
    done = run(
        "import sys; sys.modules['google.protobuf'] = None\n"
        "import mpqueue, mpqueue.train\n"
        "mpqueue.parse_example([b''], {'x': mpqueue.VarLenFeature('int64')})\n"  # does not need protobuf
        "mpqueue.train.Example"
    )
    assert 'ImportError: mpqueue.train.Example needs protobuf: pip install "mpqueue[tfrecord]"' in done.stderr


OURS = "import mpqueue.train; mpqueue.train.Example\n"
THEIRS = "from tensorflow.core.example.example_pb2 import Example\n"
# The modules of TensorFlow's messages, without the other modules, which take 10 s to import.
ALONE = (
    "import importlib.util, sys, types\n"
    "folders = importlib.util.find_spec('tensorflow').submodule_search_locations\n"
    "sys.modules['tensorflow'] = tf = types.ModuleType('tensorflow')\n"
    "tf.__path__ = folders\n"
)


@pytest.mark.slow
@pytest.mark.parametrize("imports", [THEIRS + OURS, OURS + THEIRS], ids=["before", "after"])
def test_tensorflow_can_be_imported_before_or_after(imports):
    if run("import importlib.util, sys; sys.exit(not importlib.util.find_spec('tensorflow'))", PEERS).returncode:
        pytest.skip("TensorFlow is not installed")
    code = (
        ALONE + imports + "ours = mpqueue.train.Example()\n"
        "ours.features.feature['x'].int64_list.value.append(7)\n"
        "theirs = Example.FromString(ours.SerializeToString())\n"
        "assert theirs.features.feature['x'].int64_list.value == [7]\n"
        "assert mpqueue.train.Example.FromString(theirs.SerializeToString()) == ours\n"
        "print('both')"
    )
    done = run(code, PEERS)
    assert done.stdout.strip().endswith("both"), done.stderr
