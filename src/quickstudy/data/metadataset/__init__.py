"""Floor 1: Meta-Dataset (Triantafillou et al. 2020), without TensorFlow. See docs/meta-dataset.md.

crc.py         CRC-32C of many pieces of bytes at once
records.py     TFRecord files: written, walked through, read in parts
examples.py    tf.train.Example: bytes -> features, features -> bytes
specs.py       which classes each of the ten data sets has, in which split: the published lists
sampling.py    the composition of an episode: which classes, how many examples of each
pixels.py      the picture in a record -> the square that a network sees
stores.py      a folder of records as a store: indexed, memory-mapped, read when drawn
episodes.py    tasks of several data sets
dataset.py     the data set ``meta-dataset``
raw.py         the data sets' own layouts -> pictures, class by class (rawfolders.py, rawlists.py: their readers)
convert.py     raw layouts -> folders of records
mini.py        the data set ``mini-meta-dataset``: the same sampler on what is at hand
"""
