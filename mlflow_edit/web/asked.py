"""What a request asks for, checked: the only way in which views read it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from werkzeug.datastructures import MultiDict

from mlflow_edit.errors import InvalidInputError, LostRaceError
from mlflow_edit.registry.names import HEAD, VersionRef, model_name, parse_ref
from mlflow_edit.registry.registry import Registry, VersionInfo, choose
from mlflow_edit.web.access import Access, Permission
from mlflow_edit.web.jobs import Jobs

MAX_VALUE = 100_000  # characters of one value


@dataclass
class Asked:
    """One request to a route whose permission was checked.

    The model is named by `name` in the address and nowhere else: that is what the permission was
    checked for. Versions are references inside that model (`3`, `production`, `head`).
    """

    user: str
    access: Access
    open_registry: Callable[[], Registry]
    jobs: Jobs
    query: "MultiDict[str, str]"
    form: "MultiDict[str, str]"

    @cached_property
    def registry(self) -> Registry:
        """Return the registry on the server's own stores.

        Raises:
            RegistryError: they cannot be used.
        """
        return self.open_registry()

    @cached_property
    def name(self) -> str:
        """Return the model that the address names.

        Raises:
            InvalidInputError: it names none, or more than one.
        """
        return model_name(_one(self.query, "name"))

    @cached_property
    def versions(self) -> list[VersionInfo]:
        """Return the versions of the model, oldest first; they are listed once for a request.

        Raises:
            VersionNotFound: there is no such model.
        """
        return self.registry.versions(self.name)

    def version(self, parameter: str = "version", default: str = HEAD) -> VersionInfo:
        """Find the version that a parameter of the address names; without it, or empty, `default`.

        Raises:
            VersionNotFound: there is no such model or version.
            InvalidInputError: it is no reference.
        """
        ref = _one(self.query, parameter, default).strip() or default
        return choose(parse_ref(f"{self.name}@{ref}"), self.versions)

    def ref(self, info: VersionInfo) -> str:
        """Return `NAME@NUMBER` of a version, for the verbs."""
        return str(VersionRef(info.name, str(info.version)))

    def parameter(self, key: str, default: str | None = None) -> str:
        """Return one value of the address.

        Raises:
            InvalidInputError: it is not there and has no default, or is there more than once.
        """
        return _one(self.query, key, default)

    def field(self, key: str, default: str | None = None) -> str:
        """Return one field of the form (see `parameter`); browsers send lines ended by CR LF."""
        return _one(self.form, key, default).replace("\r\n", "\n")

    def fields(self, key: str) -> list[str]:
        """Return all values of a field of the form that may be there more than once."""
        return self.form.getlist(key)

    def ticked(self, key: str) -> bool:
        """Say whether a box of the form is ticked."""
        return self.field(key, "") != ""

    def holder(self) -> str:
        """Return the number of the version that a form showed to hold an alias, or `none`.

        Raises:
            InvalidInputError: it is something else, which could name another model.
        """
        said = self.field("holder")
        if said != "none" and not (said.isascii() and said.isdigit()):
            raise InvalidInputError("who holds an alias is a version of this model, or none")
        return said

    def unchanged_version(self, parameter: str = "version", field: str = "digest") -> VersionInfo:
        """Find the version that a form acts upon, if it is the one that the form was drawn from.

        The form carries its digest as `digest`: `head` and aliases move while somebody reads.

        Raises:
            LostRaceError: the address names another version by now.
        """
        info, drawn = self.version(parameter), self.field(field)
        if info.digest != drawn:
            raise LostRaceError(
                f"{self.name}@{self.parameter(parameter, HEAD)} is version {info.version} by now, "
                "not the one that the page showed",
                hint="Look at the page again, then decide.",
            )
        return info

    def may_update(self) -> bool:
        """Say whether who asks may change the model in the address."""
        return self.access.may(self.name, Permission.UPDATE)

    def may_read(self, name: str) -> bool:
        """Say whether who asks may read a model other than the one in the address."""
        return self.access.may(name, Permission.READ)


def _one(values: "MultiDict[str, str]", key: str, default: str | None = None) -> str:
    found = values.getlist(key)
    if not found and default is not None:
        return default
    if len(found) != 1:
        raise InvalidInputError(f"{key!r} was given {len(found)} times; it is needed once")
    if len(found[0]) > MAX_VALUE:
        raise InvalidInputError(f"{key!r} has {len(found[0]):,} characters")
    return found[0]
