import importlib
import inspect
import pkgutil
import re
import subprocess
import sys

import pytest

import mlflow_edit
from mlflow_edit import errors
from mlflow_edit.errors import MlflowEditError

EXIT_CODES = {
    "MlflowEditError": 1,
    "InvalidInputError": 2,
    "InvalidEdit": 2,
    "InvalidParams": 2,
    "UnknownEditor": 2,
    "ShapeMismatch": 2,
    "NotFoundError": 3,
    "VersionNotFound": 3,
    "EditNotFound": 3,
    "IntegrityError": 4,
    "DigestMismatch": 4,
    "UnsupportedFormat": 4,
    "CorruptPatch": 4,
    "ConflictError": 1,
    "MergeConflict": 1,
    "BisectFailed": 1,
    "LostRaceError": 5,
    "GateError": 6,
    "BaseMismatchError": 7,
    "EditingError": 8,
    "UnsupportedModel": 8,
    "NotConverged": 8,
    "RegistryError": 9,
}
CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, Exception)
}


def test_public_names_are_exact_and_sorted() -> None:
    assert mlflow_edit.__all__ == sorted(set(mlflow_edit.__all__))
    assert set(mlflow_edit._PLACES) == set(mlflow_edit.__all__)
    assert set(mlflow_edit.__all__) <= set(dir(mlflow_edit))


@pytest.mark.parametrize("name", mlflow_edit.__all__)
def test_a_public_name_is_what_it_says(name: str) -> None:
    value = getattr(mlflow_edit, name)
    assert value.__name__ == name
    assert value.__module__ == f"mlflow_edit.{mlflow_edit._PLACES[name]}"
    assert inspect.getdoc(value)


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = mlflow_edit.nothing


def test_importing_the_package_is_light() -> None:
    code = "import sys, mlflow_edit; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "mlflow", "transformers", "pydantic"} & set(run.stdout.split())


def test_the_errors_are_the_table() -> None:
    assert {name: value.exit_code for name, value in CLASSES.items()} == EXIT_CODES


@pytest.mark.parametrize("name", list(EXIT_CODES))
def test_every_error_is_one_of_ours(name: str) -> None:
    assert issubclass(CLASSES[name], MlflowEditError)
    error = CLASSES[name]("what was wrong", hint="what to do next")
    assert (error.message, error.hint) == ("what was wrong", "what to do next")
    assert str(error) == "what was wrong"
    assert CLASSES[name].__doc__


def drawn() -> dict[str, tuple[int, str]]:
    """Read the tree of the docstring: each error's depth and its line."""
    text = (errors.__doc__ or "").split("```")[1]
    tree = re.findall(r"^((?:│ )?)(├ |└ )?([A-Z]\w+)(.*)$", text, re.MULTILINE)
    return {name: (len(left + branch) // 2, rest) for left, branch, name, rest in tree}


def test_the_docstring_draws_the_tree() -> None:
    assert set(drawn()) == set(EXIT_CODES)
    for name, (depth, rest) in drawn().items():
        assert depth == len(CLASSES[name].__mro__) - len(MlflowEditError.__mro__), name
        number = re.match(r"\s+(\d)\b", rest)
        if number:
            assert int(number[1]) == EXIT_CODES[name], name


def test_errors_are_defined_in_one_place() -> None:
    elsewhere = set()
    for info in pkgutil.walk_packages(mlflow_edit.__path__, "mlflow_edit."):
        if info.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(info.name)).items():
            public = inspect.isclass(value) and not name.startswith("_")
            if public and issubclass(value, MlflowEditError) and value is not CLASSES.get(name):
                elsewhere.add(f"{info.name}.{name}")
    assert elsewhere == set()
