"""Values and static shapes by TensorFlow's rules, beyond those that `mpqueue.values` needs for Examples.

From the ground up; a module imports only from its own line and the lines above it::

    shapes.py       lists of static shapes; shapes compared, merged and printed
    conversion.py   arrays from values without a given dtype, and from fed values
"""
