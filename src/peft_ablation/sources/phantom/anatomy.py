"""Drawing chest phantoms: anatomy and the 14 findings, in coordinates that know no image size.

x runs from 0 (left edge of the picture, the patient's right) to 1, y from 0 (top) to 1. Densities
run from 0 (air, black) to 1 (metal, white). The phantom is a cartoon for testing and teaching; it
stands in for no patient and supports no clinical conclusion.
"""

from dataclasses import dataclass, fields
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from peft_ablation.sources.mimic.labels import LABELS, Mention

Floats = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int8]
Style = Literal["radiograph", "schematic"]

NOT_MENTIONED: Final = -128
"""Stands for an empty cell in an int8 label matrix."""

TRAITS: Final = ("side", "size", "across", "along", "strength")
"""What varies from image to image in each finding, as uniform numbers in [0, 1)."""

BODY: Final = len(LABELS)
"""Row of the traits that vary the body itself."""

SHINE: Final = len(LABELS) + 1
"""Row of the traits that vary exposure."""

TRAIT_SHAPE: Final = (len(LABELS) + 2, len(TRAITS))
"""Shape of one image's traits."""

_ROW: Final = {label: row for row, label in enumerate(LABELS)}
_SIDE, _SIZE, _ACROSS, _ALONG, _STRENGTH = range(len(TRAITS))
_BATCH: Final = 64


@dataclass(frozen=True)
class _Look:
    """Densities and camera of a style."""

    body: float
    lung: float
    heart: float
    ribs: float
    shading: float
    noise: tuple[float, float]
    gain: tuple[float, float]
    offset: tuple[float, float]


_LOOKS: Final[dict[Style, _Look]] = {
    "radiograph": _Look(0.58, 0.20, 0.66, 0.07, 0.10, (0.02, 0.05), (0.62, 0.92), (0.0, 0.08)),
    "schematic": _Look(0.62, 0.18, 0.70, 0.04, 0.0, (0.0, 0.0), (0.96, 1.0), (0.0, 0.0)),
}


@dataclass(frozen=True)
class _Grid:
    """Pixel centres: `x` is (1, 1, size), `y` is (1, size, 1)."""

    x: Floats
    y: Floats

    @classmethod
    def of(cls, size: int) -> "_Grid":
        centres = ((np.arange(size) + 0.5) / size).astype(np.float32)
        return cls(centres[None, None, :], centres[None, :, None])


def _column(values: npt.ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float32)[:, None, None]


def _between(low: float, high: float, uniform: Floats) -> Floats:
    return (low + (high - low) * uniform).astype(np.float32)


def _ramp(distance: Floats, width: float) -> Floats:
    """Return 1 where `distance` is well above 0, 0 well below, a linear edge of `width` between."""
    edge: Floats = np.clip(distance / width + 0.5, 0, 1)
    return edge


@dataclass(frozen=True)
class _Chest:
    """Shapes of N bodies; each array is (N, 1, 1), `lung_x` one for each side of the picture."""

    grid: _Grid
    lung_x: tuple[Floats, Floats]
    lung_y: Floats
    lung_rx: Floats
    lung_ry: Floats
    floor: Floats
    heart_x: Floats
    heart_rx: Floats
    mediastinum: Floats
    depth: Floats

    def rows(self, rows: npt.NDArray[np.intp]) -> "_Chest":
        """Return the chests of some rows."""
        left, right = self.lung_x
        rest = {field.name: getattr(self, field.name) for field in fields(self)[2:]}
        return _Chest(
            self.grid,
            (left[rows], right[rows]),
            **{name: values[rows] for name, values in rest.items()},
        )

    def ellipse(self, x: Floats, y: Floats, rx: Floats, ry: Floats, edge: float) -> Floats:
        """Return soft discs (N, H, W)."""
        return _ramp(1 - ((self.grid.x - x) / rx) ** 2 - ((self.grid.y - y) / ry) ** 2, edge)

    def lung(self, side: int) -> Floats:
        """Return the mask of one lung, cut by its diaphragm dome."""
        x = self.lung_x[side]
        dome = self.floor + 0.9 * (self.grid.x - x) ** 2 * 2.2
        return self.ellipse(x, self.lung_y, self.lung_rx, self.lung_ry, 0.25) * _ramp(
            dome - self.grid.y, 0.03
        )

    def pick(self, side: Floats) -> Floats:
        """Return the lung's x for sides of 0 or 1, (N, 1, 1)."""
        return np.where(side < 0.5, *self.lung_x)

    def stroke(self, x0: Floats, y0: Floats, x1: Floats, y1: Floats, width: float) -> Floats:
        """Return straight strokes (N, H, W) of a full width."""
        dx, dy = x1 - x0, y1 - y0
        along = ((self.grid.x - x0) * dx + (self.grid.y - y0) * dy) / (dx * dx + dy * dy)
        along = np.clip(along, 0, 1)
        apart = np.sqrt((self.grid.x - x0 - along * dx) ** 2 + (self.grid.y - y0 - along * dy) ** 2)
        return _ramp(width / 2 - apart, 0.012)

    def blob(self, x: Floats, y: Floats, sx: Floats, sy: Floats) -> Floats:
        """Return Gaussian clouds (N, H, W)."""
        across = np.exp(-(((self.grid.x - x) / sx) ** 2)).astype(np.float32)
        down = np.exp(-(((self.grid.y - y) / sy) ** 2)).astype(np.float32)
        cloud: Floats = across * down
        return cloud


def _chest(labels: Labels, traits: Floats, lateral: npt.NDArray[np.bool_], size: int) -> _Chest:
    """Shape the bodies; heart, mediastinum and breath follow their findings."""
    body = traits[:, BODY]
    strength = _strengths(labels, traits)
    normal = _column(strength[:, _ROW["No_Finding"]] > 0)
    side = _column(lateral)
    shift = _column(_between(-0.02, 0.02, body[:, 0]))
    breath = _column(_between(-0.015, 0.015, body[:, 1]))
    grown = _column(strength[:, _ROW["Cardiomegaly"]])
    wide = _column(strength[:, _ROW["Enlarged_Cardiomediastinum"]])
    centre = 0.5 + shift
    return _Chest(
        grid=_Grid.of(size),
        lung_x=(
            np.where(side > 0, centre - 0.02, centre - 0.205),
            np.where(side > 0, centre - 0.02, centre + 0.205),
        ),
        lung_y=0.50 + 0 * shift,
        lung_rx=0.165 + 0.09 * side + _column(_between(-0.008, 0.008, body[:, 2])) + 0.01 * normal,
        lung_ry=0.36 + 0 * shift,
        floor=0.70 + breath + 0.07 * normal,
        heart_x=centre + 0.035 + 0.025 * grown - 0.12 * side,
        heart_rx=0.11 + _column(_between(-0.006, 0.006, body[:, 3])) + 0.115 * grown,
        mediastinum=0.045 + 0.085 * wide,
        depth=side,
    )


def _strengths(labels: Labels, traits: Floats) -> Floats:
    """Return how strongly each finding shows, (N, 14): faint where only suspected."""
    vary = traits[:, : len(LABELS), _STRENGTH]
    return np.where(
        labels == Mention.PRESENT,
        _between(0.85, 1.1, vary),
        np.where(labels == Mention.SUSPECTED, _between(0.40, 0.52, vary), 0),
    ).astype(np.float32)


def _anatomy(chest: _Chest, labels: Labels, look: _Look) -> Floats:
    """Return the density of the bodies without their local findings."""
    grid = chest.grid
    zero = 0 * chest.lung_y
    flank = ((grid.x - 0.5) / (0.47 - 0.06 * chest.depth)) ** 2
    torso = _ramp(1 - flank - ((grid.y - 0.75) / 0.63) ** 4, 0.12)
    neck = _ramp(0.11 - np.abs(grid.x - 0.5), 0.03) * _ramp(0.3 - grid.y, 0.05)
    density = look.body * np.maximum(torso, neck)
    lungs = np.maximum(chest.lung(0), chest.lung(1))
    normal = _column(labels[:, _ROW["No_Finding"]] == Mention.PRESENT)
    air = look.lung * (1 - 0.55 * normal)
    density = density + lungs * (air - density)
    # Ribs bow downwards to the sides; they show over lungs and soft tissue alike.
    bow = (grid.y + 1.1 * np.abs(grid.x - 0.5) ** 2) / 0.088
    ribs = np.clip(np.cos(2 * np.pi * bow) * 2 - 0.6, 0, 1) * torso * (grid.y < 0.78)
    density = density + look.ribs * ribs
    upper = _ramp(chest.mediastinum - np.abs(grid.x - chest.heart_x + 0.035), 0.03) * _ramp(
        0.62 - grid.y, 0.06
    )
    heart = chest.ellipse(
        chest.heart_x, 0.615 + zero, chest.heart_rx, 0.105 + 0.12 * chest.heart_rx, 0.15
    )
    density = density + np.maximum(upper, heart) * (look.heart - density) * torso
    body: Floats = np.maximum(density, 0)
    return body


def _towards(image: Floats, mask: Floats, strength: Floats, density: float) -> None:
    """Blend `image` in place towards a density where `mask` is set."""
    image += mask * np.minimum(strength, 1) * (density - image)


def _atelectasis(image: Floats, chest: _Chest, s: Floats, t: Floats) -> None:
    """Plate-like bands across the lower zone of one lung."""
    x = chest.pick(_column(t[:, _SIDE]))
    y = _column(_between(0.57, 0.62, t[:, _ALONG]))
    half = _column(_between(0.10, 0.13, t[:, _SIZE]))
    tilt = _column(_between(-0.02, 0.02, t[:, _ACROSS]))
    for drop in (0.0, 0.058):
        _towards(
            image,
            chest.stroke(x - half, y + drop - tilt, x + half, y + drop + tilt, 0.028),
            s,
            0.86,
        )


def _consolidation(image: Floats, chest: _Chest, s: Floats, t: Floats) -> None:
    """A dense upper lobe with a sharp lower border, the fissure."""
    side = _column(t[:, _SIDE])
    x = chest.pick(side)
    fissure = _column(_between(0.36, 0.42, t[:, _ALONG]))
    lung = np.where(side < 0.5, chest.lung(0), chest.lung(1))
    slope = _column(_between(-0.15, 0.15, t[:, _ACROSS])) * (chest.grid.x - x)
    _towards(image, lung * _ramp(fissure + slope - chest.grid.y, 0.015), s, 0.80)


def _edema(image: Floats, chest: _Chest, s: Floats, t: Floats) -> None:
    """Bat-wing haze on both sides of the hila."""
    y = _column(_between(0.44, 0.50, t[:, _ALONG]))
    reach = _column(_between(0.085, 0.105, t[:, _SIZE]))
    middle = (chest.lung_x[0] + chest.lung_x[1]) / 2
    for direction in (-1, 1):
        wing = chest.blob(middle + direction * 0.135, y, reach, 0.155 + 0 * y)
        _towards(image, wing, 0.85 * s, 0.78)


def _fracture(image: Floats, chest: _Chest, s: Floats, t: Floats) -> None:
    """A broken, displaced rib at the side wall: two bright ends and the dark gap between them."""
    side = _column(t[:, _SIDE] >= 0.5)
    sign = np.where(side > 0, 1.0, -1.0).astype(np.float32)
    x = chest.pick(side) + sign * 0.125
    y = _column(_between(0.34, 0.56, t[:, _ALONG]))
    step = _column(_between(0.045, 0.06, t[:, _SIZE]))
    _towards(image, chest.blob(x, y, 0.035 + 0 * y, 0.035 + 0 * y), 1.2 * s, 0.0)
    inner = chest.stroke(x - sign * 0.10, y - 0.035, x - sign * 0.012, y - step / 2, 0.032)
    outer = chest.stroke(x + sign * 0.012, y + step / 2, x + sign * 0.09, y + 0.06, 0.032)
    _towards(image, np.maximum(inner, outer), s, 0.95)


def _lung_lesion(image: Floats, chest: _Chest, s: Floats, t: Floats) -> None:
    """A round nodule with a sharp rim."""
    x = chest.pick(_column(t[:, _SIDE])) + _column(_between(-0.05, 0.05, t[:, _ACROSS]))
    y = _column(_between(0.30, 0.56, t[:, _ALONG]))
    radius = _column(_between(0.045, 0.06, t[:, _SIZE]))
    _towards(image, chest.ellipse(x, y, radius, radius, 0.25), s, 0.88)


def _lung_opacity(image: Floats, chest: _Chest, s: Floats, t: Floats) -> None:
    """One large cloud without borders."""
    x = chest.pick(_column(t[:, _SIDE])) + _column(_between(-0.02, 0.02, t[:, _ACROSS]))
    y = _column(_between(0.44, 0.54, t[:, _ALONG]))
    spread = _column(_between(0.10, 0.12, t[:, _SIZE]))
    _towards(image, chest.blob(x, y, spread, spread), 0.9 * s, 0.66)


def _pleural_effusion(image: Floats, chest: _Chest, s: Floats, t: Floats) -> None:
    """Fluid at the base with a meniscus that climbs the side wall; one side or both."""
    u = t[:, _SIDE]
    level = 0.64 - 0.09 * _column(t[:, _SIZE]) * np.minimum(s, 1)
    for side, sign in ((0, -1.0), (1, 1.0)):
        on = _column((u < 0.4) if side == 0 else ((u >= 0.4) & (u < 0.8))) + _column(u >= 0.8)
        x = chest.lung_x[side]
        outward = np.clip(sign * (chest.grid.x - x) + 0.10, 0, 0.4)
        meniscus = level - 2.2 * outward**2
        cavity = chest.ellipse(x, 0.50 + 0 * level, chest.lung_rx, 0.36 + 0 * level, 0.25)
        fluid = cavity * _ramp(chest.grid.y - meniscus, 0.025)
        _towards(image, fluid, np.minimum(s, 1) * on, 0.84)


def _pleural_other(image: Floats, chest: _Chest, s: Floats, t: Floats) -> None:
    """A thick calcified rim along the outer lung border."""
    side = _column(t[:, _SIDE] >= 0.5)
    sign = np.where(side > 0, 1.0, -1.0).astype(np.float32)
    x = chest.pick(side)
    rim = ((chest.grid.x - x) / (chest.lung_rx - 0.012)) ** 2 + (
        (chest.grid.y - chest.lung_y) / chest.lung_ry
    ) ** 2
    thick = _column(_between(0.34, 0.42, t[:, _SIZE]))
    top = _column(_between(0.26, 0.32, t[:, _ALONG]))
    outer = _ramp(sign * (chest.grid.x - x) - 0.05, 0.03)
    span = _ramp(chest.grid.y - top, 0.02) * _ramp(top + 0.30 - chest.grid.y, 0.02)
    _towards(image, _ramp(thick / 2 - np.abs(rim - 1), 0.08) * outer * span, s, 0.97)


def _pneumonia(image: Floats, chest: _Chest, s: Floats, t: Floats) -> None:
    """Patchy spots crowded in one lower zone."""
    x = chest.pick(_column(t[:, _SIDE]))
    y = _column(_between(0.52, 0.58, t[:, _ALONG]))
    turn = 2 * np.pi * t[:, _ACROSS]
    gap = _between(0.062, 0.075, t[:, _SIZE])
    spot = np.full_like(y, 0.024)
    for k in range(7):
        angle = turn + 2.4 * k  # the golden angle: crowded, yet in no pattern
        reach = gap * np.float32(np.sqrt((k + 0.4) / 4))
        _towards(
            image,
            chest.blob(
                x + _column(reach * np.cos(angle)), y + _column(reach * np.sin(angle)), spot, spot
            ),
            s,
            0.85,
        )


def _pneumothorax(image: Floats, chest: _Chest, s: Floats, t: Floats) -> None:
    """Black air without lung markings around a collapsed lung, and its thin bright border."""
    side = _column(t[:, _SIDE] >= 0.5)
    x = chest.pick(side)
    sign = np.where(side > 0, 1.0, -1.0).astype(np.float32)
    lung = np.where(side > 0, chest.lung(1), chest.lung(0))
    shrink = _column(_between(0.62, 0.72, t[:, _SIZE]))
    hilum = x - sign * 0.07
    edge = 1 - np.sqrt(
        ((chest.grid.x - hilum) / (shrink * chest.lung_rx * 1.15)) ** 2
        + ((chest.grid.y - 0.54) / (shrink * chest.lung_ry)) ** 2
    )
    _towards(image, lung * _ramp(-edge, 0.06), s, 0.0)
    _towards(image, lung * _ramp(0.10 - np.abs(edge), 0.06), s, 0.80)


def _support_devices(image: Floats, chest: _Chest, s: Floats, t: Floats) -> None:
    """A pacemaker box with its lead to the heart, or a catheter with electrodes; whitest of all."""
    u = t[:, _SIDE]
    sign = np.where(_column(u) < 0.5, -1.0, 1.0).astype(np.float32)
    x = 0.5 + sign * _column(_between(0.23, 0.29, t[:, _ACROSS]))
    y = _column(_between(0.24, 0.29, t[:, _ALONG]))
    half = _column(_between(0.045, 0.06, t[:, _SIZE]))
    box = _ramp(half - np.abs(chest.grid.x - x), 0.015) * _ramp(
        0.8 * half - np.abs(chest.grid.y - y), 0.015
    )
    down = 0.5 + sign * 0.03
    lead = np.maximum(
        chest.stroke(x, y, down, 0.27 + 0 * y, 0.026),
        np.maximum(
            chest.stroke(down, 0.27 + 0 * y, down, 0.52 + 0 * y, 0.026),
            chest.stroke(down, 0.52 + 0 * y, chest.heart_x + 0.03, 0.66 + 0 * y, 0.026),
        ),
    )
    _towards(image, np.maximum(box, lead), s, 1.0)


_DRAW: Final = {
    "Edema": _edema,
    "Lung_Opacity": _lung_opacity,
    "Pneumonia": _pneumonia,
    "Consolidation": _consolidation,
    "Atelectasis": _atelectasis,
    "Lung_Lesion": _lung_lesion,
    "Pleural_Effusion": _pleural_effusion,
    "Pneumothorax": _pneumothorax,
    "Pleural_Other": _pleural_other,
    "Fracture": _fracture,
    "Support_Devices": _support_devices,
}
"""Local findings from the deepest layer to the top. The others shape the body: see `_chest`."""


def draw_traits(rng: np.random.Generator, count: int) -> Floats:
    """Return the traits of `count` images, (count, 16, 5) uniform in [0, 1)."""
    return rng.random((count, *TRAIT_SHAPE), dtype=np.float32)


def render(
    labels: Labels,
    rng: np.random.Generator,
    size: int,
    style: Style = "radiograph",
    *,
    lateral: npt.NDArray[np.bool_] | None = None,
    traits: Floats | None = None,
) -> npt.NDArray[np.uint8]:
    """Render N chests as uint8 (N, size, size).

    `labels` is int8 (N, 14) in the order of `labels.LABELS`: 1 shows, -1 shows faintly, 0 and
    `NOT_MENTIONED` change nothing. `lateral` (N,) turns a body to its side. `traits` (N, 16, 5)
    places and sizes the findings; they are drawn from `rng` unless given. The same labels, state
    of `rng`, size and style give the same pixels, and one image's findings change no other image.
    """
    count = len(labels)
    traits = draw_traits(rng, count) if traits is None else traits
    turned = np.zeros(count, dtype=np.bool_) if lateral is None else lateral
    look = _LOOKS[style]
    pixels = np.empty((count, size, size), dtype=np.uint8)
    for start in range(0, count, _BATCH):
        rows = slice(start, start + _BATCH)
        image = _densities(labels[rows], traits[rows], turned[rows], size, look)
        noise = rng.standard_normal(image.shape, dtype=np.float32) if look.noise[1] else None
        pixels[rows] = _expose(image, traits[rows], noise, look)
    return pixels


def _densities(
    labels: Labels, traits: Floats, lateral: npt.NDArray[np.bool_], size: int, look: _Look
) -> Floats:
    chest = _chest(labels, traits, lateral, size)
    image = _anatomy(chest, labels, look)
    strength = _strengths(labels, traits)
    for label, draw in _DRAW.items():
        row = _ROW[label]
        (shown,) = np.nonzero(strength[:, row])
        if len(shown):
            part = image[shown]
            draw(part, chest.rows(shown), _column(strength[shown, row]), traits[shown, row])
            image[shown] = part
    return image


def _expose(
    image: Floats, traits: Floats, noise: Floats | None, look: _Look
) -> npt.NDArray[np.uint8]:
    """Return what the detector shows: gain, offset, shading and noise vary with the image."""
    shine = traits[:, SHINE]
    size = image.shape[-1]
    exposed = image * _column(_between(*look.gain, shine[:, 0])) + _column(
        _between(*look.offset, shine[:, 1])
    )
    if look.shading:
        slope = np.linspace(-0.5, 0.5, size, dtype=np.float32)
        tilt = look.shading * (shine[:, 2:4] - 0.5)
        exposed *= (
            1
            + _column(tilt[:, 0]) * slope[None, None, :]
            + _column(tilt[:, 1]) * slope[None, :, None]
        )
    if noise is not None:
        exposed += noise * _column(_between(*look.noise, shine[:, 4]))
    return (np.clip(exposed, 0, 1) * 255 + 0.5).astype(np.uint8)
