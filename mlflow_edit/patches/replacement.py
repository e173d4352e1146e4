"""Put a codebook's values in the place of hidden states, in a forward call."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mlflow_edit.errors import ShapeMismatch
from mlflow_edit.patches.interception import Inputs
from mlflow_edit.patches.patch import Firing

if TYPE_CHECKING:
    from mlflow_edit.patches.codebook import Codebook


class Replacement:
    """Look up hidden states and put values in their place; keys are copied once per device."""

    def __init__(self, codebook: "Codebook") -> None:
        self._codebook = codebook
        self._copies: dict[tuple[torch.device, torch.dtype], tuple[Tensor, ...]] = {}

    def __call__(
        self, hidden: Tensor, inputs: Inputs, record: Callable[[list[Firing]], None]
    ) -> Tensor | None:
        """Return `hidden` with values in place, or None where nothing fires.

        Args:
            hidden: `(n_rows, n_positions, d_model)`.
            inputs: the token ids `(n_rows, n_positions)`, where they are known.
            record: is told of every firing.
        """
        token_ids = inputs.token_ids
        if not len(self._codebook):
            return None
        keys, squares, reach, radii, key_tokens, token_set = self._copy_for(hidden)
        widths = (keys.shape[1], self._codebook.values.shape[1])
        if hidden.ndim != 3 or {hidden.shape[-1]} != set(widths):
            raise ShapeMismatch(
                f"hidden states of shape {tuple(hidden.shape)}; keys and values of {widths}"
            )
        if token_ids is None:
            rows, positions = torch.ones(hidden.shape[:2], dtype=torch.bool).nonzero(as_tuple=True)
        else:
            rows, positions = torch.isin(token_ids.to(hidden.device), token_set).nonzero(
                as_tuple=True
            )
        if not len(rows):
            return None
        queries = hidden[rows, positions].float()
        # |q - k|^2 by matrix product first: cheap, and wrong by rounding only, which `reach` allows
        q_squares = queries.square().sum(1)
        approximate = q_squares[:, None] + squares - 2 * queries @ keys.T
        slack = 1e-3 * (q_squares[:, None] + squares)
        near_query, near_entry = (approximate <= reach + slack).nonzero(as_tuple=True)
        if not len(near_query):
            return None
        distance = (queries[near_query] - keys[near_entry]).norm(dim=1)
        inside = distance <= radii[near_entry]
        if token_ids is not None:
            tokens = token_ids.to(hidden.device)[rows, positions]
            inside &= tokens[near_query] == key_tokens[near_entry]
        near_query, near_entry, distance = near_query[inside], near_entry[inside], distance[inside]
        changed: Tensor | None = None
        firings = []
        for query in near_query.unique().tolist():  # type: ignore[no-untyped-call]
            mine = near_query == query
            found = self._codebook.recall(queries[query], near_entry[mine], distance[mine])
            if found is None:
                continue
            changed = hidden.clone() if changed is None else changed
            row, position = int(rows[query]), int(positions[query])
            changed[row, position] = found.value.to(hidden)
            radius = float(radii[found.entry])
            firings.append(Firing(row, position, found.entry, found.distance, radius, found.match))
        record(firings)
        return changed

    def _copy_for(self, hidden: Tensor) -> tuple[Tensor, ...]:
        place = (hidden.device, hidden.dtype)
        if place not in self._copies:
            keys = self._codebook.keys.to(hidden.device).float()
            radii = self._codebook.radii_in(hidden.dtype).to(hidden.device)
            tokens = self._codebook.key_tokens.to(hidden.device)
            squares = keys.square().sum(1)
            token_set = tokens.unique()  # type: ignore[no-untyped-call]
            self._copies[place] = (keys, squares, radii.square(), radii, tokens, token_set)
        return self._copies[place]
