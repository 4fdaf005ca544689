"""`mpqueue doctor`.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    findings.py  the result of a check of the machine: a verdict and a remedy
    system.py memory.py python.py gpu.py   the checks
    doctor.py    ``mpqueue doctor``: checks this machine for problems that affect training
"""
