"""LightningModules, optimisers and schedules."""
