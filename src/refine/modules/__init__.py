"""Learned blocks: tensors in, tensors out."""
