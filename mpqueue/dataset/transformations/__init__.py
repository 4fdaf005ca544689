"""The methods of `Dataset` that add a stage, each in a module: its description, its reader and its stage of a lane.

A stage without elements by index has no reader. Only `columns` imports another
module: its stages are maps::

    map.py             map
    filter.py          filter
    flat_map.py        flat_map
    scan.py            scan
    take_while.py      take_while
    columns.py         rename_columns, select_columns, remove_columns
    batch.py           batch
    window.py          window
    bucket.py          bucket
    pack/              pack
    shuffle.py         shuffle of all indices, or in a buffer
    shuffle_blocks.py  shuffle by blocks of neighbours
    sort.py            sort
    split.py           split
    take_skip.py       take, skip
    enumerate.py       enumerate
    repeat.py          repeat
    cache.py           cache
    zip.py             zip
    concatenate.py     concatenate
    mix.py             mix
"""
