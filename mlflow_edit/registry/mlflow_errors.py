"""Turn what MLflow, its database and its artifact store raise into our own errors, at the edge."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from mlflow_edit.errors import GateError, RegistryError, VersionNotFound

STORE_LIBRARIES = (
    "alembic", "azure", "boto3", "botocore", "google", "psycopg", "psycopg2", "pymysql", "s3fs",
)  # fmt: skip

REFUSED = "protected by mledit"  # how a refusal of a registry store that enforces gates begins


@contextmanager
def mlflow_errors(doing: str) -> Iterator[None]:
    """Raise RegistryError, saying what was being done, for any failure of the store.

    Raises:
        VersionNotFound: MLflow says that what was asked for does not exist.
        GateError: a server that enforces gates refused it.
        RegistryError: anything else that it refused, or that it could not be reached.
    """
    try:
        yield
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise VersionNotFound(f"{doing}: {_first_line(error)}") from error
        if error.error_code == "PERMISSION_DENIED" and REFUSED in str(error):
            said, _, advice = str(error.message).partition(". What to do: ")
            said = said.removeprefix(f"{error.error_code}: ")
            raise GateError(f"{doing}: {said}", hint=advice or None) from error
        raise RegistryError(f"{doing}: {_first_line(error)}", hint=_hint(error)) from error
    except (RequestException, SQLAlchemyError, OSError, ImportError) as error:
        raise RegistryError(f"{doing}: {_first_line(error)}", hint=_hint(error)) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in STORE_LIBRARIES:
            raise
        raise RegistryError(f"{doing}: {_first_line(error)}", hint=_hint(error)) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


def _hint(error: Exception) -> str:
    text = str(error)
    if isinstance(error, ImportError):
        return "A driver of this store is not installed: pip install it (psycopg[binary], boto3 …)."
    if "No space left" in text:
        return "The disk is full. Nothing was registered; free some space and run it again."
    if "error code 401" in text:
        return "The server asks who you are: MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD."
    if "error code 403" in text:
        return "There is no such thing, or you may not see or change it: ask its owner."
    if any(sign in text for sign in ("Connection", "refused", "Max retries", "timed out")):
        return "Is the tracking server up? Check MLFLOW_TRACKING_URI."
    return "Nothing was registered. Check MLFLOW_TRACKING_URI and your permissions."
