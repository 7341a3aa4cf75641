"""`matey doctor`: what works on this machine, and what is missing.

Everything that training rests on is really tried: a product of matrices, an HDF5 file, a
NetCDF file.
"""

import importlib.util
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from matey.cli import Command
from matey.cost.machine import free_memory, read

OK, NOTE, FAIL = "ok", "note", "fail"
MARKS = {OK: "[green]✓[/]", NOTE: "[yellow]![/]", FAIL: "[bold red]✗[/]"}
PACKAGES = ("numpy", "h5py", "netCDF4", "xarray")
EXTRAS = {
    "tensorboard": ("tensorboard", "watching runs in TensorBoard"),
    "wandb": ("wandb", "watching runs in Weights & Biases"),
    "mlflow": ("mlflow", "watching runs in MLflow"),
    "vtk": ("vtkmodules", "meshes in `matey data resample`"),
    "pytest": ("pytest", "running the tests"),
    "ruff": ("ruff", "checking the code"),
    "mkdocs": ("mkdocs", "building the documentation"),
}
GIGA = 1e9
LEAST_MEMORY, LEAST_DISK = 2 * GIGA, 1 * GIGA
LITTLE_MEMORY = "close other programs, or train with a smaller batch"
LITTLE_DISK = "runs write checkpoints here: free some, or choose another folder"
FOLDER = " in the current folder"
MATRIX = 1024
CONSTRAINTS = Path(__file__).parents[3] / "constraints.txt"  # only in a checkout


@dataclass(frozen=True)
class Finding:
    """One result. `state` is ok, note or fail; only fail stops training."""

    section: str
    name: str
    value: str
    state: str = OK
    advice: str = ""


def examine(folder: Path) -> list[Finding]:
    """All results; `folder` is where runs would be written."""
    return [
        *versions(),
        *processors(),
        *devices(),
        *room(folder),
        *(attempt(name, check) for name, check in CHECKS.items()),
        attempt("folder", lambda: write_here(folder)),
        *extras(),
    ]


def versions() -> list[Finding]:
    """Versions of Python, the packages, and torch beside the tested one."""
    return [
        Finding("versions", "matey", version("matey-pde") or "not installed"),
        Finding("versions", "python", platform.python_version()),
        torch_version(),
        *(package(name, version(name)) for name in PACKAGES),
    ]


def package(name: str, installed: str) -> Finding:
    """A required package; `installed` is its version, empty if missing."""
    if installed:
        return Finding("versions", name, installed)
    return Finding("versions", name, "missing", FAIL, install(name))


def version(distribution: str) -> str:
    """The installed version, or an empty string."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def install(name: str) -> str:
    """The command that installs a package in its tested version."""
    return f"pip install {'-c constraints.txt ' if CONSTRAINTS.is_file() else ''}{name}"


def torch_version() -> Finding:
    """Compare torch with the version pinned in constraints.txt, in a checkout."""
    installed = version("torch")
    pin = re.search(r"^torch==(\S+)$", read(CONSTRAINTS), re.MULTILINE)
    if pin is None or not installed:
        return package("torch", installed)
    if installed.split("+")[0] == pin[1]:
        return Finding("versions", "torch", f"{installed}, as constraints.txt pins it")
    advice = f"the tests ran with {pin[1]}: {install('torch')}"
    return Finding("versions", "torch", installed, NOTE, advice)


def processors() -> list[Finding]:
    """The CPU, and whether it has units for bfloat16."""
    info = read("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    name = model[1] if model else platform.processor() or platform.machine()
    units = sorted(set(re.findall(r"\b(?:avx512_bf16|amx_bf16|bf16)\b", info)))
    if units:
        half = Finding("devices", "bfloat16, CPU", f"in hardware ({', '.join(units)})")
    else:
        advice = "train with precision float32 on this CPU"
        half = Finding("devices", "bfloat16, CPU", "no units: slower than float32", NOTE, advice)
    return [Finding("devices", "CPU", name), half]


def devices() -> list[Finding]:
    """What torch can compute on."""
    try:
        import torch
    except Exception as error:  # a broken install raises anything
        return [Finding("devices", "torch", f"cannot be imported: {error}", FAIL, "make install")]
    from matey.train.threads import usable_cores

    threads = f"{torch.get_num_threads()} (OMP_NUM_THREADS sets it; training chooses by itself)"
    findings = [
        Finding("devices", "cores", f"{usable_cores()} usable of {os.cpu_count()}"),
        Finding("devices", "torch threads", threads),
    ]
    if not torch.cuda.is_available():
        return [*findings, Finding("devices", "CUDA", "none: trains on the CPU")]
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        half = "" if torch.cuda.is_bf16_supported() else ", no bfloat16"
        value = f"{device.name}, {device.total_memory / GIGA:.0f} GB{half}"
        findings.append(Finding("devices", f"CUDA {index}", value))
    return findings


def room(folder: Path) -> list[Finding]:
    """Free memory and disk."""
    findings = []
    for name, size, least, where, advice in (
        ("free memory", free_memory(), LEAST_MEMORY, "", LITTLE_MEMORY),
        ("free disk", shutil.disk_usage(folder).free, LEAST_DISK, FOLDER, LITTLE_DISK),
    ):
        if size is not None:
            state, text = (OK, "") if size >= least else (NOTE, advice)
            findings.append(Finding("room", name, f"{size / GIGA:.1f} GB{where}", state, text))
    return findings


def attempt(name: str, check: Callable[[], str]) -> Finding:
    """Run a check, and report what it returns or raises."""
    try:
        return Finding("checks", name, check())
    except Exception as error:  # a broken library raises anything
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Finding("checks", name, text, FAIL, "make install renews the environment")


def multiply() -> str:
    """Check a float32 matrix product, and time large ones."""
    import torch

    from matey.cost.machine import measure_peak

    a, b = torch.rand(2, MATRIX, MATRIX, generator=torch.Generator().manual_seed(0))
    product = a @ b
    exact = (a[0].double() @ b[:, 0].double()).item()
    if not abs(product[0, 0].item() - exact) < 1e-4 * exact:
        raise ArithmeticError(f"product is {product[0, 0].item()}, expected {exact}")
    return f"{measure_peak(torch.device('cpu')) / GIGA:,.0f} GFLOP/s in float32"


def round_trip_hdf5() -> str:
    """Write a compressed HDF5 file and read it back."""
    import h5py
    import numpy as np

    values = np.arange(4096, dtype=np.float32).reshape(1, 64, 64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "check.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("u", data=values, chunks=(1, 64, 64), compression="gzip")
        with h5py.File(path, "r") as file:
            return compare(file["u"][:], values)


def round_trip_netcdf() -> str:
    """Write a NetCDF file and read it back, as users' own fields are."""
    import numpy as np
    import xarray

    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "check.nc"
        xarray.Dataset({"u": (("y", "x"), values)}).to_netcdf(path, engine="netcdf4")
        with xarray.open_dataset(path, engine="netcdf4") as file:
            return compare(file["u"].values, values)


def compare(read_back: Any, written: Any) -> str:
    """Raise OSError unless the values read are those written."""
    if not (read_back == written).all():
        raise OSError("the values read are not those written")
    return "written and read back"


def write_here(folder: Path) -> str:
    """Check that a file can be written to the folder."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"matey")
    return "can be written"


CHECKS: dict[str, Callable[[], str]] = {
    "matrix product": multiply,
    "HDF5": round_trip_hdf5,
    "NetCDF": round_trip_netcdf,
}


def extras() -> list[Finding]:
    """Optional packages, and how to install the missing ones."""
    return [
        Finding("extras", name, version(name) or "there")
        if importlib.util.find_spec(module)
        else Finding("extras", name, "not installed", NOTE, f"for {use}: {install(name)}")
        for name, (module, use) in EXTRAS.items()
    ]


def show(findings: list[Finding]) -> None:
    """Print the results as one table, with advice where needed."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    section = ""
    for finding in findings:
        if finding.section != section:
            section = finding.section
            table.add_row("", f"[bold]{section}[/]", "")
        text = escape(finding.value)
        if finding.advice:
            text += f"\n[dim]{escape(finding.advice)}[/]"
        table.add_row(MARKS[finding.state], finding.name, text)
    Console(highlight=False).print(table)


def add_arguments(parser: Any) -> None:
    from matey.cli.options import add_device

    parser.add_argument("--json", action="store_true", help="print for a program, not a person")
    add_device(parser, "the device that must work")


def run(options: Any) -> int:
    """Examine this machine and report; 1 if training would not work."""
    from matey.device import choose_device

    findings = examine(Path.cwd())
    if options.device != "auto":
        findings.append(attempt("device", lambda: f"{choose_device(options.device)} is there"))
    failed = [finding for finding in findings if finding.state == FAIL]
    if options.json:
        record = {"works": not failed, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(record, indent=2))
    else:
        show(findings)
        if not failed:
            print("\nTraining works here. New? `matey demo` takes minutes and needs no data.")
    if failed:
        reasons = "; ".join(f"{finding.name}: {finding.value}" for finding in failed)
        print(f"matey doctor: training would not work here: {reasons}", file=sys.stderr)
    return 1 if failed else 0


COMMANDS = {
    "": Command(
        help="what works on this machine, and what is missing",
        example="matey doctor",
        add_arguments=add_arguments,
        run=run,
    )
}
