"""Runs: what an operation gives for many records at once, from how it behaves under one more axis in front.

A pipeline of examples computes each example out of one record. Its operations are functions of arrays, and most of
them can be applied to a whole run of records in one call, if the arrays get one more axis in front. How, differs from
operation to operation: that is its *rule*, which stands in its declaration. A rule is only about speed. It gives what
the operation gives for one record after another, or it gives up, and then the records are computed one by one.

From the ground up::

    rows.py     the values of one tensor for all records of a run
    rules.py    what a rule is; the rules of operations that know no axes
    axes.py     rules of operations that name axes, or shapes
    length.py   how many records a run has

Nothing here knows TensorFlow, graphs or threads.
"""
