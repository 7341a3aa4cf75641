import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
import torch

import matey
from matey.config import (
    DataConfig,
    MixtureConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    SourceConfig,
    WindowConfig,
)
from matey.data.systems import open_systems, training_windows
from matey.data.windows import Choice, Windows
from matey.errors import CheckpointError, ConfigError, DataError, DivergenceError
from matey.nn.baselines.stencil import own_stencils
from matey.nn.folder import save_pretrained
from matey.nn.make import make_model
from matey.nn.tensors import load_tensors
from matey.train.closed_form import measure_missing, scattered
from matey.train.finetune import finetune
from matey.train.loop import push_forward, train
from tests.files import write_shallow_water
from tests.nn.helpers import tiny_model

pytestmark = pytest.mark.usefixtures("narrow_stencils")


def config_for(data: DataConfig, **changes) -> RunConfig:
    model = ModelConfig(embed_dim=24, heads=2, depth=2, patches=(8, 4), drop_path=0.1)
    settings = {
        "model": model,
        "windows": WindowConfig(history=2, max_lead=2),
        "optim": OptimConfig(lr=3e-3, warmup=5),
        "data": data,
        "steps": 6,
        "batch": 2,
        "accumulate": 2,
        "validate_every": 3,
        "checkpoint_every": 3,
        "log_every": 1,
        "device": "cpu",
    }
    return RunConfig(**{**settings, **changes})


def records(run, kind):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def test_a_run_learns_and_leaves_a_model_that_gives_the_same_predictions(data, tmp_path):
    run = tmp_path / "run"
    windows = WindowConfig(history=2, max_lead=1)
    config = config_for(data, windows=windows, steps=60, checkpoint_every=60, validate_every=60)
    model = train(config, run)
    losses = [record["loss"] for record in records(run, "train")]
    # The first ten steps' mean loss at least halves: a model that does not learn stays level.
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    valid = records(run, "valid")[-1]
    assert set(valid["nrmse"]) == {"shallow_water", "compressible"}
    field = matey.open(data.systems[0].paths[0])[0]
    loaded = matey.from_pretrained(run)
    expected = model.rollout(field, steps=2)
    assert torch.equal(loaded.rollout(field, steps=2).values, expected.values)
    assert expected.values.shape == (2, 1, 1, 16, 16)


def break_and_resume(config, whole, broken, stop):
    """A run that stops after so many steps and goes on ends as the whole one did, bit for bit."""

    class StopError(Exception):
        pass

    def stop_there(record):
        if record["kind"] == "train" and record["step"] == stop:
            raise StopError

    with pytest.raises(StopError):
        train(config, broken, stop_there)
    train(config, broken, resume=True)
    last = f"checkpoints/step-{config.steps:08}"
    for name in ("model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"):
        assert (whole / last / name).read_bytes() == (broken / last / name).read_bytes(), name


def test_a_resumed_run_equals_the_undisturbed_one_to_the_bit(data, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    config = config_for(data)
    train(config, whole)
    break_and_resume(config, whole, broken, stop=4)
    after = [r["loss"] for r in records(whole, "train")][-3:]
    assert [r["loss"] for r in records(broken, "train")][-3:] == after


def test_two_accumulated_batches_weigh_as_much_as_each_alone(data, tmp_path):
    """With plain gradients, one step of two batches moves weights by their mean gradient."""
    run = tmp_path / "run"
    train(config_for(data, steps=1), run)
    record = records(run, "train")[0]
    assert set(record["losses"]) == {"shallow_water", "compressible"}
    assert record["windows"] == 4
    assert record["loss"] == pytest.approx(sum(record["losses"].values()) / 2)


def test_a_batch_of_a_system_is_trained_with_scored_and_kept_on_resume(data, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    config = config_for(data, mixture=MixtureConfig(batch={"shallow_water": 1}))
    train(config, whole)
    assert {record["windows"] for record in records(whole, "train")} == {2 + 1}
    break_and_resume(config, whole, broken, stop=4)
    other = replace(config, mixture=MixtureConfig(batch={"shallow_water": 2}), steps=8)
    with pytest.raises(ConfigError, match=r"mixture\.batch\.shallow_water was 1 and is 2"):
        train(other, whole, resume=True)
    with pytest.raises(ConfigError, match=r"mixture\.batch is 'water', .*'shallow_water'"):
        replace(config, mixture=MixtureConfig(batch={"water": 1}))


def test_pushed_batches_continue_with_the_models_own_frames(data):
    fields = matey.open(data.systems[0].paths[0])
    model = tiny_model(fields.spec)
    windows = Windows(fields, [0], WindowConfig(history=2, pushforward=3))
    pushed = push_forward(model, windows.batch([Choice(1, lead=1, pushes=3)]))
    rolled = model.rollout(fields.read(0, slice(1, 3)), steps=3).values
    assert torch.equal(pushed.values[0], rolled[-2:])
    assert torch.equal(pushed.target[0], fields[0].values[3 + 3])
    assert not pushed.values.requires_grad


def test_a_run_folder_in_use_is_not_overwritten(data, tmp_path):
    run = tmp_path / "run"
    train(config_for(data, steps=1), run)
    with pytest.raises(ConfigError, match=r"holds a run\. Pass --resume auto"):
        train(config_for(data, steps=1), run)


def test_only_the_newest_checkpoints_are_kept(data, tmp_path):
    run = tmp_path / "run"
    train(config_for(data, checkpoint_every=1, keep_checkpoints=2), run)
    names = sorted(folder.name for folder in (run / "checkpoints").iterdir())
    assert names == ["step-00000005", "step-00000006"]


def test_a_loss_that_is_not_finite_stops_before_the_update_and_names_the_batch(data, tmp_path):
    run = tmp_path / "run"
    config = config_for(data, optim=OptimConfig(lr=1e30, warmup=0, clip=1e30), steps=20)
    with pytest.raises(DivergenceError, match=r"at step \d+, system '\w+', from 2D_.*frames"):
        train(config, run)
    for folder in (run / "checkpoints").iterdir():
        weights = load_tensors(folder / "model.safetensors")
        assert all(bool(tensor.isfinite().all()) for tensor in weights.values())


def test_grids_that_patches_do_not_divide_are_trained_on(data, tmp_path):
    model = ModelConfig(embed_dim=24, heads=2, depth=1, patches=(12, 4))
    trained = train(config_for(data, model=model), tmp_path / "run")
    assert all(math.isfinite(record["loss"]) for record in records(tmp_path / "run", "train"))
    field = matey.open(data.systems[0].paths[0])[0]
    assert trained.rollout(field, 1).values.shape[1:] == field.values.shape[1:]


def test_strides_leads_weights_and_tokens_are_trained_with(data, tmp_path):
    windows = WindowConfig(history=2, stride=2, min_lead=2, max_lead=2, flip=("x",))
    mixture = MixtureConfig("size", tokens_per_batch=100)  # 16 fine patches of 4², two frames
    config = config_for(data, windows=windows, mixture=mixture, steps=2)
    model = train(config, tmp_path / "run")
    assert {record["windows"] for record in records(tmp_path / "run", "train")} == {2 * 3}
    dt = {name: spec.dt for name, spec in matey.from_pretrained(tmp_path / "run").specs.items()}
    assert dt == pytest.approx({"shallow_water": 0.2, "compressible": 0.1})
    assert model.specs["shallow_water"].dt == dt["shallow_water"]
    few = replace(config, mixture=MixtureConfig(tokens_per_batch=31))
    with pytest.raises(ConfigError, match=r"tokens_per_batch is 31, .* to 32"):
        train(few, tmp_path / "few")


def test_bfloat16_autocast_trains(data, tmp_path):
    train(config_for(data, precision="bfloat16", steps=2), tmp_path / "run")
    losses = [record["loss"] for record in records(tmp_path / "run", "train")]
    assert all(0 < loss < 10 for loss in losses)


def test_resume_with_another_width_names_the_key_and_both_widths(data, tmp_path):
    run = tmp_path / "run"
    config = config_for(data, steps=1)
    train(config, run)
    wider = replace(config, model=replace(config.model, embed_dim=48), steps=2)
    with pytest.raises(ConfigError, match=r"model\.embed_dim was 24 and is 48"):
        train(wider, run, resume=True)


def test_a_model_folder_works_on_its_own_and_tells_no_paths(data, tmp_path):
    train(config_for(data, steps=1), tmp_path / "run")
    shutil.move(tmp_path / "run/model", tmp_path / "alone")
    shutil.rmtree(tmp_path / "run")
    model = matey.from_pretrained(tmp_path / "alone")
    assert set(model.specs) == {"shallow_water", "compressible"}
    text = (tmp_path / "alone/config.json").read_text()
    assert str(tmp_path) not in text
    sides = json.loads(text)["training"]["boundaries"]
    assert sides["compressible"] == {"y": ["periodic"] * 2, "x": ["periodic"] * 2}
    assert sides["shallow_water"] == {"y": ["open"] * 2, "x": ["open"] * 2}


@pytest.mark.parametrize("damage", ["truncate", "text", "missing", "pickle"])
def test_damaged_weights_are_refused_by_name(data, tmp_path, damage):
    train(config_for(data, steps=1), tmp_path / "run")
    weights = tmp_path / "run/model/model.safetensors"
    if damage == "truncate":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "text":
        weights.write_text("not weights")
    elif damage == "pickle":
        torch.save({"a": torch.zeros(1)}, weights)
    else:
        weights.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        matey.from_pretrained(tmp_path / "run")


def test_a_file_where_the_model_folder_goes_is_refused_before_the_first_step(data, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/model").write_text("a file")
    with pytest.raises(ConfigError, match=r"run/model is a file"):
        train(config_for(data), tmp_path / "run")
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_a_model_folder_that_cannot_be_written_is_a_checkpoint_error(data, tmp_path):
    model = tiny_model(matey.open(data.systems[0].paths[0]).spec)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file/model cannot be written"):
        save_pretrained(model, tmp_path / "file/model", {})


def test_a_run_goes_on_with_another_schedule_and_logs_the_change(data, tmp_path):
    run = tmp_path / "run"
    train(config_for(data, steps=2), run)
    train(config_for(data, steps=3, optim=OptimConfig(lr=1e-3, warmup=5)), run, resume=True)
    (record,) = records(run, "changed")
    assert record["step"] == 2
    assert record["settings"] == {"optim.lr": [3e-3, 1e-3], "steps": [2, 3]}
    assert "lr: 0.001" in (run / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"batch": 3}, "batch was 2 and is 3"),
        ({"windows": WindowConfig(history=2)}, r"windows\.max_lead was 2 and is 1"),
        ({"steps": 1}, "steps is 1, but .* has done 2"),
    ],
)
def test_a_run_does_not_go_on_as_another_run(data, tmp_path, changed, said):
    run = tmp_path / "run"
    train(config_for(data, steps=2), run)
    before = (run / "config.yaml").read_text()
    with pytest.raises(ConfigError, match=said):
        train(config_for(data, **{"steps": 4, **changed}), run, resume=True)
    assert (run / "config.yaml").read_text() == before


def test_a_run_goes_on_where_its_files_moved_but_not_on_other_files(data, tmp_path):
    source = Path(data.systems[0].paths[0])
    old, new = tmp_path / "old" / source.name, tmp_path / "new" / source.name
    for path in (old, new):
        path.parent.mkdir()
        shutil.copy(source, path)
    run = tmp_path / "run"
    systems = [DataConfig((SourceConfig("water", (str(path),)),)) for path in (old, new)]
    train(config_for(systems[0], steps=1), run)
    train(config_for(systems[1], steps=2), run, resume=True)
    write_shallow_water(tmp_path / source.name, trajectories=5).replace(new)
    with pytest.raises(ConfigError, match="files of system 'water' are others"):
        train(config_for(systems[1], steps=3), run, resume=True)


def test_data_that_cannot_be_read_leave_no_run_folder(data, tmp_path):
    path = write_shallow_water(tmp_path / "2D_rdb_NA_NA.h5")
    with h5py.File(path, "r+") as file:
        for group in file.values():
            group["data"][:] = float("nan")
    bad = DataConfig((SourceConfig("water", (str(path),)),))
    with pytest.raises(DataError, match="nan"):
        train(config_for(bad), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_stencil_that_was_left_out_is_judged_anew_and_the_rest_does_not_add_its_step_again(
    data, tmp_path, monkeypatch
):
    """But not where that would change what the model says of another system."""
    monkeypatch.setattr("matey.train.closed_form.PAYS", math.inf)
    water, config = data.systems[0], WindowConfig(history=2)
    windows = training_windows(open_systems(replace(data, systems=(water,))), config)
    named = replace(water, name="named_otherwise")
    others = training_windows(open_systems(replace(data, systems=(named,))), config)
    (one,), (other,) = windows.values(), others.values()
    batch = one.batch([Choice(0), Choice(1)])
    shape = ModelConfig(embed_dim=12, heads=1, depth=1, patches=(8, 4), local=6, stencil=True)

    model = make_model(shape, [one.spec], history=2).eval()
    model.stencils.drop(one.spec.name)
    model.usual.measure(one.spec, scattered(one))
    before = model(batch).fields
    model.add_systems([other.spec])
    assert measure_missing(model, others, seed=0).keys() == others.keys()  # a new system
    assert model.stencils.fitted(other.spec.name)
    assert measure_missing(model, windows, seed=0) == {}  # its variables are the other's, too
    assert torch.equal(model(batch).fields, before)

    alone = make_model(shape, [one.spec], history=2).eval()
    alone.stencils.drop(one.spec.name)
    assert measure_missing(alone, windows, seed=0).keys() == windows.keys()
    fitted = own_stencils(alone, shape)(batch).fields
    assert not torch.equal(fitted, batch.values[:, -1])
    assert torch.equal(alone(batch).fields, fitted)
    assert measure_missing(alone, windows, seed=0) == {}  # it has one now


def test_a_local_path_and_stencils_are_trained_resumed_and_fine_tuned(data, tmp_path, monkeypatch):
    monkeypatch.setattr("matey.train.closed_form.PAYS", math.inf)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    plain = config_for(data, windows=WindowConfig(history=2))
    config = replace(plain, model=replace(plain.model, local=6, levels=1, stencil=True))
    with pytest.raises(ConfigError, match=r"windows.max_lead.*single steps"):
        replace(config, windows=WindowConfig(history=2, max_lead=2))
    model = train(config, whole)
    assert all(model.stencils.fitted(source.name) for source in data.systems)
    assert all(model.usual.measured(source.name) for source in data.systems)
    break_and_resume(config, whole, broken, stop=4)
    field = matey.open(config.data.systems[0].paths[0])[0]
    loaded = matey.from_pretrained(whole)
    assert torch.equal(loaded.rollout(field, 2).values, model.rollout(field, 2).values)

    first = tmp_path / "first"
    one = replace(config, data=replace(data, systems=data.systems[:1]), steps=1)
    before = train(one, first)
    other = replace(config, data=replace(data, systems=data.systems[1:]), steps=1)
    tuned = finetune(first, other, tmp_path / "tuned")
    names = [source.name for source in data.systems]
    assert torch.equal(tuned.stencils.weight(names[0]), before.stencils.weight(names[0]))
    assert tuned.stencils.fitted(names[1])
    for logs in zip(tuned.usual.logs.values(), model.usual.logs.values(), strict=True):
        assert torch.equal(*logs)  # of the same windows
    with pytest.raises(ConfigError, match=r"windows.history is 3.*keeps its 2 frames"):
        finetune(first, replace(other, windows=WindowConfig(history=3)), tmp_path / "longer")
