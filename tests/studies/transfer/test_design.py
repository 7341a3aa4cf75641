import math
from dataclasses import replace

import pytest

from matey.config import DataConfig, SourceConfig
from matey.errors import ConfigError
from matey.studies.design import Material
from matey.studies.scales import TRANSFER
from matey.studies.systems import Source
from matey.studies.transfer.design import FROZEN, SCRATCH, TUNED, check_enough, point
from matey.studies.transfer.findings import judge
from tests.files import write_shallow_water
from tests.studies.helpers import outcome, timing

SCALE = TRANSFER["smoke"]


def page(few: float, many: float, frozen: float = 1.0, unlike: float = 1.0, scatter: float = 1.01):
    """What the study says of a pretrained model whose error is `few` times that from scratch with
    one trajectory and `many` times with two; with attention frozen it is `frozen` times its own,
    and on the other system `unlike` times that from scratch. Seeds differ by `scatter`."""
    cells, timings = [], {}
    for system in ("mhd_cavity", "gray_scott"):
        timings[system] = {name: timing(1.0) for name in SCALE.methods(system) if name != TUNED}
        for number in SCALE.counts(system):
            gain = unlike if system == "gray_scott" else few if number == 1 else many
            for seed in range(3):
                spread = scatter ** (seed - 1)
                for method in SCALE.methods(system):
                    error = {SCRATCH: 1.0, TUNED: gain * spread, FROZEN: gain * frozen}
                    cells.append(
                        outcome(
                            point(method, number),
                            "operations",
                            seed,
                            error.get(method, 2.0),
                            system=system,
                        )
                    )
    sources = {name: Source(name, DataConfig(), real=False) for name in timings}
    return judge(Material(SCALE, sources, {}, 0, "cpu"), cells, timings)


def answers(found) -> list[str]:
    return [claim.answer for claim in found.claims]


def test_pretraining_that_halves_the_error_of_one_trajectory_helps_and_most_with_little_data():
    found = page(few=0.5, many=0.9)
    assert answers(found)[:2] == ["held", "held"]
    assert "1: 0.5, 2: 0.9" in " ".join(found.claims[1].sentences)


def test_pretraining_that_does_harm_is_reported_as_such():
    assert answers(page(few=1.5, many=1.2))[:2] == ["not held", "not held"]


def test_seeds_that_disagree_leave_it_undecided():
    assert answers(page(few=0.95, many=1.0, scatter=1.3))[0] == "undecided"


def test_frozen_attention_baselines_and_other_systems_have_verdicts_of_their_own():
    assert answers(page(0.5, 0.5, frozen=0.8, unlike=0.7))[2:] == ["held"] * 3
    assert answers(page(0.5, 0.5, frozen=1.2, unlike=1.4))[2:] == ["not held", "held", "not held"]
    sentences = page(0.5, 0.5, unlike=1.4).claims[4].sentences
    assert "gray_scott: it does not help" in sentences[0]


def test_the_claim_on_baselines_names_no_fno_where_there_was_none(monkeypatch):
    monkeypatch.setattr("matey.studies.transfer.design.find_spec", lambda name: None)
    claim = page(0.5, 0.5).claims[3]
    assert claim.answer == "held"
    assert "U-Net" in claim.claim
    assert "FNO" not in claim.claim


def test_files_with_fewer_trajectories_than_a_point_is_named_after_are_refused(tmp_path):
    path = write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5", trajectories=6, frames=4)
    data = DataConfig((SourceConfig("shallow_water", (str(path),)),))  # four to train on
    for real, most in ((True, 4), (False, 8)):
        check_enough(material_of(data, real, most), "shallow_water")
    with pytest.raises(ConfigError, match=r"has 4 trajectories to train on.* up to 8"):
        check_enough(material_of(data, True, 8), "shallow_water")


def material_of(data: DataConfig, real: bool, most: int) -> Material:
    """A study that trains on so many trajectories of shallow water."""
    scale = replace(SCALE, unlike_trajectories=(1, most))
    return Material(scale, {"shallow_water": Source("shallow_water", data, real)}, {}, 0, "cpu")


def test_a_pretrained_model_that_diverged_decides_nothing():
    assert answers(page(few=math.inf, many=1.0))[0] == "undecided"
