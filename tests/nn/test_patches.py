"""Patches with a size for each axis."""

import pytest
import torch

from matey.config import ModelConfig
from matey.errors import ConfigError
from matey.nn.folder import from_pretrained, save_pretrained
from matey.tokens.lattice import patch_shape
from matey.tokens.pack import PACKINGS, locate
from tests.nn.helpers import rough_inputs, system, tiny_model

EACH = {"patches": ((4, 8), (2, 4))}


@pytest.mark.parametrize(
    "config",
    [
        {"mode": "uniform", "patches": ((4, 8),)},
        EACH,
        {**EACH, "mode": "adap_mul"},
        {**EACH, "local": 6},
        {**EACH, "stem": "hierarchical"},
        {"patches": ((8, 16), (8, 4)), "stem": "hierarchical", "scheme": "avit"},
    ],
)
def test_a_size_for_each_axis_makes_cells_of_that_shape(config, tmp_path):
    model = tiny_model(system(), **config)
    inputs = rough_inputs(system(), points=16)
    made = model(inputs)
    assert made.normalised.shape == (3, 2, 1, 16, 16)
    assert made.plan.sizes == tuple((1, *patch) for patch in config["patches"])
    save_pretrained(model, tmp_path / "model", {})
    again = from_pretrained(tmp_path / "model")
    assert again.config == model.config
    assert torch.equal(again(inputs).normalised, made.normalised)
    words = " × ".join(map(str, config["patches"][0]))
    assert words in (tmp_path / "model" / "README.md").read_text()
    assert words in again.cells() or model.config.is_adaptive


def test_equal_sizes_are_one_size_to_the_bit():
    inputs = rough_inputs(system())
    one = tiny_model(system(), stem="hierarchical")
    each = tiny_model(system(), stem="hierarchical", patches=((8, 8), (4, 4)))
    assert torch.equal(one(inputs).normalised, each(inputs).normalised)


def test_the_last_axes_count_and_too_few_are_refused():
    assert patch_shape(2, (4, 8)) == (1, 4, 8)
    assert patch_shape(1, (4, 8)) == (1, 1, 8)
    assert patch_shape(3, (2, 4, 8)) == (2, 4, 8)
    assert patch_shape(2, 8) == (1, 8, 8)
    with pytest.raises(ConfigError, match=r"size of \[4, 8\] points.*3 axes"):
        patch_shape(3, (4, 8))


@pytest.mark.parametrize(
    "patches", [((4, 8), (4, 8)), ((4, 8), (8, 4)), ((4, 8), 2), ((4, 0),), ((8, 8, 8, 8),), ()]
)
def test_sizes_that_do_not_fit_each_other_are_refused(patches):
    with pytest.raises(ConfigError, match=r"model\.patches"):
        ModelConfig(patches=patches)


def test_lines_are_bands_of_the_width_asked_for_also_where_cells_are_narrower():
    model = tiny_model(system(), mode="uniform", patches=((4, 8),), scheme="avit", band=8)
    packing = PACKINGS["uniform"](model.plan_inputs(rough_inputs(system())))
    assert locate(packing, 1).lattices == packing.lattices != ()
    lines = locate(packing, 1, 8)
    assert lines.lattices == ()  # those would be lines of cells, 4 points wide along y
    assert lines.band[:8, 1].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
