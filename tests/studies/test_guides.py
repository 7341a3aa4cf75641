import torch

from matey.config import ModelConfig
from matey.nn.transformer import Matey
from matey.studies.guides import local_errors
from tests.nn.helpers import rough_inputs, system


def test_a_local_error_is_that_of_its_own_cell_in_units_of_the_history():
    """A model that repeats the last frame, and a target that differs from it in one cell."""
    spec = system(2)
    config = ModelConfig(
        embed_dim=8, heads=1, depth=1, mode="uniform", patches=(4,), predict="delta"
    )
    still = Matey(config, [spec], 2).eval()
    for name, parameter in still.named_parameters():
        if "decoders" in name:
            torch.nn.init.zeros_(parameter)
    inputs = rough_inputs(spec, points=16, samples=2, times=2)
    targets = inputs.values[:, -1:].clone()
    scale = inputs.values[0, :, 0].std(correction=0)
    targets[0, 0, 0, 0, 4:8, 8:12] += 3 * scale
    errors = local_errors(still, inputs, targets, [1], (1, 4, 4))[1]
    expected = torch.zeros(2, 1, 4, 4)
    expected[0, 0, 1, 2] = 9 / len(spec.predicted)
    torch.testing.assert_close(errors, expected, atol=1e-4, rtol=1e-4)  # single precision
