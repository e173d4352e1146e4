"""How an operation says what it is doing; it never prints."""

from typing import Protocol

REGISTERING = "registering the version"  # the stage from which on nothing may stop the work


class Reporter(Protocol):
    """Told of stages, of progress within one, and of things the user should know."""

    def stage(self, text: str) -> None:
        """Say what begins now."""

    def progress(self, done: int, total: int, detail: str = "") -> None:
        """Say how much of the stage is done."""

    def warn(self, text: str) -> None:
        """Say something that does not stop the work but should be known."""


class Silent:
    """A reporter that says nothing."""

    def stage(self, text: str) -> None:
        """Say nothing."""

    def progress(self, done: int, total: int, detail: str = "") -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Say nothing."""
