"""The command `mledit`: a lazy group of verbs, and the one place where errors become exit codes."""

import gc
import importlib
import json
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from mlflow_edit.errors import MlflowEditError

VERBS = {
    "init": ("init", "Register the root version of NAME over a base model."),
    "apply": (
        "apply",
        "Learn the edits in FILEs, measure what they did, register a version of NAME.",
    ),
    "log": ("log", "Show the history of NAME, newest first, or only what is in B and not in A."),
    "show": ("show", "Show one version: who changed what and why, and how it measures."),
    "inspect": ("inspect", "Look at the entries of a version, or at one EDIT."),
    "ask": ("ask", "Show the base model's and the edited answer side by side."),
    "eval": ("evaluate", "Measure a version again, or on other probes; keep it as a run."),
    "diff": (
        "diff",
        "Show what differs from NAME@A to NAME@B: batches, edits, scopes, scores, answers.",
    ),
    "blame": ("blame", "Say which edit answers PROMPT, how near it is, and what brought it."),
    "revert": ("revert", "Take batches or edits out of NAME@REF, as a new version."),
    "cherry-pick": (
        "cherry_pick",
        "Bring batches of NAME@REF to another line, or to another model of the same base.",
    ),
    "merge": (
        "merge",
        "Join two versions of NAME; or finish, or give up, a merge that stopped at conflicts.",
    ),
    "conflicts": ("conflicts", "List, look at and resolve the conflicts of a merge that stopped."),
    "trace": (
        "trace",
        "Show which layers carry the answer to PROMPT, to choose the layers of an editor.",
    ),
    "rebase": (
        "rebase",
        "Carry the edits of NAME@REF to another base model; tell which it no longer needs.",
    ),
    "bisect": (
        "bisect",
        "Find which batch, or which smallest set of edits, makes NAME@BAD go wrong.",
    ),
    "promote": (
        "promote",
        "Point ALIAS at NAME@REF, if it meets the gate. Every move and refusal is recorded.",
    ),
    "rollback": (
        "rollback",
        "Point ALIAS at the version that held it before; again, at the one before that.",
    ),
    "protect": (
        "protect",
        "Let a gate stand on ALIAS of NAME, or take it off; without ALIAS, list the gates.",
    ),
    "approve": ("approve", "Approve NAME@REF, with a comment; the last word counts."),
    "reject": ("reject", "Reject NAME@REF, with a comment; the last word counts."),
    "verify": (
        "verify",
        "Check all that is stored of NAME, or of every model. Exits with 4 where it is not whole.",
    ),
    "gc": (
        "gc",
        "Remove what no version of NAME, or of any model, names: what crashes left behind.",
    ),
    "export": (
        "export",
        "Write NAME@REF into FOLDER: packed with all it needs, as a plain model, or as an adapter.",
    ),
    "ui": ("ui", "Start MLflow's server with the pages of mledit on the current store."),
    "demo": (
        "demo",
        "Correct eight mistakes of SmolLM2-135M, from download to registered version.",
    ),
}
UNEXPECTED, INTERRUPTED, BROKEN_PIPE = 70, 130, 141

QUIET = {
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}


class VerbGroup(click.Group):
    """Imports `mlflow_edit.cli.<verb>` only when that verb is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the verbs."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"mlflow_edit.cli.{VERBS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])


def _version() -> str:
    try:
        return version("mlflow-edit")
    except PackageNotFoundError:
        return "unknown"


@click.group(cls=VerbGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="mledit")
@click.option("--tracking-uri", metavar="URI", help="MLflow store; else MLFLOW_TRACKING_URI.")
def main(tracking_uri: str | None) -> None:
    """Version edits to models in the MLflow model registry.

    \b
    mledit demo                                  the whole path, on a real model
    mledit init NAME --base smollm2              register a base model
    mledit apply NAME edits.jsonl -m "Why"       learn, measure, register a version
    mledit ask NAME "Who won the World Cup?"     base and edited answer, side by side

    A version is NAME@REF: a number, an alias, 'head' or the beginning of a digest.
    """
    if tracking_uri:
        os.environ["MLFLOW_TRACKING_URI"] = tracking_uri


def run(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the code of DESIGN's error table."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    gc.set_threshold(100_000)  # importing MLflow makes garbage collection run hundreds of times
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    sys.exit(_exit_code(list(sys.argv[1:] if args is None else args)))


def _exit_code(args: list[str]) -> int:
    as_json = "--json" in args
    try:
        code = main.main(args=args or ["--help"], prog_name="mledit", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (KeyboardInterrupt, click.Abort):
        hint = "'mledit log NAME' shows whether a version was registered before."
        return _tell("interrupted", hint, {"type": "Interrupted"}, INTERRUPTED, as_json)
    except MlflowEditError as error:
        about = {"type": type(error).__name__, **error.details()}
        return _tell(error.message, error.hint, about, error.exit_code, as_json)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        advice = f"Try '{context.command_path} --help'." if context else None
        return _tell(error.format_message(), advice, {"type": "UsageError"}, 2, as_json)
    except Exception as error:
        if os.environ.get("MLEDIT_TRACEBACK"):
            raise
        said = f"unexpected {type(error).__name__}: {str(error)[:500]}"
        hint = "This is a defect. MLEDIT_TRACEBACK=1 shows where it comes from; please report it."
        return _tell(said, hint, {"type": "Unexpected"}, UNEXPECTED, as_json)


def _tell(message: str, hint: str | None, about: dict[str, Any], code: int, as_json: bool) -> int:
    if as_json:
        error = {**about, "message": message, "hint": hint, "exit_code": code}
        click.echo(json.dumps({"error": error}, ensure_ascii=False))
    else:
        click.echo(f"Error: {message}", err=True)
        if hint:
            click.echo(f"Hint: {hint}", err=True)
    return code
