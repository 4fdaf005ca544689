"""Descriptions of samples, and what computes them: elements by their place, or streams in lanes.

From the ground up; a module imports only from its own line and the lines above it::

    stages.py    what a stage of a lane is: blocks of elements with their tokens, snapshots of positions
"""
