"""Land and obstacles in files: which points hold a field, what the others hold, what is refused."""

import pickle

import numpy as np
import pytest
import torch
import xarray

import matey
from matey.config import SourceConfig, WindowConfig
from matey.data.draft_config import config_text, data_config
from matey.data.inspect import inspect
from matey.data.symmetry import Symmetry, apply
from matey.data.trajectories import open_source
from matey.data.windows import Choice, Windows
from matey.data.write import write_field, write_well
from matey.errors import DataError
from matey.fields import Field, SystemSpec, Variable

NT, NY, NX = 6, 5, 8
LAND = np.zeros((NY, NX), bool)
LAND[:2, 5:] = LAND[4, 0] = True
ABSURD = 1e30


def waves(run=0):
    """Two variables over time and space, different in each run."""
    t, y, x = np.meshgrid(np.arange(NT), np.arange(NY), np.arange(NX), indexing="ij")
    return np.sin(0.3 * x + 0.2 * t + run).astype("f4"), np.cos(0.5 * y - 0.1 * t).astype("f4")


def write(path, land=np.nan, run=0, change=lambda u, v: None, y=None, **arrays):
    """A file whose variables hold `land` on land."""
    u, v = waves(run)
    u[:, LAND] = v[:, LAND] = land
    change(u, v)
    axes = ("time", "y", "x")
    path.parent.mkdir(parents=True, exist_ok=True)
    coords = {"time": 0.5 * np.arange(NT), "y": np.arange(NY) if y is None else y}
    held = {"u": (axes, u), "v": (axes, v), **{k: (axes[1:], a) for k, a in arrays.items()}}
    xarray.Dataset(held, coords | {"x": np.arange(NX)}).to_netcdf(path)
    return path


def opened(path, **options):
    """A file in the drafted layout, with a mask as said."""
    layout = data_config(path).systems[0].layout
    return open_source(SourceConfig("sea", (str(path),), layout=layout, **options))


def check(field, land=LAND, fill=0.0):
    """Values are those of the file where there is a field, and `fill` where there is none."""
    at = field.spec.mask
    assert field.spec.variables[at].static
    assert field.held[0].tolist() == (~land).tolist()
    for values, expected in zip(field.values.unbind(1), waves(), strict=False):
        found = values[:, 0].numpy()
        np.testing.assert_array_equal(found[:, ~land], expected[:, ~land])
        assert (found[:, land] == fill).all()
    np.testing.assert_array_equal(field.values[:, at, 0].numpy(), np.tile(~land, (NT, 1, 1)))


def test_missing_values_that_never_change_are_a_mask(tmp_path):
    path = write(tmp_path / "sea.nc")
    for fields in (matey.open(path), opened(path, mask="missing"), opened(path, mask="missing")):
        check(fields[0])
        assert fields.spec.predicted == (0, 1)
    check(opened(path, mask="missing", fill=-7.5)[0], fill=-7.5)
    inspection = inspect([path])
    assert not inspection.refused
    (system,) = inspection.systems
    assert any("17.5% of the grid points hold no field" in notice for notice in system.notices)
    assert "    mask: missing" in config_text(inspection, tmp_path)
    u = system.statistics[0]
    assert (u.minimum, u.maximum) == (waves()[0][:, ~LAND].min(), waves()[0][:, ~LAND].max())
    assert u.mean == pytest.approx(waves()[0][:, ~LAND].mean(dtype="f8"))


def test_a_mask_is_the_union_of_what_variables_lack(tmp_path):
    def more(u, v):
        v[:, 2, 2] = np.inf

    depth = np.ones((NY, NX), "f4")
    depth[3, 3] = np.nan
    land = LAND.copy()
    land[2, 2] = land[3, 3] = True
    fields = matey.open(write(tmp_path / "sea.nc", change=more, h=depth))
    assert fields[0].held[0].tolist() == (~land).tolist()
    assert bool(fields[0].values.isfinite().all())


@pytest.mark.parametrize("solid", [False, True])
def test_a_mask_from_a_variable_hides_whatever_stands_there(tmp_path, solid):
    mask = (LAND if solid else ~LAND).astype("f4")
    for land in (ABSURD, np.nan):
        path = write(tmp_path / f"{land}.nc", land=land, wet=mask)
        fields = opened(path, mask="!wet" if solid else "wet")
        check(fields[0])
        check(pickle.loads(pickle.dumps(fields))[0])
    with pytest.raises(DataError, match=r"names 'wett'.*Did you mean 'wet'.*mask: missing"):
        opened(path, mask="wett")
    with pytest.raises(DataError, match="names 'u'"):
        opened(path, mask="u")


def test_a_mask_of_no_point_asks_whether_it_is_the_other_way_round(tmp_path):
    path = write(tmp_path / "sea.nc", land=0.0, wet=np.zeros((NY, NX), "f4"))
    with pytest.raises(DataError, match=r"no grid point holds a field.*mask: '!wet'"):
        opened(path, mask="wet")[0]


def test_values_missing_at_some_times_only_are_refused_with_their_place(tmp_path):
    def goes(u, v):
        v[3, 4, 5] = np.nan

    def comes(u, v):
        u[2:, 0, 6] = 1.0

    for change, name, time in ((goes, "v", "1.5"), (comes, "u", "1")):
        path = write(tmp_path / f"{name}.nc", change=change)
        with pytest.raises(DataError, match=rf"{name} of trajectory .* at time {time}, index"):
            matey.open(path)[0]
        assert inspect([path]).refused

    def all_missing(u, v):
        v[0] = np.nan

    with pytest.raises(DataError, match="at the first time v has no value anywhere"):
        matey.open(write(tmp_path / "all.nc", change=all_missing))[0]

    path = write(tmp_path / "later.nc", land=0.0, change=goes)
    with pytest.raises(DataError, match=r"v of .* is nan at time 1\.5.*mask: missing"):
        matey.open(path)[0]
    path = write(tmp_path / "none.nc")
    for how in ("", "none"):
        with pytest.raises(DataError, match=r"u of .* is nan at time 0"):
            opened(path, mask=how)[0]


def test_each_trajectory_has_its_own_mask_and_a_falling_axis_turns_it(tmp_path):
    write(tmp_path / "runs" / "a.nc", y=np.arange(NY)[::-1])
    write(tmp_path / "runs" / "b.nc", y=np.arange(NY)[::-1], change=lambda u, v: hide(u))
    fields = matey.open(tmp_path / "runs")
    other = LAND.copy()
    other[2, 2] = True
    assert fields[0].held[0].tolist() == (~LAND)[::-1].tolist()
    assert fields[1].held[0].tolist() == (~other)[::-1].tolist()
    (batch,) = [Windows(fields, [0, 1], WindowConfig(history=2)).batch([Choice(0), Choice(5)])]
    assert batch.mask[:, 0, 0].tolist() == [(~LAND)[::-1].tolist(), (~other)[::-1].tolist()]
    volumes = batch.space.volumes
    assert volumes.sum(dim=(2, 3, 4)).flatten().tolist() == pytest.approx([1, 1])
    assert volumes[1, 0, 0].count_nonzero() == (~other).sum()


def hide(u):
    u[:, 2, 2] = np.nan


def test_shifts_and_mirrors_move_the_mask_with_the_values(tmp_path):
    fields = matey.open(write(tmp_path / "sea.nc"))
    batch = Windows(fields, [0], WindowConfig(history=2)).batch([Choice(0), Choice(1)])
    moved = apply([Symmetry((0, 1, 3)), Symmetry(mirrored=(2,))], batch)
    assert torch.equal(moved.mask[0], batch.mask[0].roll((1, 3), (-2, -1)))
    assert torch.equal(moved.mask[1], batch.mask[1].flip(-1))
    land = ~moved.mask[:, None].expand_as(moved.values[:, :, :2])
    assert bool((moved.values[:, :, :2][land] == 0).all())


def test_masked_fields_are_written_as_missing_and_read_back(tmp_path):
    field = matey.open(write(tmp_path / "sea.nc"))[0]
    dataset = field.to_xarray()
    assert bool(dataset["u"].isnull().values[:, LAND].all())
    assert int(dataset["u"].isnull().sum()) == NT * LAND.sum()
    assert dataset["mask"].values[0].tolist() == (~LAND).tolist()
    again = Field.from_xarray(dataset)
    assert torch.equal(again.values, field.values)
    for path in (tmp_path / "out.nc", write_well([field], tmp_path / "well", name="sea")):
        if path.suffix == ".nc":
            write_field(field, path)
        back = matey.open(path)[0]
        assert back.spec == field.spec
        assert torch.equal(back.values, field.values)


def test_a_mask_is_static_and_there_is_one():
    with pytest.raises(DataError, match="is a mask, which has to be static"):
        Variable("wet", mask=True)
    masks = (Variable(name, static=True, mask=True) for name in ("wet", "dry"))
    with pytest.raises(DataError, match="more than one mask: wet, dry"):
        SystemSpec("sea", 2, (Variable("u"), *masks))


def test_frames_in_files_of_their_own_have_one_mask(tmp_path):
    """What is missing in a later file only comes and goes, though each file has a first frame."""
    for changes in (False, True):
        folder = tmp_path / f"frames_{changes}"
        folder.mkdir()
        u, v = waves()
        u[:, LAND] = v[:, LAND] = np.nan
        if changes:
            u[3, 4, 5] = np.nan
        for t in range(NT):
            held = {
                "u": (("time", "y", "x"), u[t : t + 1]),
                "v": (("time", "y", "x"), v[t : t + 1]),
            }
            coords = {"time": [0.5 * t], "y": np.arange(NY), "x": np.arange(NX)}
            xarray.Dataset(held, coords).to_netcdf(folder / f"out_{t:03d}.nc")
        fields = open_source(SourceConfig("sea", (str(folder),), join="time", mask="missing"))
        assert len(fields) == 1
        if changes:
            with pytest.raises(DataError, match=r"u of .* is nan at time 1\.5"):
                fields[0]
        else:
            check(fields[0])
