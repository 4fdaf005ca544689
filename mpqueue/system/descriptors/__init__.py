"""Descriptors, open files and memory maps across forks.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    memory_maps.py      the memory maps of this process
    descriptors.py      descriptors that forked children must not keep
    open_files.py       open files across a fork
    held_descriptors.py descriptors that are closed with their last reference
"""
