"""The fields of editors' settings: each has a default, a range and a description."""

from typing import Any

from pydantic import Field

MAX_BLOCKS, MAX_PATH = 500, 4096  # characters


def real(default: float | None, description: str, **bounds: Any) -> Any:
    """Make a field of finite numbers within `gt`, `ge`, `lt` and `le`."""
    made: Any = Field(default=default, description=description, allow_inf_nan=False, **bounds)
    return made


def whole(default: int, description: str, *, ge: int = 1, le: int) -> Any:
    """Make a field of whole numbers from `ge` to `le`."""
    return Field(default=default, description=description, ge=ge, le=le)


def blocks(description: str) -> Any:
    """Make a field that names blocks, by numbers or a path; unset unless given."""
    return Field(
        default=None, description=description, coerce_numbers_to_str=True, max_length=MAX_BLOCKS
    )


def texts(description: str) -> Any:
    """Make a field that names a file of plain texts; unset, those of the package are taken."""
    said = (
        f"file of plain texts, one a line, {description}; unset: texts that ship with the package"
    )
    return Field(default=None, description=said, max_length=MAX_PATH)


def loss_target(default: float) -> Any:
    """Make the field of the loss that is low enough."""
    said = "mean loss of the answer's tokens, in nats, at which learning stops"
    return real(default, said, gt=0, le=5)


def max_norm(default: float) -> Any:
    """Make the field of how much may be added to a module's output."""
    said = "largest norm of what is added to the output, as a share of the output's"
    return real(default, said, gt=0, le=1000)
