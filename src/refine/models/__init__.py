"""Networks put together from the blocks."""
