"""What the tests of training share."""

import pytest

from matey.config import DataConfig, SourceConfig
from tests.files import write_compressible, write_shallow_water


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> DataConfig:
    """Two systems of different variables, a file each."""
    folder = tmp_path_factory.mktemp("mix")
    water = write_shallow_water(folder / "2D_rdb_NA_NA.h5")
    gas = write_compressible(folder / "2D_CFD_Rand_M0.1_Eta0.01_Zeta0.01_periodic_16_Train.hdf5")
    return DataConfig(
        (SourceConfig("shallow_water", (str(water),)), SourceConfig("compressible", (str(gas),)))
    )
