"""What is written is whole or not there, and any program can read it."""

import json
import math

import pytest

from matey.errors import CheckpointError, DataError
from matey.output import replacing, to_json, write_text


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def interrupted():
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_takes_the_place_of_the_one_before_as_a_whole(tmp_path):
    for name in ("old", "new"):
        with replacing(tmp_path / "model") as temporary:
            temporary.mkdir()
            (temporary / name).write_text(name)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["new"]


def test_a_folder_that_fails_half_way_leaves_the_one_before(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/old").write_text("old")

    def fail():
        with replacing(tmp_path / "model", CheckpointError) as temporary:
            temporary.mkdir()
            (temporary / "new").write_text("new")
            raise OSError("disk full")

    with pytest.raises(CheckpointError, match=r"model cannot be written: disk full"):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model/old").read_text() == "old"


def test_a_folder_does_not_take_the_place_of_a_file(tmp_path):
    (tmp_path / "model").write_text("a file")

    def write():
        with replacing(tmp_path / "model", CheckpointError) as temporary:
            temporary.mkdir()

    with pytest.raises(CheckpointError, match="model cannot be written"):
        write()
    assert (tmp_path / "model").read_text() == "a file"


def test_a_name_with_nul_is_refused(tmp_path):
    with pytest.raises(DataError, match="NUL"):
        write_text(tmp_path / "a\0b", "text")


def test_numbers_that_are_not_finite_are_null():
    record = {"loss": math.inf, "list": (1.5, math.nan), "step": 3, "name": "a"}
    assert json.loads(to_json(record)) == {
        "loss": None,
        "list": [1.5, None],
        "step": 3,
        "name": "a",
    }
