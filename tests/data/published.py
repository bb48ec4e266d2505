"""Files that others have published, for the tests that read them."""

import os
from pathlib import Path

import pytest


def require_published(*names: str) -> None:
    """Skips the test where a file or folder in ``$MODELEDIT_DATA_DIR`` is missing."""
    folder = os.environ.get("MODELEDIT_DATA_DIR")
    missing = [name for name in names if not folder or not (Path(folder) / name).exists()]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} in $MODELEDIT_DATA_DIR")
