"""Small real wheels, source archives and indexes, and artifacts that pin them."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path

from rankrepro.artifacts import Artifact
from rankrepro.artifacts.catalogue import Content, Package, Source
from tests_support import ROOT

NOTHING = "http://127.0.0.1:9/simple"  # nobody listens there
PATIENCE = 600  # seconds after which a process counts as stuck


def make_wheel(folder: Path, members: dict[str, bytes], name: str = "toy_data") -> Artifact:
    """Write a wheel with these members to `folder`; the Artifact that pins it and lists them all."""
    info = f"{name}-1.0.dist-info"
    folder.mkdir(exist_ok=True)
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in members.items():
            archive.writestr(path, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return pin(wheel, tuple(members), sum(map(len, members.values())))


def pin(wheel: Path, members: tuple[str, ...], unpacked: int) -> Artifact:
    return Artifact(
        id="toy",
        source="wheel",
        licence="CC0",
        citation="none",
        name=wheel.name.split("-")[0].replace("_", "-"),
        version="1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        size=wheel.stat().st_size,
        unpacked=unpacked,
        members=members,
    )


def make_sdist(folder: Path, members: Mapping[str, bytes], name: str = "toy_data") -> Artifact:
    """A source archive, whose setup.py fails if it is run; the Artifact that pins it and lists its members."""
    folder.mkdir(exist_ok=True)
    archive, top = folder / f"{name}-1.0.tar.gz", f"{name}-1.0"
    with tarfile.open(archive, "w:gz") as tar:
        for path, data in {"setup.py": b"raise SystemExit('setup.py was run')", **members}.items():
            entry = tarfile.TarInfo(f"{top}/{path}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    listed = tuple(f"{top}/{path}" for path in members)
    return dataclasses.replace(pin(archive, listed, sum(map(len, members.values()))), source="sdist")


def package(artifact: Artifact, member: str = "") -> Package:
    return Package(artifact.source, artifact.name, artifact.version, artifact.sha256, artifact.size, member)


def make_parts(folder: Path, data: bytes, count: int, name: str = "toy_part") -> tuple[Package, ...]:
    """Wheels that hold `data` in `count` parts of (nearly) one size."""
    length = -(-len(data) // count)
    return tuple(
        package(make_wheel(folder, {"part.bin": data[i * length : (i + 1) * length]}, f"{name}{i + 1}"), "part.bin")
        for i in range(count)
    )


def of_files(contents: Mapping[str, bytes], *sources: Source) -> Artifact:
    """An artifact that is these files, from those sources."""
    return Artifact(
        id="toy",
        source="files",
        licence="CC0",
        citation="none",
        size=max(s.size for s in sources),
        unpacked=sum(map(len, contents.values())),
        files={path: Content(hashlib.sha256(data).hexdigest(), len(data)) for path, data in contents.items()},
        sources=sources,
    )


def source(*packages: Package, **paths: str) -> Source:
    return Source(sum(p.size for p in packages), packages, paths=paths)


class Index(http.server.ThreadingHTTPServer):
    """A package index of one wheel that sends half of it, then waits for `go`."""

    def __init__(self, wheel: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.wheel, self.go, self.halfway, self.downloads = wheel, threading.Event(), threading.Event(), 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        wheel = self.server.wheel
        page = f'<a href="/files/{wheel.name}">{wheel.name}</a>'.encode()
        body = wheel.read_bytes() if self.path.startswith("/files/") else page
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if body is page else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body is not page:
            self.server.downloads += 1
            self.wfile.write(body[: len(body) // 2])
            self.server.halfway.set()
            self.server.go.wait(PATIENCE)
            body = body[len(body) // 2 :]
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def in_subprocess(artifact: Artifact, cache: Path, before: str = "") -> subprocess.Popen[str]:
    """`fetch` in a process and process group of its own; prints the folder, or the error's type."""
    program = f"""
import resource, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite started in the background ignores it
from pathlib import Path
from rankrepro.artifacts import Artifact, fetch
from rankrepro.artifacts.catalogue import Content, Package, Source
from rankrepro.errors import RankReproError
{before}
try:
    print(fetch({artifact!r}, Path({str(cache)!r})))
except RankReproError as error:
    print(type(error).__name__, error)
"""
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def leftovers(cache: Path) -> list[str]:
    """Everything under artifacts/ but the locks."""
    return sorted(p.name for p in (cache / "artifacts").glob("*") if not p.name.endswith(".lock"))


def in_python(program: str, **env: str) -> str:
    """What a fresh process prints: the hub client reads its environment at import."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    return done.stdout + done.stderr
