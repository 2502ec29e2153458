"""Errors that stop a program on purpose, and that its user can do something about."""


class NonFiniteError(RuntimeError):
    """A loss or gradient is infinite or no number; the message names it, the images and the learning rate."""
