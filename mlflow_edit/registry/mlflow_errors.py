"""Turn what MLflow, its database and its artifact store raise into our own errors, at the edge."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from mlflow_edit.errors import RegistryError, VersionNotFound


@contextmanager
def mlflow_errors(doing: str) -> Iterator[None]:
    """Raise RegistryError, saying what was being done, for any failure of the store.

    Raises:
        VersionNotFound: MLflow says that what was asked for does not exist.
        RegistryError: anything else that it refused, or that it could not be reached.
    """
    try:
        yield
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise VersionNotFound(f"{doing}: {_first_line(error)}") from error
        raise RegistryError(f"{doing}: {_first_line(error)}", hint=_hint(error)) from error
    except (RequestException, SQLAlchemyError, OSError) as error:
        raise RegistryError(f"{doing}: {_first_line(error)}", hint=_hint(error)) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


def _hint(error: Exception) -> str:
    text = str(error)
    if "No space left" in text:
        return "The disk is full. Nothing was registered; free some space and run it again."
    if any(sign in text for sign in ("Connection", "refused", "Max retries", "timed out")):
        return "Is the tracking server up? Check MLFLOW_TRACKING_URI."
    return "Nothing was registered. Check MLFLOW_TRACKING_URI and your permissions."
