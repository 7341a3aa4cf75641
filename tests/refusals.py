"""Inputs that must be refused, each by a named error: also where `assert` says nothing.

    python -O -m tests.refusals FOLDER     tries them all, without pytest

Under -O Python drops every `assert`, in the package and in tests. So nothing here asserts.
"""

import json
import re
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import torch

import matey
from matey.cli.options import load_yaml
from matey.config import SourceConfig, WindowConfig
from matey.data.formats import files
from matey.data.reader import open_reader
from matey.data.windows import Choice, Windows
from matey.errors import CheckpointError, ConfigError, DataError, MateyError, ShapeError
from matey.nn.folder import from_pretrained
from matey.nn.tensors import load_tensors
from matey.output import write_text
from matey.report import build
from matey.train.loop import train
from tests.data.conftest import compressible, shallow
from tests.hostile import load_config, write_model, write_run

Try = Callable[[Path], object]


@dataclass(frozen=True)
class Refusal:
    """Something that must raise an error of a type, whose text matches a pattern."""

    name: str
    attempt: Try
    error: type[MateyError]
    said: str

    def fault(self, folder: Path) -> str:
        """What is wrong with how it is refused; empty if nothing."""
        try:
            self.attempt(folder)
        except MateyError as error:
            text = str(error)
            if not isinstance(error, self.error):
                return f"{type(error).__name__} instead of {self.error.__name__}: {text}"
            return "" if re.search(self.said, text) else f"{self.said!r} is not in: {text}"
        except Exception as error:  # whatever else gets out is the fault
            return f"{type(error).__name__} got out: {error}"
        finally:
            files.close_files()
        if (folder / "canary").exists():
            return "code of the file was run"
        return "not refused"


REFUSALS: list[Refusal] = []


def refused(error: type[MateyError], said: str) -> Callable[[Try], Try]:
    """Add an attempt to the table."""

    def add(attempt: Try) -> Try:
        REFUSALS.append(Refusal(attempt.__name__, attempt, error, said))
        return attempt

    return add


class Canary:
    """Unpickled, it leaves a file."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "canary")

    def __reduce__(self) -> tuple:
        return (open, (self.path, "w"))


def gas(folder: Path, **changes: np.ndarray | None) -> Path:
    """A file of compressible flow, with datasets replaced, or removed where None is given."""
    path = compressible(folder / "gas.hdf5")
    with h5py.File(path, "a") as file:
        for name, values in changes.items():
            del file[name]
            if values is not None:
                file[name] = values
    return path


def spoil(path: Path, name: str, place: tuple[int, ...], value: float) -> Path:
    """The file with one value of a dataset replaced."""
    with h5py.File(path, "a") as file:
        file[name][place] = value
    return path


def read_all(path: Path) -> None:
    reader = open_reader(path)
    for trajectory in range(len(reader.trajectories)):
        reader.read(trajectory)


@refused(DataError, r"cut short: \d+ bytes, expected \d+")
def truncated_hdf5(folder):
    path = gas(folder)
    path.write_bytes(path.read_bytes()[:-100])
    read_all(path)


@refused(DataError, "neither HDF5, NetCDF nor NumPy")
def text_instead_of_hdf5(folder):
    write_text(folder / "a.h5", "<html>404</html>")
    read_all(folder / "a.h5")


@refused(DataError, "empty")
def empty_file(folder):
    (folder / "a.h5").touch()
    read_all(folder / "a.h5")


@refused(DataError, "gas.hdf5: dataset pressure cannot be read")
def corrupt_chunk(folder):
    path = gas(folder, pressure=None)
    noise = np.random.default_rng(0).random((2, 6, 4, 3))
    with h5py.File(path, "a") as file:
        file.create_dataset("pressure", data=noise, chunks=(1, 6, 4, 3), fletcher32=True)
    with h5py.File(path) as file:
        place = file["pressure"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 8 : place + 24] = bytes(16)
    path.write_bytes(content)
    read_all(path)


@refused(DataError, "pressure missing. Required: density")
def missing_variable(folder):
    read_all(gas(folder, pressure=None))


@refused(ShapeError, "axes swapped")
def swapped_axes(folder):
    values = np.zeros((2, 6, 3, 4))
    read_all(gas(folder, density=values, pressure=values, Vx=values, Vy=values))


@refused(ShapeError, "coordinate x runs")
def transposed_square_grid(folder):
    path = shallow(folder / "a.h5", nx=8, ny=8)
    with h5py.File(path, "a") as file:
        x, y = file["0000/grid/x"][()], file["0000/grid/y"][()]
        file["0000/grid/x"][...], file["0000/grid/y"][...] = y, x
    read_all(path)


@refused(DataError, r"Vx .*#0001 is nan at time 0.15, index \(0, 1, 2\)")
def nan_in_an_input(folder):
    read_all(spoil(gas(folder), "Vx", (1, 3, 2, 1), np.nan))


@refused(DataError, r"Vy .*is inf at time")
def infinity_in_a_target_only(folder):
    path = spoil(gas(folder), "Vy", (0, 5, 0, 0), np.inf)
    Windows(matey.open(path), [0], WindowConfig(history=5)).batch([Choice(0)])


@refused(DataError, "complex128")
def complex_values(folder):
    read_all(gas(folder, density=np.full((2, 6, 4, 3), 1j)))


@refused(DataError, "not finite in float32")
def values_beyond_float32(folder):
    read_all(gas(folder, density=np.full((2, 6, 4, 3), 1e39)))


def run_of(folder: Path, **settings: object) -> None:
    """A training on a file of 8 x 8 points, with other settings."""
    path = shallow(folder / "2D_rdb.h5", nx=8, ny=8)
    data = matey.config.DataConfig((SourceConfig("water", (str(path),)),))
    model = matey.config.ModelConfig(embed_dim=8, heads=1, depth=1, **settings.pop("model", {}))
    config = matey.config.RunConfig(model=model, data=data, device="cpu", steps=1, **settings)
    train(config, folder / "run")


@refused(MateyError, "history")
def history_longer_than_the_trajectory(folder):
    run_of(folder, model={"patches": (8, 4)}, windows=WindowConfig(history=50))


def threshold(text: str) -> Try:
    def attempt(folder: Path) -> None:
        path = folder / "config.yaml"
        path.write_text(f"model: {{refine: {{threshold: {text}}}}}\n")
        load_config(path)

    return attempt


for text in ("-0.1", "1.5", ".nan", "coarse"):
    name = f"threshold_{text}"
    REFUSALS.append(Refusal(name, threshold(text), ConfigError, "refine.threshold"))


@refused(CheckpointError, "model.safetensors cannot be read")
def pickle_renamed_safetensors(folder):
    model = write_model(folder / "model")
    large = torch.zeros(10_000)  # as large as the model that is described
    torch.save({"norm.weight": Canary(folder), "x": large}, model / "model.safetensors")
    from_pretrained(model)


@refused(CheckpointError, "No model at")
def pickle_as_pt(folder):
    torch.save(Canary(folder), folder / "model.pt")
    from_pretrained(folder / "model.pt")


@refused(DataError, "model.pt")
def pickle_as_data(folder):
    torch.save(Canary(folder), folder / "model.pt")
    read_all(folder / "model.pt")


@refused(DataError, "Python objects, which are refused")
def object_array(folder):
    np.save(folder / "a.npy", np.array([Canary(folder)], dtype=object), allow_pickle=True)
    read_all(folder / "a.npy")


@refused(ConfigError, "python/object")
def yaml_that_makes_objects(folder):
    canary = folder / "canary"
    load_yaml(f"steps: !!python/object/apply:os.mkdir [{str(canary)!r}]")


@refused(ConfigError, "model.scheme|scheme")
def code_in_a_field(folder):
    path = folder / "config.yaml"
    path.write_text(f"model: {{scheme: \"__import__('os').mkdir({str(folder / 'canary')!r})\"}}\n")
    load_config(path)


def archive_of(folder: Path, member: zipfile.ZipInfo | str, content: bytes) -> Path:
    with zipfile.ZipFile(folder / "a.npz", "w") as archive:
        archive.writestr(member, content)
    return folder / "a.npz"


def npy(values: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


@refused(DataError, "a.npz")
def archive_member_with_a_path_up(folder):
    """Never unpacked to disk, and no layout knows an array of this name."""
    (folder / "in").mkdir()
    read_all(archive_of(folder / "in", "../canary.npy", npy(np.ones(()))))


@refused(DataError, "a.npz")
def archive_member_with_an_absolute_path(folder):
    read_all(archive_of(folder, f"{folder}/canary", b"x"))


@refused(DataError, "a.npz")
def archive_member_that_is_a_link(folder):
    link = zipfile.ZipInfo("u.npy")
    link.external_attr = 0o120777 << 16
    read_all(archive_of(folder, link, b"/etc/passwd"))


@refused(DataError, "damaged")
def archive_that_claims_more_than_it_holds(folder):
    path = archive_of(folder, "u.npy", npy(np.ones((3, 4, 5))))
    path.write_bytes(path.read_bytes().replace(b"(3, 4, 5)", b"(3, 4, 9)"))
    read_all(path)


@refused(DataError, "GiB, more than")
def huge_declared_shape(folder):
    path = gas(folder)
    with h5py.File(path, "a") as file:
        for name in ("density", "pressure", "Vx", "Vy"):
            del file[name]
            file.create_dataset(name, (2, 6, 10**6, 10**6), "f4", chunks=(1, 1, 64, 64))
        for axis in "xy":
            del file[f"{axis}-coordinate"]
            file[f"{axis}-coordinate"] = np.arange(10.0**6)
    read_all(path)


def weights(folder: Path, header: bytes, size: int | None = None, body: bytes = b"") -> None:
    """Load weights with this header into a model."""
    length = struct.pack("<Q", len(header) if size is None else size)
    (folder / "model.safetensors").write_bytes(length + header + body)
    load_tensors(folder / "model.safetensors")


@refused(CheckpointError, "model.safetensors cannot be read")
def safetensors_header_over_100_megabytes(folder):
    weights(folder, b"{}", size=2 * 10**8)


@refused(CheckpointError, "model.safetensors cannot be read")
def safetensors_header_of_all_memory(folder):
    weights(folder, b"{}", size=2**63)


@refused(CheckpointError, "model.safetensors cannot be read")
def safetensors_with_overlapping_offsets(folder):
    one = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    two = {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}
    weights(folder, json.dumps({"a": one, "b": two}).encode(), body=bytes(24))


@refused(CheckpointError, "model.safetensors cannot be read")
def safetensors_with_offsets_beyond_the_file(folder):
    one = {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}
    weights(folder, json.dumps({"norm.weight": one}).encode(), body=bytes(16))


def model_that_claims(folder: Path, setting: str, usual: int, claim: int) -> None:
    """Load a model whose description claims another size."""
    path = write_model(folder / "model") / "config.json"
    text = path.read_text()
    assert f'"{setting}": {usual}' in text
    path.write_text(text.replace(f'"{setting}": {usual}', f'"{setting}": {claim}'))
    from_pretrained(path.parent)


@refused(CheckpointError, "config.json")
def model_that_claims_a_huge_width(folder):
    model_that_claims(folder, "embed_dim", 8, 8 * 10**9)


@refused(CheckpointError, "config.json")
def model_that_claims_a_billion_blocks(folder):
    model_that_claims(folder, "depth", 1, 10**9)


@refused(CheckpointError, "config.json")
def model_that_claims_endless_patches(folder):
    model_that_claims(folder, "latent_channels", 2, 10**18)


@refused(CheckpointError, "config.json is not a model description")
def model_description_as_deep_as_the_stack(folder):
    model = write_model(folder / "model")
    (model / "config.json").write_text("[" * 100_000)
    from_pretrained(model)


@refused(DataError, "not valid")
def run_description_as_deep_as_the_stack(folder):
    run = write_run(folder / "run")
    (run / "provenance.json").write_text("[" * 100_000)
    build([run], folder / "page.html")


@refused(DataError, "refused: data must lie in the file itself")
def hdf5_with_an_external_link(folder):
    path = gas(folder, Vx=None)
    secret = compressible(folder / "secret.hdf5")
    with h5py.File(path, "a") as file:
        file["Vx"] = h5py.ExternalLink(str(secret), "Vx")
    read_all(path)


@refused(DataError, "refused: data must lie in the file itself")
def hdf5_with_a_virtual_dataset(folder):
    path = gas(folder, Vx=None)
    secret = compressible(folder / "secret.hdf5")
    with h5py.File(path, "a") as file:
        view = h5py.VirtualLayout((2, 6, 4, 3), "f4")
        view[:] = h5py.VirtualSource(str(secret), "Vx", (2, 6, 4, 3))
        file.create_virtual_dataset("Vx", view)
    read_all(path)


@refused(DataError, "is a link to")
def netcdf_with_an_external_link(folder):
    path = folder / "a.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("t", 3)
        file.createVariable("dens", "f4", ("t",))[:] = 0
    with h5py.File(path, "a") as file:
        file["theta"] = h5py.ExternalLink("/etc/passwd", "x")
    read_all(path)


def system_name(name: str) -> Try:
    return lambda folder: SourceConfig(name, ("data.h5",))


for name in ("../../x", "/tmp/x", "a\0b", "..", ".hidden"):
    REFUSALS.append(
        Refusal(f"system_name_{name!r}", system_name(name), ConfigError, r"data\.systems\.name is")
    )


@refused(ConfigError, "NUL")
def run_folder_with_nul(folder):
    write_text(Path(f"{folder}/a\0b/config.yaml"), "", ConfigError)


BAD_SETTINGS = {
    "misspelt_key": ("learing_rate: 1e-3", "Did you mean 'optim.lr'"),
    "wrong_type": ("steps: many", "steps"),
    "negative_number": ("steps: -4", "steps is -4"),
    "huge_number": ("steps: 1e99", "steps"),
    "huge_width": ("model: {embed_dim: 1e99}", "embed_dim"),
    "infinite_number": ("optim: {lr: .inf}", "optim.lr is inf"),
    "duplicate_key": ("steps: 4\nsteps: 5", "stands twice"),
    "alias_bomb": (
        "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a]\nc: [*b, *b, *b, *b, *b]",
        "alias",
    ),
    "fraction_above_one": ("data: {split: {valid: 1.5}}", "data.split.valid is 1.5"),
    "empty_group": ("model: null", "model is empty"),
    "empty_value": ("steps: null", "steps is empty"),
    "empty_value_in_a_group": ("optim: {lr: null}", "optim.lr is empty"),
}


def setting(text: str) -> Try:
    def attempt(folder: Path) -> None:
        (folder / "config.yaml").write_text(text + "\n")
        load_config(folder / "config.yaml")

    return attempt


for name, (text, said) in BAD_SETTINGS.items():
    REFUSALS.append(Refusal(name, setting(text), ConfigError, said))


@refused(ConfigError, "deep|nested")
def brackets_as_deep_as_the_stack(folder):
    load_yaml("[" * 100_000)


def check_all(folder: Path) -> list[str]:
    """The faults of all refusals, each tried in a folder of its own."""
    found = []
    for number, refusal in enumerate(REFUSALS):
        own = folder / str(number)
        own.mkdir()
        fault = refusal.fault(own)
        if fault:
            found.append(f"{refusal.name}: {fault}")
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        faults = check_all(Path(scratch))
    print("\n".join([*faults, f"{len(REFUSALS)} tried, asserts {'on' if __debug__ else 'off'}"]))
    sys.exit(1 if faults else 0)
