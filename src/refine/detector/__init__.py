"""The network: backbone, proposals, box cascade, heads, IBPP, and their losses."""
