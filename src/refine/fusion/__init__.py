"""Parameter-free: what the network says becomes one panoptic map."""
