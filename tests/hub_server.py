"""A hub on this machine that answers what huggingface_hub asks when it sends and fetches models.

Source of the addresses and of what they answer: the hub's description of its interface,
huggingface.co/docs/hub/api, and what the library was seen to ask.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Models by name: the bytes of each file; and which were made for all to see."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.models: dict[str, dict[str, bytes]] = {}
        self.public: set[str] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    """One question to the hub."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def send(self, body: bytes, code: int = 200, **headers: str) -> None:
        self.send_response(code)
        given = {"Content-Length": str(len(body)), "Content-Type": "application/json", **headers}
        for name, value in given.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def reply(self, value: Any, code: int = 200) -> None:
        self.send(json.dumps(value).encode(), code)

    def missing(self) -> None:
        self.send(b'{"error": "Repository not found"}', 404, X_Error_Code="RepoNotFound")

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        parts = path.strip("/").split("/")
        api = parts[0] == "api"
        name = "/".join(parts[2:4] if api else parts[:2])
        if name not in self.server.models:
            self.missing()
            return
        files = self.server.models[name]
        if not api:  # OWNER/NAME/resolve/COMMIT/FILE
            content = files["/".join(parts[4:])]
            tag = hashlib.sha256(content).hexdigest()
            self.send(content, ETag=f'"{tag}"', X_Repo_Commit=COMMIT)
            return
        listed = [
            {"type": "file", "oid": "0" * 40, "size": len(content), "path": each}
            for each, content in sorted(files.items())
        ]
        if "tree" in parts:
            self.reply(listed)
            return
        siblings = [{"rfilename": one["path"], "size": one["size"]} for one in listed]
        self.reply({"_id": "1", "id": name, "sha": COMMIT, "private": True, "siblings": siblings})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"]))
        parts = urlparse(self.path).path.strip("/").split("/")
        if parts[:3] == ["api", "repos", "create"]:
            asked = json.loads(text)
            owner = asked.get("organization") or "me"
            name = f"{owner}/{asked['name']}"
            if name not in self.server.models:
                self.server.models[name] = {".gitattributes": b"*.safetensors filter=lfs\n"}
                hidden = asked.get("private") or asked.get("visibility") == "private"
                self.server.public |= set() if hidden else {name}
            self.reply({"url": f"{self.server.address}/{name}", "name": name})
        elif parts == ["api", "validate-yaml"]:
            self.reply({"errors": [], "warnings": []})
        elif "preupload" in parts:
            files = json.loads(text)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular"} for f in files]
            self.reply({"files": [{**mode, "shouldIgnore": False} for mode in modes]})
        elif "commit" in parts:
            name = "/".join(parts[2:4])
            files, where = self.server.models[name], f"{self.server.address}/{name}/commit/{COMMIT}"
            for line in map(json.loads, text.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                if line["key"] == "deletedFile":
                    del files[value["path"]]
            self.reply({"success": True, "commitOid": COMMIT, "commitUrl": where})
        else:
            self.missing()


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers while the block runs."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
