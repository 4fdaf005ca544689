"""`mpqueue state`.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    read.py       finds the states of loaders in a file
    next_batch.py the samples of the batch that follows a state
    state.py      ``mpqueue state``: prints the states of loaders in a file
"""
