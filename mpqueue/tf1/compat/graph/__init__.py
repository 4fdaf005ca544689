"""The nodes of the deferred face: graphs, tensors, sessions.

From the ground up::

    symbolic.py   operators of tensors, and the uses as a value, which are refused
    scopes.py     what applies to new nodes (names, devices, branches, the default graph), and collections
    targets.py    the servers that sessions name
    state.py      what the kernels of a session share, and handles to it
    nodes.py      Operation, Tensor, Graph, and the default graph
    plan.py       the order of operations for some fetches and feeds
    run.py        carrying out a plan
    records.py    a plan that can be carried out for many records at once
    make.py       nodes with a kernel: of an array, of an operation of the table, of one's own
    convert.py    values to tensors
    static.py     values that are known while the graph is built
    sparse.py     SparseTensor
    feeds.py      what goes into a run in place of tensors, and what is asked of it
    session.py    Session
    build.py      nodes of the table out of any values
    branch.py     parts of a graph that run under a condition

This module offers what functions on nodes are made of.
"""

from mpqueue.tf1.compat.graph.build import apply as apply
from mpqueue.tf1.compat.graph.build import apply_many as apply_many
from mpqueue.tf1.compat.graph.convert import constant as constant
from mpqueue.tf1.compat.graph.convert import convert_to_tensor as convert_to_tensor
from mpqueue.tf1.compat.graph.make import custom as custom
from mpqueue.tf1.compat.graph.nodes import Graph as Graph
from mpqueue.tf1.compat.graph.nodes import Operation as Operation
from mpqueue.tf1.compat.graph.nodes import Tensor as Tensor
from mpqueue.tf1.compat.graph.nodes import get_default_graph as get_default_graph
from mpqueue.tf1.compat.graph.session import Session as Session
from mpqueue.tf1.compat.graph.session import get_default_session as get_default_session
from mpqueue.tf1.compat.graph.sparse import SparseTensor as SparseTensor
from mpqueue.tf1.compat.graph.state import Running as Running
from mpqueue.tf1.compat.graph.static import get_static_value as get_static_value
