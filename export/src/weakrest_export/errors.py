"""The one error that this package raises on purpose."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes, shared with the inspector's command line."""

    OK = 0
    USAGE = 2
    FAULT = 3


class ExportError(Exception):
    """Something that the caller can put right; its text says how.

    Attributes:
        exit: `Exit.USAGE` when the request cannot be met as stated, `Exit.FAULT` when the request is
            fine but the surroundings failed (download, disk, a graph that does not compute what the
            network computes).
    """

    def __init__(self, message: str, exit: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.exit = exit
