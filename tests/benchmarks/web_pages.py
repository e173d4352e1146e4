"""Time the pages inside the MLflow server: in Chromium, and asked for a hundred at a time.

python tests/benchmarks/web_pages.py --n-edits 1000 --n-versions 100 --n-workers 2
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import requests
from measuring import arguments, report
from playwright.sync_api import Browser, sync_playwright
from registry_fixtures import base_folder, template_database
from servers import start_server
from web.stories import Story, support_bot, thousand_edits

from mlflow_edit.registry.mlflow_registry import MlflowRegistry

SCRATCH = Path(tempfile.mkdtemp(prefix="mledit-web-pages-"))
VIEWS = 10  # in fresh contexts of the browser; the median is told
ROUNDS = 3
TIMES = """() => {
  const [page] = performance.getEntriesByType("navigation");
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  return [page.responseStart, paint.startTime, page.loadEventEnd].map((ms) => ms / 1000);
}"""


def long_history(registry: MlflowRegistry, n: int) -> None:
    """Publish many versions, one after another, now and then beside the last."""
    story = Story(registry, "long", base_folder())
    story.tell("As delivered")
    for number in range(1, n):
        story.tell(f"Step {number}", max(1, number - (number % 10 == 0)), measured=False)


def first_view(browser: Browser, address: str) -> list[float]:
    """Return seconds until the answer began, the first paint and the end of loading."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(address, wait_until="load")
    while not page.evaluate("performance.getEntriesByName('first-contentful-paint').length"):
        page.wait_for_timeout(20)  # it is noted down a little after the load
    times: list[float] = page.evaluate(TIMES)
    context.close()
    return times


def views(address: str) -> dict[str, Any]:
    """Look at a page in Chromium for the first time, and then again and again."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        first = first_view(browser, address)
        times = [first_view(browser, address) for _ in range(VIEWS)]
        browser.close()
    medians = [round(statistics.median(one), 3) for one in zip(*times, strict=True)]
    names = ("answered", "painted", "loaded")
    return {
        "first": dict(zip(names, (round(t, 3) for t in first), strict=True)),
        "median": dict(zip(names, medians, strict=True)),
        "slowest_loaded": round(max(one[2] for one in times), 3),
    }


def asked(address: str) -> tuple[int, float]:
    """Ask for a page as a browser would that has nothing yet."""
    start = time.perf_counter()
    status = requests.get(address, timeout=120).status_code
    return status, time.perf_counter() - start


def at_once(addresses: list[str], n: int = 100) -> dict[str, Any]:
    """Ask for `n` pages at the same time, of every kind, a few rounds."""
    wanted = [addresses[i % len(addresses)] for i in range(n)]
    statuses: list[int] = []
    times: list[float] = []
    spent = []
    with ThreadPoolExecutor(n) as pool:
        for _ in range(ROUNDS):
            start = time.perf_counter()
            for status, seconds in pool.map(asked, wanted):
                statuses.append(status)
                times.append(seconds)
            spent.append(time.perf_counter() - start)
    times.sort()
    return {
        "answers": len(statuses),
        "errors": sum(status != 200 for status in statuses),
        "seconds_median": round(statistics.median(times), 2),
        "seconds_95_percent": round(times[int(len(times) * 0.95)], 2),
        "seconds_slowest": round(times[-1], 2),
        "views_per_second": round(len(times) / sum(spent), 1),
    }


def main() -> None:
    args = arguments(__doc__, n_edits=1000, n_versions=100, n_workers=2)
    os.environ |= {"MLEDIT_CACHE_DIR": str(SCRATCH / "cache"),
                   "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}  # fmt: skip
    os.chdir(SCRATCH)
    shutil.copy(template_database(), SCRATCH / "mlflow.db")
    store = f"sqlite:///{SCRATCH}/mlflow.db"
    registry = MlflowRegistry(store)
    support_bot(registry, base_folder())
    thousand_edits(registry, base_folder(), "many", n=args.n_edits)
    long_history(registry, args.n_versions)
    server = start_server(
        SCRATCH / "server",
        stores=["--backend-store-uri", store, "--no-serve-artifacts"],
        options=["--app-name", "mledit", "--workers", str(args.n_workers)],
    )
    try:
        site = f"{server.uri}/mledit"
        pages = {
            "models": site,
            "history": f"{site}/history?name=support-bot",
            "history_long": f"{site}/history?name=long",
            "version": f"{site}/version?name=support-bot&version=5",
            "version_many": f"{site}/version?name=many&version=2",
            "version_many_search": f"{site}/version?name=many&version=2&q=number+77,",
            "diff": f"{site}/diff?name=support-bot&version=5&with=2",
            "diff_many": f"{site}/diff?name=many&version=2&with=1",
            "decisions": f"{site}/decisions?name=support-bot",
            "review_many": f"{site}/review?name=many&version=2",
        }
        found: dict[str, Any] = {"chromium_version_many": views(pages["version_many"])}
        for name, address in pages.items():
            answers = [asked(address) for _ in range(VIEWS)]
            found[f"seconds_{name}"] = round(statistics.median(s for _, s in answers), 3)
            found[f"bytes_{name}"] = len(requests.get(address, timeout=60).content)
        found["at_once"] = at_once(list(pages.values()))
        report(**found)
    finally:
        server.kill()
        shutil.rmtree(SCRATCH, ignore_errors=True)


if __name__ == "__main__":
    main()
