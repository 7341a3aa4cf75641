import pytest

from matey.config import DataConfig, ModelConfig, SourceConfig, SplitConfig
from matey.errors import ConfigError


@pytest.mark.parametrize(
    "name",
    ["../escaped", "/tmp/escaped", "a/b", "a\\b", "..", ".hidden", "", "a\0b", "a\n", "a" * 101],
)
def test_a_system_name_that_is_no_plain_file_name_is_refused(name):
    with pytest.raises(ConfigError, match=r"data\.systems\.name is"):
        SourceConfig(name, ("data.h5",))


@pytest.mark.parametrize("name", ["shallow_water", "2D CFD M0.1", "écoulement-2", "a..b"])
def test_plain_names_are_accepted(name):
    assert DataConfig((SourceConfig(name, ("data.h5",)),)).systems[0].name == name


def test_all_trajectories_may_be_for_the_test_but_not_more_than_all():
    assert SplitConfig(valid=0, test=1).test == 1
    with pytest.raises(ConfigError, match=r"data\.split is 1\.1"):
        SplitConfig(test=1)


def test_a_negative_split_seed_is_refused():
    with pytest.raises(ConfigError, match=r"data\.split\.seed is -1"):
        SplitConfig(seed=-1)


def test_dropping_every_path_is_refused():
    """It would divide by the probability of keeping one, which is 0."""
    with pytest.raises(ConfigError, match=r"model\.drop_path is 1\.0"):
        ModelConfig(drop_path=1.0)
