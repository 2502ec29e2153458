"""What a head is fed with, made up."""

import torch


def target(boxes=(), labels=None, ignore=()):
    """The truth of one image; without labels everything is of class 0."""
    boxes, ignore = (torch.as_tensor(x, dtype=torch.float32).reshape(-1, 4) for x in (boxes, ignore))
    labels = torch.zeros(len(boxes)) if labels is None else torch.as_tensor(labels)
    return {"boxes": boxes, "labels": labels.long(), "ignore": ignore, "image_id": 1, "original": (256, 320)}


def features_for(levels, height, width, images=2):
    """Noise on every level of an input of this size."""
    return {
        name: torch.randn(images, level.channels, -(-height // level.stride), -(-width // level.stride))
        for name, level in levels.items()
    }
