"""Pictures: arrays in, arrays out."""
