"""Nodes of the graph-mode API: graphs, tensors, sessions.

Modules, from the lowest layer to the highest::

    symbolic.py   operators of tensors, and errors for tensors that are used as values
    scopes.py     settings of new nodes (names, devices, branches, the default graph), and collections
    settings.py   ConfigProto, RunOptions and similar classes
    state.py      state that the kernels of a session share, and handles to it
    nodes.py      Operation, Tensor, Graph, and the default graph
    make.py       nodes with a kernel: constants, operations of the table, custom kernels
    plan.py       the order of operations for given fetches and feeds
    run.py        execution of a plan
    records.py    a plan that can be executed for many records at once
    convert.py    conversion of values to tensors
    static.py     values that are known while the graph is built
    sparse.py     SparseTensor
    feeds.py      feeds and fetches of a run
    session.py    Session
    build.py      operations of the table with arbitrary values as inputs
    branch.py     parts of a graph that run under a condition

This module exports the names that functions on nodes are built with.
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
