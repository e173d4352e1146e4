"""`mledit trace`."""

import click

from mlflow_edit.cli import options

BAR = 40


@click.command("trace")
@click.argument("model", metavar="MODEL")
@click.argument("prompt", metavar="PROMPT")
@click.option(
    "--subject", metavar="TEXT", help="What PROMPT is about; else the longest name in it."
)
@click.option(
    "--samples",
    default=10,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="How many times noise is drawn.",
)
@click.option(
    "--noise",
    default=3.0,
    show_default=True,
    type=click.FloatRange(0, 1000, min_open=True),
    help="Its size, in standard deviations of the embeddings.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the noise.")
@options.quiet
@options.as_json
def command(
    model: str,
    prompt: str,
    subject: str | None,
    samples: int,
    noise: float,
    seed: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Show which layers carry the answer to PROMPT, to choose the layers of an editor.

    MODEL is NAME@REF, or a base as 'mledit init' takes it.
    """
    from mlflow_edit.cli import render
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.operations.trace import trace

    with reporting(quiet=quiet) as reporter:
        found = trace(
            model,
            prompt,
            subject=subject,
            n_samples=samples,
            noise=noise,
            seed=seed,
            reporter=reporter,
        )
    if as_json:
        render.print_json("trace", found.model_dump(mode="json"))
        return
    most = max(max(found.effects), 1e-9)
    rows = [
        (str(i), f"{effect:+.3f}", "█" * round(BAR * max(0.0, effect) / most))
        for i, effect in enumerate(found.effects)
    ]
    said = (
        f"{found.answer!r} at {found.clean:.2f}; with noise on {found.subject!r} {found.noised:.2f}"
    )
    render.print_all([render.line(said, "bold"), render.table(["layer", "effect", ""], rows)])
