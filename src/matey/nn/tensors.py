"""Tensors by name in a file: safetensors, written in one pass together with its checksum.

The format is 8 bytes of the header's length, a JSON header, then all values end to end.
Source: the format's description at github.com/huggingface/safetensors.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from matey.errors import CheckpointError

TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> str:
    """Write tensors by name, and return the SHA-256 of the file. Raises OSError.

    The checksum is of the values in memory, not of those that the disk gives back; a thread makes
    it while the file is written.
    """
    # Large items first, so that each lies at a multiple of its size.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, dict[str, object]] = {}
    end = 0
    for name in order:
        tensor, begin = tensors[name], end
        end += tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    head = memoryview(len(text).to_bytes(8, "little") + text)
    with path.open("wb", buffering=0) as file, ThreadPoolExecutor(1) as beside:
        for part in chain([head], (content(tensors[name]) for name in order)):
            hashed = beside.submit(digest.update, part)
            written = 0
            while written < len(part):  # one call writes 2 GiB at most
                written += file.write(part[written:])
            hashed.result()
    return digest.hexdigest()


def content(tensor: Tensor) -> memoryview:
    """The bytes of a tensor; on the CPU without a copy."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file by name. Raises CheckpointError unless it is safetensors."""
    try:
        return load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}.") from error
