"""Who asks, and what they may do: the one question that every route asks first."""

import os
from abc import ABC, abstractmethod
from enum import Enum

ANONYMOUS = "anonymous"


class Permission(Enum):
    """What a route needs.

    `SIGNED_IN` is for what names no model; `READ` and `UPDATE` are of the registered model that
    `name` in the address names.
    """

    SIGNED_IN = "signed in"
    READ = "read"
    UPDATE = "update"


class Access(ABC):
    """Knows who is asking, and which registered models they may read or update."""

    @abstractmethod
    def user(self) -> str | None:
        """Return who makes the request that is being answered, None where nobody signed in."""

    @abstractmethod
    def may(self, name: str, permission: Permission) -> bool:
        """Say whether they may read, or update, a registered model."""


class OpenAccess(Access):
    """A server without users: whoever reaches it may do everything.

    They act under the name in `MLEDIT_AUTHOR`, else as `anonymous`.
    """

    def user(self) -> str:
        """Return the configured name."""
        return os.environ.get("MLEDIT_AUTHOR", "").strip() or ANONYMOUS

    def may(self, name: str, permission: Permission) -> bool:
        """Say yes."""
        return True
