"""Two processes (gloo) against one on the same global batch."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from matey.config import ParallelConfig
from matey.nn.transformer import Matey
from matey.train.parallel.distributed import Team
from tests.train.pair import Pair
from tests.train.works import (
    CASES,
    LOCAL,
    MODEL,
    SPECS,
    UNIFORM,
    batch_of,
    equal_steps,
    step_of,
    traffic,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """One step of each case in two processes: what the first of them found."""
    folder = tmp_path_factory.mktemp("steps")
    for ended in Pair(folder, equal_steps, folder).finish():
        assert ended.code == 0, ended.said
        assert ended.said == ""
    return {path.stem: load_file(path) for path in folder.glob("*.safetensors")}


@pytest.fixture(scope="module")
def alone():
    """The same steps in one process, by the model's config."""
    one = Team(ParallelConfig(), CPU)
    cases = {(model, *between) for model, _, *between in CASES.values()}
    return {case: step_of(case[0], one, *case[1:]) for case in cases}


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    """What both processes send in a batch of each case, and what is modelled of it."""
    folder = tmp_path_factory.mktemp("traffic")
    for ended in Pair(folder, traffic, folder).finish(seconds=300):
        assert ended.code == 0, ended.said
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("mode", ["mix", "mul"])
@pytest.mark.parametrize("kind", ["ddp", "fsdp", "sequence"])
def test_two_processes_send_as_many_bytes_as_are_modelled(sent, kind, mode):
    first, second = (each[f"{kind}-{mode}"] for each in sent)
    assert first["modelled"] == second["modelled"]
    for what, bytes_ in first["modelled"].items():
        # Heads and cells that two do not divide evenly, and padding of shares of weights.
        both = first["sent"][what] + second["sent"][what]
        assert both == pytest.approx(2 * bytes_, rel=0.01), what


def is_rounding(name, config):
    """Whether a gradient is zero but for rounding: attention over time alone, which no rotation
    enters, does not change when all keys move by one vector."""
    timed = [f"blocks.{i}." for i, scheme in enumerate(config.schemes) if scheme != "vit"]
    timed = [] if config.local else timed  # a history that is folded has one time
    return name.endswith("attentions.0.key_norm.bias") and any(part in name for part in timed)


@pytest.mark.parametrize("checkpointing", ["", "-checkpointed"])
@pytest.mark.parametrize("case", CASES)
def test_one_process_with_2b_samples_and_two_with_b_have_equal_gradients(
    steps, alone, case, checkpointing
):
    model, _, *between = CASES[case]
    found, expected = steps[case + checkpointing], alone[model, *between]
    # The same weights have a gradient at all: the others are not updated.
    assert set(found) == set(expected)
    for name, value in expected.items():
        error = torch.linalg.vector_norm(found[name] - value)
        if is_rounding(name, model):
            assert error <= 1e-8 * expected["norm"], name
        else:
            # Sums in another order: float32 rounding of each tensor, and nothing else.
            assert error <= 1e-5 * torch.linalg.vector_norm(value), name


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("absolute", [True, False])
def test_the_weights_that_a_batch_does_not_reach_are_known_from_its_system(spec, absolute):
    model = Matey(replace(MODEL, absolute_position=absolute), SPECS, history=2).train()
    prediction = model(batch_of(spec, 0, slice(0, 2)))
    prediction.normalised.sum().backward()
    without = {name for name, weight in model.named_parameters() if weight.grad is None}
    unused = {id(weight) for weight in model.unused(spec)}
    assert without == {name for name, w in model.named_parameters() if id(w) in unused}


@pytest.mark.parametrize("config", [MODEL, LOCAL, UNIFORM])
def test_a_weight_that_no_batch_of_a_step_reaches_is_not_updated(alone, config):
    torch.manual_seed(0)
    before = dict(Matey(config, SPECS, history=2).named_parameters())
    found = alone[config,]
    idle = [name for name in before if f"gradient/{name}" not in found]
    assert {name.split(".")[-1] for name in idle} >= {"d_", "mu_"}
    assert all(torch.equal(before[name], found[f"weight/{name}"]) for name in idle)
