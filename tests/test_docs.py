"""The documents say what the code does: options, errors, parameters, links; and the README runs."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import annotated_types
import click
import pytest
from platformdirs import user_cache_path

from mlflow_edit import errors
from mlflow_edit.cli.main import VERBS, main
from mlflow_edit.editors.alphaedit import AlphaEdit
from mlflow_edit.editors.defer import Defer
from mlflow_edit.editors.editor import Editor, EditorParams
from mlflow_edit.editors.finetune import Finetune
from mlflow_edit.editors.grace import Grace
from mlflow_edit.editors.lora import Lora
from mlflow_edit.editors.memit import Memit
from mlflow_edit.editors.memory import MemoryEditor
from mlflow_edit.editors.rome import Rome
from mlflow_edit.editors.ultraedit import UltraEdit
from mlflow_edit.models.architecture import families
from mlflow_edit.registry.names import RESULTS, REVIEW

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EDITORS = [Grace, Rome, Memit, AlphaEdit, UltraEdit, Finetune, Lora, Defer, MemoryEditor]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def section(text: str, title: str) -> str:
    """Return what stands under a heading, up to the next of the same depth."""
    depth = title.split(" ", 1)[0]
    start = text.index(f"\n{title}\n") + 1
    end = text.find(f"\n{depth} ", start + 1)
    return text[start : end if end > 0 else len(text)]


def blocks(text: str, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(text) if found == language]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


# Verbs


def verb(name: str) -> click.Command:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    return command


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help(name: str) -> None:
    assert verb(name).help
    for option in verb(name).params:
        if isinstance(option, click.Option) and option.name != "max_new_tokens":
            assert option.help, option.name


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_and_option_is_documented(name: str) -> None:
    text = section((ROOT / "docs" / "cli.md").read_text(), f"## `mledit {name}`")
    assert f"$ mledit {name}" in text, "there is no example"
    for param in verb(name).params:
        if isinstance(param, click.Option):
            for spelling in param.opts:
                assert f"`{spelling}" in text, spelling
        else:
            assert param.make_metavar(click.Context(verb(name))) in text


def test_no_other_verb_or_option_is_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    assert re.findall(r"^## `mledit ([\w-]+)`$", text, re.MULTILINE) == list(VERBS)
    for name in VERBS:
        known = {spelling for param in verb(name).params for spelling in param.opts}
        rows = re.findall(r"^\| (`-.*?) \|", section(text, f"## `mledit {name}`"), re.MULTILINE)
        told = {one for row in rows for one in re.findall(r"`(--?[\w-]+)", row)}
        assert told <= known


# Errors


def error_classes() -> list[type[errors.MlflowEditError]]:
    found = [cls for _, cls in inspect.getmembers(errors, inspect.isclass)]
    return [cls for cls in found if issubclass(cls, errors.MlflowEditError)]


@pytest.mark.parametrize("cls", error_classes())
def test_every_error_is_documented_with_its_code(cls: type[errors.MlflowEditError]) -> None:
    text = (ROOT / "docs" / "errors.md").read_text()
    assert f"\n| `{cls.__name__}` | {cls.exit_code} |" in text
    assert re.search(rf"^\| {cls.exit_code} \|", section(text, "## Exit codes"), re.MULTILINE)


def test_the_tree_of_errors_is_the_one_in_the_code() -> None:
    (tree,) = blocks(section((ROOT / "docs" / "errors.md").read_text(), "## The tree"), "text")
    assert tree.strip() in (errors.__doc__ or "")


# Tables made from the code


def limits(metadata: list[Any]) -> str:
    signs = {
        annotated_types.Gt: ("above", "gt"),
        annotated_types.Ge: ("from", "ge"),
        annotated_types.Lt: ("below", "lt"),
        annotated_types.Le: ("to", "le"),
    }
    said = [
        f"{signs[type(bound)][0]} {getattr(bound, signs[type(bound)][1]):,g}"
        for bound in metadata
        if type(bound) in signs
    ]
    return " ".join(said)


def params_table(params: type[EditorParams]) -> str:
    lines = ["| parameter | default | range | meaning |", "|---|---|---|---|"]
    for name, field in params.model_fields.items():
        default = "unset" if field.default is None else f"`{field.default}`"
        choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
        allowed = ", ".join(f"`{choice}`" for choice in choices) or limits(field.metadata)
        lines.append(f"| `{name}` | {default} | {allowed} | {field.description} |")
    return "\n".join(lines)


def families_table() -> str:
    lines = ["| family | model types | task | blocks | depth |", "|---|---|---|---|---|"]
    for row in families():
        types = ", ".join(f"`{one}`" for one in row.model_types)
        lines.append(f"| {row.family} | {types} | {row.task} | `{row.layers}.N` | {row.depth} |")
    return "\n".join(lines)


@pytest.mark.parametrize("editor", EDITORS)
def test_the_parameters_of_every_editor_are_documented(editor: type[Editor[Any]]) -> None:
    page = (ROOT / "docs" / "editors" / f"{editor.name}.md").read_text()
    table = params_table(editor.params_type)
    assert f"\n\n{table}\n\n" in page, f"write this table:\n{table}"


def test_the_table_of_families_is_current() -> None:
    page = (ROOT / "docs" / "editors" / "grace.md").read_text()
    assert f"\n\n{families_table()}\n\n" in page, f"write this table:\n{families_table()}"


def rewritten_table() -> str:
    lines = ["| family | weight | share of the depth |", "|---|---|---|"]
    for row in families():
        if row.down_projection:
            first, last = row.rewrite
            lines.append(f"| {row.family} | `{row.down_projection}` | {first} to {last} |")
    return "\n".join(lines)


def test_the_table_of_rewritten_weights_is_current() -> None:
    page = (ROOT / "docs" / "editors" / "rome.md").read_text()
    assert f"\n\n{rewritten_table()}\n\n" in page, f"write this table:\n{rewritten_table()}"


@pytest.mark.parametrize("name", ["batch.json", "edits.jsonl", "patch.safetensors"])
def test_every_stored_file_is_specified(name: str) -> None:
    text = (ROOT / "docs" / "format.md").read_text()
    assert f"### `{name}`" in text
    assert f"`{RESULTS}`" in text
    assert f"`{REVIEW}`" in text


# Pages


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    prose = FENCE.sub("", page.read_text())
    for target in LINK.findall(prose):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_blocks_compile(page: Path) -> None:
    for block in blocks(page.read_text(), "python"):
        compile(block, named(page), "exec")


def test_every_page_is_reached_from_the_readme() -> None:
    linked = {(README.parent / target).resolve() for target in LINK.findall(README.read_text())}
    for page in (ROOT / "docs").glob("*.md"):
        assert page in linked, named(page)


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 150


# The README, run


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a user in `folder`; the real model is kept between runs."""
    cache = os.environ["MLEDIT_TEST_MODELS"] or user_cache_path("mledit")
    return {
        **os.environ,
        "MLEDIT_CACHE_DIR": str(cache),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLEDIT_AUTHOR": "Ada Byron <ada@example.org>",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def first_ten_minutes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the shell session of the README in an empty folder."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("the session is for bash")
    folder = tmp_path_factory.mktemp("readme")
    session = section(README.read_text(), "## The first ten minutes")
    script = "\n".join(["set -euo pipefail", *blocks(session, "bash")])
    return folder, run([bash, "-c", script], folder)


@pytest.mark.smollm2
def test_the_session_of_the_readme_runs(first_ten_minutes: tuple[Path, str]) -> None:
    _, output = first_ten_minutes
    for said in (
        r"support@1 .*base model smollm2",
        r"support@2 .*Correct the World Cup of 2022 and the capital of Myanmar",
        r"ok +Who won the FIFA World Cup in 2022\? .* Argentina",
        r"ok +What is the capital of Myanmar\? .* Naypyidaw",
        r"reliability +1\.000 +2",
        r"locality +1\.000 +2",
        r"Argentina +world-cup-2022",
        r"the base model answers",
        r"layer +model\.layers\.\d+",
    ):
        assert re.search(said, output), said


@pytest.mark.smollm2
def test_the_python_of_the_readme_runs(first_ten_minutes: tuple[Path, str]) -> None:
    folder, _ = first_ten_minutes
    (block,) = blocks(section(README.read_text(), "## The same in Python"), "python")
    output = run([sys.executable, "-c", block], folder)
    assert "-> Argentina edit_id='world-cup-2022'" in output
    assert "LlamaForCausalLM" in output


@pytest.mark.smollm2
def test_the_first_edit_runs(first_ten_minutes: tuple[Path, str]) -> None:
    folder, _ = first_ten_minutes
    output = run([sys.executable, str(ROOT / "examples" / "first_edit.py")], folder)
    assert "reliability 1.00" in output
    assert "edited Sweden  (nato-2024)" in output


@pytest.mark.smollm2
def test_the_way_to_production_runs(tmp_path: Path) -> None:
    script = ROOT / "examples" / "review_and_promote.sh"
    two = (ROOT / "examples" / "edits" / "corrections.jsonl").read_text().splitlines()[:2]
    (tmp_path / "edits.jsonl").write_text("\n".join(two))
    output = run(["bash", str(script), "smollm2", "edits.jsonl"], tmp_path)
    for said in ("@2 is now staging", "@3 is now production", "rollback    production: @3 → @2"):
        assert said in output, said
