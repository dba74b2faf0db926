"""Where a registration starts: where the images lie, or at a rigid move that a trial of both has shown to be better.

A deformation finds several millimetres by itself, so what counts is where it ends. From either start a short, coarse
deformation by mutual information is run. The move is taken where it leaves the deformation a shorter way, and where
MIND descriptors, which had a say neither in the search nor in the trial, find its end no worse: not in the mean, and
not in the region that lost most, because a bone that is lost does not show in the mean where much skin was won. A move
that matches one part at the cost of another fails by the way that it leaves to go; one along the axis of a limb, where
MIND sees little change, is told by it.

Where the mask has several limbs (see `limbs`), each is asked the same on its own afterwards, and what a move of its own
adds is blended into the move of all.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage

from synthct.images.grid import Volume, to_sitk
from synthct.registration.dense import limbs, rigid
from synthct.registration.dense.trial import Trial, better, compared


@dataclass
class Start:
    """A rigid move T(x) = matrix x + offset (3×3; mm, LPS), fixed to moving, that a search proposed; where limbs move
    on their own, `bend` has what they add to it (see `limbs.blend`), and `moving` (bool, on the fixed grid) is what is
    moved, where that is not the whole mask. `told` is for the record: "move_mm" (mean over what is moved) and whether
    the move is "better". Of a trial also, in pairs without and with it, "way_mm", and by which part the MIND distance
    changed ("mind_change") and how much it rose in the region that lost most ("worst_region"). Under "limbs" the same
    of each limb, with its "part" of the mask, "limbs_joined" whether their moves could be, and under "whole" what was
    found of one move for all, where only limbs are moved."""

    matrix: np.ndarray
    offset: np.ndarray
    told: dict
    bend: Volume | None = None
    moving: np.ndarray | None = None

    @property
    def better(self) -> bool:
        """Whether a registration is to begin there."""
        return self.told.get("better", False)

    def at(self, points: np.ndarray) -> np.ndarray:
        """Where the move takes points (N, 3; mm, LPS)."""
        moved = points @ self.matrix.T + self.offset
        if self.bend is not None:
            index = self.bend.grid.index(points).T
            moved += np.stack(
                [ndimage.map_coordinates(one, index, order=1) for one in np.moveaxis(self.bend.array, -1, 0)], -1
            )
        return moved

    def transforms(self) -> list[sitk.Transform]:
        """The move, fixed to moving, the first applied first: where limbs move on their own a displacement field, then
        the affine map."""
        affine = sitk.AffineTransform(3)
        affine.SetMatrix(self.matrix.ravel().tolist())
        affine.SetTranslation(self.offset.tolist())
        if self.bend is None:
            return [affine]
        before = self.bend.array.astype(np.float64) @ np.linalg.inv(self.matrix).T  # of matrix (x + v) + offset
        return [sitk.DisplacementFieldTransform(to_sitk(Volume(before, self.bend.grid))), affine]

    def apart(self, displacement: Volume, inside: np.ndarray) -> float:
        """How far (mm) a displacement field (mm, LPS) ends from where the move does, in the mean over what it moves of
        `inside` (z, y, x); over all of that where it moves nothing of it."""
        moved = inside if self.moving is None else inside & self.moving
        index = np.argwhere(moved if moved.any() else inside)
        points = displacement.grid.points(index)
        return float(np.linalg.norm(points + displacement.array[tuple(index.T)] - self.at(points), axis=1).mean())


STILL = Start(np.eye(3), np.zeros(3), {})


def settled(fixed: Volume, sides, inside: torch.Tensor, rules: dict, device: str, say: Callable[[str], None]) -> Start:
    """The move that the search proposes, and whether it is better by `rules`, the section ``registration.rigid``: of
    the whole mask, and then of each of its limbs, where it has several. `sides` are the prepared images, `inside` the
    mask as floats on the fixed grid; `say` hears what was found."""
    proposed = rigid.find(sides, inside, rules, device)
    if proposed is None:
        say(f"rigid start: none sought, of the mask hardly a point is left at {rules['voxel_mm'][0]:g} mm")
        return STILL
    verdict = Verdict(fixed, sides, rules, device)
    start, line = verdict.of(proposed, STILL, inside)
    say(f"rigid start: {line}")
    start.told |= _mirror(proposed, *rigid.mirrored(sides, inside, rules, device))
    mask = fixed.with_array((inside > 0.5).cpu().numpy().astype(np.uint8))
    parts = limbs.limbs(mask, rules["least_limb"])
    return _of_limbs(start, mask, parts, verdict, say) if parts else start


@dataclass
class Verdict:
    """Whether moves of two images, prepared as `sides`, are worth it by `rules`."""

    fixed: Volume
    sides: list
    rules: dict
    device: str

    @functools.cached_property
    def _trial(self) -> Trial:  # its images are the same for all moves, and most pairs need none
        return Trial(self.fixed, self.sides, self.rules, self.device)

    def of(self, proposed: rigid.Move, rest: Start, inside: torch.Tensor) -> tuple[Start, str]:
        """The move `proposed` for what is `inside`, and whether it is better there than `rest`; the same in words."""
        found = f"a move of {proposed.length:.1f} mm (mean)"
        start = Start(proposed.matrix, proposed.offset, {"move_mm": round(proposed.length, 2), "better": False})
        if proposed.length < self.rules["least_mm"]:
            return start, f"{found}, left to the deformation"
        still, moved = (self._trial.end(one.matrix, one.offset, inside) for one in (rest, start))
        gain, worst = compared(still, moved, self.rules["region_mm"])
        start.told["better"] = better(still, moved, self.rules)
        start.told |= {"way_mm": [round(still.way, 2), round(moved.way, 2)]}
        start.told |= {"mind_change": round(-gain, 4), "worst_region": round(worst, 4)}
        return start, (
            f"{found}, {'better' if start.better else 'not better'}: the deformation's way {still.way:.1f} mm without "
            f"it, {moved.way:.1f} with it, MIND distance {-gain:+.1%}, worst region {worst:+.3f}"
        )


def _of_limbs(
    whole: Start, mask: Volume, parts: list[np.ndarray], verdict: Verdict, say: Callable[[str], None]
) -> Start:
    """`whole`, the move of all of `mask`, with what those of its limbs `parts` add that are better off on their own."""
    rest = whole if whole.better else STILL
    told, moves = [], []
    for number, part in enumerate(parts, 1):
        inside = torch.as_tensor(part, device=verdict.device).float()
        beside = (rest.matrix, rest.offset)
        proposed = rigid.find(verdict.sides, inside, verdict.rules, verdict.device, beside)
        own = STILL
        if proposed:
            own, line = verdict.of(proposed, rest, inside)
            say(f"rigid start, limb {number} of {len(parts)}: {line}")
        told.append({"part": round(float(part.sum() / mask.array.sum()), 3)} | own.told)
        moves.append(own if own.better else rest)
    start = replace(whole, told=whole.told | {"limbs": told})
    if all(one is rest for one in moves):
        return start
    bend = limbs.blend(mask, parts, [(one.matrix, one.offset) for one in moves], (rest.matrix, rest.offset))
    start.told["limbs_joined"] = bend is not None
    if bend is None:
        say("rigid start: the limbs' own moves cannot be joined in one body, left to the deformation")
        return start
    moving = (
        None if whole.better else np.any([part for part, one in zip(parts, moves, strict=True) if one is not rest], 0)
    )
    start = Start(rest.matrix, rest.offset, start.told, bend, moving)
    if not whole.better:  # what was found of one move for all is not what is taken
        trial = {
            key: start.told.pop(key)
            for key in ("move_mm", "way_mm", "mind_change", "worst_region")
            if key in start.told
        }
        start.told |= {"whole": trial, "better": True}
    index = np.argwhere(mask.array > 0 if moving is None else moving)
    points = mask.grid.points(index[:: max(1, len(index) // 100_000)])
    start.told["move_mm"] = round(float(np.linalg.norm(start.at(points) - points, axis=1).mean()), 2)
    return start


def _mirror(proposed: rigid.Move, name: str, information: float) -> dict:
    """For the record: along which direction the mirrored image matches best, and its mutual information over that of
    the image as it is, each moved rigidly to its best."""
    return {"mirror": name, "mirror_ratio": round(information / max(proposed.information, 1e-6), 3)}
