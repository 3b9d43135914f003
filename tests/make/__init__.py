"""Hand-made values for tests: batches and networks, datasets, predictions, weight files."""
