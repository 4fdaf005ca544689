"""The parts of ``scripts/slow``: three programs that train slowly, and what mpqueue's tools print of them.

From the ground up; a module imports only from its own line and the lines above it::

    programs/          slow_decode.py, slow_step.py, memory_bound.py: each is run as it stands
    printed.py         the blocks of a page that commands have printed, and the commands
    command.py         runs these, and writes the page anew
"""
