"""Runs: operations computed for many records at once, by adding a first axis to their inputs.

A pipeline of examples computes each example from one record. Most of its operations are functions of arrays. They can
be applied to a run of records in one call, if their inputs have an additional first axis. How to do this is the
operation's *rule*, which is part of its declaration. A rule only affects speed: it returns the same values as the
operation for one record after another, or it fails, and the records are computed one by one.

From the bottom layer up::

    rows.py     the values of one tensor for all records of a run
    rules.py    definition of rules, and rules of operations without axis arguments
    axes.py     rules of operations with axis or shape arguments
    length.py   the number of records in a run

This package depends neither on TensorFlow, graphs nor threads.
"""
