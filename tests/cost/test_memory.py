"""What is rehearsed against what is really there: by torch's account, and by the system's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from matey.config import ParallelConfig, RefineConfig, RunConfig
from matey.cost.machine import heap_share
from matey.cost.memory import Ledger, Memory, step_memory
from matey.fields import Batch
from matey.nn.adapters.low_rank import choose_weights
from matey.nn.make import outline_model
from matey.nn.transformer import Matey
from matey.tokens.refine import RefinementPlan as Plan
from matey.train.loop import learn
from matey.train.loss import squared_nrmse
from matey.train.parallel.distributed import Engine, Team
from tests.cost.resident import config_of, plan_of
from tests.nn.helpers import rough_inputs, system, tiny_model

PATCHES = {"uniform": (4,), "adap_mix": (8, 4), "adap_mul": (8, 4)}
CASES = [
    ("vit", "uniform"),
    ("vit", "adap_mix"),
    ("svit", "uniform"),
    ("svit", "adap_mul"),
    ("avit", "uniform"),
    ("avit", "adap_mix"),
]


def make(scheme: str, mode: str, points: int = 32, **config) -> tuple[Matey, object, Plan]:
    """A model in training, inputs, and the plan of their cells: a quarter refined."""
    settings = {"embed_dim": 48, "depth": 3, "patches": PATCHES[mode]} | config
    model = tiny_model(system(), scheme=scheme, mode=mode, **settings).train()
    model.refine = RefineConfig(fraction=0.25)
    inputs = rough_inputs(system(), points=points, samples=2)
    return model, inputs, model.plan_inputs(inputs)


def predicted(model: Matey, plan: Plan, trains_blocks: bool = True, **options) -> Memory:
    mode = "full" if trains_blocks else "frozen-attention"
    outline = outline_model(model.config, [system()], 2, mode)
    return step_memory(outline, system(), plan, **options)


@pytest.mark.parametrize(("scheme", "mode"), CASES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_rehearsal_finds_what_a_real_step_keeps_and_takes(
    scheme, mode, precision, checkpointing
):
    model, inputs, plan = make(scheme, mode)
    model.activation_checkpointing = checkpointing
    target = torch.randn_like(inputs.values[:, 0])
    with Ledger([*model.parameters(), inputs.values, target]) as ledger:
        with torch.autocast("cpu", torch.bfloat16, precision == "bfloat16"):
            prediction = model(inputs)
        loss = squared_nrmse(prediction.normalised, target)
        kept = ledger.now
        loss.backward()
    memory = predicted(model, plan, precision=precision, activation_checkpointing=checkpointing)
    # A tenth of it all: the prediction itself, indices and the vectors of names are left out.
    assert sum(memory.kept.values()) == pytest.approx(kept, abs=0.1 * ledger.highest)
    assert memory.peak == pytest.approx(ledger.highest, rel=0.1)


@pytest.mark.parametrize(
    ("scheme", "mode", "config"),
    [*((*case, {}) for case in CASES[2:]), ("svit", "adap_mul", {"local": 8, "stencil": True})],
)
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_rollout_that_is_learned_from_keeps_the_values_of_all_its_steps(
    scheme, mode, config, checkpointing, accumulate
):
    steps = 3
    model, inputs, plan = make(scheme, mode, **config)
    model.activation_checkpointing = checkpointing
    frames = [torch.randn_like(inputs.values[:, 0]) for _ in range(steps)]
    batch = Batch(
        **vars(inputs), target=frames[-1], pushes=steps - 1, between=torch.stack(frames[:-1], 1)
    )
    engine = Engine(model, Team(ParallelConfig(), torch.device("cpu")))
    if accumulate > 1:
        learn(engine, batch, RunConfig())
    present = [*model.parameters(), *(p.grad for p in model.parameters() if p.grad is not None)]
    with Ledger([*present, inputs.values, *frames, batch.between]) as ledger:
        learn(engine, batch, RunConfig())
    options = {"activation_checkpointing": checkpointing, "accumulate": accumulate}
    memory = predicted(model, plan, rollout=steps, **options)
    # With accumulation the gradients of the batch before are in the peak, and were present here.
    highest = ledger.highest + (memory.gradients if accumulate > 1 else 0)
    assert memory.peak == pytest.approx(highest, rel=0.1)
    assert memory.batch == inputs.values.nbytes + steps * frames[0].nbytes


@pytest.mark.parametrize("scheme", ["vit", "svit", "avit"])
def test_frozen_blocks_keep_less_and_the_rehearsal_knows_how_much(scheme):
    model, inputs, plan = make(scheme, "adap_mix")
    whole = predicted(model, plan)
    model.blocks.requires_grad_(False)
    target = torch.randn_like(inputs.values[:, 0])
    with Ledger([*model.parameters(), inputs.values, target]) as ledger:
        loss = squared_nrmse(model(inputs).normalised, target)
        kept = ledger.now
        loss.backward()
    memory = predicted(model, plan, trains_blocks=False)
    # Tolerances as above.
    assert sum(memory.kept.values()) == pytest.approx(kept, abs=0.1 * ledger.highest)
    assert memory.peak == pytest.approx(ledger.highest, rel=0.1)
    # Inputs of the matrices are not needed again: a quarter less at least.
    assert memory.kept["blocks"] < 0.75 * whole.kept["blocks"]
    blocks = 4 * sum(weight.numel() for weight in model.blocks.parameters())
    assert memory.gradients == whole.gradients - blocks
    assert memory.moments == whole.moments - 2 * blocks


def test_adapters_have_gradients_and_moments_and_the_matrices_beside_them_have_none():
    model, inputs, plan = make("svit", "adap_mix")
    choose_weights(model, "lora", 2)
    target = torch.randn_like(inputs.values[:, 0])
    with Ledger([*model.parameters(), inputs.values, target]) as ledger:
        loss = squared_nrmse(model(inputs).normalised, target)
        kept = ledger.now
        loss.backward()
    memory = step_memory(outline_model(model.config, [system()], 2, "lora", 2), system(), plan)
    # Tolerances as above.
    assert sum(memory.kept.values()) == pytest.approx(kept, abs=0.1 * ledger.highest)
    assert memory.peak == pytest.approx(ledger.highest, rel=0.1)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert (memory.gradients, memory.moments) == (4 * trained, 8 * trained)


@pytest.mark.parametrize(("scheme", "mode"), CASES)
def test_the_rehearsal_finds_what_inference_takes(scheme, mode):
    model, inputs, plan = make(scheme, mode)
    model.eval()
    with Ledger([*model.parameters(), inputs.values]) as ledger, torch.no_grad():
        model(inputs)
    assert predicted(model, plan, training=False).peak == pytest.approx(ledger.highest, rel=0.1)


def kept_by_a_block(model: Matey, inputs) -> int:
    """Bytes in the storages that autograd saves in the first block, weights aside."""
    block = model.blocks[0]
    own = {p.untyped_storage().data_ptr() for p in block.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}
    inside = [False]

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if inside[0] and storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage
        return tensor

    block.register_forward_pre_hook(lambda *_: inside.__setitem__(0, True))
    block.register_forward_hook(lambda *_: inside.__setitem__(0, False))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(inputs)
    return sum(storage.nbytes() for storage in saved.values())


@pytest.mark.parametrize(
    ("scheme", "bound"), [("vit", 22), ("svit", 32), ("avit", 32)], ids=lambda value: str(value)
)
@pytest.mark.parametrize("mode", ["uniform", "adap_mix"])
def test_a_block_keeps_few_values_of_a_token(scheme, bound, mode):
    """At most `bound` times embed_dim for each token, heads 64 wide as in the published sizes.

    As the slope over the number of tokens: scaled copies of the weights do not grow.
    """
    measured = []
    for points in (32, 64):
        model, inputs, plan = make(scheme, mode, points, embed_dim=192, heads=3, depth=2)
        measured.append((len(plan.leaves) * 2, kept_by_a_block(model, inputs)))
    (few, less), (many, more) = measured
    assert (more - less) / (many - few) / 4 <= bound * 192


@pytest.mark.parametrize("scheme", ["vit", "svit", "avit"])
def test_a_checkpointed_block_keeps_its_input_only(scheme):
    """At most twice embed_dim for each token and block: from the difference of two depths."""
    kept = []
    for depth in (2, 6):
        model, inputs, plan = make(scheme, "uniform", 64, depth=depth)
        model.activation_checkpointing = True
        with Ledger([*model.parameters(), inputs.values]) as ledger:
            prediction = model(inputs)
            kept.append(ledger.now)
        del prediction
    assert (kept[1] - kept[0]) / 4 / 4 <= 2 * 48 * len(plan.leaves) * 2


@pytest.mark.parametrize("scheme", ["svit", "avit"])
@pytest.mark.parametrize("mode", ["uniform", "adap_mix"])
def test_memory_grows_in_proportion_to_tokens(scheme, mode):
    peaks = []
    for points in (384, 512, 768):
        model, _, plan = make(scheme, mode, points)
        peaks.append((len(plan.leaves), predicted(model, plan).peak))
    (n0, p0), (n1, p1), (n2, p2) = peaks
    # 3 %: a few lines of up to 64 tokens keep their attention weights, longer ones do not.
    assert (p2 - p1) / (n2 - n1) == pytest.approx((p1 - p0) / (n1 - n0), rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "mode", "checkpointing"),
    [  # every two of these together
        ("vit", "uniform", True),
        ("vit", "adap_mix", False),
        ("svit", "uniform", False),
        ("svit", "adap_mix", True),
        ("avit", "uniform", True),
        ("avit", "adap_mix", False),
    ],
)
def test_a_step_takes_the_predicted_memory_of_the_machine(scheme, mode, checkpointing):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux, which tells resident memory in /proc/self/clear_refs")
    settings = {
        "scheme": scheme,
        "mode": mode,
        "checkpointing": checkpointing,
        "precision": "float32",
        "width": 192,
        "depth": 8,
        "points": 128,
        "samples": 8 if checkpointing else 4,
        "times": 4,
    }
    result = subprocess.run(
        [sys.executable, "-m", "tests.cost.resident", json.dumps(settings)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    memory = step_memory(
        outline_model(config_of(settings), [system()], settings["times"]),
        system(),
        plan_of(settings),
        activation_checkpointing=checkpointing,
        heap=heap_share("cpu", returned=checkpointing),
    )
    # A fifth: small blocks, scratch space of the matrix library, and how the heap falls to pieces.
    assert memory.total == pytest.approx(int(result.stdout), rel=0.2)
