"""Saved states.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    compact.py      snapshots of lanes as a short string
    lane_states.py  states of streams, of one rank or of all
    checksums.py    checksums of saved states, the same in any file format
    saved_states.py the keys of a saved state, and the checks of a loaded one
    states.py       the states of a run
    index_states.py the states of a run with an index, and of its ranks
    stream_states.py the states of a run of a stream
    of_plan.py      the class of the states of a plan
"""
