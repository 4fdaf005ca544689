"""The options: types, defaults, checks and descriptions.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    backend_kinds.py the properties of each backend
    ray_options.py   the options of the Ray backend
    coroutines.py    recognises coroutine functions and asynchronous generators
    validation.py    source validation: the kind of source that an object is, or an error
    batching.py      how workers run a source, and how samples become batches
    checks.py        checks of the value of one option
    balance.py       `Balance`: how samples are divided among ranks, and their costs
    options.py       the table of options: types, defaults, checks and descriptions
    signatures.py    signatures and docstrings from that table
"""
