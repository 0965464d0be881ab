"""The error class of this package."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes, the same as in the `weakrest` program."""

    OK = 0
    REJECT = 1
    USAGE = 2
    FAULT = 3


class ExportError(Exception):
    """A problem that the caller can fix. The message says how.

    Attributes:
        exit: `Exit.USAGE` if the request is wrong. `Exit.FAULT` if the request is right but something else
            failed: a download, the disk, a graph that differs from its network.
    """

    def __init__(self, message: str, exit: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.exit = exit
