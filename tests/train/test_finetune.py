"""A trained model that goes on: what stays, what is new, what is frozen, and the plan of it."""

import json
import logging
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import matey
from matey.cli.finetune import defaults
from matey.config import (
    DataConfig,
    KeepConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    RateConfig,
    RefineConfig,
    RunConfig,
    WindowConfig,
)
from matey.cost.forecast import largest_batch
from matey.errors import CheckpointError, ConfigError
from matey.fields import Variable
from matey.nn import folder
from matey.nn.adapters import stored
from matey.nn.compatibility import doubts
from matey.nn.operations import count
from matey.nn.tensors import load_tensors, save_tensors
from matey.train import finetune_plan as planning
from matey.train.finetune import adapt, finetune, usual_settings
from matey.train.finetune_plan import plan_tuning
from matey.train.loop import train
from matey.train.run_folder import spent
from tests.cost.test_forecast import foretold, outlined
from tests.nn.helpers import rough_inputs, system, tiny_model

pytestmark = pytest.mark.usefixtures("narrow_stencils")

MODEL = ModelConfig(embed_dim=24, heads=2, depth=2, patches=(8, 4), drop_path=0.1)


def config_for(data: DataConfig, **changes) -> RunConfig:
    settings = {
        "model": MODEL,
        "windows": WindowConfig(history=2, max_lead=2),
        "optim": OptimConfig(lr=3e-3, warmup=0, weight_decay=0.1),
        "data": data,
        "steps": 4,
        "batch": 2,
        "checkpoint_every": 2,
        "log_every": 1,
        "device": "cpu",
    }
    return RunConfig(**{**settings, **changes})


@pytest.fixture(scope="module")
def old(data, tmp_path_factory):
    """A run on shallow water."""
    run = tmp_path_factory.mktemp("runs") / "old"
    train(config_for(DataConfig(data.systems[:1]), steps=2), run)
    return run


@pytest.fixture(scope="module")
def gas(data) -> DataConfig:
    return DataConfig(data.systems[1:], trajectories=1)


@pytest.fixture(scope="module")
def frozen(old, gas, tmp_path_factory):
    """A run that goes on with a gas, its blocks frozen."""
    run = tmp_path_factory.mktemp("runs") / "frozen"
    finetune(old, config_for(gas, mode="frozen-attention"), run)
    return run


@pytest.mark.parametrize("mode", ["adap_mix", "adap_mul"])
@pytest.mark.parametrize("history", [2, 4])
def test_new_variables_leave_predictions_for_old_variables_bit_identical_before_training(
    mode, history
):
    """So do new systems, parameters and dimensions, and a history of another length."""
    spec = system()
    model = tiny_model(spec, mode=mode)
    inputs = rough_inputs(spec)
    before = model(inputs).fields
    config = RunConfig(model=model.config, windows=WindowConfig(history=history))
    new = adapt(model, config).eval()
    wider = system(2, "wider", variables=("a", "b", "c"), parameters=("nu", "eta"))
    mask = Variable("mask", static=True)
    new.add_systems(
        [wider, replace(wider, variables=(*wider.variables, mask)), system(3), system(1, "line")]
    )
    assert torch.equal(new(inputs).fields, before)
    assert new.history == history
    assert new(rough_inputs(wider)).fields.shape[1] == 3


@pytest.mark.parametrize(
    ("patches", "kept", "made"),
    [
        ((16, 8, 4), {"1x8x8", "1x16x16"}, {"1x4x4"}),
        ((16, 4), {"1x16x16"}, {"1x4x4"}),
        ((32, 16), {"1x16x16"}, {"1x32x32"}),
    ],
)
def test_another_set_of_patches_keeps_the_levels_it_shares_and_makes_the_others(
    patches, kept, made
):
    model = tiny_model(system(), patches=(16, 8))
    new = adapt(model, RunConfig(model=replace(model.config, patches=patches)))
    assert set(new.tokenizer.encoders) == set(new.tokenizer.decoders) == kept | made
    before, after = model.state_dict(), new.state_dict()
    shared = set(before) & set(after)
    assert all(torch.equal(before[name], after[name]) for name in shared)
    assert {name.split(".")[2] for name in set(after) - set(before)} == made
    assert new(rough_inputs(system(), points=64)).fields.isfinite().all()


def test_a_new_patch_level_changes_nothing_where_it_is_not_used():
    model = tiny_model(system(), patches=(8, 4), threshold=1.0)
    new = adapt(model, RunConfig(model=replace(model.config, patches=(8, 4, 2)))).eval()
    inputs = rough_inputs(system())
    assert torch.equal(new(inputs).fields, model(inputs).fields)
    new.refine = RefineConfig(threshold=0.0)
    plan = new(inputs).plan
    assert set(plan.level[plan.leaves].tolist()) == {2}


def test_what_old_systems_conserve_stays_and_new_ones_may_state_their_own(tmp_path):
    old = tiny_model(system(2), keep={"old": KeepConfig(means=("height",))})
    shape = {"model": replace(old.config, keep={}), "windows": WindowConfig(history=old.history)}
    config = RunConfig(**shape)
    assert adapt(old, config).config.keep == old.config.keep
    stated = {"new": KeepConfig(means=("mass",)), "old": KeepConfig()}
    told = replace(config, model=replace(old.config, keep=stated))
    assert adapt(old, told).config.keep == stated
    folder.save_pretrained(old, tmp_path / "model", {})
    options = SimpleNamespace(checkpoint=tmp_path / "model", mode="full", loss=LossConfig())
    assert not [key for key in defaults(options, {}) if key.startswith("model.keep")]


def test_waves_are_added_where_there_are_none_and_say_nothing_before_training(data, tmp_path):
    model = tiny_model(system(), local=8).eval()
    config = replace(model.config, waves=3)
    new = adapt(model, RunConfig(model=config, windows=WindowConfig(history=2))).eval()
    assert torch.equal(new(rough_inputs(system())).fields, model(rough_inputs(system())).fields)
    assert usual_settings(model, "full")["model.waves"] == 8
    assert usual_settings(new, "full")["model.waves"] == 3
    assert usual_settings(tiny_model(system()), "full")["model.waves"] == 0
    with pytest.raises(ConfigError, match=r"model\.waves is 0, not 3"):
        adapt(new, RunConfig(model=model.config, windows=WindowConfig(history=2)))
    plain = replace(MODEL, local=8)
    train(config_for(DataConfig(data.systems[:1]), model=plain, steps=1), tmp_path / "old")
    config = config_for(DataConfig(data.systems[:1]), model=replace(plain, waves=3), mode="lora")
    tuned = finetune(tmp_path / "old", config, tmp_path / "new")
    learned = tuned.local.path(2).spectral
    assert all(weight.requires_grad for weight in learned.parameters())
    assert learned.outputs.abs().max() > 0
    loaded = folder.from_pretrained(tmp_path / "new")
    assert torch.equal(loaded.local.path(2).spectral.outputs, learned.outputs)


def test_fine_tuning_with_another_patch_level_and_history_leaves_a_model_that_loads_anywhere(
    old, gas, tmp_path
):
    model = replace(MODEL, patches=(8, 4, 2))
    config = config_for(gas, model=model, windows=WindowConfig(history=3), steps=1)
    trained = finetune(old, config, tmp_path / "new")
    shutil.move(tmp_path / "new/model", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "new")
    loaded = matey.from_pretrained(tmp_path / "elsewhere")
    field = matey.open(gas.systems[0].paths[0])[0]
    assert loaded.history == 3
    assert torch.equal(loaded.rollout(field, 2).values, trained.rollout(field, 2).values)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (system(name="toys"), "System 'toys' is new to the model. Did you mean 'toy'?"),
        (system(variables=("a", "heigth")), "Variable 'heigth' .* Did you mean 'height'?"),
        (system(parameters=("gravty",)), "Parameter 'gravty' .* Did you mean 'gravity'?"),
        (system(name="else", variables=("velocity_y", "pressure")), None),
        (system(), None),
    ],
)
def test_an_unknown_name_of_a_system_variable_or_parameter_brings_suggestions(given, said):
    known = [system(), system(2, "flow", ("gravity",), ("height", "velocity_x"))]
    found = list(doubts(given, known))
    if said is None:
        assert found == []
    else:
        (doubt,) = found
        assert re.match(said.replace("?", r"\?"), doubt)


def test_an_unknown_system_name_brings_suggestions(old, data, tmp_path, caplog):
    water = DataConfig((replace(data.systems[0], name="shallow_watr"),))
    with caplog.at_level(logging.WARNING, logger="matey"):
        finetune(old, config_for(water, steps=1), tmp_path / "new")
    said = "System 'shallow_watr' is new to the model. Did you mean 'shallow_water'?"
    assert said in caplog.text


def test_frozen_groups_weights_are_bit_identical_after_training(old, frozen):
    """Also with weight decay, which moves whatever the optimizer holds."""
    before = load_tensors(old / "model/model.safetensors")
    after = load_tensors(frozen / "model/model.safetensors")
    blocks = [name for name in before if name.startswith("blocks.")]
    assert blocks
    assert all(torch.equal(before[name], after[name]) for name in blocks)
    others = [name for name in before if "weight" in name and name not in blocks]
    assert all(not torch.equal(before[name], after[name]) for name in others)
    moments = load_tensors(frozen / "checkpoints/step-00000004/optimizer.safetensors")
    assert not [name for name in moments if "/blocks." in name]
    assert [name for name in moments if "/tokenizer." in name]


def test_a_frozen_run_that_was_broken_off_goes_on_to_the_same_bits(old, gas, frozen, tmp_path):
    class StopError(Exception):
        pass

    def stop(record):
        if record["kind"] == "train" and record["step"] == 3:
            raise StopError

    config = config_for(gas, mode="frozen-attention")
    with pytest.raises(StopError):
        finetune(old, config, tmp_path / "run", stop)
    with pytest.raises(ConfigError, match="mode was 'frozen-attention' and is 'full'"):
        finetune(old, config_for(gas), tmp_path / "run", resume=True)
    finetune(old, config, tmp_path / "run", resume=True)
    for name in ("model.safetensors", "optimizer.safetensors", "random.safetensors"):
        last = "checkpoints/step-00000004"
        assert (tmp_path / "run" / last / name).read_bytes() == (frozen / last / name).read_bytes()


def test_blocks_that_learned_nothing_yet_are_not_frozen(data, tmp_path):
    with pytest.raises(ConfigError, match="mode is 'frozen-attention', expected full"):
        train(config_for(data, mode="frozen-attention"), tmp_path / "run")
    assert not (tmp_path / "run/config.yaml").exists()


def test_gradients_through_frozen_blocks_are_those_through_trained_ones():
    inputs = rough_inputs(system())
    gradients = []
    for trains in (True, False):
        model = tiny_model(system(), scheme=("svit", "vit"))
        model.blocks.requires_grad_(trains)
        model(inputs).normalised.square().sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if "blocks" not in n})
    for name, gradient in gradients[0].items():
        # Rounding: kernels sum in another order where fewer gradients are asked for.
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_fine_tuning_starts_from_the_old_weights_and_adds_only_what_is_new(data, tmp_path):
    water = DataConfig(data.systems[:1])
    gas = DataConfig(data.systems[1:], trajectories=1)
    train(config_for(water, steps=3), tmp_path / "old")
    before = matey.from_pretrained(tmp_path / "old").state_dict()
    config = config_for(gas, steps=1, optim=OptimConfig(lr=1e-12, weight_decay=0))
    model = finetune(tmp_path / "old", config, tmp_path / "new")
    after = model.state_dict()
    new = set(after) - set(before)
    assert {name.rsplit(".", 1)[1] for name in new} == {
        *("density_", "pressure_", "velocity_x_", "velocity_y_", "eta_", "zeta_", "M_")
    }
    # A learning rate of 1e-12 moves a weight by at most about that.
    assert all(torch.allclose(before[name], after[name], atol=1e-9) for name in before)
    provenance = json.loads((tmp_path / "new/provenance.json").read_text())
    assert provenance["parent"] == "old"
    assert len(provenance["split"]["compressible"]["train"]) == 1

    # A run that goes on by `matey train --resume` keeps its parent.
    finetune(tmp_path / "old", config_for(water, steps=1), tmp_path / "more")
    train(config_for(water, steps=2), tmp_path / "more", resume=True)
    assert json.loads((tmp_path / "more/provenance.json").read_text())["parent"] == "old"


@pytest.fixture(scope="module")
def plan(old, gas):
    """The plan of the run `frozen`, made while no weights can be read."""

    def refuse(*_):
        raise AssertionError("weights were read")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "measure_peak", lambda *_: 1e9)
        patch.setattr(stored, "load_tensors", refuse)
        return plan_tuning(old, config_for(gas, mode="frozen-attention"))


def test_an_outline_holds_no_numbers(old):
    weights = list(folder.outline(old).parameters())
    assert {weight.device.type for weight in weights} == {"meta"}
    assert sum(weight.numel() for weight in weights) == count(matey.from_pretrained(old))


def test_the_plan_counts_what_the_trained_model_then_has(old, frozen, plan):
    before, after = matey.from_pretrained(old), matey.from_pretrained(frozen)
    assert plan.numbers() == count(after)
    assert plan.numbers("checkpoint") == count(before)
    assert plan.numbers("new") == count(after) - count(before)
    learned = after.state_dict()
    absent = {n: w for n, w in before.state_dict().items() if ".height_" in n or ".gravity_" in n}
    held = sum(weight.numel() for weight in absent.values())
    assert held > 0
    assert plan.numbers(trains=False) == count(after.blocks) + held
    assert all(torch.equal(weight, learned[name]) for name, weight in absent.items())
    (vectors,) = [p for p in plan.parts if p.kind == "variables" and not p.trains]
    assert vectors.names == ("height",)
    (step,) = [one.step for one in plan.forecasts]
    assert step.parameters == 4 * plan.numbers()
    assert step.moments == 8 * plan.numbers(trains=True)
    new = {part.kind: set(part.names) for part in plan.parts if part.origin == "new"}
    variables = {"density", "pressure", "velocity_x", "velocity_y"}
    assert new == {"variables": variables, "parameters": {"eta", "zeta", "M"}}
    assert "System 'compressible' is new. Known: shallow_water." in plan.notes
    start = json.loads((frozen / "metrics.jsonl").read_text().splitlines()[0])
    assert start["parameters"] == plan.numbers(trains=True)


def test_the_plan_foretells_the_operations_that_the_run_then_logs(frozen, plan):
    cost = spent(frozen)
    assert cost["windows"] == 4 * 2
    # A fifth: windows of the run are refined in more or fewer cells than those looked at.
    assert plan.operations == pytest.approx(cost["operations"], rel=0.2)
    assert plan.seconds == pytest.approx(plan.operations / 1e9 / plan.share)


def test_the_plan_tells_what_a_new_patch_level_makes_and_leaves_out(old, gas):
    config = config_for(gas, model=replace(MODEL, patches=(16, 8)), windows=WindowConfig(history=4))
    model = folder.outline(old)
    with torch.device("meta"):
        new = adapt(model, config)
    found = planning.parts(model, new, config.optim.rates)
    levels = {part.origin: part.names for part in found if part.kind == "patches"}
    assert levels == {
        "checkpoint": ("1 × 8 × 8",),
        "new": ("1 × 16 × 16",),
        "left out": ("1 × 4 × 4",),
    }
    notes = planning.notes(model, config, [])
    assert any("model.patches is (16, 8), and was (8, 4)" in note for note in notes)
    assert "History is 4 frames, and was 2." in notes


def test_a_model_with_a_local_path_is_planned_and_one_of_an_older_version_refused(data, tmp_path):
    model = replace(MODEL, local=6, levels=1, stencil=True)
    config = config_for(data, model=model, windows=WindowConfig(history=2), steps=1)
    train(replace(config, data=DataConfig(data.systems[:1])), tmp_path / "run")
    gas = replace(config, data=DataConfig(data.systems[1:]))
    plan = plan_tuning(tmp_path / "run", gas)
    kinds = {(part.kind, part.origin) for part in plan.parts}
    assert {("local path", "checkpoint"), ("stencils and usual sizes", "new")} <= kinds
    weights = tmp_path / "run/model/model.safetensors"
    older = {n: w.clone() for n, w in load_tensors(weights).items() if "usual." not in n}
    weights.unlink()
    save_tensors(older, weights)
    with pytest.raises(CheckpointError, match=r"usual.logs.*missing.*train the model anew"):
        matey.from_pretrained(tmp_path / "run")


def test_the_suggested_batch_is_the_largest_power_of_two_that_fits(data):
    config = config_for(DataConfig(data.systems[:1], trajectories=1))
    needed = foretold(replace(config, batch=4)).step.total
    run = outlined(config)
    assert largest_batch(*run, free=None) == 4  # of 6 windows
    assert largest_batch(*run, free=needed) == 4
    assert largest_batch(*run, free=needed - 1) == 2
    assert largest_batch(*run, free=1) == 0


def test_the_model_card_tells_systems_contract_scores_and_cost(frozen):
    card = (frozen / "model/README.md").read_text()
    training = json.loads((frozen / "model/config.json").read_text())["training"]
    contract, ranges = card.split("## Ranges of training")
    others = contract + ranges[ranges.index("\n## ") :]
    rows = {line.split("|")[1].strip(): line for line in others.splitlines() if "|" in line}
    gas = next(line for line in card.splitlines() if line.startswith("| compressible | 2D"))
    for said in ("velocity_x", "eta, zeta, M", "0.05", "x periodic", "| 1 |"):
        assert said in gas
    points = training["grids"]["compressible"]
    assert f"| {' × '.join(map(str, points[0]))} |" in gas
    assert training["grids"].keys() == training["spacing"].keys()
    assert training["data_fingerprint"]["compressible"] in gas
    assert "earlier" in rows["shallow_water"]
    assert training["data_fingerprint"]["shallow_water"] in rows["shallow_water"]
    assert "not recorded" not in rows["shallow_water"]
    assert f"{training['scores']['nrmse']['compressible']:.4f}" in rows["compressible"]
    assert "History: 2 frames" in card
    assert "4 steps, 8 windows" in card
    assert "The blocks were frozen." in card


def test_the_plan_tells_groups_and_rates_also_of_a_local_path_and_stencils(gas, data, tmp_path):
    local = replace(MODEL, local=6, levels=1, stencil=True)
    plain = config_for(DataConfig(data.systems[:1]), windows=WindowConfig(history=2))
    train(replace(plain, model=local, steps=1, checkpoint_every=1), tmp_path / "run")
    rates = RateConfig(ends=10.0, local=2.0)
    config = replace(plain, model=local, data=gas, optim=OptimConfig(rates=rates))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "measure_peak", lambda *_: 1e9)
        made = plan_tuning(tmp_path / "run", config)
        fixed = {part.kind: set(part.names) for part in made.parts if not part.trains}
        assert fixed.keys() == {"stencils and usual sizes", "variables", "parameters"}
        assert fixed["variables"] == {"height"}
        assert "gravity" in fixed["parameters"]
        told = {(part.kind, part.group, part.rate) for part in made.parts if part.trains}
        assert told == {
            ("blocks", "blocks", 1.0),
            ("patches", "ends", 10.0),
            ("variables", "ends", 10.0),
            ("last norm", "ends", 10.0),
            ("local path", "local", 2.0),
            ("parameters", "conditioning", 1.0),
            ("lead time and parameters", "conditioning", 1.0),
            ("position", "conditioning", 1.0),
        }
        wrong = replace(config, mode="frozen-attention", optim=OptimConfig(rates=RateConfig(0.1)))
        with pytest.raises(ConfigError, match=r"optim\.rates\.blocks is 0\.1"):
            plan_tuning(tmp_path / "run", wrong)
