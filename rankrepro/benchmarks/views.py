"""Views of a level, rendered off screen by ViZDoom: colour, depth, and how much of one view another one sees.

Nothing is random: the game advances by a fixed number of ticks per view, so the same poses in the same order give the
same pixels. The eye is 41 units above the floor and looks straight ahead; the field of view is 90 degrees.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rankrepro.benchmarks.wad import SKY, Wad
from rankrepro.errors import BenchmarkError

WIDTH, HEIGHT = 256, 192
FOCAL = WIDTH / 2  # of a field of view of 90 degrees, in pixels
WAKE = 40  # ticks before the game takes orders
SETTLE = 2  # ticks after a step until the eye is at its height
CONDITIONS = ("day", "night", "winter", "monsters")


class Pose(NamedTuple):
    """Where the eye is (map units) and looks to (degrees counter-clockwise from the east)."""

    x: float
    y: float
    angle: float


class View(NamedTuple):
    """pixels [192, 256, 3] uint8, depth [192, 256] uint8, the height of the eye, and the pose that was reached."""

    pixels: np.ndarray
    depth: np.ndarray
    eye: float
    pose: Pose


class Camera:
    """A running game in one level under one condition. Use as a context: the game ends with it."""

    def __init__(self, wads: Path, level: str, condition: str, occluders: Sequence[str] = ()) -> None:
        self.wads, self.level, self.condition, self.occluders = wads, level, condition, occluders
        self.shots = 0

    def __enter__(self) -> Camera:
        self._scratch = tempfile.TemporaryDirectory()
        self.game = self._start(Path(self._scratch.name))
        return self

    def __exit__(self, *_: object) -> None:
        self.game.close()
        self._scratch.cleanup()

    def view(self, pose: Pose) -> View | None:
        """What is seen from `pose`; None where the player does not fit (something stands there)."""
        self.game.send_game_command(f"warp {pose.x} {pose.y}")
        if self.occluders:
            self._summon(pose)
        self._turn(pose.angle)
        self._wait(SETTLE)
        state = self.game.get_state()
        x, y, angle, eye = state.game_variables
        if abs(x - pose.x) > 1 or abs(y - pose.y) > 1:
            return None
        self.shots += 1
        return View(state.screen_buffer.copy(), state.depth_buffer.copy(), eye, Pose(x, y, angle))

    def _summon(self, pose: Pose) -> None:
        """Every other view, someone new appears somewhere in front; who came before stays."""
        self._turn(pose.angle + (-30, 15, -8, 25)[self.shots // 2 % 4])
        self._wait(SETTLE)
        if self.shots % 2 == 0:
            self.game.send_game_command(f"summon {self.occluders[self.shots // 2 % len(self.occluders)]}")
            self._wait(8)

    def _turn(self, angle: float) -> None:
        from vizdoom import GameVariable

        left = angle - self.game.get_game_variable(GameVariable.ANGLE)
        self.game.make_action([-((left + 180) % 360 - 180)], 1)

    def _wait(self, ticks: int) -> None:
        self.game.make_action([0], ticks)

    def _start(self, scratch: Path) -> Any:
        import vizdoom

        game = vizdoom.DoomGame()
        game.set_doom_game_path(str(self.wads))
        (scratch / "patch.wad").write_bytes(patched(Wad.read(self.wads), self.level, self.condition))
        game.set_doom_scenario_path(str(scratch / "patch.wad"))
        game.set_doom_config_path(str(scratch / "vizdoom.ini"))
        game.set_doom_map(self.level)
        game.set_screen_resolution(vizdoom.ScreenResolution.RES_256X192)
        game.set_screen_format(vizdoom.ScreenFormat.RGB24)
        game.set_depth_buffer_enabled(True)
        game.set_window_visible(False)
        game.set_sound_enabled(False)
        for what in ("hud", "weapon", "crosshair", "decals", "particles", "messages", "corpses", "screen_flashes"):
            getattr(game, f"set_render_{what}")(False)
        game.set_available_buttons([vizdoom.Button.TURN_LEFT_RIGHT_DELTA])
        var = vizdoom.GameVariable
        game.set_available_game_variables([var.POSITION_X, var.POSITION_Y, var.ANGLE, var.CAMERA_POSITION_Z])
        game.add_game_args("-nomonsters +sv_cheats 1")
        game.set_seed(1)
        game.set_episode_timeout(0)
        with _inside(scratch):  # it leaves files in its working directory
            game.init()
        game.new_episode()
        game.make_action([0], WAKE)
        for order in ("god", "notarget"):
            game.send_game_command(order)
        game.make_action([0], 1)
        return game


@contextmanager
def _inside(folder: Path) -> Any:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


# --- conditions ------------------------------------------------------------------------------------------------------

SNOW = "RRSNOW"


def patched(wad: Wad, level: str, condition: str) -> bytes:
    """The WAD that brings a condition.

    day       every sector lit between 96 and 255 instead of 0 and 255: Freedoom is a dark world
    monsters  the same; who stands in the way is summoned later
    winter    the same, snow on every floor under the sky, greens pale and everything a little blue
    night     every sector lit between 48 and 150, all colours, the sky's too, darker and bluer
    """
    if condition in ("day", "monsters"):
        return wad.patched(level, _lit, lambda colours: colours, {})
    if condition == "night":
        return wad.patched(level, _darker, lambda colours: colours * (0.62, 0.68, 0.85), {})
    if condition == "winter":
        flat = snow(np.frombuffer(wad.lump("PLAYPAL"), np.uint8)[:768].reshape(256, 3))
        return wad.patched(level, lambda sectors: _snowed(_lit(sectors)), _pale, {SNOW: flat})
    raise BenchmarkError(f"there is no condition '{condition}'; choose among {', '.join(CONDITIONS)}")


def _lit(sectors: np.ndarray) -> np.ndarray:
    sectors["light"] = 96 + sectors["light"].clip(0, 255) * (159 / 255)
    return sectors


def _darker(sectors: np.ndarray) -> np.ndarray:
    sectors["light"] = 48 + sectors["light"].clip(0, 255) * 0.4
    return sectors


def _snowed(sectors: np.ndarray) -> np.ndarray:
    sectors["floor_flat"] = np.where(sectors["ceiling_flat"] == SKY, SNOW.encode(), sectors["floor_flat"])
    return sectors


def _pale(colours: np.ndarray) -> np.ndarray:
    """Greens (and yellows: grass, moss, leaves) go two thirds of the way to a bright grey."""
    red, green, blue = colours.T
    plant = (green >= red) & (green > blue)
    grey = 40 + 0.8 * colours.mean(1, keepdims=True)
    return np.where(plant[:, None], colours / 3 + grey * 2 / 3, colours) * (0.94, 0.97, 1.06)


def snow(palette: np.ndarray) -> bytes:
    """A flat of 64 x 64 texels in the light greys of a palette [256, 3]."""
    p = palette.astype(int)
    greys = np.flatnonzero((np.ptp(p, axis=1) <= 12) & (p.mean(1) >= 165))
    return np.random.default_rng(0).choice(greys, 64 * 64).astype(np.uint8).tobytes()


# --- what two views share --------------------------------------------------------------------------------------------

# ViZDoom's depth is linear in the distance along the line of sight: depth = SLOPE * units + OFFSET, fitted to
# distances cast through the level's lines (tests/benchmarks/test_views.py). Walls farther than FAR and the sky all
# read FAR, about 740 units (23 m), so what lies beyond counts as no surface.
SLOPE, OFFSET, FAR = 0.1401, -1.26, 102
RISE = 1.2 * FOCAL  # vertical focal length: Doom's pixels are a fifth higher than wide
GRID = 8  # every eighth pixel of a view is a point
TOLERANCE = 24.0  # units, and a twentieth of the distance


def surface(view: View) -> np.ndarray:
    """Points [n, 3] of the world that a view sees within FAR, one a cell of the grid."""
    rows, columns = (np.arange(GRID // 2, n, GRID) for n in (HEIGHT, WIDTH))
    depth = view.depth[np.ix_(rows, columns)].astype(float)
    away = (depth - OFFSET) / SLOPE
    right = (columns[None] + 0.5 - WIDTH / 2) / FOCAL * away
    up = (HEIGHT / 2 - rows[:, None] - 0.5) / RISE * away
    ahead, side = _axes(view.pose)
    eye = np.array([view.pose.x, view.pose.y])
    flat = eye + away[..., None] * ahead + right[..., None] * side
    return np.concatenate([flat, view.eye + up[..., None]], 2)[depth < FAR]


def share_seen(points: np.ndarray, view: View) -> float:
    """Share of the points [n, 3] that a view sees: inside its frame, and nothing in front of them. 0 of no points."""
    if not len(points):
        return 0.0
    ahead, side = _axes(view.pose)
    offset = points[:, :2] - (view.pose.x, view.pose.y)
    away, right, up = offset @ ahead, offset @ side, points[:, 2] - view.eye
    safe = np.where(away > 1, away, np.inf)
    column = np.floor(right / safe * FOCAL + WIDTH / 2).astype(int)
    row = np.floor(HEIGHT / 2 - up / safe * RISE).astype(int)
    inside = (away > 1) & (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT)
    depth = view.depth[np.where(inside, row, 0), np.where(inside, column, 0)].astype(float)
    distance = (depth - OFFSET) / SLOPE
    return float((inside & (depth < FAR) & (abs(distance - away) < TOLERANCE + away / 20)).mean())


def overlap(a: View, b: View) -> float:
    """Mean of the shares of each view's surface that the other one sees, 0 to 1."""
    return (share_seen(surface(a), b) + share_seen(surface(b), a)) / 2


def _axes(pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors ahead and to the right."""
    t = np.radians(pose.angle)
    return np.array([np.cos(t), np.sin(t)]), np.array([np.sin(t), -np.cos(t)])
