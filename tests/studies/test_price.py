from dataclasses import replace

import pytest

from matey.studies.cells import RECORD, folder_of
from matey.studies.design import Design, Material
from matey.studies.price import OVERHEAD, part
from matey.studies.scales import TOKENS
from tests.studies.helpers import outcome
from tests.studies.test_budgets import cell


def test_cells_that_have_their_record_cost_nothing_more(tmp_path):
    """Of three trainings of 3e8 operations one is there. Scoring: two steps from four windows,
    a third of a training step of one sample each."""
    scale = replace(TOKENS["smoke"], rollout=2, windows=4)
    cells = tuple(cell("operations", 300, seed) for seed in range(3))
    other = replace(cells[0], system="fire", name="fire/a")
    material = Material(scale, {}, {}, 0, "cpu")
    outcome("a", "operations", 0, 1.0).save(folder_of(tmp_path, cells[0].name) / RECORD)
    found = part("water", Design((*cells, other), {}), material, tmp_path, rate=1e6)
    assert (found.points, found.cells, found.there) == (1, 3, 1)
    assert found.trainings == 6e8
    each = 1e6 / cells[0].config.batch / 3 * 2 * 4
    assert found.scoring == pytest.approx(2 * each)
    assert found.seconds == pytest.approx((6e8 + 2 * each) / 1e6 + 2 * OVERHEAD)
