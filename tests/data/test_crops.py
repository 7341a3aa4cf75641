"""Crops: boxes of windows, read without what lies around them, that know where they lie."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray

import matey
from matey.config import ModelConfig, RunConfig, WindowConfig
from matey.data.formats import files
from matey.data.mixture import Mixture
from matey.data.symmetry import Symmetry, apply
from matey.data.windows import Choice, Windows
from matey.data.write import write_well
from matey.errors import ConfigError
from matey.fields import CUT, Boundary
from tests.data.test_masks import opened, write
from tests.files import write_compressible, write_shallow_water

CROP = WindowConfig(history=2, crop=(7, 5), margin=1)
CORNER = (0, 3, 6)


def falling(path):
    """Latitudes from high to low, stretched, in a file of x and y alone."""
    y = np.array([9.0, 8, 7, 5, 4, 3, 2, 1, 0.5, 0.2])
    x = np.arange(16.0)
    u = np.random.default_rng(0).random((6, 10, 16)).astype("f4")
    coords = {"time": np.arange(6.0), "y": y, "x": x}
    xarray.Dataset({"u": (("time", "y", "x"), u)}, coords).to_netcdf(path)
    return path


def weather(path):
    """Perturbations of miniWeather, to which a background [Y, 1] is added."""
    random, dims = np.random.default_rng(0), ("t", "z", "x")
    names = ("dens", "uwnd", "wwnd", "theta")
    arrays = {name: (dims, random.random((6, 12, 17))) for name in names}
    xarray.Dataset(arrays, {"t": np.arange(6.0)}).to_netcdf(path)
    return path


WRITERS = {
    "groups": lambda path: write_shallow_water(path / "2D_rdb_NA_NA.h5", 3),
    "periodic": lambda path: write_compressible(path / "2D_CFD_periodic_16_Train.hdf5"),
    "well": lambda path: write_well(
        matey.open(write_compressible(path / "2D_CFD_periodic_16_Train.hdf5"))[:2],
        path / "well",
        name="gas",
    ),
    "falling": lambda path: falling(path / "u.nc"),
    "background": lambda path: weather(path / "output.nc"),
}


@pytest.fixture
def asked(monkeypatch):
    """The numbers of values that are asked of files, one for each time."""
    sizes, read = [], files.read_array

    def counted(*given):
        values = read(*given)
        sizes.append(values.size)
        return values

    monkeypatch.setattr(files, "read_array", counted)
    return sizes


@pytest.mark.parametrize("layout", WRITERS)
def test_a_crop_is_that_part_of_the_whole_window_and_no_more_is_read(tmp_path, asked, layout):
    fields = matey.open(WRITERS[layout](tmp_path))
    crops = Windows(fields, [0], CROP)
    whole = Windows(fields, [0], replace(CROP, crop=None)).batch([Choice(1), Choice(2)])
    asked.clear()
    batch = crops.batch([Choice(1, corner=CORNER), Choice(2, corner=(0, 0, 11))])
    frames = 2 * 3 * len(fields.spec.variables)  # histories and targets: each box has its own
    assert sum(asked) == frames * 7 * 5
    for sample, (y, x) in enumerate([(3, 6), (0, 11)]):
        part = (..., slice(y, y + 7), slice(x, x + 5))
        assert torch.equal(batch.values[sample], whole.values[sample][part])
        assert torch.equal(batch.target[sample], whole.target[sample][part])
    assert batch.crop.first.tolist() == [[0, 3, 6], [0, 0, 11]]
    assert crops.groups.keys() == {(1, 7, 5)}
    if whole.points is not None:
        assert torch.equal(batch.points.edges[1][0], whole.points.edges[1][0, 3:11])
        assert float(batch.points.volumes[0].sum()) == pytest.approx(1)


def test_sides_of_a_crop_are_those_that_it_reaches_and_cuts_elsewhere(tmp_path):
    sides = {}
    for layout in ("groups", "periodic"):
        fields = matey.open(WRITERS[layout](tmp_path))
        kind = int(fields.trajectories[0].boundaries[2][0])
        batch = Windows(fields, [0], CROP).batch([Choice(0, corner=(0, 0, 11))])
        sides[layout] = kind, batch.boundaries[0].tolist(), batch.sides[0].tolist()
    kind, met, told = sides["groups"]
    assert kind != Boundary.PERIODIC
    assert met[1:] == told[1:] == [[kind, CUT], [CUT, kind]]
    # A periodic axis does not go on across the sides of its part; tokens are told of its seam.
    assert sides["periodic"][1][1:] == [[CUT, CUT], [CUT, CUT]]
    assert sides["periodic"][2][1:] == [[0, CUT], [CUT, 0]]
    batch = Windows(fields, [0], replace(CROP, crop=(16, 5))).batch([Choice(0, corner=(0, 0, 3))])
    assert batch.boundaries[0].tolist()[1:] == [[0, 0], [CUT, CUT]]


def test_a_crop_as_large_as_the_grid_changes_no_batch(tmp_path):
    fields = matey.open(write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5"))
    config = WindowConfig(history=2, max_lead=2, pushforward=1, flip=("y",))
    batches = [
        Mixture({"water": Windows(fields, range(6), one)}, 2, seed=0)[5]
        for one in (config, replace(config, crop=16))
    ]
    names = ("values", "target", "lead_time", "boundaries", "points", "crop", "sources")
    for name in names:
        here, there = (getattr(batch, name) for batch in batches)
        assert torch.equal(here, there) if isinstance(here, torch.Tensor) else here == there


def test_boxes_are_drawn_by_seed_and_step_over_the_whole_domain_and_its_sides(tmp_path):
    fields = matey.open(write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5"))
    windows = {"water": Windows(fields, range(6), replace(CROP, crop=6))}
    first = torch.cat([Mixture(windows, 4, seed=1)[i].crop.first[:, 1:] for i in range(40)])
    assert torch.equal(first[4:8], Mixture(windows, 4, seed=1)[1].crop.first[:, 1:])
    assert set(first.flatten().tolist()) == set(range(11))
    # A middle in the outermost 3 of 16 points, or right beside: 4 of 16 draws; here 320.
    assert 0.15 < float((first == 0).float().mean()) < 0.35
    shares = Mixture(windows, 4, seed=0, ranks=2, rank=1)[0], Mixture(windows, 8, seed=0)[0]
    assert torch.equal(shares[0].crop.first, shares[1].crop.first[4:])


def test_mirrors_turn_the_place_of_a_crop_and_shifts_move_it(tmp_path):
    fields = matey.open(WRITERS["periodic"](tmp_path))
    batch = Windows(fields, [0], CROP).batch([Choice(0, corner=CORNER)] * 2)
    moved = apply([Symmetry((0, 15, 4), (2,)), Symmetry((0, 0, 1))], batch)
    assert moved.crop.first.tolist() == [[0, (3 + 15) % 16, 16 - 5 - 6 + 4], [0, 3, 7]]
    assert torch.equal(moved.values[1], batch.values[1])
    density = [v.name for v in fields.spec.variables].index("density")
    assert torch.equal(moved.values[0, :, density], batch.values[0, :, density].flip(-1))


def test_masks_are_cut_along_and_a_crop_without_a_field_counts_nothing(tmp_path):
    fields = opened(write(tmp_path / "sea.nc"), mask="missing")
    windows = Windows(fields, [0], WindowConfig(history=2, crop=2, margin=0))
    whole = Windows(fields, [0], WindowConfig(history=2)).batch([Choice(0)])
    batch = windows.batch([Choice(0, corner=(0, 0, 6)), Choice(0, corner=(0, 1, 4))])
    assert not batch.mask[0].any()
    assert torch.equal(batch.mask[1, 0, 0], whole.mask[0, 0, 0, 1:3, 4:6])
    assert batch.space.volumes[0].abs().sum() == 0
    assert float(batch.space.volumes[1].sum()) == pytest.approx(1)


def test_margins_are_as_wide_as_steps_since_the_last_true_frame(tmp_path):
    fields = matey.open(WRITERS["groups"](tmp_path))
    windows = Windows(fields, [0], WindowConfig(history=2, max_lead=2, crop=10, margin=2))
    batch = windows.batch([Choice(0, lead=1, corner=(0, 0, 3)), Choice(0, lead=2)])
    rows, columns = (batch.judged.mask[:, 0, 0].any(dim=axis).sum(dim=1) for axis in (2, 1))
    assert rows.tolist() == [10 - 2, 10 - 4]  # both begin at the side of the domain
    assert columns.tolist() == [10 - 2 - 2, 10 - 4]
    assert batch.space is None  # statistics are of the whole crop


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: WindowConfig(crop=0), r"windows\.crop is 0, expected a number of points"),
        (lambda f: WindowConfig(crop=8, margin=-1), r"windows\.margin is -1"),
        (lambda f: Windows(f, [0], WindowConfig(history=2, crop=16 - 1)), r"the 8 points beside"),
        (lambda f: Windows(f, [0], WindowConfig(history=2, crop=(9,))), r"each of 2 axes"),
        (
            lambda f: RunConfig(ModelConfig(local=4, waves=2), WindowConfig(crop=64)),
            r"windows\.crop is 64, expected none with model\.waves.*set it to 0",
        ),
    ],
)
def test_crops_that_cannot_be_learned_from_are_refused(tmp_path, make, message):
    fields = matey.open(write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5", 1))
    with pytest.raises(ConfigError, match=message):
        make(fields)
