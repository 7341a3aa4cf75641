"""One long run of an ocean with land, a file for each time, from inspection to report.

By the command line alone; land counts nowhere.
"""

import json

import numpy as np
import pytest
import xarray
import yaml

from matey.cli import main
from matey.records.scores import Scores

FRAMES, NY, NX = 200, 97, 101  # a prime and an odd number of points
LAND_VALUE = 1e37  # what ROMS has on land
SMALL = ["--model.embed_dim", "24", "--model.heads", "2", "--model.depth", "1", "--batch", "2"]
SMALL += ["--model.patches", "[16,8]", "--model.mode", "adap_mix", "--windows.history", "2"]
SMALL += ["--steps", "4", "--device", "cpu", "--validate_windows", "4"]


def write_run(folder):
    """The files of the run, and where all variables have a value at the centres of cells."""
    folder.mkdir()
    y, x = np.meshgrid(np.linspace(0, 1, NY), np.linspace(0, 1, NX), indexing="ij")
    sea = (x - 0.85) ** 2 + (y - 0.2) ** 2 > 0.2**2
    seconds = {"units": "seconds since 2000-01-01 00:00:00", "calendar": "proleptic_gregorian"}
    fill = {"_FillValue": np.float32(LAND_VALUE)}
    for k in range(FRAMES):
        zeta = np.sin(2 * np.pi * (x - k / 48)) * np.cos(np.pi * y + 0.02 * k)
        zeta = np.where(sea, zeta, np.nan).astype("f4")[None]
        xarray.Dataset(
            {
                "zeta": (("ocean_time", "eta_rho", "xi_rho"), zeta, {"units": "meter"}),
                "ubar": (("ocean_time", "eta_u", "xi_u"), (zeta[:, :, 1:] + zeta[:, :, :-1]) / 2),
                "vbar": (("ocean_time", "eta_v", "xi_v"), (zeta[:, 1:] + zeta[:, :-1]) / 2),
                "mask_rho": (("eta_rho", "xi_rho"), sea.astype("f8")),
            },
            {"ocean_time": ("ocean_time", [1800.0 * k], seconds)},
        ).to_netcdf(
            folder / f"ocean_his_{k + 1:04d}.nc",
            encoding=dict.fromkeys(("zeta", "ubar", "vbar"), fill),
            unlimited_dims=["ocean_time"],
        )
    held = sea.copy()  # a centre has the value of either face
    for axis in (0, 1):
        faces = np.moveaxis(sea, axis, 0)[1:] & np.moveaxis(sea, axis, 0)[:-1]
        ends = np.zeros((1, faces.shape[1]), bool)
        either = np.concatenate([ends, faces]) | np.concatenate([faces, ends])
        held &= np.moveaxis(either, 0, axis)
    return held


def scores_of(path):
    """The scores of systems that a command wrote, as text."""
    return json.dumps(json.loads((path / "scores.json").read_text())["systems"], indent=1)


@pytest.mark.slow
def test_a_run_with_land_goes_from_inspection_to_report_without_code(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sea = write_run(tmp_path / "ocean")
    assert main(["data", "inspect", "ocean", "--write", "w.yaml"]) == 0
    drafted = yaml.safe_load((tmp_path / "w.yaml").read_text())
    (system,) = drafted["systems"]
    assert (system["join"], system["mask"], drafted["split"]["by"]) == ("time", "missing", "time")
    said = " ".join(capsys.readouterr().out.split())
    assert f"1 trajectories of {FRAMES} frames on {NY}x{NX} (y, x), dt 1800" in said
    assert f"{100 * (1 - sea.mean()):.1f}% of the grid points hold no field" in said
    assert main(["train", "--data", "w.yaml", "--run", "r", *SMALL]) == 0
    words = ["--rollout", "3", "--windows", "4"]
    assert main(["evaluate", "r", "--data", "w.yaml", "--out", "s", *words]) == 0

    # What stands on land changes no digit of a score, and there is nothing by wavenumber.
    system["fill"] = 1e4
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(drafted))
    assert main(["evaluate", "r", "--data", "other.yaml", "--out", "other", *words]) == 0
    assert scores_of(tmp_path / "s") == scores_of(tmp_path / "other")
    (scored,) = Scores.load(tmp_path / "s" / "scores.json").systems
    assert not scored.spectra.truth

    assert main(["predict", "r", "ocean", "--steps", "3", "--out", "p.nc"]) == 0
    predicted = xarray.load_dataset("p.nc")
    assert predicted.zeta.dims == ("ocean_time", "eta_rho", "xi_rho")
    np.testing.assert_array_equal(np.isfinite(predicted.zeta), np.tile(sea, (3, 1, 1)))
    begin = np.datetime64("2000-01-01", "s")
    seconds = (predicted.ocean_time.to_numpy() - begin) / np.timedelta64(1, "s")
    np.testing.assert_allclose(seconds, 1800 * (FRAMES + np.arange(3)))
    assert main(["report", "r", "s", "--out", "report.html"]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "ocean" in page
    assert ">nan<" not in page.lower()
