"""The paper's tables beside one's runs, curves, figures and one HTML page (extra ``report``).

Only what reads prediction caches needs torch.
"""
