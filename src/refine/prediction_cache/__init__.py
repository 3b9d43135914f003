"""Raw predictions on disk, so that fusion settings are evaluated without the network.

A cache is a folder::

    header.json                      what it holds; written first
    images/IMAGE_ID.safetensors      one file an image, each written whole or not at all
    index.json                       image ids in the dataset's order; written last: complete

One file an image, not shards of many: any number of processes write at once without agreeing on
anything, an interrupted write loses at most the image at hand, memory holds one image whatever the
form, and reading one image in any order costs one small open beside a decode.

:mod:`~refine.prediction_cache.writer` and :mod:`~refine.prediction_cache.reader` are what other
rooms use, with the :class:`~refine.prediction_cache.header.CacheHeader` between them.
"""
