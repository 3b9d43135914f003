"""Configuration: where it lives, how it is composed and built."""
