"""Draw what `retention.py` found, and print it as a table.

One panel for each metric, one line for each editor.

python tests/benchmarks/plot_retention.py curves.jsonl docs/retention.svg
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

PANELS = {
    "reliability": "retention: edits so far that are answered",
    "generality": "generality: rephrases that are answered",
    "locality": "locality: neighbours unchanged",
    "perplexity_ratio": "perplexity, edited / base",
    "cpu_seconds_per_edit": "processor seconds per edit",
    "bytes_per_edit": "bytes per edit",
}
SHARES = ("reliability", "generality", "locality")
COLLAPSED = 0.5  # of the edits are answered: less is called a collapse
MARKS = "os^Dvx*P"


def draw(rows: list[dict[str, Any]]) -> Any:
    """Draw all panels; shares on a scale from 0 to 1, the others on a logarithmic one."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.4), layout="constrained")
    editors = sorted({row["editor"] for row in rows})
    for axis, (metric, title) in zip(axes.flat, PANELS.items(), strict=True):
        for editor, mark in zip(editors, MARKS, strict=False):
            mine = {row["n_edits"]: row[metric] for row in rows if row["editor"] == editor}
            points = sorted((n, value) for n, value in mine.items() if value is not None)
            axis.plot(*zip(*points, strict=True), marker=mark, label=editor, clip_on=False)
        axis.set(title=title, xscale="log", xlabel="edits, one batch on another")
        axis.grid(alpha=0.3)
        if metric in SHARES:
            axis.set_ylim(0, 1)
        else:
            axis.set_yscale("log")
    axes[0, 0].legend()
    return figure


def table(rows: list[dict[str, Any]]) -> str:
    """Write a row of Markdown for each point; where less than half is held, the name is bold."""
    names = ["solved", "reliability", "generality", "locality", "unrelated", "perplexity_ratio"]
    names += ["cpu_seconds_per_edit", "bytes_per_edit"]
    lines = ["| editor | edits | " + " | ".join(name.replace("_", " ") for name in names) + " |"]
    lines.append("|---" * (2 + len(names)) + "|")
    for row in sorted(rows, key=lambda row: (row["editor"], row["n_edits"])):
        shown = ["" if row[name] is None else f"{row[name]:,}" for name in names]
        editor = row["editor"] if row["reliability"] >= COLLAPSED else f"**{row['editor']}**"
        lines.append(f"| {editor} | {row['n_edits']:,} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> None:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    rows = [json.loads(line) for line in source.read_text("utf-8").splitlines() if line.strip()]
    mpl.rcParams["svg.hashsalt"] = "retention"  # the same figures, the same file
    print(table(rows))
    draw(rows).savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
