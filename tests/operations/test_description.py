"""The Markdown of a version's page: whole, short and harmless, whatever the edits say."""

import re

import pytest

from mlflow_edit.core.markdown import plain
from mlflow_edit.core.results import ProbeResult
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.evaluation.evaluate import Evaluation
from mlflow_edit.operations.description import MAX_CHARACTERS, description
from mlflow_edit.registry.registry import VersionInfo

INFO = VersionInfo(
    name="m", version=2, digest="d" * 64, content_digest="c" * 64, parents=(), author="Ada",
    created_at="", message="", run_id="the-run", model_id="m-1", n_edits=1, n_batches=1,
)  # fmt: skip
HOSTILE = [
    "| a | b |\n| --- |", "<script>alert(1)</script>", "[x](javascript:alert(1))", "![x](http://x/y)",
    "`code` **bold** _it_", "\x1b[31mred\u202edlo", "&" * 300, "\\|\\", "# head\r\n- item",
    "é" * 5000,
    "\x00\x07", "~~~\n```", "http://example.org/x?a=b",
]  # fmt: skip


def row(prompt: str, answer: str, *, ok: bool = True) -> ProbeResult:
    return ProbeResult(
        metric="reliability", prompt=prompt, expected=("x",), before=answer, after=answer, ok=ok
    )


def written(texts: list[str], *, message: str = "why", unsolved: list[str] | None = None) -> str:
    card = Scorecard(reliability=1.0, locality=0.5)
    evaluation = Evaluation(card, tuple(row(text, text) for text in texts))
    return description(
        INFO, message=message, author="Ada", base="b" * 64, evaluation=evaluation,
        unsolved=unsolved or [],
    )  # fmt: skip


def test_what_it_says() -> None:
    text = description(
        INFO, message="Correct it", author="Ada", base="b" * 64,
        evaluation=Evaluation(Scorecard(reliability=0.5), (row("q", "a"), row("r", "b", ok=False))),
        unsolved=["e-1"],
    )  # fmt: skip
    assert text.splitlines() == [
        "**Correct it** — Ada",
        "",
        "| reliability |",
        "| --- |",
        "| 0.500 |",
        "",
        "| asked | before | after | |",
        "| --- | --- | --- | --- |",
        "| q | a | a | ok |",
        "| r | b | b | **failed** |",
        "",
        "Not learned: e-1",
        "",
        "Review page: `review.html` of run `the-run`. "
        "Digest `dddddddddddd`, base model `bbbbbbbbbbbb`.",
    ]


@pytest.mark.parametrize("n", [1, 19, 20, 21, 500])
@pytest.mark.parametrize("text", [*HOSTILE, "plain"])
def test_it_fits_and_ends_with_where_to_look(n: int, text: str) -> None:
    made = written([text] * n, message=text * 50, unsolved=[text] * n)
    assert len(made) <= MAX_CHARACTERS
    assert made.splitlines()[-1].startswith("Review page: `review.html`")
    shown = made.count(" | ok |")
    assert shown >= 1
    assert shown == n or f"and {n - shown} more." in made


@pytest.mark.parametrize("text", HOSTILE)
def test_text_stays_in_its_cell(text: str) -> None:
    made = written([text])
    (line,) = [line for line in made.splitlines() if line.endswith(" | ok |")]
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 5
    assert "<" not in made
    assert "\x1b" not in made
    assert "\u202e" not in made
    assert not re.search(r"(?<!\\)\]\(", made)


def test_plain_text_is_one_short_line() -> None:
    assert plain("a\n\tb  c", 20) == "a b c"
    assert plain("x" * 30, 10) == "x" * 9 + "…"
    assert plain("x" * 10, 10) == "x" * 10
    assert plain("*" * 30, 10) == "\\*" * 4 + "…"
    assert plain("&" * 30, 10) == "&amp;…"
