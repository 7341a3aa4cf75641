"""The pattern-forming system against published fields and exact decay."""

import math

import h5py
import pytest
import torch

from matey.simulate.diffusion_reaction import DiffusionReaction, exchange


def test_the_published_fields_are_reproduced_from_their_first_frame(shared):
    """Required: 0.3 % in every frame. Measured: 0.02 % at worst, the tolerance of the
    adaptive steps that made the files."""
    with h5py.File(shared / "pdebench/diffre2d/2D_diff-react_NA_NA.h5") as file:
        groups = [file[name] for name in ("0000", "0015")]
        data = [torch.from_numpy(group["data"][:]) for group in groups]
        times = groups[0]["grid/t"][:].astype(float).round(6).tolist()
    published = torch.stack(data).permute(1, 0, 4, 2, 3).double()
    frames = torch.stack(list(DiffusionReaction().run(published[0], times)))
    error = (frames - published).flatten(2).norm(dim=-1) / published.flatten(2).norm(dim=-1)
    assert error.max() < 5e-4


def cosine(points: int):
    """The first mode that no-flow walls allow, on a unit square, along x and y."""
    x = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    mode = torch.cos(torch.pi * x)
    return (mode[:, None] * mode).expand(1, 2, -1, -1)


def test_the_laplacian_is_of_order_two():
    """∇² of cos(πx) cos(πy) is -2π² times itself. 0.02: the next term at 16 points."""
    errors = []
    for points in (16, 32):
        mode = cosine(points)
        errors.append((exchange(mode) * points**2 + 2 * math.pi**2 * mode).norm() / mode.norm())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.02)


def test_a_cosine_between_walls_is_an_eigenvector_to_rounding():
    """With the discrete eigenvalue -8 sin²(π/2n): walls cost no accuracy at all."""
    mode = cosine(20)
    eigenvalue = -8 * math.sin(math.pi / 40) ** 2
    torch.testing.assert_close(exchange(mode), eigenvalue * mode, rtol=0, atol=1e-14)


def test_nothing_flows_through_the_walls():
    """What one cell gains its neighbour loses: rounding of 200 sums of order 1."""
    values = torch.randn(3, 2, 10, 20, dtype=torch.float64)
    assert exchange(values).sum(dim=(-2, -1)).abs().max() < 1e-12
    assert not exchange(torch.full((1, 2, 5, 5), 0.7)).any()


def test_smooth_patterns_converge_with_order_two():
    """Against twice the points, averaged in fours; 0.1 is what higher terms still change."""
    system = DiffusionReaction(Du=0.02, Dv=0.1)
    finals = [list(system.run(cosine(n) + 0.3, [0.0, 1.0]))[-1] for n in (8, 16, 32)]
    coarse = [torch.nn.functional.avg_pool2d(final, 2) for final in finals[1:]]
    errors = [(a - b).norm() / b.norm() for a, b in zip(finals, coarse, strict=False)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


def test_the_initial_state_is_standard_normal_noise():
    """8192 draws: mean and deviation within four standard errors."""
    state = DiffusionReaction().initial([0], 64, seed=0)
    assert abs(state.mean()) < 4 / math.sqrt(8192)
    assert abs(state.std() - 1) < 4 / math.sqrt(2 * 8192)


@pytest.mark.parametrize("resolution", [8, 32, 96])
def test_noise_is_stable_at_every_resolution(resolution):
    """The cubic term dominates the step on coarse grids, diffusion on fine ones.

    Without stimulus |u| settles below 2, where the cubic term outweighs all others.
    """
    system = DiffusionReaction()
    state = system.initial(range(4), resolution, seed=3)
    final = list(system.run(state, [0.0, 1.0]))[-1]
    assert final.abs().max() < 2
