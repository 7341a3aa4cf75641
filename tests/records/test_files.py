"""A record read again is the record that was written; one that does not fit is named."""

import json
import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import pytest

from matey.errors import DataError
from matey.records.files import Endless, RecordFile, read
from matey.records.run import read_log
from matey.records.scores import Curve
from tests.studies.helpers import outcome


@dataclass(frozen=True)
class Wave(RecordFile):
    """Heights by place, as a file of version 3."""

    FORMAT: ClassVar[int] = 3
    REMEDY: ClassVar[str] = "Measure it again."

    kind: Literal["sine", "tide"]
    places: tuple[tuple[int, float], ...]
    heights: dict[str, list[float]]
    limit: Endless = math.inf
    note: str | None = None


WAVE = Wave("sine", ((1, 0.5), (2, math.nan)), {"x": [1.0, 2.5]}, limit=math.inf, note="calm")


def test_a_record_comes_back_as_it_was_written(tmp_path):
    WAVE.save(tmp_path / "wave.json")
    found = Wave.load(tmp_path / "wave.json")
    assert replace(found, places=()) == replace(WAVE, places=())
    assert found.places[0] == (1, 0.5)
    assert math.isnan(found.places[1][1])
    assert json.loads((tmp_path / "wave.json").read_text())["limit"] is None


def test_the_outcome_of_a_training_that_diverged_has_endless_errors_again(tmp_path):
    lost = outcome("a", "steps", 0, math.inf)
    lost.save(tmp_path / "cell.json")
    assert type(lost).load(tmp_path / "cell.json") == lost


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": 4}, "has format 4, but this version reads 3. Measure it again."),
        ({"kind": "wind"}, "is damaged: kind is 'wind', expected one of sine, tide. Measure it"),
        ({"heights": {"x": ["high"]}}, "heights.x.0 is 'high', expected a number"),
        ({"heights": {"x": [True]}}, "heights.x.0 is True, expected a number"),
        ({"heights": [1]}, "heights is [1], expected names and values"),
        ({"places": [[1, 2, 3]]}, "places.0 is [1, 2, 3], expected 2 items"),
        ({"places": [[-1, 2]]}, "places.0.0 is -1, expected a count"),
        ({"note": 3}, "note is 3, expected a text"),
    ],
)
def test_a_damaged_record_is_named_with_the_key_and_the_way_out(tmp_path, change, complaint):
    path = tmp_path / "wave.json"
    WAVE.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError) as error:
        Wave.load(path)
    assert str(error.value).startswith(f"{path} ")
    assert complaint in str(error.value)


def test_a_key_that_is_absent_takes_the_default_or_is_missed():
    assert read(Wave, {"kind": "tide", "places": [], "heights": {}, "newer": 1}).note is None
    with pytest.raises(ValueError, match="has no 'places'; found"):
        read(Wave, {"kind": "tide", "heights": {}})


def test_skill_is_of_the_errors_and_undefined_where_persistence_is_exact():
    skill = Curve([0.5, 1.0, math.inf], [1.0, 0.0, 2.0]).skill
    assert skill[0] == 0.5
    assert math.isnan(skill[1])
    assert skill[2] == -math.inf


def test_operations_follow_from_the_rates_of_a_log(tmp_path):
    """8 windows at 4 per second are 2 seconds of steps, at 3 GFLOP/s 6 GFLOP."""
    line = {"kind": "train", "step": 1, "loss": None, "windows": 8, "windows_per_second": 4.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps({**line, "flop_per_second": 3e9}) + "\n")
    (record,) = read_log(tmp_path).train
    assert (record.seconds, record.operations) == (2.0, 6e9)
    assert math.isnan(record.loss)


@dataclass(frozen=True)
class EitherOr:
    """A field of one word or several."""

    join: Literal["time", "run"] | tuple[Literal["time", "run"], ...] = ()


@pytest.mark.parametrize("given", ["time", ("time", "run"), ()])
def test_one_word_or_several_are_read(given):
    assert (
        read(EitherOr, {"join": list(given) if isinstance(given, tuple) else given}).join == given
    )
    with pytest.raises(ValueError, match="join"):
        read(EitherOr, {"join": "space"})
