"""Fine-tuning with low-rank adapters: the base stays, the adapter finds it, and what resumes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import matey
from matey.config import DataConfig, RunConfig
from matey.errors import CheckpointError, ConfigError
from matey.hub import push
from matey.nn import folder
from matey.nn.adapters import stored
from matey.nn.adapters.low_rank import choose_weights, hold_unused
from matey.nn.operations import count
from matey.nn.tensors import load_tensors, save_tensors
from matey.records.run import read_log
from matey.records.shipped import shipped
from matey.train import finetune_plan as planning
from matey.train.finetune import finetune
from matey.train.finetune_plan import plan_tuning
from matey.train.loop import train
from tests.train.test_finetune import MODEL, config_for

pytestmark = pytest.mark.usefixtures("narrow_stencils")

LOCAL = replace(MODEL, local=32, levels=1)


@pytest.fixture(scope="module")
def data_of(data):
    return DataConfig(data.systems[:1]), DataConfig(data.systems[1:], trajectories=1)


@pytest.fixture(scope="module")
def runs(data_of, tmp_path_factory):
    """A base, and two adapters of it: by the run's path, with an average of the weights."""
    water, gas = data_of
    runs = tmp_path_factory.mktemp("runs")
    train(config_for(water, model=LOCAL, steps=2), runs / "base")
    config = config_for(gas, model=LOCAL, mode="lora", rank=2)
    finetune(runs / "base", config, runs / "lora")
    return runs


@pytest.fixture
def gas_config(data_of):
    return config_for(data_of[1], model=LOCAL, mode="lora", rank=2)


@pytest.fixture
def copied(runs, tmp_path):
    """The runs in a place of their own."""
    shutil.copytree(runs, tmp_path / "runs")
    return tmp_path / "runs"


def first_frames(data_of):
    return matey.open(data_of[1].systems[0].paths[0])[0]


def test_the_base_is_the_same_bits_afterwards_and_the_blocks_train_in_low_rank_only(
    runs, data_of, gas_config, tmp_path
):
    file = runs / "base/model/model.safetensors"
    before = file.read_bytes()
    finetune(runs / "base", gas_config, tmp_path / "again")
    assert file.read_bytes() == before
    base, live = (
        load_tensors(file),
        load_tensors(runs / "lora/checkpoints/step-00000004/model.safetensors"),
    )
    blocks = [name for name in base if name.startswith("blocks.")]
    assert all(torch.equal(live[name], base[name]) for name in blocks)
    large = "local.ends.1x8x8.into", "local.paths.2.after.0.weight"
    assert all(torch.equal(live[name], base[name]) for name in large)
    small = "local.paths.2.bias"
    assert not torch.equal(live[small], base[small])
    merged = matey.from_pretrained(runs / "lora").state_dict()
    for name in blocks:
        is_map = base[name].ndim == 2 and name.endswith("weight")
        assert torch.equal(merged[name], base[name]) is not is_map, name
        if is_map:
            change = torch.linalg.matrix_rank(merged[name] - base[name], rtol=1e-3)
            assert int(change) <= 2


def test_the_model_of_an_adapter_is_what_training_gave_and_what_merging_writes(
    runs, data_of, gas_config, tmp_path
):
    model = finetune(runs / "base", gas_config, tmp_path / "runs/lora")
    field = first_frames(data_of)
    frames = model.rollout(field, 2).values
    assert torch.equal(matey.from_pretrained(runs / "lora").rollout(field, 2).values, frames)
    matey.merge(runs / "lora", tmp_path / "merged")
    shutil.move(tmp_path / "merged", tmp_path / "elsewhere")
    assert torch.equal(
        matey.from_pretrained(tmp_path / "elsewhere").rollout(field, 2).values, frames
    )
    with pytest.raises(CheckpointError, match="is there already"):
        matey.merge(runs / "lora", tmp_path / "elsewhere")
    whole = replace(gas_config, merge=True)
    finetune(runs / "base", whole, tmp_path / "whole")
    ours = load_tensors(tmp_path / "whole/model/model.safetensors")
    theirs = matey.from_pretrained(runs / "lora").state_dict()
    assert all(torch.equal(ours[name], weight) for name, weight in theirs.items())


def test_an_adapter_holds_what_differs_and_no_more(runs):
    files = [path.name for path in (runs / "lora/model").iterdir()]
    assert sorted(files) == ["README.md", "adapter.safetensors", "config.json", "stencil"]
    adapter = load_tensors(runs / "lora/model/adapter.safetensors")
    base = load_tensors(runs / "base/model/model.safetensors")
    blocks = {name for name in adapter if name.startswith("blocks.")}
    assert all("_adapter." in name for name in blocks)
    assert not [n for n, w in adapter.items() if n in base and torch.equal(w, base[n])]
    # No batch of gas reaches the variables of water.
    assert not [name for name in adapter if name.endswith("height_")]
    described = json.loads((runs / "lora/model/config.json").read_text())["adapter"]
    assert described["base"] == "base"
    assert described["place"] == "../../base/model"
    assert described["fingerprint"] == stored.fingerprint(runs / "base/model")
    card = (runs / "lora/model/README.md").read_text()
    assert "adapter of rank 2 for the model base" in card


def test_an_adapter_moves_with_its_base_and_refuses_a_missing_or_another_one(
    copied, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "far").mkdir()
    shutil.move(copied, tmp_path / "far/runs")
    moved = tmp_path / "far/runs"
    with pytest.raises(CheckpointError, match=r"'base', which would not go with it.*matey\.merge"):
        push(moved / "lora", f"file:{tmp_path}/shelf")
    assert folder.outline(moved / "lora").history == 2
    matey.from_pretrained(moved / "lora")
    shutil.move(moved / "base", tmp_path / "base")  # found by its name, here
    matey.from_pretrained(moved / "lora")
    shutil.move(tmp_path / "base", tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"adapter for the model 'base'.*Put it there, or"):
        matey.from_pretrained(moved / "lora")
    with pytest.raises(CheckpointError, match="adapter for the model 'base'"):
        folder.outline(moved / "lora")
    described = json.loads((moved / "lora/model/config.json").read_text())
    described["adapter"]["place"] = "../../../../other"
    (moved / "lora/model/config.json").write_text(json.dumps(described))
    matey.from_pretrained(moved / "lora")
    weights = load_tensors(tmp_path / "other/model/model.safetensors")
    changed = {name: weight + 1 for name, weight in weights.items()}
    (tmp_path / "other/model/model.safetensors").unlink()
    save_tensors(changed, tmp_path / "other/model/model.safetensors")
    with pytest.raises(CheckpointError, match=r"is another one: its fingerprint is .*Put that"):
        matey.from_pretrained(moved / "lora")


def test_a_folder_that_is_called_as_the_base_that_ships_is_not_taken_for_it(tmp_path, monkeypatch):
    (tmp_path / "mini").mkdir()
    monkeypatch.chdir(tmp_path)
    base = stored.find_base(tmp_path, {"base": "mini", "place": ""}, folder.find_model)
    assert base == shipped()["mini"]


def test_adapters_of_mini_train_a_tenth_of_the_weights_that_its_data_reach():
    counts = {}
    for mode in ("full", "lora"):
        model = folder.outline(folder.find_model(Path("mini")))
        choose_weights(model, mode, RunConfig.rank)
        hold_unused(model, [model.unused(model.specs["compressible"])])
        counts[mode] = sum(w.numel() for w in model.parameters() if w.requires_grad)
    assert 0 < counts["lora"] <= counts["full"] / 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("adapter"), "does not say which model"),
        (lambda d: d["adapter"].update(base=3), "does not say which model"),
        (lambda d: d["adapter"].update(place="."), "made from itself"),
        (lambda d: d["adapter"].update(fingerprint="0"), "its fingerprint is"),
    ],
)
def test_a_damaged_description_is_refused_in_one_line(copied, change, said):
    path = copied / "lora/model/config.json"
    described = json.loads(path.read_text())
    change(described)
    path.write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match=said):
        matey.from_pretrained(copied / "lora")


def test_a_damaged_adapter_is_refused(copied):
    path = copied / "lora/model/adapter.safetensors"
    adapter = {n: w.clone() for n, w in load_tensors(path).items()}
    name = next(name for name in adapter if name.endswith("_adapter.up"))
    path.unlink()
    save_tensors({**adapter, name: adapter[name][:, :1]}, path)
    with pytest.raises(CheckpointError, match="does not fit the base's"):
        matey.from_pretrained(copied / "lora")


def test_an_adapter_of_an_adapter_is_a_model_and_so_is_what_trains_on_from_one(
    runs, data_of, gas_config, copied
):
    water, _ = data_of
    second = replace(gas_config, data=water, rank=3, steps=1)
    model = finetune(copied / "lora", second, copied / "second")
    loaded = matey.from_pretrained(copied / "second")
    weights = loaded.state_dict()
    assert all(torch.equal(weights[name], w) for name, w in model.state_dict().items())
    whole = finetune(copied / "second", replace(second, mode="full"), copied / "third")
    assert count(whole) == count(loaded)
    shutil.rmtree(copied / "second")
    matey.from_pretrained(copied / "third")


def test_a_run_of_adapters_that_was_broken_off_goes_on_to_the_same_bits(runs, gas_config, tmp_path):
    class StopError(Exception):
        pass

    def stop(record):
        if record["kind"] == "train" and record["step"] == 3:
            raise StopError

    config = replace(gas_config, optim=replace(gas_config.optim, ema=0.9))
    finetune(runs / "base", config, tmp_path / "whole")
    with pytest.raises(StopError):
        finetune(runs / "base", config, tmp_path / "broken", stop)
    with pytest.raises(ConfigError, match="rank was 2 and is 3"):
        finetune(runs / "base", replace(config, rank=3), tmp_path / "broken", resume=True)
    finetune(runs / "base", config, tmp_path / "broken", resume=True)
    last = "checkpoints/step-00000004"
    names = [f"{last}/{n}.safetensors" for n in ("model", "optimizer", "random", "average")]
    for name in [*names, "model/adapter.safetensors", "best/adapter.safetensors"]:
        broken, whole = ((tmp_path / run / name).read_bytes() for run in ("broken", "whole"))
        assert broken == whole, name


def test_the_plan_counts_adapters_as_weights_of_their_own(runs, gas_config):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "measure_peak", lambda *_: 1e9)
        plan = plan_tuning(runs / "base", gas_config)
    (inside,) = [p for p in plan.parts if (p.kind, p.group) == ("adapters", "blocks")]
    assert (inside.origin, inside.trains) == ("new", True)
    (blocks,) = [part for part in plan.parts if part.kind == "blocks"]
    assert (blocks.origin, blocks.trains) == ("checkpoint", False)
    start = json.loads((runs / "lora/metrics.jsonl").read_text().splitlines()[0])
    assert start["parameters"] == plan.numbers(trains=True)
    (step,) = [one.step for one in plan.forecasts]
    assert step.parameters == 4 * plan.numbers()
    assert step.moments == 8 * plan.numbers(trains=True)


def test_what_adapters_cannot_be_made_for_is_refused(data_of, gas_config, tmp_path):
    water, _ = data_of
    with pytest.raises(ConfigError, match="mode is 'lora', expected full"):
        train(replace(gas_config, data=water), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"rank is 24, expected less than model.embed_dim = 24"):
        replace(gas_config, rank=24)
    with pytest.raises(ConfigError, match="rank is 0"):
        replace(gas_config, rank=0)


def test_adapters_train_with_checkpointed_activations_and_in_bfloat16(runs, gas_config, tmp_path):
    """Compiled blocks: tests/nn/test_compile.py."""
    losses = {}
    for name, changes in {
        "plain": {},
        "checkpointed": {"activation_checkpointing": True},
        "half": {"precision": "bfloat16"},
    }.items():
        finetune(runs / "base", replace(gas_config, **changes), tmp_path / name)
        losses[name] = [record.loss for record in read_log(tmp_path / name).train]
        assert matey.from_pretrained(tmp_path / name).history == 2
    # Rounding of float32 in sums; and of bfloat16, whose eight bits are 0.4 % of each value.
    assert losses["checkpointed"] == pytest.approx(losses["plain"], rel=1e-4)
    assert losses["half"] == pytest.approx(losses["plain"], rel=0.05)
