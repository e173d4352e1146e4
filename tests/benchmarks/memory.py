"""Measure the peak memory of loading a version and of applying a batch, against the base's size.

    python tests/benchmarks/memory.py --data zsre.jsonl --n-edits 64

Each step runs in a process of its own. Counted is the peak of the resident set less what the
imports take; pages of the weight file that the kernel keeps mapped count as well.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import arguments, base_folder, consistent_edits, report, write_edits

SETUP = """
import resource, sys, torch, transformers, mlflow, mlflow.pyfunc, mlflow_edit
import mlflow_edit.operations.apply, mlflow_edit.registry.flavor
import mlflow_edit.registry.mlflow_registry
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
{body}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, before)
"""


def peak(body: str) -> int:
    """Return the bytes that a piece of code adds to the peak resident set of a process."""
    code = SETUP.format(body=body)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return 1024 * int(done.stdout.split()[-2])


def main() -> None:
    args = arguments(__doc__, data=None, n_edits=64)
    folder = base_folder(args.base).resolve()
    index = json.loads((folder / "config.json").read_text())
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///mlflow.db"
        write_edits(list(consistent_edits(args.data, args.n_edits)), Path("edits.jsonl"))
        peak(f"mlflow_edit.init('memory', base={str(folder)!r})")
        plain = peak(
            f"import torch; from transformers import AutoModelForCausalLM as A\n"
            f"m = A.from_pretrained({str(folder)!r}, dtype=torch.float32)\n"
            f"print(sum(p.numel() * 4 for p in m.parameters()), file=sys.stderr)"
        )
        apply = peak("mlflow_edit.apply('memory', ['edits.jsonl'])")
        load = peak("mlflow_edit.load('memory')")
    report(
        model=index.get("_name_or_path"),
        bytes_transformers_load=plain,
        bytes_load=load,
        bytes_apply=apply,
        load_over_transformers=load / plain,
        apply_over_transformers=apply / plain,
    )


if __name__ == "__main__":
    main()
