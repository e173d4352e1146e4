#!/usr/bin/env bash
# Take a batch of edits from a laptop to production: learn, stage, review, promote, take back.
#
#     pip install -e '.[demo]'
#     examples/review_and_promote.sh [BASE] [EDITS]
#
# BASE is what `mledit init --base` takes. State goes to MLflow's store: `mlflow.db` in this folder,
# or MLFLOW_TRACKING_URI. Each run makes a model of its own.
set -euo pipefail

base=${1:-smollm2}
edits=${2:-$(dirname "$0")/edits/corrections.jsonl}
name=desk-$(date +%H%M%S)
gate=$(mktemp)
trap 'rm -f "$gate"' EXIT

cat >"$gate" <<'END'
min: {reliability: 0.9, locality: 0.9}
approved: {not_author: true}
END

say() { printf '\n# %s\n' "$*"; }

say "An author learns corrections: version 2, measured. Staging takes it as it is."
mledit init "$name" --base "$base"
mledit apply "$name" "$edits" -m "Corrections of this week" --author "Ada Byron"
mledit promote "$name@2" --to staging --author "Ada Byron"

say "Production has a gate that stands on the model: measured, and approved by somebody else."
mledit protect "$name" production --gate "$gate"
if mledit promote "$name@2" --to production --author "Ada Byron"; then
  echo "the gate let an unreviewed version pass" >&2
  exit 1
fi

say "A reviewer looks at what changes (or at review.html, or at the review queue in MLflow), and approves."
mledit diff "$name@1" "$name@2"
mledit approve "$name@2" -m "Checked against the sources" --author "Grace Murray"
mledit promote "$name@2" --to production --if-current none --author "Grace Murray"

say "One edit was wrong after all: a version without it, by the same way."
id=$(mledit inspect "$name" --json | python -c 'import json, sys; print(json.load(sys.stdin)["entries"][0]["edit_id"])')
mledit revert "$name" "$id" -m "Its source was withdrawn" --author "Ada Byron"
mledit approve "$name@3" -m "The source was withdrawn" --author "Grace Murray"
mledit promote "$name@3" --to production --if-current 2 --author "Grace Murray"

say "And back, in one step. Everything is on record."
mledit rollback "$name" production -m "It was right: the source is back" --author "Grace Murray"
mledit log "$name" --promotions
