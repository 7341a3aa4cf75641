"""What a validation tells of its windows."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from matey.config import ModelConfig, ParallelConfig, SplitConfig
from matey.data.systems import open_systems
from matey.nn.baselines.stencil import StencilModel
from matey.nn.surrogate import Prediction
from matey.tokens.normalise import normalised
from matey.train.parallel.distributed import Team
from matey.train.signals import Stop
from matey.train.validate import validate
from tests.train.test_finetune import config_for


class Still(StencilModel):
    """Persistence, but from the first frames of a trajectory, which it moves away from."""

    def __init__(self, away: float) -> None:
        super().__init__(ModelConfig(), [], 2)
        self.away = nn.Parameter(torch.tensor(away))

    def forward(self, batch, shift=(0, 0, 0)):
        predicted = list(batch.spec.predicted)
        statistics, fields = normalised(batch)
        last = fields[:, -1, predicted].clone()
        last[[" frames 0-" in source for source in batch.sources]] += self.away
        return Prediction(last, statistics.take(tuple(predicted)))


@pytest.mark.parametrize("away", [0.0, 9.0, float("nan")])
def test_windows_where_persistence_is_better_are_counted_and_the_worst_is_named(data, away):
    halves = replace(data, split=SplitConfig(valid=0.5, test=0.0))
    config, team = config_for(halves), Team(ParallelConfig(), torch.device("cpu"))
    scores = validate(Still(away), open_systems(halves), config, Stop(), team)
    if away == 0:  # rounding is not worse
        assert scores["worse"] == {}
        return
    assert scores["worse"].keys() == scores["nrmse"].keys()
    for name, worse in scores["worse"].items():
        trajectories = len(open_systems(halves)[name].split["valid"])
        assert 1 <= worse["windows"] == trajectories < worse["of"]
        assert worse["times"] > 2
        assert worse["at"].endswith(" from frame 0")
