"""Time the review page in Chromium: first view, search, filter and sort; and count its bytes.

python tests/benchmarks/review_page.py --n-edits 1000 --repeats 5
python tests/benchmarks/review_page.py --n-edits 2000 --repeats 5 --data counterfact.jsonl

Without --data the edits are made up, each with five probes. With it prompts and targets are those
of the file; answers are made up of its targets, so that nothing has to be learned.
"""

import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from measuring import arguments, consistent_edits, report
from playwright.sync_api import Page, sync_playwright

from mlflow_edit.core.results import ProbeResult
from mlflow_edit.core.review import Review
from mlflow_edit.review.page import review_page

sys.path.append(str(Path(__file__).parents[1] / "review"))
from reviews import entry, many, result, review

FIRST_VIEW = """() => new Promise((done) => {
    const [page] = performance.getEntriesByType("navigation");
    new PerformanceObserver((seen) => {
        const [paint] = seen.getEntriesByName("first-contentful-paint");
        if (paint) done({ paint: paint.startTime, ready: page.domContentLoadedEventEnd });
    }).observe({ type: "paint", buffered: true });
})"""
TIMED = """async (act) => {
    const start = performance.now();
    eval(act);
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    return performance.now() - start;
}"""
LIST = "document.querySelector('#edits')"
ACTS = {
    "sort": f"{LIST}.querySelectorAll('th button')[1].click()",
    "search": f"Object.assign({LIST}.querySelector('[type=search]'), {{value: 'who w'}}).oninput()",
    "clear": f"Object.assign({LIST}.querySelector('[type=search]'), {{value: ''}}).oninput()",
    "filter": f"{LIST}.querySelector('[type=checkbox]')?.click()",
}


def made_from(path: str, n_edits: int) -> Review:
    """Make a review of the edits of a file, with answers that were never given."""
    draw = random.Random(0)
    edits = consistent_edits(path, n_edits).edits
    words = [word for edit in edits for word in edit.target.split()]

    def answer() -> str:
        return " ".join(draw.choices(words, k=draw.randint(1, 9))) + "."

    rows: list[ProbeResult] = []
    for i, edit in enumerate(edits):
        rows.append(result(edit, before=answer(), after=edit.target, ok=i % 20 != 0))
        for prompt in edit.rephrases:
            right = draw.random() < 0.9
            after = edit.target if right else answer()
            rows.append(result(edit, "generality", prompt=prompt, after=after, ok=right))
        for probe in edit.locality:
            same, fired = answer(), None
            rows.append(
                result(edit, "locality", prompt=probe.prompt, before=same, after=same, fired=fired)
            )
    entries = (
        entry(i, edit_id=edit.id, prompt=edit.prompt, target=edit.target)
        for i, edit in enumerate(edits)
    )
    return review(edits=edits, results=tuple(rows), entries=tuple(entries), editor="grace")


def measured(page: Page, url: str) -> dict[str, float]:
    """Open the page and use its longest list; everything is told in milliseconds."""
    page.goto("about:blank")
    page.goto(url)
    figures = dict(page.evaluate(FIRST_VIEW))
    return figures | {name: page.evaluate(TIMED, act) for name, act in ACTS.items()}


def main() -> None:
    args = arguments(__doc__, data=None, n_edits=1000, repeats=5)
    it = made_from(args.data, args.n_edits) if args.data else many(args.n_edits)
    review_page(many(1))  # templates are compiled once
    start = time.perf_counter()
    html = review_page(it)
    seconds = time.perf_counter() - start
    path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "review.html"
        file.write_text(html, encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        runs = [measured(page, file.as_uri()) for _ in range(args.repeats)]
        version = browser.version
        browser.close()
    report(
        n_edits=len(it.edits),
        n_answers=len(it.results),
        bytes=len(html.encode()),
        seconds_to_write=round(seconds, 2),
        milliseconds={
            name: {
                "median": round(statistics.median(run[name] for run in runs)),
                "most": round(max(run[name] for run in runs)),
            }
            for name in runs[0]
        },
        chromium=version,
    )


if __name__ == "__main__":
    main()
