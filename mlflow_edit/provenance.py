"""Which commit, author and file edits came from. The only user of gitpython."""

import configparser
import getpass
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # a machine without git can still apply

from git import Commit, GitConfigParser, GitError, Repo
from git.config import get_config_path
from git.exc import ODBError

from mlflow_edit.core.results import Provenance
from mlflow_edit.errors import InvalidInputError

LITERAL = ":(literal)"  # else git reads [ and * in a file's name as a pattern


def provenance_of(path: Path) -> Provenance:
    """Describe the last commit of a file; only its path where it is in no working tree."""
    try:
        repository = Repo(path.parent.resolve(), search_parent_directories=True)
    except GitError:
        return Provenance(path=path.name)
    with closing(repository):
        if repository.bare:
            return Provenance(path=path.name)
        relative = _relative(repository, path)
        commit = next(iter(_commits(repository, relative)), None)
        return _described(repository, relative, commit, dirty=_is_dirty(repository, relative))


def added_lines(path: Path, revision: str) -> tuple[list[tuple[int, str]], Provenance]:
    """Return the lines, with their numbers, that a revision added to a file.

    Where the revision renamed the file, it is compared with what it was renamed from. The first
    line of a CSV file is its header: it is always among them where any other is.

    Raises:
        InvalidInputError: no repository, no such revision, or the file is not in it.
    """
    try:
        repository = Repo(path.parent.resolve(), search_parent_directories=True)
    except GitError as error:
        raise InvalidInputError(f"{path} is in no git repository") from error
    with closing(repository):
        relative = _relative(repository, path)
        try:
            if revision.startswith("-"):
                raise ValueError("a revision does not begin with '-'")
            commit = repository.commit(revision)
            after, before = _lines_at(commit, relative), _lines_before(commit, relative)
        except (GitError, ODBError, ValueError, IndexError, KeyError, OSError) as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InvalidInputError(
                f"{relative} at revision {revision!r} cannot be read: {said}",
                hint="Give a commit, tag or branch of the repository that holds the file.",
            ) from error
        added = _added(before, after)
        if added and path.suffix.lower() == ".csv" and added[0][0] != 1:
            added.insert(0, (1, after[0]))
        return added, _described(repository, relative, commit, dirty=False)


def default_author() -> str:
    """Return who is editing: `MLEDIT_AUTHOR`, git's user, or the account."""
    named = os.environ.get("MLEDIT_AUTHOR", "").strip()
    if named:
        return named
    with suppress(GitError, OSError, ValueError, configparser.Error):
        name, email = _git_user()
        if name:
            return f"{name} <{email}>" if email else name
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _git_user() -> tuple[str, str]:
    """Return name and e-mail from the repository's settings, or from the user's own."""
    try:
        with closing(Repo(Path.cwd(), search_parent_directories=True)) as repository:
            reader = repository.config_reader()
    except GitError:
        reader = GitConfigParser([get_config_path("user"), get_config_path("global")])
    found = (reader.get("user", what, fallback="") for what in ("name", "email"))
    name, email = (str(value).strip() for value in found)
    return name, email


def _relative(repository: Repo, path: Path) -> str:
    root = Path(repository.working_tree_dir or ".").resolve()
    try:
        return path.resolve().relative_to(root).as_posix()
    except ValueError:
        return path.name


def _commits(repository: Repo, relative: str) -> list[Commit]:
    try:
        return list(repository.iter_commits(paths=LITERAL + relative, max_count=1))
    except (GitError, ODBError, ValueError):  # no commit yet, or no git
        return []


def _is_dirty(repository: Repo, relative: str) -> bool | None:
    """Tell whether a file was changed since its last commit, None where git cannot tell."""
    try:
        return bool(repository.is_dirty(path=LITERAL + relative, untracked_files=True))
    except (GitError, ODBError, ValueError):
        return None


def _described(
    repository: Repo, relative: str, commit: Commit | None, *, dirty: bool | None
) -> Provenance:
    name = Path(repository.working_tree_dir or ".").name
    if commit is None:
        return Provenance(path=relative, dirty=dirty, repository=name)
    return Provenance(
        path=relative,
        commit=commit.hexsha,
        author=f"{commit.author.name} <{commit.author.email}>",
        committed_at=commit.committed_datetime.isoformat(),
        summary=str(commit.summary)[:500],
        dirty=dirty,
        repository=name,
    )


def _lines_at(commit: Commit, relative: str) -> list[str]:
    blob = commit.tree / relative
    return _lines(bytes(blob.data_stream.read()))


def _lines_before(commit: Commit, relative: str) -> list[str]:
    """Return the file's lines in the first parent, under the name that it had there."""
    if not commit.parents:
        return []
    for change in commit.parents[0].diff(commit):
        if change.b_path == relative and change.a_blob is not None:
            return _lines(bytes(change.a_blob.data_stream.read()))
    try:
        return _lines_at(commit.parents[0], relative)
    except KeyError:
        return []


def _lines(data: bytes) -> list[str]:
    """Split at newlines only: JSON text may hold other separators of lines."""
    return [line.removesuffix("\r") for line in data.decode().removesuffix("\n").split("\n")]


def _added(before: Sequence[str], after: Sequence[str]) -> list[tuple[int, str]]:
    left = Counter(before)
    added = []
    for number, line in enumerate(after, start=1):
        if left[line]:
            left[line] -= 1
        elif line.strip():
            added.append((number, line))
    return added
