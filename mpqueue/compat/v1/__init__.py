"""TensorFlow 1's names."""

from mpqueue import errors
from mpqueue.compat.functions import numpy_protocol, operators
from mpqueue.compat.functions.array import *
from mpqueue.compat.functions.checks import *
from mpqueue.compat.functions.cond import cond
from mpqueue.compat.functions.control import *
from mpqueue.compat.functions.py_func import py_func, numpy_function
from mpqueue.compat.functions.math import *
from mpqueue.compat.functions.placeholders import *
from mpqueue.compat.functions.reduce import *
from mpqueue.compat.functions.select import *
from mpqueue.compat.functions.text import (
    string_join,
    string_split,
    substr,
    as_string,
    string_to_number,
    string_to_hash_bucket_fast,
    reduce_join,
    encode_base64,
    decode_base64,
    regex_replace,
    string_strip,
)
from mpqueue.compat.functions import text as strings
from mpqueue.compat.functions.sparse import *
from mpqueue.compat.functions.random import *
from mpqueue.compat.functions.random import set_random_seed
from mpqueue.compat.graph.static import get_static_value
from mpqueue.compat.graph.convert import constant, convert_to_tensor
from mpqueue.compat.graph.graph import Graph, get_default_graph, reset_default_graph
from mpqueue.compat.graph.nodes import Operation, Tensor
from mpqueue.compat.graph.session import InteractiveSession, Session, get_default_session
from mpqueue.compat.graph.sparse import SparseTensor, SparseTensorValue
from mpqueue.compat.ops.dimension import Dimension
from mpqueue.compat.ops.dtypes import *
from mpqueue.compat.ops.dtypes import bool_ as bool
from mpqueue.compat.ops.tensorshape import TensorShape

newaxis = None

from mpqueue.compat.v1 import image
from mpqueue.compat.functions.variables import *
from mpqueue.compat.functions.scopes import *
from mpqueue.compat.functions.keys import *
from mpqueue.compat.functions.initializers import *
from mpqueue.compat.functions.queue_base import QueueBase
from mpqueue.compat.functions.queues import FIFOQueue, PaddingFIFOQueue, RandomShuffleQueue
from mpqueue.compat.functions.readers import *
from mpqueue.compat.functions.files import *
from mpqueue.coordinator import Coordinator
from types import SimpleNamespace
from mpqueue.compat.train import runners, producers, epochs, batching
train = SimpleNamespace(**{k: getattr(m,k) for m in (runners,producers,epochs,batching) for k in dir(m) if k[0] != '_'})
