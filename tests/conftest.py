"""Shape annotations are executed: a function called with the wrong shape fails its test."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

# Before anything imports torch: bits that are compared do not depend on how busy the machine is.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping
import pytest
from hypothesis import settings

import tests.typechecker

# Before any test imports the package; kept for the whole session.
jaxtyping.jaxtyped = tests.typechecker.checking
jaxtyping.install_import_hook("matey", "tests.typechecker.check")

# No time limit per example: machines differ, and a busy one is not a broken one.
settings.register_profile("matey", deadline=None)
settings.load_profile("matey")

SHARED = Path(os.environ.get("MATEY_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(autouse=True)
def notices() -> Iterator[None]:
    """Leave the level of the package's log as it was: scripts that are run here may raise it."""
    log = logging.getLogger("matey")
    level = log.level
    yield
    log.setLevel(level)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real fields. Tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(
            "needs files of PDEBench, miniWeather, the cavity and the Well, which are not at "
            f"{SHARED}: name a folder of them in MATEY_SHARED_DATA"
        )
    return SHARED


@pytest.fixture(scope="module")
def narrow_stencils() -> Iterator[None]:
    """Let stencils be narrow in a module that asks nothing of how well they fit."""
    from matey.nn.local.stencil import WIDTHS
    from tests.stencils import narrow

    usual = dict(WIDTHS)
    narrow()
    yield
    WIDTHS.update(usual)


@pytest.fixture
def bytes_read() -> Callable[[], int]:
    """How many bytes this process has asked the operating system for so far."""
    counter = Path("/proc/self/io")
    if not counter.exists():
        pytest.skip("needs Linux, which counts in /proc/self/io what a process reads")

    def count() -> int:
        lines = counter.read_text().splitlines()
        return int(dict(line.split(": ") for line in lines)["rchar"])

    return count


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
