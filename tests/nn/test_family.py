"""What holds for every scheme and mode, in one, two and three dimensions."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matey.config import ModelConfig, RefineConfig
from matey.config.model import SIZES, Mode, Scheme
from matey.fields import Boundary
from matey.nn import schemes as scheme_module
from matey.nn import transformer as model_module
from matey.nn.transformer import Matey
from matey.tokens.pack import PACKINGS, Packing, pack_mixed
from tests.nn.helpers import rough_inputs, share_weights, system, tiny_model

SCHEMES = ["vit", "svit", "avit", ("svit", "vit")]
MODES = ["uniform", "adap_mix", "adap_mul"]
PATCHES = {1: (16, 8, 4), 2: (8, 4, 2), 3: (8, 4, 2)}
# Two float32 paths through two blocks: rounding of some 1e-7 per operation.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}

schemes, modes = st.sampled_from(SCHEMES), st.sampled_from(MODES)
dimensions, levels = st.integers(1, 3), st.integers(1, 3)
seeds = st.integers(0, 99)
few = settings(max_examples=15)


def family_model(ndim: int, levels: int, scheme, mode: str, **config) -> Matey:
    """A tiny model of so many levels; of one, for uniform tokens."""
    patches = PATCHES[ndim][: 1 if mode == "uniform" else levels]
    spec = system(ndim)
    return tiny_model(spec, scheme=scheme, mode=mode, patches=patches, **config)


def points(ndim: int) -> int:
    return {1: 32, 2: 16, 3: 8}[ndim]


def large(ndim: int, levels: int, scheme: str, mode: str, seed: int, **config):
    """Fields of twice as many points along each axis, and a model."""
    inputs = rough_inputs(system(ndim), points=points(ndim) * 2, seed=seed)
    return inputs, family_model(ndim, levels, scheme, mode, **config)


def test_a_config_names_every_scheme_and_mode_that_there_is():
    assert set(get_args(Scheme)) == set(scheme_module.SCHEMES)
    assert set(get_args(Mode)) == set(PACKINGS)


@few
@given(dimensions, schemes, st.sampled_from(["linear", "hierarchical"]), seeds)
def test_threshold_0_equals_uniform_fine_patches_and_1_uniform_coarse(ndim, scheme, stem, seed):
    spec, coarse, fine = system(ndim), PATCHES[ndim][0], PATCHES[ndim][1]
    inputs = rough_inputs(spec, points=2 * points(ndim) if ndim < 3 else 16, seed=seed)
    for threshold, patch in ((0.0, fine), (1.0, coarse)):
        shared = {"scheme": scheme, "stem": stem}
        mixed = tiny_model(spec, patches=(coarse, fine), threshold=threshold, **shared)
        uniform = tiny_model(spec, mode="uniform", patches=(patch,), band=coarse, **shared)
        share_weights(mixed, uniform)
        mixed, plain = mixed(inputs), uniform(inputs)
        assert mixed.plan.tokens.tolist() == plain.plan.tokens.tolist()
        torch.testing.assert_close(mixed.normalised, plain.normalised, **CLOSE)


@few
@given(dimensions, levels, schemes, modes, seeds)
def test_a_samples_output_does_not_depend_on_its_batch_mates_beyond_rounding(
    ndim, levels, scheme, mode, seed
):
    inputs = rough_inputs(system(ndim), points=points(ndim) * (2 if ndim < 3 else 1), seed=seed)
    model = family_model(ndim, levels, scheme, mode)
    together = model(inputs)
    for i in range(3):
        one = {k: v[i : i + 1] for k, v in vars(inputs).items() if isinstance(v, torch.Tensor)}
        alone = model(replace(inputs, **one, sources=inputs.sources[i : i + 1]))
        mine = together.plan.corner[together.plan.leaves][
            together.plan.sample[together.plan.leaves] == i
        ]
        assert torch.equal(mine, alone.plan.corner[alone.plan.leaves])
        torch.testing.assert_close(together.normalised[i : i + 1], alone.normalised, **CLOSE)


@few
@given(dimensions, levels, schemes, modes, seeds)
def test_scaling_a_variables_units_by_a_power_of_two_changes_no_bit(
    ndim, levels, scheme, mode, seed
):
    inputs = rough_inputs(system(ndim), points=points(ndim), seed=seed)
    model = family_model(ndim, levels, scheme, mode)
    scale = torch.tensor([2.0**40, 2.0**-30]).view(1, 1, 2, 1, 1, 1)
    before, after = model(inputs), model(replace(inputs, values=inputs.values * scale))
    assert torch.equal(before.plan.refined, after.plan.refined)
    assert torch.equal(before.normalised, after.normalised)


@few
@given(dimensions, st.integers(2, 3), schemes, seeds)
def test_adap_mul_with_no_cell_refined_equals_the_coarse_model(ndim, levels, scheme, seed):
    spec = system(ndim)
    inputs = rough_inputs(spec, points=points(ndim), seed=seed)
    local = family_model(ndim, levels, scheme, "adap_mul", threshold=1.0)
    coarse = family_model(ndim, 1, scheme, "uniform")
    share_weights(local, coarse)
    found = local(inputs)
    torch.testing.assert_close(found.normalised, coarse(inputs).normalised, **CLOSE)
    assert torch.equal(found.normalised, found.base)


@few
@given(dimensions, schemes, st.sampled_from(["adap_mix", "adap_mul"]), seeds)
def test_none_one_and_all_patches_refined_mix_within_a_batch(ndim, scheme, mode, seed):
    model = family_model(ndim, 2, scheme, mode)
    inputs = rough_inputs(system(ndim), points=points(ndim) * 2, seed=seed)
    values = inputs.values.clone()
    values[0] = 3.0  # still: nothing is refined
    corner = (slice(None), slice(None), *(slice(0, model.patches(ndim)[0][a]) for a in range(3)))
    bump = torch.zeros_like(values[1])
    bump[corner] = values[1][corner] + torch.randn(values[1][corner].shape)
    values[1] = bump
    rough = torch.randn(values[2].shape, generator=torch.Generator().manual_seed(seed))
    values[2] = rough
    prediction = model(replace(inputs, values=values))
    count = prediction.plan.samples
    refined = torch.bincount(
        prediction.plan.sample[prediction.plan.refined], minlength=count
    ).tolist()
    cells = int((prediction.plan.level == 0).sum()) // count
    assert refined == [0, 1, cells]
    assert bool(prediction.fields.isfinite().all())


@few
@given(dimensions, st.integers(2, 3), schemes, seeds)
def test_the_order_in_which_cells_are_packed_changes_nothing(ndim, levels, scheme, seed):
    inputs = rough_inputs(system(ndim), points=points(ndim), seed=seed)
    model = family_model(ndim, levels, scheme, "adap_mix")
    expected = model(inputs).normalised

    def shuffled(plan) -> Packing:
        """The packing with the cells of each sequence in another order."""
        packing = pack_mixed(plan)
        generator = torch.Generator().manual_seed(seed)
        pieces, first = [], 0
        for length in packing.lengths:
            pieces.append(first + torch.randperm(length, generator=generator))
            first += length
        turn = torch.cat(pieces)
        order = packing.order if packing.order is not None else torch.arange(len(turn))
        return replace(packing, order=order[turn], cell=packing.cell[turn], lattices=())

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(model_module.PACKINGS, "adap_mix", shuffled)
        torch.testing.assert_close(model(inputs).normalised, expected, **CLOSE)


@few
@given(dimensions, levels, schemes, modes, seeds)
def test_a_shift_by_coarse_cells_commutes_without_position(ndim, levels, scheme, mode, seed):
    inputs, model = large(ndim, levels, scheme, mode, seed, absolute_position=False)
    cell = PATCHES[ndim][0]
    axes, shift = (-1, -2, -3)[:ndim], (cell, 0 if ndim < 3 else cell, cell)[:ndim]
    moved = replace(inputs, values=inputs.values.roll(shift, axes))
    expected = model(inputs).normalised.roll(shift, axes)
    torch.testing.assert_close(model(moved).normalised, expected, **CLOSE)


@few
@given(dimensions, levels, schemes, modes, seeds)
def test_with_jitter_a_shift_of_the_patches_is_undone(ndim, levels, scheme, mode, seed):
    """A whole coarse cell moves no patch edge: only where tokens are thought to be, if at all."""
    inputs, model = large(ndim, levels, scheme, mode, seed, jitter=True)
    cell = model.patches(ndim)[0]
    shift = tuple(size if size > 1 else 0 for size in cell)
    torch.testing.assert_close(model(inputs, shift).normalised, model(inputs).normalised, **CLOSE)


def test_jitter_shifts_periodic_axes_only_and_repeats_with_its_seed():
    inputs = rough_inputs(system(2), points=32)
    model = tiny_model(system(2), jitter=True)
    draws = [model.draw_shift(inputs, torch.Generator().manual_seed(s)) for s in range(20)]
    assert draws[3] == model.draw_shift(inputs, torch.Generator().manual_seed(3))
    assert {z for z, _, _ in draws} == {0}
    assert {y for _, y, _ in draws} > {0, 1, 2}
    assert max(x for _, _, x in draws) < 8, "less than a coarse patch"
    walls = inputs.boundaries.clone()
    walls[1, 1] = int(Boundary.WALL)
    walled = replace(inputs, boundaries=walls)
    assert {model.draw_shift(walled)[1] for _ in range(9)} == {0}
    assert tiny_model(system(2)).draw_shift(inputs) == (0, 0, 0)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("mode", MODES)
def test_gradients_agree_with_finite_differences_in_float64(scheme, mode):
    torch.set_default_dtype(torch.float64)
    try:
        spec = system(2)
        model = tiny_model(
            spec,
            scheme=scheme,
            mode=mode,
            patches=(4,) if mode == "uniform" else (4, 2),
            embed_dim=8,
            heads=1,
            stem="hierarchical",
        ).train()
        inputs = rough_inputs(spec, points=8, samples=2)
        weight = torch.randn(model(inputs).normalised.shape)

        def loss() -> torch.Tensor:
            return (model(inputs).normalised * weight).sum()

        parameters = dict(model.named_parameters())
        gradients = torch.autograd.grad(loss(), list(parameters.values()))
        generator = torch.Generator().manual_seed(0)
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
            # Along one random direction of each tensor, by central differences.
            direction = torch.randn(parameter.shape, generator=generator)
            step = 1e-6
            with torch.no_grad():
                parameter += step * direction
                ahead = loss()
                parameter -= 2 * step * direction
                behind = loss()
                parameter += step * direction
            slope = float(ahead - behind) / (2 * step)
            # Errors of order step² times third derivatives, and 1e-16 / step of rounding.
            assert float((gradient * direction).sum()) == pytest.approx(
                slope, rel=1e-5, abs=1e-7
            ), name
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("mode", MODES)
def test_activation_checkpointing_gives_the_same_gradients(scheme, mode):
    model = family_model(2, 2, scheme, mode, drop_path=0.3).train()
    inputs = rough_inputs(system(2), points=32)
    found = []
    for model.activation_checkpointing in (False, True):
        torch.manual_seed(0)
        model.zero_grad()
        model(inputs).normalised.square().mean().backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for plain, checkpointed in zip(*found, strict=True):
        assert torch.equal(plain, checkpointed)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("mode", MODES)
def test_bfloat16_autocast_stays_near_float32(scheme, mode):
    model = family_model(2, 2, scheme, mode)
    inputs = rough_inputs(system(2), points=32)
    exact = model(inputs).normalised
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(inputs).normalised
    assert rough.dtype == torch.float32
    # bfloat16 keeps 8 bits: errors of 2**-9 in each of some dozen operations.
    assert float((rough - exact).square().mean().sqrt() / exact.square().mean().sqrt()) < 0.02


PUBLISHED = {  # millions of parameters, at patch 16: arXiv:2412.20601
    "vit": {"Ti": 5.8, "S": 23, "B": 92, "L": 315},
    "svit": {"Ti": 7.6, "S": 30, "B": 121, "L": 416},
}


@pytest.mark.parametrize("size", SIZES)
def test_blocks_have_as_many_parameters_as_published(size):
    """The attention that SViT has and ViT has not is the same design, so the same count.

    What stands around the blocks differs: a vector per variable name, conditioning on lead time
    and parameters, and no stem at full resolution; totals agree within 8 %.
    """
    totals = {}
    for scheme in ("vit", "svit", "avit"):
        embed_dim, heads, depth = SIZES[size]
        config = ModelConfig(embed_dim, heads, depth, scheme=scheme, mode="uniform", patches=(16,))
        spec = system(2, variables=("a", "b", "c", "d"))
        with torch.device("meta"):
            model = Matey(config, [spec], history=16)
        totals[scheme] = sum(p.numel() for p in model.parameters()) / 1e6
    assert totals["avit"] == totals["svit"]
    extra = PUBLISHED["svit"][size] - PUBLISHED["vit"][size]
    # Published figures are rounded: to 0.1 M for Ti, to 1 M above.
    rounding = 0.1 if size == "Ti" else 1.0
    assert totals["svit"] - totals["vit"] == pytest.approx(extra, abs=rounding)
    for scheme, published in PUBLISHED.items():
        assert totals[scheme] == pytest.approx(published[size], rel=0.08)


def test_a_scheme_for_each_block_repeats_its_pattern():
    config = ModelConfig(embed_dim=24, heads=2, depth=6, scheme=("svit", "svit", "vit"))
    assert config.schemes == ("svit", "svit", "vit") * 2


def test_a_criterion_that_is_not_registered_is_refused_when_the_model_is_made():
    with pytest.raises(Exception, match=r"'varianc'.*Did you mean 'variance'"):
        tiny_model(system(), refine=RefineConfig(criterion="varianc"))
