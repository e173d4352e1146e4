"""Where local copies are kept: caches only, for every state lives in MLflow."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Return the folder of our caches: `MLEDIT_CACHE_DIR`, or the user's own."""
    return Path(os.environ.get("MLEDIT_CACHE_DIR") or user_cache_path("mledit"))
