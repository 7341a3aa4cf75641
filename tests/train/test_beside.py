"""The stencils that scores stand beside: fitted when a run begins, and kept with its model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import matey
from matey.cli import main
from matey.cli.console import beyond_stencils
from matey.config import BaselineConfig, DataConfig, ModelConfig, SourceConfig, WindowConfig
from matey.data.systems import open_systems
from matey.errors import CheckpointError
from matey.evaluate.score import ScoreConfig, evaluate
from matey.fields import SystemSpec, Variable
from matey.metrics.error import nrmse
from matey.nn.baselines.stencil import StencilModel, Yardstick
from matey.train import beside
from matey.train.beside import fit_beside, width_for
from matey.train.finetune import finetune
from matey.train.loop import train
from tests.files import write_compressible, write_shallow_water
from tests.train.test_loop import config_for, records

BEYOND = ModelConfig(embed_dim=24, heads=2, depth=1, patches=(8, 4), local=8, stencil=True)


def write_diffusing(path: Path, trajectories: int = 6, frames: int = 8, points: int = 16) -> Path:
    """Noise that diffuses, each step a map of the nearest points: what a stencil can be."""
    generator = np.random.default_rng(0)
    write_shallow_water(path, trajectories, frames, points)
    with h5py.File(path, "a") as file:
        for group in file.values():
            field = generator.normal(size=(points, points))
            for frame in range(frames):
                group["data"][frame, ..., 0] = 2 + field
                more = np.pad(field, 1, mode="edge")
                around = more[2:, 1:-1] + more[:-2, 1:-1] + more[1:-1, 2:] + more[1:-1, :-2]
                field = field + 0.1 * (around - 4 * field)
    return path


@pytest.fixture
def diffusing(tmp_path) -> DataConfig:
    path = write_diffusing(tmp_path / "2D_rdb_NA_NA.h5")
    return DataConfig((SourceConfig("shallow_water", (str(path),)),))


def short(data: DataConfig, **changes):
    return config_for(data, **{"windows": WindowConfig(history=2), "steps": 2, **changes})


def test_a_run_keeps_stencils_that_scores_stand_beside_without_training_data(diffusing, tmp_path):
    """Of a law of the nearest points the stencil is exact but for the noise that it allows for."""
    run = tmp_path / "run"
    train(short(diffusing), run)
    logged = [r["kind"] for r in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())]
    assert logged.count("stencil") == 1
    (record,) = records(run, "stencil")
    assert record["refused"] == {}
    assert 0 < record["cpu_seconds"]["shallow_water"] < 30
    size = sum(file.stat().st_size for file in (run / "model/stencil").iterdir())
    assert size < 10_000  # 2 frames at 13 x 13 points in float32, and their description

    model = matey.from_pretrained(run)
    systems = open_systems(diffusing)
    (trajectory,) = systems["shallow_water"].split["test"]
    (score,) = evaluate(model, "toy", diffusing, ScoreConfig(3), tmp_path / "out")
    assert score.no_stencil == ""
    stencil, errors = matey.from_pretrained(run / "stencil"), []
    whole = matey.open(diffusing.systems[0].paths[0])[trajectory].values
    for start in range(score.windows):
        history = systems["shallow_water"].fields.read(trajectory, slice(start, start + 2))
        truth = whole[start + 2 : start + 5]
        errors.append(nrmse(stencil.rollout(history, 3).values, truth))
    # One rollout at a time instead of all: float32 rounding.
    assert score.main.stencil == pytest.approx(torch.stack(errors).mean(dim=(0, 2)).tolist(), 1e-3)
    assert score.main.stencil[0] < 0.1 * score.main.persistence[0]
    assert score.metrics["nrmse"].by_variable["height"].stencil == score.main.stencil
    written = json.loads((tmp_path / "out/scores.json").read_text())["systems"][0]
    assert written["metrics"]["nrmse"]["mean"]["stencil"] == score.main.stencil


def test_leads_of_several_dt_are_reached_in_steps_of_one(diffusing, tmp_path):
    run = tmp_path / "run"
    model = train(short(diffusing, windows=WindowConfig(history=2, max_lead=3)), run)
    (each,) = evaluate(model, "toy", diffusing, ScoreConfig(4), tmp_path / "each")
    (every,) = evaluate(model, "toy", diffusing, ScoreConfig(4, lead=2), tmp_path / "every")
    assert every.main.stencil == pytest.approx(each.main.stencil[1::2])


def test_a_run_that_goes_on_keeps_its_stencils(diffusing, tmp_path, monkeypatch):
    run, config = tmp_path / "run", short(diffusing)
    train(config, run)
    before = (run / "model/stencil/model.safetensors").read_bytes()
    monkeypatch.setattr(beside, "fit_beside", lambda windows: pytest.fail("fitted again"))
    train(replace(config, steps=3), run, resume=True)
    assert (run / "model/stencil/model.safetensors").read_bytes() == before
    assert len(records(run, "stencil")) == 1


def test_what_is_fitted_beside_leaves_training_as_it_is(data, tmp_path, monkeypatch):
    """Bit for bit: no random number of the run is drawn for it."""
    train(short(data, steps=4), tmp_path / "with")
    monkeypatch.setattr("matey.train.loop.put_beside", lambda *given: None)
    train(short(data, steps=4), tmp_path / "without")
    files = [tmp_path / name / "model/model.safetensors" for name in ("with", "without")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_models_of_older_versions_say_that_they_have_none(diffusing, tmp_path, capsys):
    train(short(diffusing), tmp_path / "run")
    shutil.rmtree(tmp_path / "run/model/stencil")
    mix = tmp_path / "mix.yaml"
    mix.write_text(
        f"systems: [{{name: shallow_water, paths: ['{diffusing.systems[0].paths[0]}']}}]"
    )
    words = f"evaluate {tmp_path / 'run'} --data {mix} --rollout 2 --out {tmp_path / 'out'}"
    assert main(words.split()) == 0
    shown = capsys.readouterr().out
    assert "no stencil stands beside: none was kept with the model" in " ".join(shown.split())
    scores = matey.records.scores.Scores.load(tmp_path / "out/scores.json")
    assert scores.systems[0].main.stencil is None


@pytest.mark.parametrize("with_stencil", [True, False])
def test_a_model_beyond_a_stencil_or_a_stencil_is_not_given_another(
    diffusing, tmp_path, with_stencil
):
    """The one stands beside its own; the other beside none."""
    model = BEYOND
    if not with_stencil:
        model = ModelConfig(baseline=BaselineConfig("stencil", 3))
    run = tmp_path / "run"
    trained = train(short(diffusing, model=model), run)
    assert not [*run.rglob("stencil")]
    (score,) = evaluate(trained, "toy", diffusing, ScoreConfig(2), tmp_path / "out")
    if with_stencil:
        assert score.main.stencil[0] < 0.1 * score.main.persistence[0]
    else:
        assert score.main.stencil is None
        assert score.no_stencil == "the model is a stencil"


def test_a_model_predicts_beyond_a_stencil_only_where_rollouts_of_it_are_good(diffusing, tmp_path):
    """Noise that is new in every frame is foretold by no map of earlier ones, however well
    one can be fitted to few of them."""
    gas = write_compressible(tmp_path / "2D_CFD_Rand_M0.1_Eta0.01_Zeta0.01_periodic_16_Train.hdf5")
    with h5py.File(gas, "a") as file:
        for name in ("density", "pressure", "Vx", "Vy"):
            file[name][:] = np.random.default_rng(0).normal(size=file[name].shape)
    both = DataConfig((*diffusing.systems, SourceConfig("compressible", (str(gas),))))
    run = tmp_path / "run"
    trained = train(short(both, model=BEYOND), run)
    (record,) = records(run, "beyond")
    assert record["errors"]["shallow_water"] < 0.1 < record["most"] == pytest.approx(1 / 3)
    assert record["errors"]["compressible"] > 0.5
    assert trained.stencils.fitted("shallow_water")
    assert not trained.stencils.fitted("compressible")
    said = beyond_stencils(record)
    assert said.startswith(
        "a least-squares stencil stays in the model for shallow_water, but not for compressible (0."
    )
    assert said.endswith("): its rollouts may have at most 0.33 of persistence's error")
    neither = beyond_stencils(record | {"errors": {"gas": None}})
    assert neither.startswith("no least-squares stencil stays in the model for gas (it diverges):")
    first, second = evaluate(trained, "toy", both, ScoreConfig(2), tmp_path / "out")
    assert first.main.stencil[0] < 0.1 * first.main.persistence[0]
    assert second.main.stencil is not None  # beside, though not inside
    loaded = matey.from_pretrained(run)
    assert not loaded.stencils.fitted("compressible")
    assert loaded.stencils.dropped("compressible")
    finetune(run, short(both, model=BEYOND), tmp_path / "tuned")
    (again,) = records(tmp_path / "tuned", "beyond")
    assert again["errors"].keys() == {"compressible"}  # what was left out is judged anew
    assert not matey.from_pretrained(tmp_path / "tuned").stencils.fitted("compressible")
    train(replace(short(both, model=BEYOND), steps=3), run, resume=True)
    assert len(records(run, "beyond")) == 1  # nothing is measured again


def test_a_stencil_inside_a_model_is_judged_on_stretched_grids_too(diffusing, tmp_path):
    """There its neighbours are those by index, of which the file's law is."""
    with h5py.File(diffusing.systems[0].paths[0], "a") as file:
        for group in file.values():
            group["grid/x"][:] = np.linspace(0.1, 1.6, 16) ** 2
    trained = train(short(diffusing, model=BEYOND), tmp_path / "run")
    (record,) = records(tmp_path / "run", "beyond")
    assert record["errors"]["shallow_water"] < 0.1
    assert trained.stencils.fitted("shallow_water")
    (score,) = evaluate(trained, "toy", diffusing, ScoreConfig(1), tmp_path / "out")
    assert "evenly apart" in score.no_stencil


@pytest.mark.parametrize("long", [1, 3])
def test_a_stencil_is_judged_on_trajectories_that_are_long_enough(diffusing, tmp_path, long):
    """Also where every fourth is not, or just one is."""
    with h5py.File(diffusing.systems[0].paths[0], "a") as file:
        systems = open_systems(short(diffusing).data)
        training = systems["shallow_water"].windows("train", WindowConfig(history=2)).trajectories
        for place in training[:-long]:
            group = file[f"{place:04d}"]
            for name in ("data", "grid/t"):
                kept = group[name][:2]
                del group[name]
                group[name] = kept
    train(short(diffusing, model=BEYOND), tmp_path / "run")
    (record,) = records(tmp_path / "run", "beyond")
    assert record["errors"]["shallow_water"] < 0.1


@pytest.mark.gpu
def test_a_stencil_is_judged_where_the_model_is(diffusing, tmp_path):
    trained = train(short(diffusing, model=BEYOND, device="cuda"), tmp_path / "run")
    assert trained.stencils.fitted("shallow_water")


def test_a_stretched_system_says_why_it_has_none(data, tmp_path):
    run, path = tmp_path / "run", tmp_path / "2D_rdb_stretched.h5"
    write_shallow_water(path)
    with h5py.File(path, "a") as file:
        for group in file.values():
            group["grid/x"][:] = np.linspace(0.1, 1.6, 16) ** 2
    water = DataConfig((SourceConfig("stretched", (str(path),)), data.systems[1]))
    model = train(short(water), run)
    (record,) = records(run, "stencil")
    assert list(record["cpu_seconds"]) == ["compressible"]
    assert "stretched" in record["refused"]["stretched"]
    first, second = evaluate(model, "toy", water, ScoreConfig(1), tmp_path / "out")
    assert (first.main.stencil, second.no_stencil) == (None, "")
    assert "evenly apart" in first.no_stencil
    with np.load(tmp_path / "out/examples/stretched.npz") as example:  # for the report to draw
        assert example["edges_x"].shape == (17,)
        assert np.diff(example["edges_x"]).min() > 0
        assert np.ptp(np.diff(example["edges_x"])) > 0.1
        assert np.diff(example["edges_y"]) == pytest.approx(np.diff(example["edges_y"])[0])
    assert second.main.stencil is not None
    loaded = matey.from_pretrained(run)
    assert loaded.yardstick.refused == record["refused"]


def test_fine_tuning_keeps_the_stencils_of_earlier_systems(data, tmp_path):
    first, second = (replace(data, systems=data.systems[i : i + 1]) for i in (0, 1))
    train(short(first), tmp_path / "a")
    config = short(second, model=matey.from_pretrained(tmp_path / "a").config)
    finetune(tmp_path / "a", config, tmp_path / "b")
    kept = matey.from_pretrained(tmp_path / "b").yardstick.model
    assert list(kept.specs) == ["shallow_water", "compressible"]
    for run, name in (("a", "shallow_water"), ("b", "compressible")):
        alone = matey.from_pretrained(tmp_path / run / "stencil")
        assert torch.equal(kept.stencils.weight(name), alone.stencils.weight(name))
        assert kept.stencils.fitted(name)
    (score,) = evaluate(
        matey.from_pretrained(tmp_path / "b"), "toy", first, ScoreConfig(1), tmp_path / "out"
    )
    assert score.main.stencil is not None


def test_a_system_refused_once_and_fitted_later_is_fitted():
    spec = SystemSpec("toy", 1, (Variable("a"),), (), 1.0)
    config = ModelConfig(baseline=BaselineConfig("stencil", 3))
    earlier = Yardstick(StencilModel(config, [], 2), {"toy": "why", "other": "because"})
    later = Yardstick(StencilModel(config, [spec], 2), {})
    later.model.stencils.weight("toy").data.fill_(0.5)
    both = earlier.beside(later)
    assert both.refused == {"other": "because"}
    assert torch.equal(both.model.stencils.weight("toy"), torch.full((1, 2, 3), 0.5))


def test_a_damaged_stencil_names_its_file(diffusing, tmp_path):
    train(short(diffusing), tmp_path / "run")
    weights = tmp_path / "run/model/stencil/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=str(weights.parent)):
        matey.from_pretrained(tmp_path / "run")
    shutil.copytree(tmp_path / "run/best", weights.parent, dirs_exist_ok=True)
    with pytest.raises(CheckpointError, match="does not hold the stencils"):
        matey.from_pretrained(tmp_path / "run")


@pytest.mark.parametrize(
    ("ndim", "variables", "history", "width"),
    [
        (2, 4, 2, None),  # 1,352 columns at 13 points
        (2, 9, 2, None),  # 3,042
        (2, 10, 2, 11),  # 3,380 at 13, 2,420 at 11
        (3, 12, 2, None),  # 3,000 at 5
        (3, 13, 2, 3),  # 3,250 at 5
        (1, 60, 2, None),  # 3,000 at 25
        (3, 100, 2, 3),  # 5,400 at 3, which is refused
    ],
)
def test_many_variables_and_frames_get_narrower_stencils(ndim, variables, history, width):
    names = tuple(Variable(f"v{i:03d}") for i in range(variables))
    assert width_for([SystemSpec("toy", ndim, names, (), 1.0)], history) == width


def test_too_many_variables_are_refused_by_name(data, monkeypatch):
    """Where at most 20 numbers may count: shallow water has 18 at 3 points, compressible 72."""
    monkeypatch.setattr(beside, "COLUMNS", 20)
    windows = {
        name: system.windows("train", WindowConfig(history=2))
        for name, system in open_systems(data).items()
    }
    yardstick, seconds = fit_beside(windows)
    assert list(seconds) == list(yardstick.model.specs) == ["shallow_water"]
    assert "4 variables in 2 frames are too many" in yardstick.refused["compressible"]
    assert yardstick.model.stencils.weight("shallow_water").shape == (1, 2, 3, 3)
