"""Commits, authors and changed lines, from real git repositories."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from git import Actor, Repo

from mlflow_edit.core.results import Provenance
from mlflow_edit.errors import InvalidEdit, InvalidInputError
from mlflow_edit.operations.edit_source import read_source
from mlflow_edit.provenance import added_lines, default_author, provenance_of

ADA = Actor("Ada Lovelace", "ada@example.org")


def line(prompt: str, target: str = "x") -> str:
    return json.dumps({"prompt": prompt, "target": target}, ensure_ascii=False)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repo]:
    with Repo.init(tmp_path / "work") as repo:
        yield repo


def commit(repo: Repo, name: str, text: str, message: str = "Add edits") -> str:
    path = Path(repo.working_dir) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    repo.index.add([name])
    return repo.index.commit(message, author=ADA, committer=ADA).hexsha


def work(repo: Repo) -> Path:
    return Path(repo.working_dir)


def test_a_committed_file(repository: Repo) -> None:
    sha = commit(repository, "sub/edits.jsonl", line("a") + "\n", "Say why\n\nAt length.")
    found = provenance_of(work(repository) / "sub/edits.jsonl")
    assert (found.path, found.commit, found.repository) == ("sub/edits.jsonl", sha, "work")
    assert (found.author, found.summary) == ("Ada Lovelace <ada@example.org>", "Say why")
    assert found.dirty is False
    assert found.committed_at is not None


def test_the_commit_is_the_last_one_of_that_file(repository: Repo) -> None:
    sha = commit(repository, "edits.jsonl", line("a"))
    commit(repository, "other.txt", "x")
    assert provenance_of(work(repository) / "edits.jsonl").commit == sha


def test_a_file_changed_since_is_dirty(repository: Repo) -> None:
    sha = commit(repository, "edits.jsonl", line("a"))
    (work(repository) / "edits.jsonl").write_text(line("b"))
    found = provenance_of(work(repository) / "edits.jsonl")
    assert (found.commit, found.dirty) == (sha, True)


def test_an_untracked_file_is_dirty_and_has_no_commit(repository: Repo) -> None:
    (work(repository) / "edits.jsonl").write_text(line("a"))
    before_any = provenance_of(work(repository) / "edits.jsonl")
    commit(repository, "other.txt", "x")
    after = provenance_of(work(repository) / "edits.jsonl")
    for found in (before_any, after):
        assert (found.path, found.commit, found.dirty) == ("edits.jsonl", None, True)


def test_a_detached_head_is_a_commit_like_any_other(repository: Repo) -> None:
    sha = commit(repository, "edits.jsonl", line("Who?"))
    commit(repository, "other.txt", "1")
    repository.git.checkout("HEAD~1")
    found = provenance_of(work(repository) / "edits.jsonl")
    assert (found.commit, found.dirty) == (sha, False)


def test_a_repository_without_a_commit(repository: Repo) -> None:
    (work(repository) / "edits.jsonl").write_text(line("Who?"))
    repository.index.add(["edits.jsonl"])
    found = provenance_of(work(repository) / "edits.jsonl")
    assert (found.path, found.commit, found.dirty) == ("edits.jsonl", None, True)


def test_a_file_in_a_bare_repository_is_in_no_commit_of_it(
    repository: Repo, tmp_path: Path
) -> None:
    commit(repository, "edits.jsonl", line("Who?"))
    bare = tmp_path / "bare.git"
    repository.clone(str(bare), bare=True).close()
    (bare / "edits.jsonl").write_text(line("Other?"))
    assert provenance_of(bare / "edits.jsonl") == Provenance(path="edits.jsonl")


@pytest.mark.parametrize("name", ["edits[1].jsonl", "edits*.jsonl", ":edits.jsonl"])
def test_a_file_name_is_no_pattern(repository: Repo, name: str) -> None:
    commit(repository, "edits1.jsonl", line("Who?"))
    sha = commit(repository, name, line("Who else?"))
    commit(repository, "edits1.jsonl", line("Where?"))
    path = work(repository) / name
    assert (provenance_of(path).commit, provenance_of(path).dirty) == (sha, False)
    path.write_text(line("When?"))
    assert provenance_of(path).dirty is True


def test_a_machine_without_git_cannot_tell(
    repository: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit(repository, "edits.jsonl", line("Who?"))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = provenance_of(work(repository) / "edits.jsonl")
    assert (found.path, found.commit, found.dirty) == ("edits.jsonl", None, None)


def test_no_repository(tmp_path: Path) -> None:
    (tmp_path / "edits.jsonl").write_text(line("a"))
    found = provenance_of(tmp_path / "edits.jsonl")
    assert (found.path, found.commit, found.dirty) == ("edits.jsonl", None, None)
    with pytest.raises(InvalidInputError, match="no git repository") as raised:
        added_lines(tmp_path / "edits.jsonl", "HEAD")
    assert raised.value.exit_code == 2


def test_the_first_commit_adds_every_line(repository: Repo) -> None:
    sha = commit(repository, "edits.jsonl", f"{line('a')}\n\n{line('b')}\n")
    lines, found = added_lines(work(repository) / "edits.jsonl", sha[:8])
    assert lines == [(1, line("a")), (3, line("b"))]
    assert found.commit == sha


def test_only_what_a_revision_added(repository: Repo) -> None:
    commit(repository, "edits.jsonl", f"{line('a')}\n{line('b')}\n")
    sha = commit(repository, "edits.jsonl", f"{line('b')}\n{line('c')}\n{line('a')}\n")
    commit(repository, "edits.jsonl", f"{line('z')}\n")
    path = work(repository) / "edits.jsonl"
    assert added_lines(path, sha)[0] == [(2, line("c"))]
    source = read_source([path], from_git="HEAD~1")
    assert [edit.prompt for edit in source.parse().batch] == ["c"]
    assert source.records[0].where == "line 2"
    assert source.provenance is not None
    assert source.provenance.commit == sha
    assert source.provenance.dirty is False


def test_a_repeated_line_counts_as_often_as_it_stands(repository: Repo) -> None:
    commit(repository, "edits.jsonl", f"{line('a')}\n")
    commit(repository, "edits.jsonl", f"{line('a')}\n{line('a')}\n")
    assert added_lines(work(repository) / "edits.jsonl", "HEAD")[0] == [(2, line("a"))]


def test_a_changed_line_is_added(repository: Repo) -> None:
    commit(repository, "edits.jsonl", f"{line('a', 'old')}\n")
    commit(repository, "edits.jsonl", f"{line('a', 'new')}\n")
    assert added_lines(work(repository) / "edits.jsonl", "HEAD")[0] == [(1, line("a", "new"))]


def test_a_renamed_file_is_compared_with_its_old_self(repository: Repo) -> None:
    many = "".join(f"{line(str(i))}\n" for i in range(10))
    commit(repository, "old.jsonl", many)
    (work(repository) / "old.jsonl").unlink()
    repository.index.remove(["old.jsonl"])
    commit(repository, "new.jsonl", many + f"{line('added')}\n")
    assert added_lines(work(repository) / "new.jsonl", "HEAD")[0] == [(11, line("added"))]


def test_line_separators_inside_text_do_not_end_a_line(repository: Repo) -> None:
    odd = line("a\u2028b\x85c\x0bd")
    commit(repository, "edits.jsonl", f"{odd}\r\n")
    assert added_lines(work(repository) / "edits.jsonl", "HEAD")[0] == [(1, odd)]


def test_a_csv_keeps_the_header_of_the_revision(repository: Repo) -> None:
    commit(repository, "edits.csv", "prompt,target\na,x\n")
    sha = commit(repository, "edits.csv", "prompt,target\na,x\nb,y\n")
    commit(repository, "edits.csv", "target,prompt\nx,a\n")
    source = read_source([work(repository) / "edits.csv"], from_git=sha)
    assert [(edit.prompt, edit.target) for edit in source.parse().batch] == [("b", "y")]


def test_a_revision_that_added_nothing(repository: Repo) -> None:
    commit(repository, "edits.jsonl", f"{line('a')}\n{line('b')}\n")
    commit(repository, "edits.jsonl", f"{line('a')}\n")
    with pytest.raises(InvalidEdit, match="added nothing"):
        read_source([work(repository) / "edits.jsonl"], from_git="HEAD")


@pytest.mark.parametrize("revision", ["nowhere", "", "--help", "HEAD~9", "HEAD:edits.jsonl", "a b"])
def test_a_revision_that_does_not_exist(repository: Repo, revision: str) -> None:
    commit(repository, "edits.jsonl", line("a"))
    with pytest.raises(InvalidInputError) as raised:
        added_lines(work(repository) / "edits.jsonl", revision)
    assert raised.value.exit_code == 2


def test_a_file_that_the_revision_does_not_have(repository: Repo) -> None:
    commit(repository, "other.txt", "x")
    (work(repository) / "edits.jsonl").write_text(line("a"))
    with pytest.raises(InvalidInputError):
        added_lines(work(repository) / "edits.jsonl", "HEAD")


def test_a_file_deleted_since_can_still_be_read_by_revision(repository: Repo) -> None:
    sha = commit(repository, "edits.jsonl", line("a"))
    (work(repository) / "edits.jsonl").unlink()
    assert added_lines(work(repository) / "edits.jsonl", sha)[0] == [(1, line("a"))]


@pytest.mark.parametrize("name", ["edits.json", "edits.yaml"])
def test_only_files_of_one_edit_a_line_can_be_read_by_revision(repository: Repo, name: str) -> None:
    commit(repository, name, "[]")
    with pytest.raises(InvalidInputError, match="one edit a line"):
        read_source([work(repository) / name], from_git="HEAD")


def test_a_revision_that_is_not_utf8(repository: Repo) -> None:
    path = work(repository) / "edits.jsonl"
    path.write_bytes(b"\xff\xfe\n")
    repository.index.add(["edits.jsonl"])
    repository.index.commit("bad", author=ADA)
    with pytest.raises(InvalidInputError):
        added_lines(path, "HEAD")


class TestDefaultAuthor:
    @pytest.fixture(autouse=True)
    def _alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        home = tmp_path / "home"
        home.mkdir()
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        monkeypatch.delenv("MLEDIT_AUTHOR", raising=False)
        monkeypatch.setenv("LOGNAME", "account")
        monkeypatch.chdir(tmp_path)

    def test_the_environment_comes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLEDIT_AUTHOR", "Ada")
        assert default_author() == "Ada"

    def test_the_repository_says_who(
        self, repository: Repo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with repository.config_writer() as writer:
            writer.set_value("user", "name", "Bo")
            writer.set_value("user", "email", "bo@example.org")
        monkeypatch.chdir(work(repository))
        assert default_author() == "Bo <bo@example.org>"

    def test_the_users_own_settings_count_outside_of_a_repository(self, tmp_path: Path) -> None:
        (tmp_path / "home/.gitconfig").write_text("[user]\n\tname = Cy\n")
        assert default_author() == "Cy"

    def test_the_account_is_last(self) -> None:
        assert default_author() == "account"

    def test_damaged_settings_do_not_matter(self, tmp_path: Path) -> None:
        (tmp_path / "home/.gitconfig").write_text("user]\nname\n=")
        assert default_author() == "account"
