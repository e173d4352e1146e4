"""Count what versions cost in a real MLflow store.

python tests/benchmarks/storage.py --data zsre.jsonl --n-edits 100
"""

import os
import tempfile
from pathlib import Path

from measuring import arguments, base_folder, consistent_edits, report, write_edits


def size(folder: Path) -> int:
    """Return the bytes of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    args = arguments(__doc__, data=None, n_edits=100, n_applies=10)
    folder = base_folder(args.base).resolve()
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///mlflow.db"
        import mlflow_edit

        store = Path("mlruns")
        mlflow_edit.init("storage", base=str(folder))
        before = size(store)
        edits = list(consistent_edits(args.data, args.n_edits + args.n_applies))
        made = mlflow_edit.apply("storage", [write_edits(edits[: args.n_edits], Path("e.jsonl"))])
        version = size(store) - before
        manifest = next(p for p in store.rglob("manifest.json") if made.digest in p.read_text())
        parts = {}
        for path in store.rglob("*"):
            if path.is_file() and {made.run_id, made.model_id} & set(path.parts):
                parts[path.name] = path.stat().st_size
        for i in range(args.n_applies):
            file = write_edits(edits[args.n_edits + i : args.n_edits + i + 1], Path(f"{i}.jsonl"))
            last = mlflow_edit.apply("storage", [file])
        report(
            n_edits=args.n_edits,
            bytes_of_version=version,
            bytes_of_manifest=manifest.stat().st_size,
            files=parts,
            batches_stored_after_applies=len(list(store.rglob("patch.safetensors"))),
            applies=1 + args.n_applies,
            batches_in_last_manifest=last.n_batches,
        )


if __name__ == "__main__":
    main()
