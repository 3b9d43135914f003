"""Counts what a pipeline or a prediction cache gets right, under one setting or many."""
