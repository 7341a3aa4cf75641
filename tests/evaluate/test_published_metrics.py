"""The protocol well-1.2 gives the numbers of the published `the_well` package.

It lives in an environment of its own, whose Python MATEY_WELL_PYTHON names: see
tests/data/test_published_well.py.
"""

import os
import subprocess

import numpy as np
import pytest
import torch

from matey.evaluate.protocols import PROTOCOLS, Frame, score_frame
from matey.metrics.error import correlation

SCRIPT = """
import sys
from types import SimpleNamespace
import numpy as np
import torch
from the_well.benchmark.metrics import MAE, NRMSE, RMSE, VRMSE, LInfinity, PearsonR
from the_well.benchmark.metrics import binned_spectral_mse

with np.load(sys.argv[1]) as file:
    x, y = torch.from_numpy(file["x"]), torch.from_numpy(file["y"])
meta = SimpleNamespace(n_spatial_dims=x.ndim - 2)
named = {"vrmse": VRMSE, "nrmse": NRMSE, "rmse": RMSE, "mae": MAE, "max_error": LInfinity}
found = {name: metric()(x, y, meta) for name, metric in named.items()}
found["correlation"] = PearsonR()(x, y, meta)
bands = binned_spectral_mse()(x, y, meta)
for i, band in enumerate(("low", "mid", "high")):
    for kind in ("mse", "nmse"):
        found[f"spectral_{kind}_{band}"] = bands[f"spectral_error_{kind}_per_bin_{i}"]
np.savez(sys.argv[2], **{name: value.numpy() for name, value in found.items()})
"""


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1, 64), (1, 24, 32), (1, 33, 32), (8, 12, 16)])
def test_scores_are_those_of_the_published_package(tmp_path, shape, well_python):
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(3, 2, *shape, generator=generator).cumsum(dim=-1) + 4
    target[:, 1] *= 1e-4  # where ε counts
    prediction = target + 0.1 * target.std() * torch.randn(target.shape, generator=generator)

    ndim = sum(points > 1 for points in shape)
    x, y = (
        fields.reshape(*fields.shape[:2], *shape[3 - ndim :]).movedim(1, -1).contiguous().numpy()
        for fields in (prediction, target)
    )
    np.savez(tmp_path / "fields.npz", x=x, y=y)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    paths = [str(tmp_path / "fields.npz"), str(tmp_path / "found.npz")]
    command = [well_python, "-W", "ignore", "-c", SCRIPT, *paths]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    protocol = PROTOCOLS["well-1.2"]
    ours = score_frame(Frame(prediction, target, protocol))
    ours["correlation"] = correlation(prediction, target, protocol.eps, protocol.correction)
    with np.load(tmp_path / "found.npz", allow_pickle=False) as found:
        assert set(found.files) == set(ours)
        for name in found.files:
            # The package computes in float32, and adds 1e-7 to its counts of coefficients.
            np.testing.assert_allclose(ours[name], found[name], rtol=2e-4, atol=1e-9, err_msg=name)
