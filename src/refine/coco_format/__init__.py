"""Files of the COCO panoptic format, read and written."""
