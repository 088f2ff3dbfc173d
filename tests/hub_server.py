"""A double of the Hugging Face hub for tests: loopback HTTP, one process, nothing on disk.

It answers what the hub's client asks of it to create a data set's repository, look at it, upload
large files and commit, and it holds clients to the hub's rules: a large file's contents must have
the hash and size they were announced with, and a commit may name only contents that are there.
``faults`` breaks some answers: ``{("PUT", 2): "500"}`` the second PUT, by a failing server;
``"reset"`` drops the connection before the request is looked at, ``"lost"`` after it was done;
``"hang"`` never answers. Kinds are the verbs, and ``create``, ``preupload``, ``batch``, ``commit``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import yaml

TOKEN = "hf_of_the_tests"
PAGE = 4  # entries of a listing, so that there are several pages
Fault = tuple[str, int]


@dataclass
class Repository:
    private: bool
    files: dict[str, dict[str, Any]] = field(default_factory=dict)  # entries of the tree
    small: dict[str, bytes] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)  # the paths of each


@dataclass
class State:
    """``puts`` are the hashes of large files in the order they came; ``asked`` counts kinds."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    puts: list[str] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    faults: dict[Fault, str] = field(default_factory=dict)
    reached: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


class HubServer:
    """Serves on a loopback port, from threads; ``reached`` is set when a request hangs."""

    def __init__(self, faults: Mapping[Fault, str] | None = None) -> None:
        self.state = State(faults=dict(faults or {}))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        handler = type("Bound", (_Handler,), {"state": self.state})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def add(self, name: str, *, private: bool, **files: str) -> None:
        """A repository that is there already, with small files."""
        repository = Repository(private)
        for path, text in files.items():
            _keep(repository, path.replace("__", "."), text.encode())
        self.state.repositories[name] = repository

    def contents(self, name: str) -> dict[str, bytes]:
        """Every file of a repository."""
        repository = self.state.repositories[name]
        return {
            path: self.state.large[entry["lfs"]["oid"]]
            if "lfs" in entry
            else repository.small[path]
            for path, entry in repository.files.items()
        }


def _keep(repository: Repository, path: str, contents: bytes) -> None:
    oid = hashlib.sha1(b"blob %d\0" % len(contents) + contents).hexdigest()
    repository.small[path] = contents
    repository.files[path] = {"type": "file", "path": path, "size": len(contents), "oid": oid}


def _validated(asked: dict[str, Any]) -> dict[str, Any]:
    """What the hub says of a card: errors keep it out."""
    _, head, _ = asked["content"].split("---\n", 2)
    fields = yaml.safe_load(head)
    missing = {"license", "configs", "tags"} - fields.keys()
    if missing or (fields["license"] == "other" and "license_name" not in fields):
        raise _Refused(400, f"the card's head lacks {missing or 'license_name'}")
    return {"errors": [], "warnings": []}


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: State

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def _answer(self, verb: str) -> None:
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self._fault(verb, path)
        if fault == "hang":
            self.state.reached.set()
            time.sleep(3600)
        if fault == "reset":
            return self._drop()
        if fault == "500":
            return self._send(500, {"error": "injected"})
        try:
            with self.state.lock:
                value, headers = self._do(verb, path, body)
        except _Refused as refused:
            headers = {"X-Error-Code": "RepoNotFound"} if refused.status == 404 else {}
            return self._send(refused.status, {"error": str(refused), "url": ""}, headers)
        if fault == "lost":
            return self._drop()
        return self._send(200, value, headers)

    def _fault(self, verb: str, path: str) -> str | None:
        kinds = {verb, *re.findall(r"create$|preupload|batch$|commit", path)}
        with self.state.lock:
            self.state.asked.update(kinds)
            found = [self.state.faults.get((k, self.state.asked[k])) for k in sorted(kinds)]
        return next(filter(None, found), None)

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _send(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, text)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(data)

    def _do(self, verb: str, path: str, body: bytes) -> tuple[Any, dict[str, str]]:
        if verb == "PUT":  # the address itself is the permission, as in a bucket
            return self._store(path.rpartition("/")[2], body), {}
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise _Refused(401, "Invalid username or password.")
        if path == "/api/whoami-v2":
            return {"name": "me", "type": "user"}, {}
        if path == "/api/repos/create":
            return self._create(json.loads(body)), {}
        if path == "/api/validate-yaml":
            return _validated(json.loads(body)), {}
        name = re.match(r"(?:/api)?/datasets/([^/]+/[^/]+?)(?:\.git)?(?:/|$)", path)
        if name is None or name[1] not in self.state.repositories:
            raise _Refused(404, f"no such repository: {path}")
        repository = self.state.repositories[name[1]]
        if "/tree/" in path:
            return self._tree(repository)
        if "/preupload/" in path:
            return self._modes(repository, json.loads(body)), {}
        if path.endswith("/objects/batch"):
            return self._batch(json.loads(body)), {}
        if "/commit/" in path:
            return self._commit(repository, name[1], body), {}
        about = {"id": name[1], "private": repository.private, "sha": "0" * 40, "siblings": []}
        return about, {}

    def _create(self, asked: dict[str, Any]) -> dict[str, str]:
        name = f"{asked['organization'] or 'me'}/{asked['name']}"
        if asked["type"] != "dataset":
            raise _Refused(400, "data sets only")
        if name in self.state.repositories:
            raise _Refused(409, "You already created this dataset repo")
        private = asked.get("private", asked.get("visibility") == "private")
        self.state.repositories[name] = Repository(bool(private))
        _keep(self.state.repositories[name], ".gitattributes", b"*.parquet filter=lfs\n")
        return {"url": f"http://{self.headers['Host']}/datasets/{name}"}

    def _tree(self, repository: Repository) -> tuple[Any, dict[str, str]]:
        query = parse_qs(urlsplit(self.path).query)
        low = int(query.get("cursor", ["0"])[0])
        entries = [entry for _, entry in sorted(repository.files.items())]
        more = f"http://{self.headers['Host']}{urlsplit(self.path).path}?cursor={low + PAGE}"
        link = {"Link": f'<{more}>; rel="next"'} if len(entries) > low + PAGE else {}
        return entries[low : low + PAGE], link

    def _modes(self, repository: Repository, asked: dict[str, Any]) -> dict[str, Any]:
        return {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".parquet") else "regular",
                    "shouldIgnore": False,
                    "oid": repository.files.get(file["path"], {}).get("oid"),
                }
                for file in asked["files"]
            ]
        }

    def _batch(self, asked: dict[str, Any]) -> dict[str, Any]:
        objects = []
        for entry in asked["objects"]:
            if entry["oid"] not in self.state.large:
                place = f"http://{self.headers['Host']}/bucket/{entry['oid']}"
                entry = {**entry, "actions": {"upload": {"href": place}}}
            objects.append(entry)
        return {"transfer": "basic", "objects": objects}

    def _store(self, oid: str, contents: bytes) -> dict[str, Any]:
        if hashlib.sha256(contents).hexdigest() != oid:
            raise _Refused(400, "the contents do not have the hash they were announced with")
        self.state.large[oid] = contents
        self.state.puts.append(oid)
        return {}

    def _commit(self, repository: Repository, name: str, body: bytes) -> dict[str, Any]:
        lines = [json.loads(line) for line in body.splitlines()]
        changed = Repository(repository.private, dict(repository.files), dict(repository.small))
        paths = [self._apply(changed, line["key"], line["value"]) for line in lines[1:]]
        repository.files, repository.small = changed.files, changed.small
        repository.commits.append(paths)
        oid = f"{len(repository.commits):040x}"
        return {"commitUrl": f"/datasets/{name}/commit/{oid}", "commitOid": oid}

    def _apply(self, repository: Repository, key: str, value: dict[str, Any]) -> str:
        path: str = value["path"]
        if key == "deletedFile":
            del repository.files[path]
        elif key == "file":
            _keep(repository, path, base64.b64decode(value["content"], validate=True))
        elif key == "lfsFile":
            held = self.state.large.get(value["oid"])
            if held is None or len(held) != value["size"]:
                raise _Refused(400, f"{path}: its contents were not uploaded, or not all")
            pointer = {"oid": value["oid"], "size": value["size"], "pointerSize": 130}
            repository.files[path] = {
                "type": "file",
                "path": path,
                "size": value["size"],
                "oid": hashlib.sha1(value["oid"].encode()).hexdigest(),
                "lfs": pointer,
            }
        else:
            raise _Refused(400, f"no such operation: {key}")
        return path
