"""Measures a pipeline or a prediction cache, with one fusion setting or many."""
