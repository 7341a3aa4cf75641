import math

import pytest
import torch

from matey.metrics.conserved import domain_mean, energy_error, mean_error, mean_square


def test_means_of_a_shifted_field_are_conserved():
    fields = torch.randn(2, 3, 1, 8, 8)
    moved = fields.roll(3, -1)
    for quantity in (domain_mean, mean_square):
        torch.testing.assert_close(quantity(moved), quantity(fields))  # sums in another order
    assert mean_error(moved, fields).abs().max() < 1e-12
    assert energy_error(moved, fields).max() < 1e-12


def test_errors_of_the_mean_and_the_mean_square_are_those_of_pencil_and_paper():
    target = torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 1, 2)  # mean 2, mean square 5
    prediction = torch.tensor([2.0, 4.0]).reshape(1, 1, 1, 1, 2)  # mean 3, mean square 10
    assert float(mean_error(prediction, target)) == 1
    assert float(energy_error(prediction, target)) == pytest.approx(1)
    assert float(energy_error(prediction * math.nan, target)) == math.inf
    assert energy_error(prediction, 0 * target).isnan().all()
