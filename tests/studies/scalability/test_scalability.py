import csv

import pytest

from matey.cli import main
from matey.studies.scalability.design import SCALES, Case, cases


def case(side: int, adaptive: bool = False, kind: str = "AViT") -> Case:
    return Case(kind, adaptive, (1, side, side), 2)


def test_the_largest_samples_have_a_million_tokens_in_two_and_in_three_dimensions():
    """(2048 / 4)² patches in each of four frames, and (256 / 4)³."""
    for scale in ("cpu", "long", "paper"):
        reach = SCALES[scale]
        for ndim, sides in reach.sides.items():
            assert (sides[-1] // 4) ** ndim * reach.history == 2**20
            assert (sides[0] // 4) ** ndim * reach.history <= 2048
        assert len({*cases(reach)}) == len(cases(reach))


def test_a_front_takes_a_share_of_the_tokens_that_falls_as_one_over_the_side():
    """Cells along a line are as many as the side is long, of the side squared."""
    shares = []
    for side in (256, 512):
        uniform, adaptive = (len(case(side, choice).plan().leaves) for choice in (False, True))
        assert uniform == (side // 4) ** 2
        shares.append((adaptive - (side // 16) ** 2) / uniform)
    # The front is thin beside a cell of 16 points, but not infinitely so.
    assert shares[0] / shares[1] == pytest.approx(2, rel=0.15)


def test_the_study_counts_all_and_measures_what_fits(tmp_path):
    out = tmp_path / "far"
    arguments = ["study", "scalability", "--scale", "smoke", "--out", str(out), "--device", "cpu"]
    assert main(arguments) == 0
    counted = list(csv.DictReader((out / "counted.csv").read_text().splitlines()))
    timed = list(csv.DictReader((out / "timing.csv").read_text().splitlines()))
    assert len(counted) == 4
    assert 2 <= len(timed) <= 4
    keys = {(row["model"], row["side"]) for row in counted}
    assert {(row["model"], row["side"]) for row in timed} <= keys
    assert all(float(row["step_seconds"]) > 0 for row in timed)
    # What is counted for a model is what its step holds, to a quarter.
    sizes = {(row["model"], row["dimensions"], row["side"]): row for row in counted}
    for row in timed:
        whole = float(sizes[row["model"], row["dimensions"], row["side"]]["step_bytes"])
        assert whole == pytest.approx(float(row["step_measured"]), rel=0.25)
    assert "in proportion to the number of tokens" in (out / "report.html").read_text()
