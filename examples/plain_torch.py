"""A checkpoint without matey: plain torch, safetensors and json. Nothing is hidden in a pickle.

    python examples/plain_torch.py runs/real           # a run or a model folder

Cost   2 seconds, to import torch.
Shows  what the file holds, byte for byte; the data contract; the weights by part; and one token:
       a patch of a field is embedded with the weights as they lie there.
"""

import json
import math
import sys
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import load_file


def find_model(path: Path) -> Path:
    """A model folder is two files; a run holds one as `model/`."""
    return path if (path / "model.safetensors").is_file() else path / "model"


def account_for(file: Path) -> dict:
    """The header of a safetensors file, after checking that it and the tensors are all there is.

    Eight bytes say how long the JSON header is; the numbers follow, end to end.
    """
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    spans = sorted(entry["data_offsets"] for name, entry in header.items() if name[:2] != "__")
    ends = [0, *(end for _, end in spans)]
    assert [start for start, _ in spans] == ends[:-1], "a gap between tensors"
    assert 8 + length + ends[-1] == len(content), "something after the last tensor"
    return header


def show_contract(description: dict) -> None:
    """What the model was trained on: names, units, time steps."""
    for system in description["systems"]:
        print(f"{system['name']}: {system['ndim']}D, dt {system['dt']:.6g}", end="")
        print(f", parameters {', '.join(system['parameters']) or 'none'}")
        for variable in system["variables"]:
            kind = "read only" if variable["static"] else "predicted"
            print(f"    {variable['name']} [{variable['units'] or '-'}], {kind}")
    print(f"history: {description['history']} frames")


def show_weights(weights: dict[str, torch.Tensor]) -> None:
    """Shapes of all, and numbers by part; every one finite."""
    for name, tensor in weights.items():
        assert tensor.isfinite().all(), name
        size = float(tensor.square().mean().sqrt())
        print(f"    {name:44} {tuple(tensor.shape)!s:18} rms {size:.3g}")
    parts: Counter[str] = Counter()
    for name, tensor in weights.items():
        parts[name.split(".")[0]] += tensor.numel()
    for part, numbers in parts.items():
        print(f"{part:14} {numbers:9,} numbers")
    print(f"{'all':14} {parts.total():9,} numbers")


def token(weights: dict[str, torch.Tensor], names: list[str], patch: torch.Tensor) -> torch.Tensor:
    """A normalised patch [variables, points along y, points along x] as a token [width].

    The map of a patch is stored once for all systems, in front of latent channels [width,
    channels, points]; what mixes variables into channels is a vector for each name.
    """
    variables = torch.stack([weights[f"tokenizer.inputs.vectors.{name}_"] for name in names])
    _, rows, columns = patch.shape
    encoder = f"tokenizer.encoders.1x{rows}x{columns}"
    latent = variables.T @ patch.flatten(1) / math.sqrt(len(names))  # [channels, points]
    return (
        torch.einsum("dep,ep->d", weights[f"{encoder}.weight"], latent)
        + (weights[f"{encoder}.bias"])
    )


def main(path: Path) -> None:
    """Read, show, embed."""
    folder = find_model(path)
    header = account_for(folder / "model.safetensors")
    description = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    assert set(weights) == {name for name in header if name[:2] != "__"}
    print(f"{folder}: {len(weights)} tensors, and not a byte besides\n")
    show_contract(description)
    print()
    show_weights(weights)

    plane = next((system for system in description["systems"] if system["ndim"] == 2), None)
    if plane is None or description["model"]["stem"] != "linear":
        return  # other stems and dimensions take more than one product
    names = [variable["name"] for variable in plane["variables"]]
    size = description["model"]["patches"][0]
    wave = torch.sin(2 * math.pi * torch.arange(size) / size)
    patch = (wave[:, None] * wave).expand(len(names), size, size)
    found = token(weights, names, patch)
    print(f"\nA wave in a patch of {size} x {size} of {plane['name']} is a token of {len(found)}")
    print("token", json.dumps([round(number, 5) for number in found.tolist()]))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python plain_torch.py MODEL_FOLDER_OR_RUN")
    main(Path(sys.argv[1]))
