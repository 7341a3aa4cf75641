"""Model folders to and from a hub: a folder, a stand-in for the hub's library, and the library
itself with a hub on this machine."""

import shutil
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import matey
from matey.cli import main
from matey.config import BaselineConfig, ModelConfig
from matey.errors import CheckpointError, ConfigError
from matey.hub import belongs, pull, push
from matey.nn.baselines.stencil import Yardstick
from matey.nn.folder import save_pretrained
from matey.nn.make import make_model
from tests.hub_server import COMMIT, serving
from tests.nn.helpers import system, tiny_model


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run of a user, who is in its parent: a model with a stencil beside, and a private log."""
    monkeypatch.chdir(tmp_path)
    model = tiny_model(system())
    stencil = ModelConfig(baseline=BaselineConfig(kind="stencil"))
    model.yardstick = Yardstick(make_model(stencil, [system()], 2), {})
    save_pretrained(model, tmp_path / "runs/a/model", {"steps": 1})
    (tmp_path / "runs/a/provenance.json").write_text('{"command": "matey train --secret"}')
    return tmp_path / "runs/a"


@pytest.fixture
def offline(monkeypatch):
    """No library of a hub: `file:` needs none."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def same(first: Path, second: Path) -> bool:
    one, other = matey.from_pretrained(first), matey.from_pretrained(second)
    weights = other.state_dict()
    return all(torch.equal(value, weights[name]) for name, value in one.state_dict().items())


class StandIn:
    """What huggingface_hub's HfApi does, in a folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[str] = []

    def __call__(self, **_: str) -> "StandIn":
        return self

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        self.asked.append(f"create {repo_id} private={private}")
        (self.root / repo_id).mkdir(parents=True, exist_ok=exist_ok)
        (self.root / repo_id / ".gitattributes").touch()
        return f"https://hub/{repo_id}"

    def model_info(self, repo_id: str, *, revision=None, files_metadata: bool = False):
        if not (self.root / repo_id).is_dir():
            raise OSError(f"404: no {repo_id}\nwith more lines\nand more")
        found = files_of(self.root / repo_id)
        siblings = [SimpleNamespace(rfilename=n, size=len(v)) for n, v in found.items()]
        return SimpleNamespace(sha=revision or COMMIT, siblings=siblings)

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, delete_patterns, **_) -> None:
        for old in self.root.joinpath(repo_id).glob("*.json"):
            old.unlink()
        for name in allow_patterns:
            (self.root / repo_id / name).parent.mkdir(exist_ok=True)
            shutil.copy(folder_path / name, self.root / repo_id / name)

    def snapshot_download(self, repo_id, *, revision, local_dir, allow_patterns) -> None:
        self.asked.append(f"fetch {repo_id} at {revision}")
        for name in allow_patterns:
            (local_dir / name).parent.mkdir(exist_ok=True)
            shutil.copy(self.root / repo_id / name, local_dir / name)
        (local_dir / ".cache").mkdir()
        (local_dir / ".cache/of the library.json").write_text("[]")


@pytest.fixture
def hub(tmp_path, monkeypatch) -> StandIn:
    """A hub in the folder `hub`."""
    made = StandIn(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(HfApi=made))
    return made


def test_a_model_goes_to_a_folder_and_comes_back_the_same(run, offline, capsys):
    assert main(["models", "push", "runs/a", "file:shelf/a"]) == 0
    assert files_of(Path("shelf/a")) == files_of(run / "model")  # and nothing else of the run
    assert main(["models", "pull", "file:shelf/a"]) == 0
    assert "matey data inspect models/a" in capsys.readouterr().out
    assert files_of(Path("models/a")) == files_of(run / "model")
    assert same(run, Path("models/a"))
    assert matey.from_pretrained("models/a").yardstick is not None


def test_a_model_goes_to_the_hub_private_and_comes_back_the_same(run, hub, capsys):
    assert main(["models", "push", "runs/a", "me/waves"]) == 0
    assert "https://hub/me/waves" in capsys.readouterr().out
    assert main(["models", "pull", "me/waves", "--out", "back"]) == 0
    assert f"me/waves, commit {COMMIT}, in back" in capsys.readouterr().out
    assert files_of(Path("back")) == files_of(run / "model")
    assert hub.asked == ["create me/waves private=True", f"fetch me/waves at {COMMIT}"]
    push(run, "me/seen", public=True)
    assert hub.asked[-1] == "create me/seen private=False"


@pytest.mark.parametrize(
    "name",
    ["model.bin", "pytorch_model.pt", "code.py", "deep/er/a.json", "../a.json", "a\\b.json", "x"],
)
def test_other_files_on_a_hub_are_refused_before_anything_is_fetched(run, hub, monkeypatch, name):
    push(run, "me/waves")
    found = hub.model_info("me/waves")
    found.siblings.append(SimpleNamespace(rfilename=name, size=1))
    monkeypatch.setattr(hub, "model_info", lambda *_, **__: found)
    with pytest.raises(CheckpointError, match="nothing else is sent or fetched"):
        pull("me/waves", Path("back"))
    assert "fetch" not in " ".join(hub.asked)
    with pytest.raises(CheckpointError, match="nothing else is sent or fetched"):
        push(run, "me/waves")
    assert not Path("back").exists()


def test_what_has_more_bytes_than_are_free_is_refused_before_anything_is_fetched(run, hub):
    push(run, "me/waves")
    found = hub.model_info("me/waves")
    found.siblings[-1].size = 10**18
    hub.model_info = lambda *_, **__: found
    with pytest.raises(CheckpointError, match=r"has 1000000000000\.\d MB, and .* MB are free"):
        pull("me/waves", Path("back"))


def test_a_revision_is_asked_for(run, hub):
    push(run, "me/waves")
    assert pull("me/waves", Path("back"), "v1") == "me/waves, commit v1"
    with pytest.raises(ConfigError, match="no --revision"):
        pull("file:back", Path("again"), "v1")


@pytest.mark.parametrize("name", ["weights.pt", "code.py", "deep/er/a.json", ".hidden", "a.bin"])
def test_other_files_in_a_folder_are_neither_sent_nor_fetched(run, offline, name):
    push(run, "file:shelf")
    for folder in (Path("shelf"), run / "model"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    for attempt in (lambda: pull("file:shelf", Path("back")), lambda: push(run, "file:more")):
        with pytest.raises(CheckpointError, match="nothing else is sent or fetched"):
            attempt()
    assert not Path("back").exists()
    assert not Path("more").exists()


def test_a_link_in_a_model_folder_is_not_followed_to_a_hub(run, offline):
    Path("secret").write_text("{}")
    (run / "model/more.json").symlink_to(Path("secret").resolve())
    with pytest.raises(CheckpointError, match=r"has links \(more.json\)"):
        push(run, "file:shelf")
    assert not Path("shelf").exists()


SPOILT = {
    "model.safetensors": lambda text: text[: len(text) // 2],
    "config.json": lambda text: text.replace(b'"embed_dim": 24', b'"embed_dim": 48'),
    "more.json": lambda _: b"[" * 100_000,
    "more.safetensors": lambda _: b"\x80\x04K\x01.",  # a pickle
    "stencil/config.json": lambda text: b"{}",
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_no_sound_model_gets_no_place(run, offline, name):
    push(run, "file:shelf")
    path = Path("shelf") / name
    path.write_bytes(SPOILT[name](path.read_bytes() if path.exists() else b""))
    with pytest.raises(CheckpointError, match="file:shelf is no sound model: ") as refused:
        pull("file:shelf", Path("back"))
    assert "matey-pull" not in str(refused.value)
    assert not Path("back").exists()


def test_nothing_is_replaced(run, offline):
    Path("home").mkdir()
    Path("home/letter").write_text("mine")
    for attempt in (lambda: push(run, "file:home"), lambda: pull("file:home", Path("home"))):
        with pytest.raises(CheckpointError, match="home exists, and is not replaced"):
            attempt()
    assert Path("home/letter").read_text() == "mine"


@pytest.mark.parametrize("place", ["waves", "a/b/c", "../b", "me/", "me/a b", "https://x/y", ""])
def test_what_is_no_name_on_a_hub_is_refused_without_asking_one(run, hub, place):
    for attempt in (lambda: push(run, place), lambda: pull(place, Path("back"))):
        with pytest.raises(ConfigError, match="expected OWNER/NAME, or file:FOLDER"):
            attempt()
    assert hub.asked == []


def test_a_missing_library_is_told_with_the_way_out(run, offline, capsys):
    assert main(["models", "pull", "me/waves"]) == 2
    assert "pip install 'matey-pde[hub]'" in capsys.readouterr().err


def test_what_a_hub_answers_is_one_line(run, hub, capsys):
    assert main(["models", "pull", "me/none"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said == [
        "matey: error: The hub refused me/none: OSError: 404: no me/none with more lines"
    ]


def test_a_folder_that_is_not_there_is_refused(run, offline):
    with pytest.raises(CheckpointError, match="nowhere is no folder"):
        pull("file:nowhere", Path("back"))


def test_names_lead_nowhere_else():
    good = [
        "model.safetensors",
        "config.json",
        "README.md",
        "stencil/config.json",
        "stencil/README.md",
    ]
    assert all(map(belongs, good))
    bad = ["/etc/a.json", "..", "../README.md", "a/../b.json", "a//b.json", "", ".json", "./a.json"]
    assert not any(map(belongs, bad))


@pytest.fixture
def server(monkeypatch):
    """A hub on this machine, which the library, imported anew, takes for its own; no name of
    another machine is looked up."""
    pytest.importorskip("huggingface_hub", reason="needs the extra matey-pde[hub]")

    def forget() -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == "huggingface_hub"]:
            del sys.modules[name]

    look_up = socket.getaddrinfo

    def only_here(host, *more, **named):
        assert host in ("127.0.0.1", "localhost"), host
        return look_up(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", only_here)
    with serving() as hub:
        for name, value in (("ENDPOINT", hub.address), ("HUB_OFFLINE", "0"), ("TOKEN", "none")):
            monkeypatch.setenv(f"HF_{name}", value)
        forget()
        yield hub
        forget()


def test_the_hubs_own_library_sends_and_fetches(run, server):
    """Its real calls, to a hub on this machine: a new model, changed, and fetched."""
    push(run, "me/waves")
    assert server.public == set()
    sent = {k: v for k, v in server.models["me/waves"].items() if k != ".gitattributes"}
    assert sent == files_of(run / "model")
    server.models["me/waves"]["stencil/old.json"] = b"{}"
    push(run, "me/waves")
    assert "stencil/old.json" not in server.models["me/waves"]
    assert pull("me/waves", Path("back")) == f"me/waves, commit {COMMIT}"
    assert files_of(Path("back")) == files_of(run / "model")
    server.models["me/waves"]["code.py"] = b"print()"
    with pytest.raises(CheckpointError, match=r"holds code\.py"):
        pull("me/waves", Path("more"))
    with pytest.raises(CheckpointError, match="The hub refused me/none: Repository"):
        pull("me/none", Path("more"))
    push(run, "me/seen", public=True)
    assert server.public == {"me/seen"}
    assert all(b"--secret" not in content for content in server.models["me/seen"].values())
