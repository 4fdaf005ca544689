"""The peers, a file for each library with its `PEERS` by name. To add a peer, add a file.

A peer runs with its best settings. If these have a cost, a second entry shows the alternative. A file imports its
package only in functions, because `feeds` imports all files. The dependency group ``peers`` contains the packages.
"""
