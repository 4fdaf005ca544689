"""Values and static shapes by TensorFlow's rules, in addition to the rules in `mpqueue.values`.

From the bottom layer up. A module imports only modules of the same line and of lines above::

    shapes.py       lists of static shapes; comparing, merging and printing shapes
    conversion.py   arrays from values without a dtype, and from fed values
"""
