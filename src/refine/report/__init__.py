"""What finished runs say, and how sure one can be of it.

Only :mod:`model_costs` and what reads prediction caches need torch.
"""
