"""Shape annotations are executed: a function called with the wrong shape fails its test."""

import os
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

import tests.typechecker  # noqa: F401 - the hook finds it by name

# Before any test imports the package; kept for the whole session.
install_import_hook("matey", "tests.typechecker.check")

# No time limit per example: machines differ, and a busy one is not a broken one.
settings.register_profile("matey", deadline=None)
settings.load_profile("matey")

SHARED = Path(os.environ.get("MATEY_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real fields. Tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"real fields are not at {SHARED}; set MATEY_SHARED_DATA to their folder")
    return SHARED


@pytest.fixture(scope="session")
def well_python() -> str:
    """A Python that has the published `the_well`, which cannot live beside our own fsspec."""
    python = os.environ.get("MATEY_WELL_PYTHON")
    if not python:
        pytest.skip(
            "needs the_well: pip install the_well matplotlib into an environment of its own, and "
            "name its Python in MATEY_WELL_PYTHON"
        )
    return python
