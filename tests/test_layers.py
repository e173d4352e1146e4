"""The layers of the package, enforced on its syntax trees: imports go down only."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest

import mlflow_edit

PACKAGE = Path(mlflow_edit.__file__).parent
PYPROJECT = PACKAGE.parent / "pyproject.toml"
ORDER = ["core", "patches", "models", "editors", "evaluation", "registry", "operations", "cli"]
LAYERS = {
    **{layer: {*ORDER[: i + 1], "errors"} for i, layer in enumerate(ORDER)},
    "errors": set[str](),
    "provenance": {"core", "errors", "provenance"},
    "review": {"core", "errors", "review"},
}
LAYERS["operations"] |= {"provenance", "review"}
LAYERS["cli"] |= {"provenance", "review"}
LAYERS["web"] = {*LAYERS["cli"], "web"} - {"cli"}
LAYERS["mlflow_plugins"] = {*LAYERS["web"], "mlflow_plugins"} - {"web"}
LAYERS["scorers"] = LAYERS["evaluation"] | {"scorers"}
LAYERS["__main__"] = {"cli"}
TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}
HEAVY = {"torch", "mlflow", "transformers", "safetensors", "numpy", "pydantic", "git", "jinja2"}


class Import(NamedTuple):
    """One import: the file, the line, the dotted name, and whether it happens at import time."""

    file: str
    line: int
    name: str
    at_start: bool

    @property
    def top(self) -> str:
        return self.name.split(".")[0]

    @property
    def layer(self) -> str:
        """The part of this package that is imported."""
        return (self.name.split(".") + [""])[1]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"


def layer_of(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports_below(node: ast.AST, file: str, at_start: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        deferred = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(file, child.lineno, alias.name, at_start)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{file}:{child.lineno} imports relatively"
            for alias in child.names:
                yield Import(file, child.lineno, f"{child.module}.{alias.name}", at_start)
        else:
            yield from imports_below(
                child, file, at_start and not deferred and not for_types_only(child)
            )


IMPORTS = [found for file, tree in TREES.items() for found in imports_below(tree, file, True)]


def own() -> Iterator[Import]:
    """Yield every import of this package by itself, but for the lazy names of its front door."""
    yield from (i for i in IMPORTS if i.top == "mlflow_edit" and i.file != "__init__.py")


def calls(*layers: str) -> Iterator[tuple[str, ast.Call]]:
    for file, tree in TREES.items():
        if not layers or layer_of(file) in layers:
            yield from ((file, node) for node in ast.walk(tree) if isinstance(node, ast.Call))


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def offenders(layers: set[str], banned: set[str]) -> list[str]:
    return [str(i) for i in IMPORTS if layer_of(i.file) in layers and i.top in banned]


def test_the_package_was_found() -> None:
    assert len(TREES) > 40
    assert {layer_of(file) for file in TREES} >= {*ORDER, "errors", "review", "provenance", "web"}


def test_every_part_has_its_place_in_the_table() -> None:
    assert {layer_of(file) for file in TREES} - set(LAYERS) == {"__init__"}


def test_imports_go_down_only() -> None:
    wrong = [str(i) for i in own() if i.layer not in LAYERS[layer_of(i.file)]]
    assert wrong == []


def test_the_front_door_imports_nothing_at_start() -> None:
    started = [i for i in IMPORTS if i.file == "__init__.py" and i.at_start]
    assert [str(i) for i in started if i.top not in sys.stdlib_module_names] == []


def test_core_is_pure() -> None:
    outward = {
        "os",
        "pathlib",
        "shutil",
        "tempfile",
        "subprocess",
        "socket",
        "urllib",
        "logging",
        "threading",
        "time",
        "random",
        "glob",
        "http",
        "mmap",
    }
    banned = outward | {
        "torch",
        "mlflow",
        "transformers",
        "click",
        "safetensors",
        "numpy",
        "git",
        "rich",
    }
    assert offenders({"core"}, banned) == []


def test_core_does_no_input_or_output() -> None:
    verbs = re.compile(
        r"(^|\.)(open|print|input|read_text|read_bytes|write_text|write_bytes|now|today|utcnow)$"
    )
    assert [
        f"{f}:{c.lineno} {called(c)}" for f, c in calls("core") if verbs.search(called(c))
    ] == []


def test_editors_and_evaluation_do_not_know_mlflow() -> None:
    assert (
        offenders({"patches", "models", "editors", "evaluation", "review"}, {"mlflow", "click"})
        == []
    )


def test_no_editor_knows_another() -> None:
    shared = {"editor", "catalog", "value_learning"}
    shared |= {"contexts", "hidden_entries", "encoder_entries", "settings"}
    shared |= {"fisher", "judging", "key_statistics", "rewriting", "spreading", "subject_prompts"}
    shared |= {"answer_pulls", "entry_learning", "remembering", "target_vectors", "training"}
    wrong = [
        str(i)
        for i in own()
        if layer_of(i.file) == "editors"
        and i.layer == "editors"
        and i.name.split(".")[2] not in shared | {Path(i.file).stem}
    ]
    assert wrong == []


def test_only_the_pages_know_flask() -> None:
    assert offenders(set(LAYERS) - {"web"}, {"flask", "werkzeug"}) == []


def test_one_module_of_the_pages_knows_mlflow() -> None:
    users = {i.file for i in IMPORTS if layer_of(i.file) == "web" and i.top == "mlflow"}
    assert users == {"web/mlflow_server.py"}


def test_only_the_shell_knows_click() -> None:
    assert offenders(set(LAYERS) - {"cli"}, {"click", "rich"}) == []


def test_nothing_below_the_shell_prints() -> None:
    printing = [
        f"{f}:{c.lineno}" for f, c in calls() if called(c) == "print" and layer_of(f) != "cli"
    ]
    assert printing == []


def started_with(files: set[str]) -> set[str]:
    """Return the modules of the shell that importing `files` imports."""
    names = {
        f"{part.replace('.', '/')}.py"
        for i in own()
        if i.file in files and i.at_start
        for part in (i.name.removeprefix("mlflow_edit."), i.name.rpartition(".")[0][12:])
    }
    found = files | {name for name in names & set(TREES) if layer_of(name) == "cli"}
    return found if found == files else started_with(found)


def test_the_shell_starts_without_the_heavy_parts() -> None:
    commands = {
        file for file, call in calls("cli") if called(call) in ("click.command", "click.group")
    }
    files = started_with(commands | {"cli/main.py", "__main__.py"})
    assert len(files) > 8
    wrong = [
        str(i)
        for i in IMPORTS
        if i.file in files
        and i.at_start
        and (i.top in HEAVY or (i.top == "mlflow_edit" and i.layer not in ("cli", "errors", "")))
    ]
    assert wrong == []


def test_the_command_really_starts_without_them() -> None:
    code = "import sys, mlflow_edit.cli.main; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) & HEAVY == set()


@pytest.mark.parametrize(
    ("module", "files"),
    [
        ("git", {"provenance.py"}),
        ("safetensors", {"patches/format.py", "models/adapter.py"}),
        ("yaml", {"core/plain_yaml.py", "core/edit_records.py"}),
    ],
)
def test_a_library_has_one_user(module: str, files: set[str]) -> None:
    users = {i.file for i in IMPORTS if i.top == module}
    assert {u for u in users if not any(u.startswith(file) for file in files)} == set()
    assert users


def test_nothing_is_unpickled_or_run_from_an_artifact() -> None:
    modules = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    assert [str(i) for i in IMPORTS if i.top in modules] == []
    unsafe = re.compile(
        r"^(eval|exec|__import__|compile|torch\.(load|save)|np\.load|numpy\.load|torch\.jit\.load"
        r"|yaml\.(load|load_all|unsafe_load|full_load)|torch\.package\..*)$"
    )
    assert [f"{f}:{c.lineno} {called(c)}" for f, c in calls() if unsafe.match(called(c))] == []


def test_no_code_of_a_model_is_trusted() -> None:
    trusting = [
        f"{f}:{c.lineno}"
        for f, c in calls()
        for keyword in c.keywords
        if keyword.arg == "trust_remote_code"
        and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
    ]
    assert trusting == []


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_imported_library_is_declared() -> None:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["index"]]
    names = {normal(re.split(r"[\s<>=!~\[;]", item)[0]) for item in declared}
    providers = packages_distributions()
    missing = {
        f"{i.top} ({i.file}:{i.line})"
        for i in IMPORTS
        if i.top not in sys.stdlib_module_names
        and i.top != "mlflow_edit"
        and not {normal(d) for d in providers.get(i.top, [i.top])} & names
    }
    assert missing == set()


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = {"utils", "helpers", "base", "misc", "common", "util"}
    assert [file for file in TREES if Path(file).stem in vague] == []
