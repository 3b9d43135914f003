"""Our code against the usual way, stage by stage."""
