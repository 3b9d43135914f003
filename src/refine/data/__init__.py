"""Datasets, augmentation, batches and the toy scenes."""
