"""The engine as a server drives it.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    stream.py      the engine as a server drives it: batch handles
    lane_stream.py the same for streams, by lanes
    making.py      creates the stream of a source
"""
