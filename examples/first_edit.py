"""Correct one fact of a small real model, and ask it before and after.

    pip install -e '.[demo]'
    python examples/first_edit.py

State goes to MLflow's store: a database `mlflow.db` in this folder, or MLFLOW_TRACKING_URI.
"""

from pathlib import Path

import mlflow_edit

EDITS = Path(__file__).parent / "edits" / "corrections.jsonl"
QUESTIONS = ["Which country joined NATO in 2024?", "Where are the headquarters of NATO?"]

mlflow_edit.init("first-edit", base="smollm2")
version = mlflow_edit.apply("first-edit", [EDITS], message="Events of 2023 and 2024")
assert version.scorecard is not None
for metric in ("reliability", "generality", "locality"):
    print(f"{metric} {version.scorecard[metric]:.2f}")

answers = mlflow_edit.ask(f"first-edit@{version.version}", QUESTIONS, max_new_tokens=24)
for answer in answers.answers:
    fired = answer.fired.edit_id if answer.fired else "no edit fired"
    print(f"{answer.prompt}\n  base   {answer.base}\n  edited {answer.edited}  ({fired})")
