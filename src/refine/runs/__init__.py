"""The folder of a run: results, checkpoints, console output."""
