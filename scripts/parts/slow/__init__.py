"""The parts of ``scripts/slow``: three programs that train slowly, and the output of mpqueue's tools for them.

From the bottom layer up; a module imports only from its own line and the lines above it::

    programs/          slow_decode.py, slow_step.py, memory_bound.py: programs with the loop of training.py
    printed.py         the blocks of a page that show the output of commands
    command.py         runs the commands, and updates the page
"""
