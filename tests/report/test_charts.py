"""Line charts: round ticks, honest gaps, and points where they belong."""

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matey.records.study import Plot, Spot, SpotGroup
from matey.report.charts import (
    HEIGHT,
    Axis,
    Line,
    cloud_chart,
    line_chart,
    log_ticks,
    nice_ticks,
    short,
    thinned,
)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_lie_inside_and_are_evenly_spaced(low, length):
    high = low + length
    ticks = nice_ticks(low, high)
    # Ticks are rounded to twelve digits; large values are a float's spacing apart.
    slack = 1e-6 * length + 1e-11 + 8 * math.ulp(abs(low) + length)
    assert 2 <= len(ticks) <= 11
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    gaps = [b - a for a, b in pairwise(ticks)]
    assert max(gaps) - min(gaps) <= slack


def test_log_ticks_of_a_narrow_range_are_round_values():
    assert log_ticks(0.28, 0.32) == pytest.approx([0.28, 0.29, 0.3, 0.31, 0.32])
    assert log_ticks(2.4, 7.0) == pytest.approx([4, 6])


def test_log_ticks_of_two_decades_have_twos_and_fives():
    assert log_ticks(0.01, 1.0) == pytest.approx([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])


def test_an_axis_ends_where_its_values_end():
    for log in (False, True):
        axis = Axis(1.0, 100.0, 50.0, 250.0, log)
        assert axis.place(1.0) == pytest.approx(50.0)
        assert axis.place(100.0) == pytest.approx(250.0)
    assert Axis(1.0, 100.0, 50.0, 250.0, log=True).place(10.0) == pytest.approx(150.0)


def test_a_value_that_is_not_finite_interrupts_its_line():
    line = Line("model", [1, 2, 3, 4], [1.0, math.nan, 2.0, 3.0], "s0")
    path = re.search(r'class="s0"><path d="([^"]*)"', line_chart("x", [line], "step", "y").svg)[1]
    assert path.count("M") == 2
    assert path.count("L") == 1


def test_a_chart_of_nothing_finite_says_so():
    line = Line("model", [1, 2], [math.nan, math.inf], "s0")
    assert "No finite value" in line_chart("x", [line], "step", "y").svg


@pytest.mark.parametrize("y", [[0.0, 0.0], [5.0, 5.0], [-1e-9, 1e-9]])
def test_a_flat_line_is_drawn(y):
    assert "<path" in line_chart("x", [Line("model", [1, 1], y, "s0")], "step", "y").svg


@pytest.mark.parametrize("linear", [False, True])
def test_the_line_of_a_claim_is_in_the_picture_also_where_no_point_is_near_it(linear):
    """Points lie below the line, that is further down on the page, in the order of their values."""
    spots = tuple(Spot(str(y), x, y, y, y) for x, y in ((1.0, 0.2), (2.0, 0.4)))
    plot = Plot("t", "x", "y", (SpotGroup("a", spots),), goal_y=2.0, linear=linear)
    svg = str(cloud_chart(plot).svg)
    goal = float(re.search(r'class="goal"[^/]*y1="([^"]*)"', svg)[1])
    low, high = (float(y) for y in re.findall(r'cy="([^"]*)"', svg))
    assert 0 < goal < high < low < HEIGHT


def test_a_value_below_zero_has_a_place_on_linear_axes_alone():
    group = SpotGroup("a", (Spot("a", 1.0, -0.2, -0.3, -0.1), Spot("b", 1.0, 0.2, 0.1, 0.3)))
    counts = [
        str(cloud_chart(Plot("t", "x", "y", (group,), linear=linear)).svg).count("<circle")
        for linear in (False, True)
    ]
    assert counts == [1, 2]


def test_names_are_escaped():
    chart = line_chart("<b>", [Line("<i>", [1, 2], [1.0, 2.0], "s0")], "<u>", "<s>")
    assert not re.search(r"<[bius]>", chart.svg)


def test_thinning_keeps_the_mean():
    x = list(range(1000))
    thin_x, thin_y = thinned(x, [2.0 * i for i in x], most=100)
    assert len(thin_x) == 100
    assert sum(thin_y) / 100 == pytest.approx(999.0)
    assert thin_y == pytest.approx([2 * i for i in thin_x])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (-3, "−3"),
        (12000, "12\u2009000"),
        (2e7, "2e7"),
        (1.5e-6, "1.5e-6"),
    ],
)
def test_tick_labels_are_short(value, text):
    assert short(value) == text


def test_a_single_number_is_drawn():
    chart = line_chart("x", [Line("model", [1], [0.5], "s0")], "step", "y")
    assert "No finite value" not in chart.svg


def test_a_short_logarithmic_axis_has_ticks_too():
    """Between 3.1 and 4.2 there is no power of ten, and no 2 or 5 times one."""
    ticks = Axis(3.1, 4.2, 0.0, 100.0, log=True).ticks()
    assert len(ticks) >= 2
    assert all(3.1 <= tick <= 4.2 for tick in ticks)
