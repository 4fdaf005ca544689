"""The workloads: a file for each family, with its `WORKLOADS` by name at the end.

To add a workload, add it to a file, or add a file and its line in `known`.
"""
