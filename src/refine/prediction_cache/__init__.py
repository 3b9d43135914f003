"""Raw predictions on disk, so that fusion settings are evaluated without the network.

A cache is a folder::

    header.json                      what it holds; written first
    images/IMAGE_ID.safetensors      one file per image, each written whole or not at all
    index.json                       image ids in the dataset's order; written last: complete

With one file per image any number of processes write at once without agreeing on anything, and an
interrupted write loses at most one image.
"""
