"""Raw predictions on disk, so that fusion settings are evaluated without the network.

A cache is a folder::

    header.json                      what it holds; written first
    images/IMAGE_ID.safetensors      one file per image, each written whole or not at all
    index.json                       image ids in the dataset's order; written last: complete

One file per image, not shards of many: any number of processes write at once without agreeing on
anything, an interrupted write loses at most one image, memory holds one image whatever the form,
and reading one image in any order costs one small open in addition to decoding.
"""
