"""The Python interface, as ``import refine`` offers it: load, predict, fuse."""
