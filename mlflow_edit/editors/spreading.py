"""Spread what edits need over several layers, the lowest first: MEMIT's way."""

from collections.abc import Callable
from contextlib import ExitStack

from torch import Tensor

from mlflow_edit.editors.judging import in_force
from mlflow_edit.editors.rewriting import Rewriting, low_rank
from mlflow_edit.models.activations import Place, read_at
from mlflow_edit.models.architecture import Site, down_projection
from mlflow_edit.patches.changes import Change

Solver = Callable[[str, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From a module's path, keys `(d_in, n)` and residuals `(d_out, n)`, all float64, to the factors
`(d_out, n)` and `(n, d_in)` of what is added to its linear map."""


def spread(
    work: Rewriting, sites: tuple[Site, ...], which: list[int], solver: Solver
) -> tuple[Change, ...]:
    r"""Change the layers in turn, each by its share of what is still missing at the last.

    $R^l = (z - h^L) / (L - l + 1)$, with keys and $h^L$ read anew under the layers that were
    changed before (Meng et al. 2023, arXiv:2210.07229, eq. 20).
    """
    changes: list[Change] = []
    last = sites[-1].layer
    wanted = (work.targets.outputs + work.targets.shifts)[which].double()
    places = [Place(work.prompts[i].asked[0].prompt, work.prompts[i].positions[0]) for i in which]
    for n_left, site in zip(range(len(sites), 0, -1), sites, strict=True):
        with ExitStack() as stack:
            stack.enter_context(in_force(work.base, changes))
            module = down_projection(site)
            now = read_at(work.base, last, places, side="output").double().cpu()
            keys = work.keys(module, which)
        outward, inward = solver(module, keys, ((wanted - now) / n_left).T)
        changes.append(low_rank(work.base, module, outward, inward))
    return tuple(changes)
