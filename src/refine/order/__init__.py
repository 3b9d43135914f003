"""Who lies on top: networks that order overlapping instances, their losses and accuracy."""
