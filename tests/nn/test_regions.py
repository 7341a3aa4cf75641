"""Large fields worked on by regions: what is made of them is that of the whole, in less memory."""

from dataclasses import replace

import pytest
import torch

from matey.config import BaselineConfig, ModelConfig, RefineConfig
from matey.cost.memory import Ledger
from matey.cost.regions import LIBRARIES, bytes_of, limit_memory, need_of
from matey.errors import ConfigError
from matey.fields import PERIODIC_SIDES, Boundary, Field, Grid
from matey.fields.grid import stack_points
from matey.nn.make import make_model
from matey.tokens.criteria import criterion, measure_cells
from matey.tokens.normalise import measure
from matey.tokens.regions import by_regions, joined, spans
from tests.nn.helpers import rough_inputs, system, tiny_model
from tests.nn.local.test_path import local_model
from tests.nn.test_stretched import GRIDS

# Sums in another order, and products of other shapes: rounding of fields of unit size.
CLOSE = {"rtol": 1e-4, "atol": 2e-5}
CASES = [  # with sides where patches end, and others
    (local_model, {"mode": "adap_mix", "scheme": "vit", "levels": 2, "waves": 3}, 2, 16),
    (local_model, {"mode": "adap_mul", "scheme": "avit"}, 3, 11),
    (local_model, {"mode": "adap_mix", "scheme": "svit", "local_piece": 4}, 2, 21),
    (local_model, {"mode": "uniform", "patches": (5,), "levels": 0, "scheme": "svit"}, 2, 21),
    (local_model, {"mode": "adap_mix", "scheme": "vit"}, 1, 21),
    (tiny_model, {"mode": "adap_mix", "scheme": "svit", "predict": "state"}, 2, 21),
    (tiny_model, {"mode": "adap_mul", "scheme": "avit"}, 3, 8),
]


def sided_inputs(spec, points):
    """One sample with periodic sides, one with walls, one with another side at each end."""
    inputs = rough_inputs(spec, points)
    inputs.boundaries[1] = int(Boundary.WALL)
    inputs.boundaries[2, 3 - spec.ndim :, 0] = int(Boundary.OPEN)
    return inputs


def by(model, inputs, count):
    """The prediction in so many regions."""
    model.regions = count
    with torch.no_grad():
        return model(inputs)


@pytest.mark.parametrize(("make", "config", "ndim", "points"), CASES)
def test_what_is_predicted_by_regions_is_that_of_the_whole(make, config, ndim, points):
    spec = system(ndim)
    inputs, model = sided_inputs(spec, points), make(spec, **config)
    whole = by(model, inputs, 1)
    for count in (2, 5):
        parts = by(model, inputs, count)
        assert torch.equal(parts.plan.corner, whole.plan.corner)
        torch.testing.assert_close(parts.normalised, whole.normalised, **CLOSE)


def test_stretched_grids_and_other_shifts_by_regions_are_those_of_the_whole():
    inputs = replace(rough_inputs(system()), points=stack_points(GRIDS))
    model = local_model(system(), jitter=True, jitter_sides=True)
    for given, shift in ((inputs, (0, 4, 2)), (replace(inputs, points=None), (0, 3, 5))):
        model.regions = 1
        with torch.no_grad():
            whole = model(given, shift)
            model.regions = 3
            parts = model(given, shift)
        torch.testing.assert_close(parts.normalised, whole.normalised, **CLOSE)


def test_a_step_with_a_gradient_is_never_taken_by_regions():
    inputs, model = rough_inputs(system()), local_model(system())
    whole = model(inputs)
    model.regions = 4
    assert torch.equal(model(inputs).normalised, whole.normalised)


@pytest.mark.parametrize("name", ["variance", "change", "gradient"])
def test_cells_measured_by_regions_are_measured_as_of_the_whole(name):
    fields = rough_inputs(system(), 24).values
    whole = measure_cells(name, fields, (1, 8, 8))
    for count in (2, 3):
        with by_regions(count):
            torch.testing.assert_close(measure_cells(name, fields, (1, 8, 8)), whole)


def test_a_criterion_that_looks_at_all_of_a_field_is_given_all_of_it():
    @criterion("mean of all")
    def mean_of_all(fields, cell):
        return fields.mean(dim=(1, 2, 3, 4, 5))[:, None, None, None].expand(-1, 1, 3, 3)

    fields = rough_inputs(system(), 24).values
    with by_regions(3):
        assert torch.equal(
            measure_cells("mean of all", fields, (1, 8, 8)), mean_of_all(fields, (1, 8, 8))
        )


def test_means_and_deviations_are_summed_over_regions():
    values = rough_inputs(system(3), 12).values + 1000
    whole = measure(values)
    with by_regions(5):
        parts = measure(values)
    torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-7, atol=0)
    torch.testing.assert_close(parts.scale, whole.scale, rtol=1e-6, atol=0)


def test_spans_cover_all_rows_once():
    assert spans(7, 3) == [(0, 3), (3, 6), (6, 7)]
    assert spans(2, 5) == [(0, 1), (1, 2)]
    assert spans(0, 4) == [(0, 0)]


def test_joined_parts_keep_the_order_of_channels():
    last = {"memory_format": torch.channels_last}
    values = torch.randn(2, 4, 6, 5).contiguous(**last)
    parts = (values[:, :, a:b].contiguous(**last) for a, b in spans(6, 4))
    whole = joined(parts, 6, axis=2)
    assert torch.equal(whole, values)
    assert whole.stride() == values.stride()


def test_regions_take_less_memory():
    """Little more than fields and features: here these are 0.4 of what the whole takes. Channels of
    waves, of which there would be twice as many as of features here, are there as a whole."""
    inputs = rough_inputs(system(), 128, samples=1)
    model = local_model(system(), waves=0, refine=RefineConfig(fraction=0.1))
    most = {}
    for count in (1, 16):
        with Ledger([inputs.values]) as ledger:
            by(model, inputs, count)
        most[count] = ledger.highest
    assert most[16] < 0.6 * most[1]


def field_of(points):
    """Two frames of a system on so many points."""
    inputs = rough_inputs(system(parameters=()), points, samples=1)
    grid = Grid(("y", "x"), (1, points, points), (0.0,) * 3, (1.0,) * 3)
    sides = (PERIODIC_SIDES,) * 3
    return Field(inputs.values[0], torch.arange(2) * 0.5, grid, sides, {}, inputs.spec)


@pytest.fixture
def little(monkeypatch):
    """A process of 1000 pages, and few numbers of regions to try."""
    monkeypatch.setattr("matey.cost.regions.read", lambda path: "0 1000")
    monkeypatch.setattr("matey.cost.regions.NUMBERS", (1, 4))
    monkeypatch.setattr("matey.cost.regions.return_large_blocks", lambda: None)


def test_a_limit_of_memory_sets_the_fewest_regions_that_keep_it(little, monkeypatch):
    field = field_of(64)
    model = tiny_model(field.spec, depth=1, scheme="vit", mode="uniform", patches=(8,), local=8)
    needs = {count: need_of(model, field, 3, count) for count in (1, 4)}
    monkeypatch.setattr("matey.cost.regions.need_of", lambda *given: needs[given[-1]])
    whole, parts = needs.values()
    assert whole.process == 1000 * 4096 + LIBRARIES
    assert whole.frames == 3 * 2 * 64 * 64 * 4
    assert parts.total < whole.total
    for limit, regions in ((whole.total, 1), (whole.total - 1, 4), (parts.total, 4)):
        limit_memory(model, field, limit, 3)
        assert model.regions == regions
    with pytest.raises(ConfigError, match=r"memory is .*GB at least, in 4 regions.*Give .*GB or"):
        limit_memory(model, field, parts.total - 1, 3)


def test_a_limit_of_memory_that_cannot_be_kept_is_refused(little):
    assert [bytes_of(text) for text in ("8GB", "1.5 GiB", "20MB")] == [8 * 10**9, 3 * 2**29, 2e7]
    for text in ("8", "GB", "0GB", "-1GB", "8TB"):
        with pytest.raises(ConfigError, match="expected a size as 8GB"):
            bytes_of(text)
    spec = system(parameters=())
    unet = make_model(ModelConfig(baseline=BaselineConfig("unet", width=8)), [spec], 2)
    with pytest.raises(ConfigError, match="the model is a unet, which takes fields whole"):
        limit_memory(unet, field_of(16), "8GB")
