"""Levels of Doom: their lumps, the geometry in them, and patches that change how a level looks.

A WAD is a directory of named lumps; a level is a marker lump and the ten that follow it. Coordinates are map units,
x to the east and y to the north; angles are degrees, counter-clockwise from the east.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from rankrepro.errors import BenchmarkError

LUMPS = (
    *("THINGS", "LINEDEFS", "SIDEDEFS", "VERTEXES", "SEGS"),
    *("SSECTORS", "NODES", "SECTORS", "REJECT", "BLOCKMAP"),
)
SKY = b"F_SKY1"
BLOCKING = 1  # flag of a line
DOORS = (1, 26, 27, 28, 31, 32, 33, 34, 117, 118)  # specials of lines whose left sector opens when they are pushed
STEP, HEIGHT = 24, 56  # a walker climbs a step of this height and needs this much air

_LINE = np.dtype(
    [("v1", "<u2"), ("v2", "<u2"), ("flags", "<u2"), ("special", "<u2"), ("tag", "<u2"), ("sides", "<u2", 2)]
)
_SIDE = np.dtype([("offset", "<i2", 2), ("textures", "S8", 3), ("sector", "<u2")])
_SECTOR = np.dtype(
    {
        "names": ["floor", "ceiling", "floor_flat", "ceiling_flat", "light", "special", "tag"],
        "formats": ["<i2", "<i2", "S8", "S8", "<i2", "<u2", "<u2"],
    }
)
_VERTEX = np.dtype([("x", "<i2"), ("y", "<i2")])
_THING = np.dtype([("x", "<i2"), ("y", "<i2"), ("angle", "<i2"), ("type", "<u2"), ("flags", "<u2")])


@dataclass(frozen=True)
class Wad:
    """Lumps in file order: (name, bytes)."""

    lumps: tuple[tuple[str, bytes], ...]

    @staticmethod
    @cache
    def read(path: Path) -> Wad:
        data = path.read_bytes()
        magic, count, table = struct.unpack_from("<4sii", data)
        if magic not in (b"IWAD", b"PWAD"):
            raise BenchmarkError(f"{path} is no WAD file; install the package that ships it again")
        entries = (struct.unpack_from("<ii8s", data, table + 16 * i) for i in range(count))
        return Wad(tuple((name.rstrip(b"\0").decode("ascii"), data[a : a + size]) for a, size, name in entries))

    def lump(self, name: str) -> bytes:
        return next(data for n, data in self.lumps if n == name)

    def level(self, name: str) -> Level:
        return Level(name, dict(self._of_level(name)))

    def _of_level(self, name: str) -> list[tuple[str, bytes]]:
        names = [n for n, _ in self.lumps]
        if name not in names:
            raise BenchmarkError(f"there is no level {name}; correct `levels` in config/benchmarks/freedoom.yaml")
        start = names.index(name) + 1
        return [(n, data) for n, data in self.lumps[start : start + len(LUMPS)] if n in LUMPS]

    def patched(
        self,
        name: str,
        sectors: Callable[[np.ndarray], np.ndarray],
        palette: Callable[[np.ndarray], np.ndarray],
        flats: Mapping[str, bytes],
    ) -> bytes:
        """A WAD to be loaded on top of this one: level `name` with other sectors, another palette, and more flats.

        sectors: of the table of sectors; palette: of colours [256, 3] from 0 to 255; flats: name -> 64 x 64 bytes.
        """
        level = [(n, sectors(_table(d, _SECTOR)).tobytes() if n == "SECTORS" else d) for n, d in self._of_level(name)]
        colours = np.frombuffer(self.lump("PLAYPAL"), np.uint8).reshape(-1, 256, 3)
        changed = np.stack([palette(p.astype(float)) for p in colours]).round().clip(0, 255).astype(np.uint8)
        more = [("FF_START", b""), *flats.items(), ("FF_END", b"")] if flats else []
        return _pack([("PLAYPAL", changed.tobytes()), *more, (name, b""), *level])


def _pack(lumps: list[tuple[str, bytes]]) -> bytes:
    body, entries, position = b"", b"", 12
    for name, data in lumps:
        entries += struct.pack("<ii8s", position, len(data), name.encode())
        body += data
        position += len(data)
    return struct.pack("<4sii", b"PWAD", len(lumps), position) + body + entries


def _table(data: bytes, kind: np.dtype) -> np.ndarray:
    return np.frombuffer(data, kind, len(data) // kind.itemsize).copy()


@dataclass(frozen=True)
class Level:
    """Geometry of one level."""

    name: str
    lumps: Mapping[str, bytes]

    @cached_property
    def sectors(self) -> np.ndarray:
        return _table(self.lumps["SECTORS"], _SECTOR)

    @cached_property
    def lines(self) -> np.ndarray:
        return _table(self.lumps["LINEDEFS"], _LINE)

    @cached_property
    def things(self) -> np.ndarray:
        return _table(self.lumps["THINGS"], _THING)

    @cached_property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Start and end point of every line, [n, 2] each."""
        vertices = _table(self.lumps["VERTEXES"], _VERTEX)
        points = np.stack([vertices["x"], vertices["y"]], 1).astype(float)
        return points[self.lines["v1"]], points[self.lines["v2"]]

    @cached_property
    def faces(self) -> np.ndarray:
        """The sector to the right and to the left of every line [n, 2]; -1 where there is none."""
        of_side = _table(self.lumps["SIDEDEFS"], _SIDE)["sector"].astype(int)
        sides = self.lines["sides"].astype(int)
        return np.where(sides == 0xFFFF, -1, of_side[np.where(sides == 0xFFFF, 0, sides)])

    @cached_property
    def walls(self) -> np.ndarray:
        """Whether a walker cannot cross a line, [n]: one-sided, blocking, too high a step, too little air.

        Doors that open when pushed count as open.
        """
        right, left = self.faces.T
        floor, ceiling = self.sectors["floor"].astype(int), self.sectors["ceiling"].astype(int)
        ceiling[left[np.isin(self.lines["special"], DOORS) & (left >= 0)]] = 1 << 15
        step = abs(floor[right] - floor[left]) > STEP
        air = np.minimum(ceiling[right], ceiling[left]) - np.maximum(floor[right], floor[left]) < HEIGHT
        blocking = self.lines["flags"] & BLOCKING > 0
        return (self.faces.min(1) < 0) | blocking | step | air

    def sectors_at(self, points: np.ndarray) -> np.ndarray:
        """The sector each point [n, 2] lies in, -1 outside the level: what the nearest line to the east faces."""
        a, b = self.ends
        sectors = np.full(len(points), -1)
        for i, (x, y) in enumerate(points):
            crossing = np.flatnonzero((a[:, 1] > y) != (b[:, 1] > y))
            if not len(crossing):
                continue
            start, end = a[crossing], b[crossing]
            hit = start[:, 0] + (y - start[:, 1]) / (end[:, 1] - start[:, 1]) * (end[:, 0] - start[:, 0])
            east = np.where(hit > x, hit, np.inf)
            if not np.isfinite(east.min()):
                continue
            line = east.argmin()
            upwards = end[line, 1] > start[line, 1]  # then the west is to the left
            sectors[i] = self.faces[crossing[line], int(upwards)]
        return sectors

    def clearance(self, points: np.ndarray) -> np.ndarray:
        """Distance of each point [n, 2] to the nearest wall."""
        a, b = (end[self.walls] for end in self.ends)
        along = b - a
        length = np.maximum((along**2).sum(1), 1e-9)
        out = np.empty(len(points))
        for i, p in enumerate(points):
            t = (((p - a) * along).sum(1) / length).clip(0, 1)
            out[i] = np.sqrt(((a + t[:, None] * along - p) ** 2).sum(1).min())
        return out

    def blocked(self, p: np.ndarray, q: np.ndarray) -> bool:
        """Whether the straight way from p to q [2] crosses a wall."""
        a, b = (end[self.walls] for end in self.ends)

        def side(u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
            return (v[..., 0] - u[..., 0]) * (w[..., 1] - u[..., 1]) - (v[..., 1] - u[..., 1]) * (w[..., 0] - u[..., 0])

        return bool(((side(p, q, a) * side(p, q, b) < 0) & (side(a, b, p) * side(a, b, q) < 0)).any())
