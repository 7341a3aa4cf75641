"""Damaged files of every format that is loaded: a result or a MateyError, and no huge allocation.

The bytes of small real files are changed, cut, repeated and filled in, alike in every run; the slow
one is longer, and as long as MATEY_FUZZ says: `MATEY_FUZZ=1000` takes minutes.
"""

import logging
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matey.errors import MateyError
from tests.hostile import samples

MANY = int(os.environ.get("MATEY_FUZZ", "200"))  # damaged versions of each file in the slow run
MOST = 256 * 2**20  # bytes of memory that a load may take; the files have a few kilobytes
NAMES = (
    *("2D_rdb.h5", "a.hdf5", "a.npy", "a.npz", "classic.nc", "netcdf4.nc", "offset64.nc"),
    *("config.yaml", "model", "checkpoint", "run"),
)
LARGE = (b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, (2**40).to_bytes(8, "little"))
HEADER = 1000  # damage lies here more often: numbers here say what the rest is


@st.composite
def damage(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with a few bytes replaced, removed, repeated or filled in, or cut short."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        if not found:
            break
        end = len(found) if draw(st.booleans()) else min(len(found), HEADER)
        place, span = draw(st.integers(0, end - 1)), draw(st.integers(1, 50))
        change = draw(st.sampled_from(("byte", "byte", "large", "text", "remove", "repeat", "cut")))
        if change == "byte":
            found[place] = draw(st.integers(0, 255))
        elif change == "large":
            found[place : place + 8] = draw(st.sampled_from(LARGE))
        elif change == "text":
            text = draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8))
            found[place:place] = text.encode()
        elif change == "remove":
            del found[place : place + span]
        elif change == "repeat":
            found[place:place] = found[place : place + span]
        else:
            del found[place:]
    return bytes(found)


def resident(what: str) -> int:
    """Resident memory of this process: now (VmRSS), or the most (VmHWM), in bytes.

    Address space would count what HDF5 reserves, and never touches, for a chunk that claims up to
    4 GiB.
    """
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"^{what}:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return samples(tmp_path_factory.mktemp("samples"))


def attack(files, name: str, quiet, examples: int) -> None:
    """Load many damaged versions of one file, or of a folder with one of its files damaged."""
    path, load = files[name]
    parts = sorted(path.iterdir()) if path.is_dir() else [path]
    contents = {part: part.read_bytes() for part in parts}
    quiet.set_level(logging.CRITICAL)
    load(path)
    outcomes = set()

    @settings(
        max_examples=examples,
        derandomize=True,  # the same damage in every run
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        part = data.draw(st.sampled_from(parts))
        rewrite(part, data.draw(damage(contents[part])))
        Path("/proc/self/clear_refs").write_text("5")  # forget the most so far
        before = resident("VmRSS")
        try:
            load(path)
            outcomes.add("a result")
        except MateyError:
            outcomes.add("an error")
        finally:
            rewrite(part, contents[part])
        assert resident("VmHWM") < before + MOST, "a huge allocation"

    check()
    assert "an error" in outcomes, "the damage was never found: nothing was tested"


def rewrite(path: Path, content: bytes) -> None:
    path.unlink()  # a handle that is open still sees the old file
    path.write_bytes(content)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(),
    reason="needs Linux, which tells resident memory in /proc/self/clear_refs",
)


@needs_proc
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_gives_a_result_or_one_of_our_errors(files, name, caplog):
    attack(files, name, caplog, examples=25)


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_hundreds_of_damaged_files_give_results_or_our_errors(files, name, caplog):
    attack(files, name, caplog, examples=MANY)


def test_every_sample_is_attacked(files):
    assert set(files) == set(NAMES)
