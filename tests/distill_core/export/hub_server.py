"""A stand-in for the Hugging Face Hub: datasets in memory, as much of its API as is used."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Datasets = dict[str, dict[str, bytes]]


@contextmanager
def hub_server(datasets: Datasets) -> Iterator[str]:
    """Serve datasets, which commits change; the address is given."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: Any) -> None:
            del words

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = self.path.partition("?")[0].strip("/").split("/")
            if parts[:2] == ["api", "datasets"]:
                name, what = "/".join(parts[2:4]), parts[4:]
                if name not in datasets:
                    self.refuse()
                elif what[:1] == ["tree"]:
                    self.answer([entry(path, data) for path, data in datasets[name].items()])
                else:
                    files = [{"rfilename": path} for path in datasets[name]]
                    sha = commit(datasets[name])
                    self.answer({"id": name, "sha": sha, "siblings": files, "tags": []})
            elif parts[0] == "datasets" and parts[3] == "resolve":
                files = datasets["/".join(parts[1:3])]
                self.send(files["/".join(parts[5:])], headers={"X-Repo-Commit": commit(files)})
            else:
                self.refuse()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            parts = self.path.partition("?")[0].strip("/").split("/")
            if self.headers.get("Authorization") != "Bearer good":
                self.refuse(401, None)
            elif parts[1:] == ["repos", "create"]:
                said = json.loads(body)
                name = f"{said.get('organization', 'me')}/{said['name']}"
                datasets.setdefault(name, {})
                self.answer({"url": f"http://{self.headers['Host']}/datasets/{name}", "name": name})
            elif parts[1:] == ["validate-yaml"]:
                self.answer({"errors": [], "warnings": []})
            elif parts[4] == "preupload":
                files = [each["path"] for each in json.loads(body)["files"]]
                how = {"uploadMode": "regular", "shouldIgnore": False}
                self.answer({"files": [{"path": path, **how} for path in files]})
            else:
                for line in body.splitlines():
                    said = json.loads(line)
                    if said["key"] == "deletedFile":
                        del datasets["/".join(parts[2:4])][said["value"]["path"]]
                    if said["key"] == "file":
                        data = base64.b64decode(said["value"]["content"])
                        datasets["/".join(parts[2:4])][said["value"]["path"]] = data
                name = "/".join(parts[2:4])
                sha = commit(datasets[name])
                url = f"http://{self.headers['Host']}/datasets/{name}/commit/{sha}"
                self.answer({"success": True, "commitOid": sha, "commitUrl": url})

        def answer(self, body: Any) -> None:
            self.send(json.dumps(body).encode(), "application/json")

        def refuse(self, status: int = 404, code: str | None = "RepoNotFound") -> None:
            headers = {"X-Error-Code": code} if code else {}
            self.send(b"{}", "application/json", status, headers)

        def send(
            self,
            data: bytes,
            kind: str = "application/octet-stream",
            status: int = 200,
            headers: dict[str, str] | None = None,
        ) -> None:
            self.send_response(status)
            etag = hashlib.sha256(data).hexdigest()
            facts = {"ETag": f'"{etag}"', "Content-Type": kind}
            for name, value in {**facts, **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def commit(files: dict[str, bytes]) -> str:
    """Return what names a state of a dataset: 40 hexadecimal digits."""
    return hashlib.sha1(b"".join(path.encode() + files[path] for path in sorted(files))).hexdigest()


def entry(path: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
