"""The source on its way to the workers.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    open_handles.py   files and databases that a source holds open
    mapped_files.py   arrays that are memory maps of files
    shared_tensors.py torch tensors in shared memory
    source_send.py    the source as bytes: images, and patches of them
    kept_source.py    the large buffers of a source in shared memory
    source_watch.py   detects changes of the source without pickling all of it
"""
