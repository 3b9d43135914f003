"""Pure functions on arrays and tensors, without parameters."""
