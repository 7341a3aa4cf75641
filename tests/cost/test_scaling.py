"""What is said of steps on many processes, against hand counts and the limits that there are."""

import math
from dataclasses import replace

import pytest

from matey.config import ModelConfig, ParallelConfig, RefineConfig, RunConfig, WindowConfig
from matey.cost.count import step_cost
from matey.cost.memory import step_memory
from matey.cost.scaling import Machine, Work, resized, sent_by, spread_plan, step_on, work_of
from matey.errors import ConfigError
from matey.nn.make import outline_model
from matey.nn.operations import count
from matey.tokens.pack import PACKINGS
from tests.nn.helpers import rough_inputs, system, tiny_model

GRID = (1, 32, 32)
TINY = ModelConfig(embed_dim=24, heads=4, depth=3, patches=(8, 4), scheme="svit")
RUN = RunConfig(model=TINY, windows=WindowConfig(history=2), batch=2)
# Round numbers: a second for a step, and for each gigabyte.
SLOW = Machine(
    rate=1e12,
    achieved=0.5,
    memory=1e12,
    per_node=4,
    inside=1e9,
    between=0.25e9,
    latency_inside=1e-3,
    latency_between=1e-2,
    overlap=0.0,
)
DDP, FSDP, SEQUENCE = ParallelConfig(), ParallelConfig("fsdp"), ParallelConfig(sequence=2)
BLOCKS = ParallelConfig(sequence=4, ring=2)


@pytest.fixture(scope="module")
def work() -> Work:
    return work_of(RUN, GRID, 3, 0.25)


@pytest.fixture
def round_work(work) -> Work:
    """A step of a second by itself, of which half is shared and two thirds go backward."""
    sizes = {"shared": 250_000_000_000, "ends": 250_000_000_000, "backward": 333_333_333_333}
    weights = dict.fromkeys(("weights", "trained", "reached"), 1_000_000_000)
    blocks = {"blocks": (400_000_000,) * 2}
    exchanged = {"exchanged": 400_000_000, "exchanges": 10, "last": 0}
    exchanged |= {"circled": 800_000_000, "circles": 6}
    return replace(work, windows=1, accumulate=1, **sizes, **weights, **blocks, **exchanged)


def test_cells_of_a_plan_are_refined_by_their_share():
    plan = spread_plan((1, 20, 64), ((1, 16, 16), (1, 8, 8), (1, 4, 4)), 0.25, 3)
    coarse, middle = 2 * 4, 2 * 4 * 4
    assert plan.domain == (1, 20, 64)
    assert plan.samples == 3
    counts = [int((plan.level == level).sum()) for level in range(2)]
    assert counts == [3 * coarse, 3 * 4 * round(0.25 * coarse)]
    assert int(plan.refined[plan.level == 0].sum()) == 3 * round(0.25 * coarse)
    # Of the middle cells as many are asked for, of which those inside refined ones are there.
    assert int(plan.refined.sum()) <= 3 * (round(0.25 * coarse) + round(0.25 * middle))
    assert plan.tokens.unique().numel() == 1


def test_work_is_what_the_model_counts_of_itself(work):
    spec = replace(system(variables=("u0", "u1", "u2"), parameters=()), name="modelled")
    model = outline_model(TINY, [spec], 2)
    plan = spread_plan(GRID, model.patches(2), 0.25, 2)
    cost = step_cost(model, spec, plan)
    assert work.operations == cost.operations
    assert work.backward == sum(cost.backward.values())
    assert work.tokens == 16 + 4 * 4 - 4
    assert work.weights == work.trained == 4 * count(model)
    assert work.reached == work.trained - 4 * sum(w.numel() for w in model.unused(spec))
    assert work.memory == step_memory(model, spec, plan)
    assert work.windows == 2


def test_what_activation_checkpointing_does_again_is_computed(work):
    again = work_of(replace(RUN, activation_checkpointing=True), GRID, 3, 0.25)
    assert again.shared == pytest.approx(work.shared * 4 / 3, rel=0.02)  # 7/5 of attention
    assert again.ends == work.ends
    assert again.exchanged == 1.5 * work.exchanged
    assert again.circled == 4 / 3 * work.circled
    assert again.memory.total < work.memory.total


@pytest.mark.parametrize("mode", ["uniform", "adap_mix", "adap_mul"])
def test_exchanges_are_of_attention_over_cells(mode):
    """Queries, keys, values and results: of both axes, in each block, but in the last block only
    of the last frame's queries and results."""
    for scheme, groupings, over_time in (("vit", 1, False), ("svit", 1, True), ("avit", 2, True)):
        patches = (4,) if mode == "uniform" else (8, 4)
        model = tiny_model(system(), scheme=scheme, mode=mode, patches=patches)
        model.refine = RefineConfig(fraction=0.25)
        plan = model.plan_inputs(rough_inputs(system(), points=32))
        cells, width, times = len(PACKINGS[mode](plan).cell), 24, model.times
        cost = step_cost(model, system(), plan)
        numbers = 4 * times + (4 if over_time else 2 * times + 2)
        assert cost.exchanges == 8 * groupings
        assert cost.exchanged == groupings * cells * width * numbers
        assert cost.circles == 2 * groupings
        held = 2 * times + (2 if over_time else 2 * times)
        assert cost.circled == groupings * cells * width * held


def test_a_process_alone_sends_nothing_and_waits_for_nothing(round_work):
    for parallel in (DDP, FSDP):
        step = step_on(round_work, SLOW, parallel, 1)
        assert step.time == step.compute == pytest.approx(1.0)
        assert step.efficiency == pytest.approx(1.0)
        assert not any(step.sent.values())


def test_bytes_of_a_ring_are_those_of_each_collective(round_work):
    sent = sent_by(round_work, DDP, 4)
    assert sent == {"gradients": 1.5e9, "gathers": 0, "exchange": 0, "ring": 0}
    sent = sent_by(round_work, FSDP, 4)
    # Blocks twice, what lies around them once.
    assert sent == {"gradients": 0.75e9, "gathers": 0.75 * 1.8e9, "exchange": 0, "ring": 0}
    sent = sent_by(round_work, SEQUENCE, 4)
    assert sent["exchange"] == 0.5 * 0.5 * 400e6
    assert sent["ring"] == 0
    # Four processes in two blocks: half as many exchange heads, and each hands on its quarter once.
    sent = sent_by(round_work, BLOCKS, 4)
    assert sent["exchange"] == 0.5 * 0.25 * 400e6
    assert sent["ring"] == 0.25 * 800e6
    sent = sent_by(round_work, ParallelConfig(sequence=4, ring=4), 4)
    assert sent["exchange"] == 0
    assert sent["ring"] == 3 * 0.25 * 800e6
    more = sent_by(replace(round_work, accumulate=3), FSDP, 4)
    assert more["gradients"] == 0.75e9
    assert more["gathers"] == pytest.approx(3 * 0.75 * 1.8e9)


def test_seconds_follow_from_bytes_and_messages(round_work):
    ddp = step_on(round_work, SLOW, DDP, 4)
    buckets = math.ceil(1e9 / (25 * 2**20))
    # Up and down a tree of two levels within one node.
    assert ddp.seconds["gradients"] == pytest.approx(1.5 + buckets * 4e-3)
    fsdp = step_on(round_work, SLOW, FSDP, 4)
    assert fsdp.seconds["gathers"] == pytest.approx(0.75 * 1.8 + 5 * 3e-3)
    assert fsdp.seconds["gradients"] == pytest.approx(0.75 + 3 * 3e-3)
    sequence = step_on(round_work, SLOW, SEQUENCE, 4)
    assert sequence.compute == pytest.approx(0.75)  # the ends are done by both
    assert sequence.seconds["exchange"] == pytest.approx(0.1 + 12e-3)
    assert sequence.time == pytest.approx(sequence.compute + sum(sequence.seconds.values()))
    blocks = step_on(round_work, SLOW, BLOCKS, 4)
    assert blocks.seconds["exchange"] == pytest.approx(0.05 + 12e-3)
    assert blocks.seconds["ring"] == blocks.waits["ring"] == pytest.approx(0.2 + 6e-3)
    assert blocks.time == pytest.approx(blocks.compute + sum(blocks.seconds.values()))


def test_between_nodes_the_slowest_link_counts(round_work):
    narrow = replace(SLOW, between=0.1e9)
    ring = narrow.ring(1e9, 8, 1)
    # Two nodes of four, each with four networks; one hop between them.
    assert ring == pytest.approx(1 / 0.4 + 1e-2 + 6e-3)
    assert narrow.ring(1e9, 4, 1) == pytest.approx(1 + 3e-3)
    # Of seven others, four are on another node.
    assert narrow.swap(1e9, 8, 1) == pytest.approx(3 / 7 + 4 / 7 / 0.1 + 1e-2)
    assert narrow.hops(1e9, 8, 3) == pytest.approx(1 / 0.1 + 3e-2)
    assert narrow.hops(1e9, 4, 3) == pytest.approx(1 + 3e-3)


def test_what_is_sent_beside_computation_costs_nothing(round_work):
    for parallel in (DDP, FSDP):
        open_step = step_on(round_work, SLOW, parallel, 4)
        hidden = step_on(round_work, replace(SLOW, overlap=0.6), parallel, 4)
        beside = 0.6 * (2 / 3 if parallel == DDP else 1)
        assert open_step.time - hidden.time == pytest.approx(beside)
    fast = replace(SLOW, inside=1e12, latency_inside=0.0, overlap=1.0)
    assert step_on(round_work, fast, DDP, 4).time == pytest.approx(1.0)
    # Attention waits for the cells of others, whatever goes on beside it.
    waits = step_on(round_work, replace(SLOW, overlap=1.0), SEQUENCE, 4).waits
    assert waits["exchange"] == pytest.approx(0.112)


@pytest.mark.parametrize(
    ("machine", "parallel", "limit"),
    [
        (replace(SLOW, inside=1e12, latency_inside=0.0), DDP, "compute"),
        (SLOW, DDP, "gradients"),
        (SLOW, FSDP, "gathers"),
        (replace(SLOW, inside=1e8, overlap=1.0, rate=1e10), SEQUENCE, "compute"),
        (replace(SLOW, memory=1e3), DDP, "memory"),
    ],
)
def test_the_limit_is_what_takes_longest_where_memory_suffices(
    round_work, machine, parallel, limit
):
    assert step_on(round_work, machine, parallel, 4).limit == limit


def test_exchange_limits_where_tokens_are_many_and_links_slow(round_work):
    work = replace(round_work, exchanged=40_000_000_000)
    assert step_on(work, SLOW, SEQUENCE, 2).limit == "exchange"


def test_a_plain_error_says_what_cannot_be_modelled(work):
    with pytest.raises(ConfigError, match="gpus is 3, expected a multiple of the 2"):
        step_on(work, SLOW, SEQUENCE, 3)
    with pytest.raises(ConfigError, match="There is no size 'XL'"):
        resized(RUN, "XL")
    with pytest.raises(
        ConfigError, match=r"machine.achieved is 1.5, expected a number in \[0, 1\]"
    ):
        Machine(achieved=1.5)
    unet = replace(TINY, baseline=replace(TINY.baseline, kind="unet"))
    with pytest.raises(ConfigError, match="Only the transformer's scaling"):
        work_of(replace(RUN, model=unet), GRID, 3, 0.25)


def test_a_published_size_replaces_that_of_the_config():
    assert resized(RUN, "B").model == replace(TINY, embed_dim=768, heads=12, depth=12)
