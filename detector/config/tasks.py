"""What works with which MODEL.TASK."""

from detector.errors import UserError

BOXES = "detection"
"""The task of most commands."""


def require_boxes(task: object, what: str) -> None:
    """Raise ValueError for a MODEL.TASK without boxes. what: asks for them, as a message begins."""
    if task != BOXES:
        raise UserError(
            f"{what} is for detectors of boxes, and this is MODEL.TASK {task}, which has `detector train`, `detector "
            "test` and `detector predict`"
        )
