"""Which commit, author and file edits came from. The only user of gitpython."""

import getpass
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from git import Commit, GitCommandError, GitError, InvalidGitRepositoryError, NoSuchPathError, Repo

from mlflow_edit.core.results import Provenance
from mlflow_edit.errors import InvalidInputError


def provenance_of(path: Path) -> Provenance:
    """Describe the last commit of a file; only its path where it is in no repository."""
    try:
        repository = Repo(path.parent.resolve(), search_parent_directories=True)
    except (InvalidGitRepositoryError, NoSuchPathError, GitError):
        return Provenance(path=path.name)
    with closing(repository):
        relative = _relative(repository, path)
        commit = next(iter(_commits(repository, relative)), None)
        return _described(repository, relative, commit, dirty=_is_dirty(repository, relative))


def added_lines(path: Path, revision: str) -> tuple[list[tuple[int, str]], Provenance]:
    """Return the lines, with their numbers, that a revision added to a file.

    Raises:
        InvalidInputError: no repository, no such revision, or the file is not in it.
    """
    try:
        repository = Repo(path.parent.resolve(), search_parent_directories=True)
    except (InvalidGitRepositoryError, NoSuchPathError, GitError) as error:
        raise InvalidInputError(f"{path} is in no git repository") from error
    with closing(repository):
        relative = _relative(repository, path)
        try:
            if revision.startswith("-"):
                raise ValueError("a revision does not begin with '-'")
            commit = repository.commit(revision)
            after = _lines_at(commit, relative)
            before = _lines_at(commit.parents[0], relative) if commit.parents else []
        except (GitError, GitCommandError, ValueError, IndexError, KeyError, OSError) as error:
            raise InvalidInputError(
                f"{relative} at revision {revision!r} cannot be read: {str(error).splitlines()[0]}",
                hint="Give a commit, tag or branch of the repository that holds the file.",
            ) from error
        return _added(before, after), _described(repository, relative, commit, dirty=False)


def default_author() -> str:
    """Return who is editing: `MLEDIT_AUTHOR`, git's user, or the account."""
    named = os.environ.get("MLEDIT_AUTHOR")
    if named:
        return named
    try:
        with closing(Repo(Path.cwd(), search_parent_directories=True)) as repository:
            reader = repository.config_reader()
            name = str(reader.get_value("user", "name", ""))
            email = str(reader.get_value("user", "email", ""))
            if name:
                return f"{name} <{email}>" if email else name
    except (GitError, OSError, ValueError):
        pass
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _relative(repository: Repo, path: Path) -> str:
    root = Path(repository.working_tree_dir or ".").resolve()
    try:
        return path.resolve().relative_to(root).as_posix()
    except ValueError:
        return path.name


def _commits(repository: Repo, relative: str) -> list[Commit]:
    try:
        return list(repository.iter_commits(paths=relative, max_count=1))
    except (GitError, ValueError):  # no commit yet
        return []


def _is_dirty(repository: Repo, relative: str) -> bool:
    try:
        return bool(repository.is_dirty(path=relative, untracked_files=True))
    except (GitError, ValueError):
        return True


def _described(
    repository: Repo, relative: str, commit: Commit | None, *, dirty: bool
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
    try:
        blob = commit.tree / relative
    except KeyError:
        return []
    return bytes(blob.data_stream.read()).decode().splitlines()


def _added(before: Sequence[str], after: Sequence[str]) -> list[tuple[int, str]]:
    left: dict[str, int] = {}
    for line in before:
        left[line] = left.get(line, 0) + 1
    added = []
    for number, line in enumerate(after, start=1):
        if left.get(line, 0):
            left[line] -= 1
        else:
            added.append((number, line))
    return added
