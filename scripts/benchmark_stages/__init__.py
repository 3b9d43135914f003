"""The stages of ``scripts/benchmark.py``: one module each, named like the stage."""
