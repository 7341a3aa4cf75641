"""By how far an input lies outside of the ranges of training, against pencil and paper."""

import json
from dataclasses import asdict

import pytest

from matey.records.files import convert
from matey.records.ranges import Outside, compare, gathered, joined

SEEN = {
    "value": {"height": (1.0, 2.0), "force": (0.0, 0.0)},
    "extreme": {"height": (0.5, 2.5), "force": (0.0, 0.0)},
    "gradient": {"height": (3.0, 5.0)},
    "dt": {"": (0.1, 0.1 + 1e-16)},  # one value, but for rounding
    "spacing": {"x": (0.5, 1.0)},
    "parameter": {"Nu": (1e-3, 1e-1)},
}


def found(**changes) -> list[Outside]:
    """What is outside of an input that lies within, but for what a test changes."""
    within = {
        "value": {"height": (1.2, 1.9)},
        "extreme": {"height": (1.0, 2.0)},
        "gradient": {"height": (4.0, 4.5)},
        "dt": {"": (0.1, 0.1)},
        "spacing": {"x": (0.7, 0.7)},
        "parameter": {"Nu": (1e-2, 1e-2)},
    }
    return compare({**within, **changes}, SEEN, {"height": "m"})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"value": {"height": (0.91, 2.09)}}, []),  # a tenth of the width, 1
        ({"value": {"height": (1.2, 2.5)}}, [
            "height is 2.5 m; training had 1 to 2 m: outside by 0.5, 50% of that range"
        ]),
        ({"value": {"height": (0.0, 2.5)}}, [  # the farther of the two
            "height is 0 m; training had 1 to 2 m: outside by 1, 100% of that range"
        ]),
        ({"extreme": {"height": (1.0, 8.5)}}, [
            "a point of height is 8.5 m; training had 0.5 to 2.5 m: outside by 6, 300% of that "
            "range"
        ]),
        ({"value": {"height": (1, 8)}, "extreme": {"height": (1, 9)}}, [  # said once
            "height is 8 m; training had 1 to 2 m: outside by 6, 600% of that range"
        ]),
        ({"gradient": {"height": (1.0, 4.0)}}, [
            "the gradient of height is 1; training had 3 to 5: outside by 2, 100% of that range"
        ]),
        ({"value": {"force": (0.0, 2.0)}}, ["force is 2; training had 0: outside by 2"]),
        ({"dt": {"": (0.1, 0.1009)}}, []),  # less than a hundredth
        ({"dt": {"": (0.1, 0.2)}}, [
            "dt is 0.2; training had 0.1: outside by 0.1. The model's steps are as long as in "
            "training"
        ]),
        ({"spacing": {"x": (0.25, 0.25)}}, [
            "the spacing along x is 0.25; training had 0.5 to 1: outside by 0.25, 50% of that range"
        ]),
        # Far below a range that spans decades, though near it beside its width.
        ({"parameter": {"Nu": (1e-4, 1e-4)}}, [
            "parameter Nu is 0.0001; training had 0.001 to 0.1: outside by 0.0009, 1% of that range"
        ]),
        ({"parameter": {"Re": (5.0, 5.0)}}, []),  # of which nothing is known
    ],
)  # fmt: skip
def test_what_is_outside_is_said_with_its_range_and_by_how_far(changes, said):
    assert [str(one) for one in found(**changes)] == said


def test_ranges_join_to_those_that_reach_over_all():
    parts = [{"value": {"a": (1, 2), "b": (0, 0)}}, {"value": {"a": (-1, 1)}, "dt": {"": (3, 3)}}]
    assert joined(parts) == {"value": {"a": (-1, 2), "b": (0, 0)}, "dt": {"": (3, 3)}}
    assert joined([]) == {}


def test_of_many_inputs_the_farthest_counts_and_how_many_there_are():
    inputs = [found(value={"height": (1, top)}) for top in (3.0, 1.5, 4.0, 2.5)]
    (one,) = gathered(inputs)
    assert (one.value, one.inputs) == (4.0, 3)
    assert gathered([[], []]) == []


def test_what_is_outside_is_the_same_after_a_file():
    (one,) = found(value={"height": (1.2, 2.5)})
    assert convert(Outside, json.loads(json.dumps(asdict(one))), "") == one
