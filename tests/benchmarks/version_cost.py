"""What does it take to load and to export a version, as each editor makes it?

    python tests/benchmarks/version_cost.py --data FOLDER --editors rome,memit,lora,finetune

One batch of zsRE and CounterFact edits (half of each, subjects of the test share) is learned by
each editor, with its default settings or with `--params`. Loading (reading and verifying the patch,
loading the base, composing, naming the weights) is timed in turn with loading the base; exporting
the merged model in turn with the same copy without edits. One JSON object for each editor.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from measuring import arguments, base_folder, paired, report
from scoring import half_of_each, settings

from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.catalog import find_editor
from mlflow_edit.models.base_model import load_base
from mlflow_edit.models.checkpoint import Checkpoint, outline
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.patches.composition import Composition, Part, compose
from mlflow_edit.patches.format import read_patch, write_patch
from mlflow_edit.patches.patch import Patch


def read(patch: Path) -> Composition:
    return compose([Part("0" * 64, read_patch(patch.read_bytes()))])


def load_cost(folder: Path, patch: Path, repeats: int) -> dict[str, float]:
    """Time loading a version against loading its base."""

    def plain() -> None:
        load_base(folder)

    def edited() -> None:
        with EditedModel(load_base(folder), read(patch)) as model:
            assert model.weights_digest

    base, seconds, ratio = paired(plain, edited, repeats=repeats)
    return {"load_base_seconds": base, "load_seconds": seconds, "load_times_base": ratio}


def export_cost(folder: Path, patch: Path, target: Path, repeats: int) -> dict[str, float]:
    """Time exporting a version against copying its base."""
    target.mkdir()
    stored, model = Checkpoint(folder), outline(folder)

    def exported() -> None:
        weights = read(patch).weights
        assert weights is not None
        names = stored.names_of(model, weights.touched)
        edits = {one: partial(weights.materialise, n) for n in names for one in names[n]}
        stored.copy(target, edits)

    copy, seconds, ratio = paired(lambda: stored.copy(target, {}), exported, repeats=repeats)
    return {"copy_seconds": copy, "export_seconds": seconds, "export_times_copy": ratio}


def cost_of(name: str, folder: Path, batch: EditBatch, scratch: Path, args: Any) -> dict[str, Any]:
    """Learn a batch, and time what its version takes."""
    base = load_base(folder)
    editor = find_editor(name, settings(args.params))
    learned: Patch = editor.learn(base, batch, lambda *said: None).patch
    changed: Any = compose([Part("0" * 64, learned)]).weights
    sizes = {n: p.numel() for n, p in base.model.named_parameters()}
    patch = scratch / f"{name}.safetensors"
    patch.write_bytes(write_patch(learned))
    n_bytes = patch.stat().st_size
    return {
        "editor": name,
        "params": settings(args.params),
        "n_edits": args.n_edits,
        "solved": len(changed.parts[0][1].edit_ids),
        "changed": sum(sizes[n] for n in changed.touched) / sum(sizes.values()),
        "bytes": n_bytes,
        "bytes_of_checkpoint": n_bytes / sum(f.stat().st_size for f in Checkpoint(folder).files),
        **load_cost(folder, patch, args.repeats),
        **export_cost(folder, patch, scratch / name, args.repeats),
    }


def main() -> None:
    args = arguments(
        __doc__,
        data=None,
        editors="rome,memit,lora,finetune",
        params="",
        n_edits=10,
        repeats=7,
    )
    batch = EditBatch(tuple(half_of_each(Path(args.data), args.n_edits, "test")))
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.editors.split(","):
            report(**cost_of(name, base_folder(args.base), batch, Path(scratch), args))


if __name__ == "__main__":
    main()
