"""What predictions can be written as."""

FORMATS = ("pictures", "video", "coco", "json", "csv", "yolo", "voc")
"""The words of `detector predict --format`."""
