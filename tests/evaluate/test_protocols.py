"""A protocol is every detail of a score: scores of hand-made frames, by name."""

import math
from dataclasses import replace

import pytest
import torch

from matey.errors import ConfigError
from matey.evaluate.protocols import METRICS, PROTOCOLS, Frame, find_protocol, score_frame


def waves(amplitude: float, count: int, points: int = 64):
    x = 2 * torch.pi * count * torch.arange(points, dtype=torch.float64) / points
    return (amplitude * x.cos()).expand(1, 1, 1, points, points)


def test_every_metric_of_a_protocol_is_known_and_exact_predictions_score_0():
    target = torch.randn(2, 3, 1, 32, 32).double()
    used = set()
    for protocol in PROTOCOLS.values():
        assert protocol.primary in protocol.metrics
        scores = score_frame(Frame(target.clone(), target, protocol))
        assert all(score.abs().max() < 1e-12 for score in scores.values())
        assert all(score.shape == (2, 3) for score in scores.values())
        used |= set(scores)
    assert used == set(METRICS)


def test_pdebench_has_no_small_constant_and_counts_wavenumbers():
    """Truth 2 cos 3x, error 1/2 cos 20x: mean squares 2 and 1/8."""
    target = waves(2.0, 3)
    scores = score_frame(Frame(target + waves(0.5, 20), target, PROTOCOLS["pdebench-v1"]))
    found = {name: float(score) for name, score in scores.items()}
    assert found["rmse"] == pytest.approx(math.sqrt(1 / 8))
    assert found["nrmse"] == pytest.approx(1 / 4)
    assert found["frmse_low"] == pytest.approx(0, abs=1e-12)
    assert found["frmse_mid"] == pytest.approx(0, abs=1e-12)
    assert found["frmse_high"] == pytest.approx(math.sqrt(1 / 8) / 20)  # 13 to 32
    assert found["max_error"] == pytest.approx(0.5)
    assert found["mean_error"] == pytest.approx(0, abs=1e-12)


def test_a_band_beyond_the_finest_wave_of_a_coarse_grid_is_undefined():
    target = torch.randn(1, 1, 1, 16, 16)
    scores = score_frame(Frame(target + 1, target, PROTOCOLS["pdebench-v1"]))
    assert float(scores["frmse_low"]) == pytest.approx(1 / 5)  # a mean of 1, wavenumbers 0 to 4
    assert scores["frmse_high"].isnan().all()


def test_the_well_has_a_small_constant_and_an_unbiased_variance():
    target = torch.tensor([0.0, 1.0, 2.0, 3.0]).reshape(1, 1, 1, 1, 4) * 1e-3
    scores = score_frame(Frame(target + 1e-3, target, PROTOCOLS["well-1.2"]))
    # Squared error 1e-6, variance 5/3 e-6, ε 1e-7.
    assert float(scores["vrmse"]) == pytest.approx(math.sqrt(1 / (5 / 3 + 0.1)))
    zero = torch.zeros(1, 1, 1, 8, 8)
    assert float(score_frame(Frame(zero, zero, PROTOCOLS["well-1.2"]))["nrmse"]) == 0


def test_scores_beyond_the_clip_count_as_the_clip():
    target = torch.ones(1, 1, 1, 4, 4)
    frame = Frame(9 * target, target, replace(PROTOCOLS["default"], clip=5.0))
    assert float(score_frame(frame)["nrmse"]) == 5
    assert score_frame(frame)["vrmse"].isnan().all()


def test_an_unknown_protocol_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"Did you mean 'well-1\.2'"):
        find_protocol("well-1.1")
