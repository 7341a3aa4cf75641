import hashlib
import json

import pytest
import safetensors
import torch
from safetensors.torch import load_file

from matey.nn.tensors import TYPES, load_tensors, save_tensors


def of(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return (torch.rand(shape) * 100).to(dtype)


def test_every_type_and_shape_is_read_by_the_format_s_own_library(tmp_path):
    tensors = {str(dtype): of(dtype, 3, 5) for dtype in TYPES}
    tensors |= {"scalar": torch.tensor(1.5), "empty": torch.zeros(0, 3), "odd": of(torch.uint8, 3)}
    tensors |= {"turned": torch.rand(4, 3).t(), "part": torch.rand(9)[2:5]}
    save_tensors(tensors, tmp_path / "a")
    found = load_file(tmp_path / "a")
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_the_checksum_is_that_of_the_file(tmp_path):
    found = save_tensors({"a": torch.rand(1000), "b": torch.tensor(1)}, tmp_path / "a")
    assert found == hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()


def test_the_same_tensors_in_another_order_make_the_same_file(tmp_path):
    tensors = {"a": torch.rand(3), "b": torch.rand(2).double(), "c": torch.rand(1)}
    one = save_tensors(tensors, tmp_path / "a")
    assert one == save_tensors(dict(reversed(tensors.items())), tmp_path / "b")


@pytest.mark.parametrize("dtype", TYPES)
def test_values_lie_at_multiples_of_their_size(tmp_path, dtype):
    """So that a file can be mapped into memory."""
    save_tensors({"a": of(torch.uint8, 3), "b": of(dtype, 2)}, tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    length = int.from_bytes(content[:8], "little")
    begin, _ = json.loads(content[8 : 8 + length])["b"]["data_offsets"]
    assert (8 + length + begin) % torch.empty(0, dtype=dtype).element_size() == 0


def test_a_file_of_no_tensors_can_be_read(tmp_path):
    save_tensors({}, tmp_path / "a")
    with safetensors.safe_open(tmp_path / "a", "pt") as file:
        assert list(file.keys()) == []
    assert load_tensors(tmp_path / "a") == {}
