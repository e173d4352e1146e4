"""Where a family of models keeps its layers: data in `architectures/`, not code."""

import inspect
import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from torch import nn
from transformers.pytorch_utils import Conv1D

from mlflow_edit.errors import UnsupportedModel
from mlflow_edit.patches.scope import ScopeKind

Task = Literal["causal", "seq2seq", "classifier"]

_NUMBER = re.compile(r"-?[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Family:
    """One row of the table: a family of models that are built alike.

    `stack` is the module that is given token ids and runs the blocks of `layers`. An edit is keyed
    at the `key_position` of the stack's tokens. `depth` is the share of the blocks below the one
    that is edited by default where its own output is the key, `encoder_depth` where an encoder
    decides: values put lower carry over to other contexts. `down_projection` is the path, inside a
    block, of the linear module that ends its feed-forward layer, and `rewrite` the shares of the
    depth between which editors of weights rewrite it.
    """

    family: str
    model_types: tuple[str, ...]
    task: Task
    stack: str
    layers: str
    key_position: Literal["first", "last"]
    depth: float
    encoder_depth: float = 0.4
    down_projection: str = ""
    rewrite: tuple[float, float] = (0.2, 0.35)


@dataclass(frozen=True, slots=True)
class Site:
    """Where edits go in one model: block number `index` of the blocks under `layers`."""

    family: Family
    layers: str
    index: int
    n_layers: int

    @property
    def layer(self) -> str:
        """The path of the edited block."""
        return f"{self.layers}.{self.index}"


@cache
def families() -> tuple[Family, ...]:
    """Read the table of families that ships with the package."""
    folder = resources.files("mlflow_edit.models") / "architectures"
    rows = [
        json.loads(item.read_text()) for item in folder.iterdir() if item.name.endswith(".json")
    ]
    listed: list[dict[str, Any]] = [
        {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
        for row in rows
    ]
    return tuple(Family(**row) for row in sorted(listed, key=lambda row: row["family"]))


def task_of(model: nn.Module) -> Task:
    """Tell what a model does, from its configuration and class."""
    config: Any = model.config
    if type(model).__name__.endswith("ForSequenceClassification"):
        return "classifier"
    return "seq2seq" if getattr(config, "is_encoder_decoder", False) else "causal"


def locate(
    model: nn.Module, layer: str | int | None = None, *, scope: ScopeKind = "hidden"
) -> Site:
    """Find the block to edit.

    Args:
        model: the base model.
        layer: the number of a block, the path of one (`model.layers.12`), or None for the
            family's default. A model of an unknown family needs a path.
        scope: what will decide whether an edit answers.

    Raises:
        UnsupportedModel: the family is unknown and no path is given, or there is no such block.
    """
    text = "" if layer is None else str(layer)
    if text and not _NUMBER.fullmatch(text):
        return _site_at(model, text)
    family = _known_family(model)
    if family is None:
        config: Any = model.config
        raise UnsupportedModel(
            f"models of type {config.model_type!r} ({type(model).__name__}) are not in the table",
            hint="Name the block to edit: --param layer=PATH, for example one of "
            + ", ".join(_block_lists(model)[:3] or ["model.layers.N"]),
        )
    n_layers = len(_blocks(model, family.layers))
    index = int(text) if text else _default_index(family, n_layers, scope)
    if not 0 <= index < n_layers:
        raise UnsupportedModel(
            f"layer {index} is out of range: the model has {n_layers} blocks, 0 to {n_layers - 1}",
            hint="Was it chosen for another model? Name one that this model has.",
        )
    return Site(family, family.layers, index, n_layers)


def rewritten_sites(model: nn.Module, layers: str | None = None) -> tuple[Site, ...]:
    """Find the blocks whose feed-forward weights are rewritten, the lowest first.

    Args:
        model: the base model.
        layers: their numbers, such as `7`, `5-9` or `4,6`; None for the family's default.

    Raises:
        UnsupportedModel: the family is unknown or has no such weights, or there is no such block.
    """
    known = locate(model, 0)
    if not known.family.down_projection:
        raise UnsupportedModel(f"where {known.family.family} models keep facts is not known")
    if layers is None:
        first, last = (round(share * known.n_layers) for share in known.family.rewrite)
        numbers = list(range(max(1, first), max(1, first, min(last, known.n_layers - 2)) + 1))
    else:
        numbers = _numbers(layers)
    if numbers[0] == 0:
        raise UnsupportedModel(
            "block 0 cannot be rewritten", hint="What is below it is needed; name a higher one."
        )
    return tuple(locate(model, number) for number in numbers)


def down_projection(site: Site) -> str:
    """Return the path of the linear module that ends the block's feed-forward layer."""
    return f"{site.layer}.{site.family.down_projection}"


def block_modules(model: nn.Module, layers: str | None = None) -> tuple[str, ...]:
    """Return the paths of the linear maps of some blocks, or of all of the model but its head.

    Raises:
        UnsupportedModel: as `locate`.
    """
    prefixes = _block_prefixes(model, layers)
    head: nn.Module | None = model.get_output_embeddings()  # type: ignore[operator]
    return tuple(
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and module is not head
        and path.startswith(prefixes)
    )


def block_parameters(model: nn.Module, layers: str | None = None) -> tuple[str, ...]:
    """Return the names of the floating-point parameters of some blocks, or of the whole model.

    Raises:
        UnsupportedModel: as `locate`.
    """
    prefixes = _block_prefixes(model, layers)
    return tuple(
        name
        for name, parameter in model.named_parameters()
        if parameter.is_floating_point() and name.startswith(prefixes)
    )


def _block_prefixes(model: nn.Module, layers: str | None) -> tuple[str, ...]:
    if layers is None:
        return ("",)
    return tuple(f"{locate(model, number).layer}." for number in _numbers(layers))


def _numbers(text: str) -> list[int]:
    """Read `5-9` or `4,6`.

    Raises:
        UnsupportedModel: it does not name blocks by number.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdigit() or not (last or first).isdigit() or len(part) > 20:
            raise UnsupportedModel(
                f"{text!r} does not name blocks by number", hint="For example: layers=5-9"
            )
        found.update(range(int(first), min(int(last or first), int(first) + 10_000) + 1))
    if not found:
        raise UnsupportedModel(f"{text!r} names no blocks", hint="For example: layers=5-9")
    return sorted(found)


def _default_index(family: Family, n_layers: int, scope: ScopeKind) -> int:
    """Take the family's share of the depth, but leave a block above it where answers are texts.

    What is put at the key token reaches the tokens behind it only through the attention above.
    """
    highest = n_layers - (1 if family.task == "classifier" else 2)
    depth = family.depth if scope == "hidden" else family.encoder_depth
    return max(0, min(round(depth * n_layers), highest))


def _known_family(model: nn.Module) -> Family | None:
    config: Any = model.config
    task = task_of(model)
    for family in families():
        if config.model_type in family.model_types and family.task == task:
            return family
    return None


def _site_at(model: nn.Module, path: str) -> Site:
    layers, _, number = path.rpartition(".")
    if not _NUMBER.fullmatch(number) or not 0 <= int(number) < len(_blocks(model, layers)):
        raise UnsupportedModel(
            f"no block {path!r} in {type(model).__name__}",
            hint="The path of a block in a list of blocks is needed, such as "
            + ", ".join(_block_lists(model)[:3]),
        )
    known = _known_family(model)
    if known is None or known.layers != layers:
        known = _family_at(model, layers)
    return Site(known, layers, int(number), len(_blocks(model, layers)))


def _family_at(model: nn.Module, layers: str) -> Family:
    """Describe the blocks under a path that is not in the table.

    Raises:
        UnsupportedModel: they are an encoder's, whose output is not read at one token.
    """
    task = task_of(model)
    stack = layers.rpartition(".")[0]
    while stack and not _reads_tokens(model.get_submodule(stack)):
        stack = stack.rpartition(".")[0]
    if task == "seq2seq" and model.get_submodule(stack) is not _decoder(model):
        raise UnsupportedModel(
            f"{layers!r} are not the blocks of the decoder of {type(model).__name__}",
            hint="In encoder-decoder models only blocks of the decoder can be edited.",
        )
    return Family("unknown", (), task, stack, layers, "last" if task == "causal" else "first", 0.77)


def _reads_tokens(module: nn.Module) -> bool:
    return "input_ids" in inspect.signature(module.forward).parameters


def _decoder(model: Any) -> Any:
    return model.get_decoder()


def _blocks(model: nn.Module, path: str) -> nn.ModuleList:
    try:
        blocks = model.get_submodule(path)
    except AttributeError as error:
        raise UnsupportedModel(f"{type(model).__name__} has no module {path!r}") from error
    if not isinstance(blocks, nn.ModuleList):
        raise UnsupportedModel(f"{path!r} is not a list of blocks")
    return blocks


def _block_lists(model: nn.Module) -> list[str]:
    return [
        f"{path}.{len(module) // 2}"
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) > 1
    ]
