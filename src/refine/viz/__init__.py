"""Drawing, from arrays to arrays.

Every ``image`` is ``[H, W, 3]`` uint8 RGB at original size, ``truth`` and ``prediction`` are those
of the image and have its size (else ``ValueError``), ``categories`` give names and colours, and
every picture that comes back is ``[H', W', 3]`` uint8 RGB. The same input gives the same picture.
"""
