"""What the tests of training share."""

import pytest

from matey.config import DataConfig, SourceConfig
from tests.files import write_pair


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> DataConfig:
    """Two systems of different variables, a file each."""
    water, gas = write_pair(tmp_path_factory.mktemp("mix"))
    return DataConfig(
        (SourceConfig("shallow_water", (str(water),)), SourceConfig("compressible", (str(gas),)))
    )
