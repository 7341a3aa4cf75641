"""Parameters that differ from trajectory to trajectory, and what rides in a state."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

import matey
from matey.cli import main
from matey.data.write import write_well
from matey.errors import ConfigError
from matey.fields import PERIODIC_SIDES, Grid, Sides, SystemSpec, Variable
from matey.simulate import SYSTEMS, find_system, simulate
from matey.simulate.schemes.stepper import Range, Simulator, plane_grid

SMALL = ["--trajectories", "2", "--resolution", "8", "--steps", "3", "--device", "cpu"]
SMALL += ["--jobs", "1"]


def few(name="burgers", trajectories=4, **options):
    options = {"resolution": 16, "steps": 3, "seed": 5, **options}
    return simulate(name, trajectories=trajectories, **options)


def test_a_parameter_is_drawn_for_each_trajectory_within_its_range():
    drawn = [field.parameters["Nu"] for field in few(vary={"Nu": Range(0.01, 0.1)})]
    assert len(set(drawn)) == 4
    assert all(0.01 <= number <= 0.1 for number in drawn)


def test_a_trajectory_is_that_of_a_system_with_its_parameter():
    field = few(vary={"Nu": Range(0.01, 0.1)})[3]
    alone = few(vary={"Nu": Range(*[field.parameters["Nu"]] * 2)})[3]
    assert torch.equal(field.values, alone.values)
    other = few(vary={"Nu": Range(0.5, 0.5)})[3]
    assert torch.equal(field.values[0], other.values[0])  # the initial state stays
    assert not torch.equal(field.values[2], other.values[2])


@pytest.mark.parametrize("name", [name for name in SYSTEMS if find_system(name).vary])
def test_systems_that_vary_give_each_trajectory_numbers_of_its_own(name):
    """Within the ranges, whose ends the system accepts; on points enough for every system."""
    ranges = find_system(name).vary
    points = 48 if find_system(name).spec(1.0).ndim < 3 else 8
    drawn = [field.parameters for field in few(name, resolution=points, frames=1)]
    for parameter, its in ranges.items():
        numbers = [parameters[parameter] for parameters in drawn]
        assert len(set(numbers)) == (4 if its.low < its.high else 1)
        assert all(its.low <= number <= its.high for number in numbers)


def test_what_is_drawn_depends_on_seed_and_trajectory_alone():
    ranges = {"F": Range(0.02, 0.03), "k": Range(0.05, 0.06)}
    both = [f.parameters for f in few("gray_scott", 3, vary=ranges)]
    one = [f.parameters["k"] for f in few("gray_scott", 1, vary={"k": ranges["k"]})]
    assert [p["k"] for p in both][:1] == one
    assert both != [f.parameters for f in few("gray_scott", 3, vary=ranges, seed=6)]
    # Parameters have draws of their own, and those of the initial state are others again.
    shares = [((p["F"] - 0.02) / 0.01, (p["k"] - 0.05) / 0.01) for p in both]
    assert all(abs(a - b) > 1e-6 for a, b in shares)


def test_a_range_may_be_even_in_the_logarithm():
    """A third of the numbers lies in each decade, to four standard deviations of 1000 draws."""
    random = np.random.default_rng(0)
    drawn = np.array([Range(1e-4, 1e-1, log=True).draw(random) for _ in range(1000)])
    assert drawn.min() >= 1e-4
    assert drawn.max() <= 1e-1
    share = np.mean((drawn >= 1e-3) & (drawn < 1e-2))
    assert abs(share - 1 / 3) < 4 * math.sqrt(2 / 9 / 1000)


@pytest.mark.parametrize("ends", [(2.0, 1.0), (0.0, math.inf), (math.nan, 1.0)])
def test_ends_of_a_range_are_finite_and_in_order(ends):
    with pytest.raises(ConfigError, match="the lower first"):
        Range(*ends)


def test_a_logarithm_needs_ends_above_zero():
    with pytest.raises(ConfigError, match="above 0"):
        Range(0.0, 1.0, log=True)


@pytest.mark.parametrize(
    ("system", "name", "which"),
    [
        ("burgers", "nu", "only Nu can"),
        ("burgers", "speed", "only Nu can"),  # of the initial state, not of the equations
        ("mhd_cavity", "Bx", "only Re, Rem can"),  # which it draws itself
        ("thermals", "gravity", "no such parameter"),
    ],
)
def test_what_cannot_be_varied_is_refused_with_what_can(system, name, which):
    with pytest.raises(ConfigError, match=which):
        few(system, vary={name: Range(0.1, 0.2)})


def test_a_range_with_an_end_that_the_system_refuses_is_refused_before_any_work():
    with pytest.raises(ConfigError, match="Nu is -1"):
        few(vary={"Nu": Range(-1.0, 1.0)}, trajectories=10**9)


def test_ranges_whose_ends_do_not_go_together_are_refused_before_any_work():
    """Each of them would do with the other's default."""
    ranges = {"a": Range(0.1, 0.8), "b": Range(0.01, 0.1)}
    with pytest.raises(ConfigError, match=r"b is 0\.1, expected .* less than a/2"):
        few("excitable", vary=ranges, trajectories=10**9)


def test_ranges_need_not_go_together_with_what_they_replace():
    ranges = {"a": Range(1.3, 1.5), "b": Range(0.5, 0.6)}
    (field,) = few("excitable", 1, vary=ranges, frames=1)
    assert 0.5 <= field.parameters["b"] <= 0.6


def test_a_range_that_the_resolution_cannot_bear_is_refused_before_any_work():
    with pytest.raises(ConfigError, match=r"overload is 4\.0, expected less than 3\.37 on 32"):
        few("fracture", resolution=32, trajectories=10**9)
    (field,) = few("fracture", 1, resolution=20, frames=1, vary={"overload": Range(1.1, 1.6)})
    assert field.parameters["overload"] <= 1.6


@dataclass(frozen=True)
class Ring(Simulator):
    """A field that decays around a disc: what a system with a mask looks like."""

    boundaries: ClassVar[tuple[Sides, Sides, Sides]] = (PERIODIC_SIDES,) * 3
    vary: ClassVar[Mapping[str, Range]] = {"rate": Range(0.5, 2.0)}

    rate: float = 1.0
    span: float = 1.0

    def spec(self, dt: float) -> SystemSpec:
        mask = Variable("mask", static=True, pseudo=False, mask=True)
        return SystemSpec("ring", 2, (Variable("tracer"), mask), ("rate",), dt)

    def grid(self, resolution: int) -> Grid:
        return plane_grid(0.0, 1.0, resolution)

    def draw(self, random: np.random.Generator, resolution: int) -> torch.Tensor:
        x = self.grid(resolution).coordinate(2)
        outside = (x - 0.5).square() + (x[:, None] - 0.5).square() > random.uniform(0.1, 0.3) ** 2
        return torch.stack((torch.ones_like(outside, dtype=torch.float64), outside.double()))

    def run(self, state: torch.Tensor, times: Sequence[float]) -> Iterator[torch.Tensor]:
        for time in times:
            factor = torch.tensor([math.exp(-self.rate * time), 1.0])
            yield state * factor[:, None, None]


@pytest.fixture
def ring(monkeypatch):
    monkeypatch.setitem(SYSTEMS, "ring", "Ring")
    monkeypatch.setattr("matey.simulate.trajectories.import_module", lambda name: globals_of())


def globals_of():
    class Module:
        pass

    Module.Ring = Ring
    return Module


def test_a_system_may_vary_parameters_of_its_own(ring):
    fields = few("ring")
    rates = [field.parameters["rate"] for field in fields]
    assert len(set(rates)) == 4
    for field, rate in zip(fields, rates, strict=True):
        assert field.values[-1, 0].max().item() == pytest.approx(math.exp(-rate), rel=1e-6)
    held = few("ring", vary={"rate": Range(1.0, 1.0)})
    assert {field.parameters["rate"] for field in held} == {1.0}
    assert find_system("ring").rate == 1.0


def test_a_mask_rides_in_the_state_and_comes_back_from_a_file(ring, tmp_path):
    """Each trajectory has a mask of its own; what it does not hold is 0."""
    fields = few("ring")
    path = write_well(fields, tmp_path / "out", name="ring")
    assert len({int(field.held.sum()) for field in fields}) > 1
    for number, field in enumerate(fields):
        assert torch.equal(field.values[:, 0] == 0, ~field.held.expand(3, 1, 16, 16))
        again = matey.open(path)[number]
        assert torch.equal(again.held, field.held)
        assert torch.equal(again.values, field.values)


def test_the_command_varies_a_parameter(tmp_path):
    words = ["simulate", "burgers", "--out", str(tmp_path / "new"), *SMALL]
    assert main([*words, "--vary", "Nu=1e-2:1e-1:log"]) == 0
    fields = matey.open(next(tmp_path.rglob("*.hdf5")))
    drawn = {fields[i].parameters["Nu"] for i in range(2)}
    assert len(drawn) == 2
    assert all(0.01 <= number <= 0.1 for number in drawn)


def test_a_parameter_with_two_ranges_is_refused(tmp_path, capsys):
    words = ["simulate", "burgers", "--out", str(tmp_path / "new"), *SMALL]
    assert main([*words, "--vary", "Nu=1e-2", "--vary", "Nu=1e-1"]) == 2
    assert "--vary Nu was given 2 times" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["Nu", "Nu=1:2:lin", "Nu=a:b", "Nu=2:1", "Nu=", "Nu=1:2:log:log"])
def test_words_that_are_no_range_are_one_line(text, tmp_path, capsys):
    words = ["simulate", "burgers", "--out", str(tmp_path / "new"), *SMALL]
    assert main([*words, "--vary", text]) == 2
    assert f"{text}" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_other_settings_of_a_simulator_can_be_held():
    plain, longer = few("shallow_water"), few("shallow_water", change={"span": 2.0})
    assert longer[0].spec.dt == 2 * plain[0].spec.dt
    torch.testing.assert_close(longer[0].values[0], plain[0].values[0], rtol=0, atol=0)
    wide = few("shallow_water", change={"radius": (0.1, 0.2)})
    assert not wide[0].values[0].equal(plain[0].values[0])
    bubbles = few("blast", change={"bubbles": (0, 0), "blasts": (1.0, 1.0), "shocks": 0.0})
    assert (bubbles[0].values[0, 0] == 1).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spam": 1.0}, "no setting 'spam'. Did you mean 'span'?"),
        ({"gravity": 2.0}, "no setting 'gravity'"),  # a parameter: --vary
        ({"radius": 1.0}, "radius is 1.0, expected numbers as LOW:HIGH"),
        ({"radius": (0.5, 0.2)}, "radius is (0.5, 0.2), expected numbers as LOW:HIGH"),
        ({"span": (1.0, 2.0)}, "span is (1.0, 2.0), expected number"),
        ({"span": -1.0}, "span is -1.0, expected"),
        ({"span": math.nan}, "span is nan, expected number"),
        ({"samples": 1.5}, "samples is 1.5, expected whole number"),
    ],
)
def test_settings_that_a_simulator_lacks_are_refused(change, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        few("shallow_water", change=change)


def test_the_command_sets_what_the_function_does(tmp_path, capsys):
    words = "simulate shallow_water --trajectories 1 --resolution 16 --steps 3 --seed 4 --jobs 1"
    given = ["--set", "span=2", "--set", "radius=0.1:0.2", "--out", str(tmp_path / "a")]
    assert main([*words.split(), *given]) == 0
    expected = simulate(
        "shallow_water",
        **{"trajectories": 1, "resolution": 16, "steps": 3, "seed": 4},
        change={"span": 2.0, "radius": (0.1, 0.2)},
    )
    torch.testing.assert_close(
        matey.open(tmp_path / "a")[0].values, expected[0].values, rtol=0, atol=0
    )
    for twice in (["--set", "span=2", "--set", "span=3"], ["--set", "span"]):
        assert main([*words.split(), *twice, "--out", str(tmp_path / "b")]) == 2
        assert "matey: error: --set" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
