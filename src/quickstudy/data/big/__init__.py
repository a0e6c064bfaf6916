"""Floor 1: data that does not fit into memory; a map. See docs/big-data.md.

    sources.py      files, here or anywhere that fsspec reaches -> Source: read a part, open
    entries.py      what a walk over them finds: a class, a name, where the bytes lie
    folders.py      a folder of picture files           -> entries
    tars.py         tar shards, as WebDataset has them  -> entries
    parquets.py     Parquet files                       -> entries
    sorting.py      entries sorted by class and name on disk, in bounded memory
    dividing.py     which classes train, validate and test
    building.py     entries -> index: written once, whole or not at all
    keeping.py      indices in the cache folder, each built by one process
    index.py        an index, memory-mapped
    streamed.py     an index and its files as a store: examples are read when they are drawn
    computed.py     a store whose examples are a function of their numbers
    manyfiles.py    a folder of pictures as a store by an index
    abstract.py     what the data sets share
    datasets.py     ``Shards`` and ``Parquet``

Nothing here is loaded before it is asked for.
"""
