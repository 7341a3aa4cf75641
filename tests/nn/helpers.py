"""Small systems, inputs and models for the tests of the model."""

from dataclasses import replace

import torch

from matey.config import ModelConfig, RefineConfig
from matey.fields import Boundary, Inputs, SystemSpec, Variable
from matey.nn.transformer import Matey


def system(
    ndim: int = 2, name: str = "toy", parameters=("nu",), variables=("a", "b")
) -> SystemSpec:
    return SystemSpec(name, ndim, tuple(Variable(v) for v in variables), tuple(parameters), 0.5)


def rough_inputs(
    spec: SystemSpec, points: int = 16, samples: int = 3, times: int = 2, seed: int = 0
):
    """Histories whose variance differs from place to place, so that plans differ too."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1,) * (3 - spec.ndim) + (points,) * spec.ndim
    count = len(spec.variables)
    size = torch.rand(samples, 1, 1, *shape, generator=generator) ** 4
    values = torch.randn(samples, times, count, *shape, generator=generator) * size
    return Inputs(
        values=values,
        lead_time=torch.ones(samples),
        boundaries=torch.full((samples, 3, 2), int(Boundary.PERIODIC)),
        parameters=torch.full((samples, len(spec.parameters)), 0.1),
        spec=spec,
        sources=("test",) * samples,
    )


def tiny_model(
    spec: SystemSpec, *more: SystemSpec, threshold: float = 0.3, seed: int = 0, **config
):
    torch.manual_seed(seed)
    settings = {"embed_dim": 24, "heads": 2, "depth": 2, "patches": (8, 4), "latent_channels": 4}
    settings |= {"refine": RefineConfig(threshold=threshold)} | config
    return Matey(ModelConfig(**settings), [spec, *more], history=2).eval()


def share_weights(source: Matey, target: Matey, *but: str) -> Matey:
    """Give a model all weights of another, `but` those whose names begin so."""
    known, own = source.state_dict(), target.state_dict()
    target.load_state_dict({name: (own if name.startswith(but) else known)[name] for name in own})
    return target


def check_thresholds(make, spec: SystemSpec, **config) -> None:
    """Thresholds of 0 and 1 equal the uniform models of fine and of coarse patches, to rounding."""
    inputs, adaptive = rough_inputs(spec), make(spec, **config)
    for threshold, patch in ((0.0, 4), (1.0, 8)):
        adaptive.config = replace(adaptive.config, refine=RefineConfig(threshold=threshold))
        uniform = make(spec, mode="uniform", patches=(patch,), **config)
        share_weights(adaptive, uniform)
        mixed, plain = adaptive(inputs), uniform(inputs)
        assert mixed.plan.tokens.tolist() == plain.plan.tokens.tolist()
        torch.testing.assert_close(mixed.normalised, plain.normalised, rtol=1e-4, atol=1e-5)
