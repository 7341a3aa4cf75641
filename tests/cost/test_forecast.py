"""What a run is said to need, before its model is there."""

from dataclasses import replace

import pytest
import torch

import matey
from matey.config import (
    DataConfig,
    MixtureConfig,
    ModelConfig,
    ParallelConfig,
    RunConfig,
    SourceConfig,
    WindowConfig,
)
from matey.cost import forecast, machine
from matey.cost.forecast import (
    Forecast,
    look,
    mean_operations,
    memory_bound,
    refuse_if_too_large,
    share_of,
)
from matey.data.systems import open_systems
from matey.data.windows import Choice, Windows
from matey.data.write import write_well
from matey.errors import ConfigError
from matey.nn.make import outline_model
from matey.simulate import simulate
from matey.tokens.pack import PACKINGS
from matey.tokens.refine import join_plans
from matey.train import loop
from tests.files import write_shallow_water
from tests.nn.helpers import rough_inputs, system, tiny_model


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> RunConfig:
    path = write_shallow_water(tmp_path_factory.mktemp("water") / "2D_rdb_NA_NA.h5")
    return RunConfig(
        model=ModelConfig(embed_dim=24, heads=2, depth=8, patches=(8, 4)),
        windows=WindowConfig(history=2),
        data=DataConfig((SourceConfig("water", (str(path),)),)),
        batch=16,
        device="cpu",
    )


def outlined(config: RunConfig) -> tuple:
    """The outline of a run's model, its config, and the windows of its systems."""
    systems = open_systems(config.data)
    windows = {name: system.windows("train", config.windows) for name, system in systems.items()}
    specs = [group.spec for group in windows.values()]
    history = config.windows.history
    return outline_model(config.model, specs, history, config.mode, config.rank), config, windows


def foretold(config: RunConfig) -> Forecast:
    """What the first system of a run costs."""
    return forecast.forecast(*outlined(config), thresholds=())[0]


@pytest.mark.parametrize("mode", ["adap_mix", "adap_mul"])
def test_plans_made_one_by_one_join_to_the_plan_of_the_batch(mode):
    inputs = rough_inputs(system(), points=32)
    model = tiny_model(system(), patches=(16, 8, 4), mode=mode)
    together = model.plan_inputs(inputs)
    alone = [
        replace(
            inputs,
            values=inputs.values[i : i + 1],
            lead_time=inputs.lead_time[i : i + 1],
            boundaries=inputs.boundaries[i : i + 1],
            parameters=inputs.parameters[i : i + 1],
        )
        for i in range(3)
    ]
    joined = join_plans([model.plan_inputs(one) for one in alone])
    for name in ("sample", "level", "corner", "parent", "refined"):
        assert torch.equal(getattr(joined, name), getattr(together, name)), name
    assert PACKINGS[mode](joined).lengths == PACKINGS[mode](together).lengths


def test_tokens_at_the_configs_own_threshold_are_those_of_its_refinement(config):
    thresholds = (0.0, config.model.refine.threshold, 1.0)
    found = forecast.forecast(*outlined(config), thresholds)[0]
    assert found.at_threshold[0.0].tokens == found.tokens["fine"] == 16
    assert found.at_threshold[config.model.refine.threshold] == found.refined
    assert found.refined.tokens == found.tokens["mean"]
    assert found.at_threshold[1.0].tokens == 4
    holds = [found.at_threshold[threshold].holds for threshold in thresholds]
    assert holds[0] == 1 > holds[1] > holds[2] == 0
    assert found.at_bulk[0.5].holds < found.at_bulk[0.95].holds < 1
    assert found.tokens["mean"] <= found.tokens["largest"] <= 16


def test_the_operations_of_a_step_are_planned_within_a_few_hundredths(tmp_path):
    """Ten trajectories of a dam break, each of which begins with few tokens and ends with many."""
    found = simulate("shallow_water", trajectories=10, resolution=32, steps=16, seed=0)
    write_well(found, tmp_path, name="water")
    model = ModelConfig(embed_dim=24, heads=1, mode="adap_mix", patches=(8, 4))
    config = RunConfig(model=model, windows=WindowConfig(history=2))
    windows = Windows(matey.open(tmp_path), range(10), config.windows)
    every = [windows.batch([Choice(i)]) for i in range(len(windows))]
    assert len(every) > 2 * len(look(windows))
    planned = mean_operations(config, windows.spec, look(windows))
    assert planned == pytest.approx(mean_operations(config, windows.spec, every), rel=0.05)


def test_a_system_is_planned_by_a_batch_of_its_own(config):
    alone = replace(config, mixture=MixtureConfig(batch={"water": 2}))
    fewer, other = foretold(replace(config, batch=2)), foretold(alone)
    assert other == fewer
    inputs = look(outlined(config)[2]["water"])
    spec = replace(inputs[0].spec, name="water")
    counted = [mean_operations(one, spec, inputs) for one in (config, alone)]
    assert counted[1] == pytest.approx(counted[0] / 8)
    assert memory_bound(*outlined(alone)) < memory_bound(*outlined(config))
    with pytest.raises(ConfigError, match=r"Lower mixture\.batch\.water \(now 2\)"):
        refuse_if_too_large([other], alone, other.step.total - 1)


def test_windows_too_large_for_many_are_looked_at_in_part(config, monkeypatch):
    windows = open_systems(config.data)["water"].windows("train", config.windows)
    few, several = len(look(windows)), min(len(windows), forecast.WINDOWS)
    assert few == several > forecast.FEWEST
    monkeypatch.setattr(forecast, "ROOM", 1)
    assert len(look(windows)) == forecast.FEWEST


def test_processes_share_weights_or_what_blocks_keep(config):
    step = foretold(config).step
    assert share_of(step, ParallelConfig(), 1) == step.total
    weights = step.parameters + step.moments
    assert share_of(step, ParallelConfig("fsdp"), 2) == step.total - weights // 2
    assert share_of(step, ParallelConfig(sequence=2), 2) == step.total - step.kept["blocks"] // 2


def test_a_run_is_refused_by_what_is_free_and_told_the_way_out(config):
    needed = foretold(config).step.total
    refuse_if_too_large([foretold(config)], config, needed)
    larger = replace(config, batch=32)
    with pytest.raises(ConfigError, match=r"system 'water' takes about .* Lower batch \(now 32\)"):
        refuse_if_too_large([foretold(larger)], larger, needed)
    helped = replace(larger, activation_checkpointing=True)  # what the message proposes
    refuse_if_too_large([foretold(helped)], helped, needed)


@pytest.mark.parametrize("mode", ["uniform", "adap_mix", "adap_mul"])
@pytest.mark.parametrize("scheme", ["vit", "svit", "avit"])
@pytest.mark.parametrize("stem", ["linear", "hierarchical"])
def test_no_step_takes_more_than_the_bound_that_is_found_at_once(config, mode, scheme, stem):
    patches = (4,) if mode == "uniform" else (8, 4)
    model = replace(config.model, mode=mode, patches=patches, scheme=scheme, stem=stem)
    refine = replace(model.refine, threshold=0.0)
    config = replace(config, model=replace(model, refine=refine, depth=2))
    needed = foretold(config).step.total
    assert needed < memory_bound(*outlined(config)) < 16 * needed


@pytest.mark.parametrize("free", [1 << 30, None])
def test_a_run_far_below_what_is_free_is_not_rehearsed(config, tmp_path, monkeypatch, free):
    monkeypatch.setattr(loop, "forecast", lambda *arguments, **options: 1 / 0)
    monkeypatch.setattr(loop, "free_memory", lambda device, processes: free)
    loop.train(replace(config, batch=1, steps=1), tmp_path / "run")


def test_nothing_is_allocated_for_a_run_that_is_refused(config, tmp_path, monkeypatch):
    def refuse_to_be_made(*args):
        raise AssertionError("the model was made")

    monkeypatch.setattr(loop, "make_model", refuse_to_be_made)
    monkeypatch.setattr(loop, "free_memory", lambda device, processes: 1)
    with pytest.raises(ConfigError, match="are free on cpu"):
        loop.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_free_memory_is_no_more_than_the_control_group_leaves(monkeypatch):
    files = {
        "/proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n",
        "/sys/fs/cgroup/memory.max": "3000000\n",
        "/sys/fs/cgroup/memory.current": "2000000\n",
        "/sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 500000\n",
    }
    monkeypatch.setattr(machine, "read", lambda path: files.get(str(path), ""))
    assert machine.free_memory() == 1_500_000
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert machine.free_memory() == 4000 * 1024
    files.clear()
    assert machine.free_memory() is None
