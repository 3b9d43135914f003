"""The measurements of scripts/toy_headroom.py."""
