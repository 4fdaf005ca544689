"""Files and folders that only this user can write to.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    folders.py    folders that only this user can write to
    own_files.py  files that this package reads back: their owner, and their seal
    lock_files.py files that a process locks while it uses something
"""
