"""Published weights: found by name, read without running code, renamed, checked, loaded."""
