"""What is read in passes of many rows is what each row alone gives, in every causal family."""

from typing import Any

import pytest
import torch
from tiny_models import CAUSAL
from torch import Tensor

from mlflow_edit.models.activations import Place, by_row, read_at, readings
from mlflow_edit.models.architecture import locate

SHARED = (5, 9, 11, 6)
ALIKE = [(*SHARED, 7, 8, 12), (*SHARED, 13), (*SHARED, 7, 9, 14, 15, 10)]
OTHERS = [(8, 9, 10), (11, 9, 10, 12)]  # nothing that all begin with


def alone(model: Any, module: str, row: tuple[int, ...]) -> Tensor:
    """Return what the module gives in a plain pass over one row, `(n_positions, d)`."""
    seen: list[Tensor] = []
    handle = model.get_submodule(module).register_forward_hook(
        lambda _, args, output: seen.append(output if isinstance(output, Tensor) else output[0])
    )
    try:
        with torch.no_grad():
            model(input_ids=torch.tensor([row]), use_cache=False)
    finally:
        handle.remove()
    return by_row(seen[0], 1)[0]


@pytest.mark.parametrize("rows", [ALIKE, OTHERS, ALIKE[:1], [SHARED, SHARED]])
@pytest.mark.parametrize("name", CAUSAL)
def test_rows_read_together_give_what_each_gives_alone(
    tiny_bases: Any, name: str, rows: list[tuple[int, ...]]
) -> None:
    base = tiny_bases[name]
    modules = [locate(base.model, number).layer for number in (0, 2)]
    read: dict[int, dict[str, Tensor]] = {}
    for group, given in readings(base, modules, rows, side="output"):
        assert set(given) == set(modules)
        read.update((i, {m: part[row] for m, part in given.items()}) for row, i in enumerate(group))
    assert sorted(read) == list(range(len(rows)))
    for i, row in enumerate(rows):
        for module in modules:
            expected = alone(base.model, module, row)
            torch.testing.assert_close(read[i][module][: len(row)], expected, atol=1e-5, rtol=1e-4)


def test_what_all_rows_begin_with_is_run_once(tiny_bases: Any) -> None:
    base = tiny_bases["llama"]
    n_tokens: list[int] = []
    module = locate(base.model, 1).layer
    handle = base.model.get_submodule(module).register_forward_hook(
        lambda _, args, output: n_tokens.append(args[0].shape[0] * args[0].shape[1])
    )
    try:
        list(readings(base, [module], ALIKE, side="input"))
    finally:
        handle.remove()
    assert n_tokens == [len(SHARED), 3 * (len(ALIKE[2]) - len(SHARED))]


def test_a_place_in_what_is_shared_is_read_too(tiny_bases: Any) -> None:
    base = tiny_bases["llama"]
    module = locate(base.model, 1).layer
    places = [Place(ALIKE[0], 6), Place(ALIKE[1], 1), Place(ALIKE[2], 3)]
    found = read_at(base, module, places, side="output")
    for value, (prompt, position) in zip(found, places, strict=True):
        torch.testing.assert_close(
            value, alone(base.model, module, prompt)[position], atol=1e-5, rtol=1e-4
        )
