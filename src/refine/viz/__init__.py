"""Drawing: arrays in, ``[H, W, 3]`` uint8 RGB out."""
