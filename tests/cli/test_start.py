"""Starting is quick: the list of verbs imports none of the heavy packages."""

import subprocess
import sys

import click
import pytest

from mlflow_edit.cli import main
from mlflow_edit.cli.main import VERBS

HEAVY = ("torch", "mlflow", "transformers", "git", "rich", "pydantic", "numpy")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom mlflow_edit.cli.main import run\n"
        "try:\n    run(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert all(f"  {verb} " in done.stdout for verb in VERBS)


def test_a_verbs_own_help_imports_nothing_heavy() -> None:
    heavy = [name for name in HEAVY if name not in ("rich", "pydantic")]
    code = (
        "import sys, contextlib, io\nfrom mlflow_edit.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    assert all(main._exit_code([verb, '--help']) == 0 for verb in main.VERBS)\n"
        f"found = [name for name in {heavy!r} if name in sys.modules]\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_the_list_says_what_the_verb_says(verb: str) -> None:
    command = main.main.get_command(click.Context(main.main), verb)
    assert command is not None
    assert command.name == verb
    assert (command.help or "").splitlines()[0] == VERBS[verb][1]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_prints_json(verb: str) -> None:
    command = main.main.get_command(click.Context(main.main), verb)
    assert command is not None
    for one in getattr(command, "commands", {verb: command}).values():
        assert "--json" in {option for param in one.params for option in param.opts}


def test_without_a_verb_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main._exit_code([]) in (0, 2)
    out, err = capsys.readouterr()
    assert "Usage: mledit" in out + err
    assert "Error: Usage" not in err


@pytest.mark.parametrize(
    "args", [["aply"], ["log"], ["log", "m", "--colour"], ["ask", "m"], ["--no-such"]]
)
def test_wrong_usage_is_exit_code_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main._exit_code(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Error: ")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main._exit_code(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mledit, version ")
