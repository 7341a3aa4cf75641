"""Chunks are decompressed once for a batch, and memory for them is bounded."""

import h5py
import numpy as np
import pytest

import matey
from matey.config import WindowConfig
from matey.data.formats import cache, files
from matey.data.windows import Choice, Windows

SHAPE = (4, 24, 128, 256)  # 3 MiB a trajectory
NAMES = ("density", "pressure", "Vx", "Vy")


def write(path, chunk, shape=SHAPE):
    """Four variables of noise [n, t, x, y] in PDEBench's compressible layout; their bytes."""
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for name in NAMES:
            values = random.standard_normal(shape).astype(np.float32)
            file.create_dataset(name, data=values, chunks=chunk, compression="gzip")
        file["x-coordinate"], file["y-coordinate"] = np.arange(128.0), np.arange(256.0)
        file["t-coordinate"] = np.arange(shape[1] + 1.0)
        return sum(file[name].id.get_storage_size() for name in NAMES)


@pytest.mark.parametrize("chunk", [(4, 24, 128, 256), (2, 24, 128, 256), (4, 24, 32, 256)])
def test_no_chunk_is_read_twice_for_a_batch(tmp_path, chunk, bytes_read):
    """Chunks of 3 to 12 MiB, up to 12 in a row. Windows of every trajectory, at three places with
    gaps between their frames. Beside the chunks less than a tenth is read, of metadata."""
    path = tmp_path / "2D_CFD_Train.hdf5"
    stored = write(path, chunk)
    fields = matey.open(path)
    windows = Windows(fields, range(4), WindowConfig(history=2))
    each = len(windows) // 4
    choices = [Choice(n * each + s, lead) for n in range(4) for s, lead in ((0, 5), (9, 8), (4, 9))]
    files.close_files()
    before = bytes_read()
    windows.batch(choices)
    assert bytes_read() - before < 1.1 * stored


def test_all_files_of_a_process_share_the_room_for_chunks(tmp_path, monkeypatch):
    """Room for two datasets of 12 MiB: of eight in two files those used last stay open, and what is
    read stays the same. Closed files keep none."""
    files.close_files()
    monkeypatch.setattr(cache, "MOST", 25 * 2**20)
    for name in ("a", "b"):
        write(tmp_path / f"{name}.hdf5", SHAPE)
    fields = matey.open(tmp_path)
    with h5py.File(tmp_path / "b.hdf5") as file:
        expected = np.stack([file[name][3, 5:7] for name in NAMES], axis=1)
    for trajectory in (0, 4, 7):
        values = fields.read(trajectory, slice(5, 7)).values
    np.testing.assert_array_equal(values[:, :, 0].numpy(), expected.swapaxes(2, 3))
    assert [name for _, name in cache.shared.kept] == ["Vx", "Vy"]
    files.close_files()
    assert not cache.shared.kept


@pytest.mark.parametrize(
    ("chunk", "size"),
    [
        (None, 0),
        ((1, 1, 128, 256), 0),  # single frames
        ((4, 24, 128, 256), 12 * 2**20),
        ((2, 24, 64, 64), 6 * 2**20),  # eight chunks in a row
        ((1, 24, 128, 256), 0),  # not more than HDF5 keeps by itself
    ],
)
def test_room_is_made_for_a_row_of_chunks(tmp_path, chunk, size, monkeypatch):
    monkeypatch.setattr(cache, "KEPT", 4 * 2**20)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        dataset = file.create_dataset("u", SHAPE, np.float32, chunks=chunk)
        assert cache.row_size(dataset) == size


def test_no_chunk_of_a_zarr_store_is_read_twice_for_a_batch(tmp_path, monkeypatch):
    zarr = pytest.importorskip("zarr", reason="needs zarr: pip install 'matey-pde[zarr]'")
    values = np.random.default_rng(0).standard_normal((4, 20, 8, 16)).astype(np.float32)
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array = group.create_array(
        "u",
        shape=values.shape,
        dtype="f4",
        chunks=(3, 10, 8, 8),
        dimension_names=("sample", "time", "y", "x"),
    )
    array[:] = values
    fields = matey.open(tmp_path / "a.zarr")
    windows = Windows(fields, range(4), WindowConfig(history=4))
    chosen = [0, 1, 19, 37, 48, 57]
    read, whole = [], zarr.Array.__getitem__
    monkeypatch.setattr(zarr.Array, "__getitem__", lambda a, i: (read.append(i), whole(a, i))[1])
    batch = windows.batch([Choice(i) for i in chosen])
    assert len(read) == len({str(index) for index in read}) == 3  # rows of chunks, each once
    for i, history in zip(chosen, batch.values, strict=True):
        trajectory, start = windows.place(i)
        frames = values[trajectory, start : start + 4]
        assert np.array_equal(history[:, 0, 0].numpy(), frames)
