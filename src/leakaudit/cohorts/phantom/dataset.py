"""The phantom as a dataset: inventory, loading, and raw scans."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from leakaudit.cohorts.cohort import MODALITIES, Cohort, Origin, Sample
from leakaudit.cohorts.dataset import Dataset, Inventory, PatientEntry
from leakaudit.cohorts.phantom import canary
from leakaudit.cohorts.phantom.anatomy import Tissue
from leakaudit.cohorts.phantom.fields import stream
from leakaudit.cohorts.phantom.grid import Grid, Pose
from leakaudit.cohorts.phantom.nuisance import Scan, Scanner
from leakaudit.cohorts.phantom.params import PhantomParams
from leakaudit.cohorts.phantom.patient import Patient, Scene
from leakaudit.cohorts.phantom.signal import Sequences, Tissues
from leakaudit.errors import UserError

__all__ = ["Phantom"]

_T2 = MODALITIES.index("t2")
_KEY = "phantom-{:04d}"
_CANDIDATES = 2000


class Phantom(Dataset[PhantomParams]):
    """Synthetic patients with known anatomy, tumor and identity.

    A patient depends on the seed and its own key only: loading some patients gives the same arrays as loading all. Visits
    share anatomy and, where planted, canary bits; they differ in pose, bias field, texture, noise, gain, timing and growth
    of the tumor. In the row direction images run from front to back, in the column direction along x, volumes upward.
    """

    def __init__(self, params: PhantomParams, seed: int) -> None:
        super().__init__(params, seed)
        self._known_sites: dict[tuple[str, Grid], NDArray[np.float64]] = {}

    def inventory(self) -> Inventory:
        """Return the patients and what each has, from the parameters alone."""
        p = self.params
        records = p.slices if p.dims == 2 else 1
        shape = (p.size, p.size) if p.dims == 2 else (p.depth, p.size, p.size)
        return Inventory(
            patients=tuple(
                PatientEntry(patient=_KEY.format(i), site=f"site-{p.site_of(i)}", visits=p.visits, records=records)
                for i in range(p.patients)
            ),
            modalities=p.modalities,
            shape=shape,
            notes=("synthetic phantom: no real patient",),
        )

    def load(self, patients: Sequence[str], *, visits: Sequence[int] = (0,)) -> Cohort:
        """Return the samples of `patients`, sorted by patient, visit and position.

        Args:
            patients: Patient keys of the inventory.
            visits: Visits to load, from 0; those beyond `PhantomParams.visits` do not exist and are left out.

        Raises:
            UserError: A patient is not in the inventory.
        """
        samples: list[Sample] = []
        images, labels, brains = [], [], []
        canaries: dict[str, NDArray[np.bool_]] = {}
        dots: dict[tuple[str, int, int], NDArray[np.float32]] = {}
        for key in sorted(set(patients)):
            site = f"site-{self.params.site_of(self._index(key))}"
            if self.params.canary:
                canaries[key] = self.bits(key)
            for visit in sorted(v for v in set(visits) if 0 <= v < self.params.visits):
                for grid in self._grids(key):
                    position = grid.position or 0
                    image, scene = self._image(key, visit, grid)
                    images.append(_z_scored(image, scene.brain))
                    labels.append(scene.labels)
                    brains.append(scene.brain)
                    samples.append(Sample(patient=key, site=site, visit=visit, position=position))
                    if self.params.canary:
                        dots[key, visit, position] = self._dots(key, visit, grid)
        return self._cohort(samples, images, labels, brains, canaries, dots)

    def raw(self, patient: str, visit: int = 0) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return a visit as the scanner delivers it.

        Args:
            patient: Patient key of the inventory.
            visit: Visit, from 0.

        Returns:
            Images, shape (samples, modalities, *spatial), whole numbers within int16, an average brain having a mean of 300 to
            3000, exactly 0 outside the brain; and canonical labels, shape (samples, *spatial). There is one sample with dims 3
            and one for each slice with dims 2.

        Raises:
            UserError: There is no such patient or visit.
        """
        if not 0 <= visit < self.params.visits:
            raise UserError(f"The phantom has visits 0 to {self.params.visits - 1} of each patient, not {visit}.")
        pairs = [self._image(patient, visit, grid) for grid in self._grids(patient)]
        return np.stack([image for image, _ in pairs]), np.stack([scene.labels for _, scene in pairs])

    def folding(self, patient: str) -> NDArray[np.float32]:
        """Return a patient's natural identity: weights of the folding field's cosine and sine waves, shape (64, 2)."""
        self._index(patient)
        folds = _patient(self.seed, patient).anatomy.folds
        return np.stack([folds.cosines, folds.sines], axis=1)

    def bits(self, patient: str) -> NDArray[np.bool_]:
        """Return a patient's canary bits, shape (32,): independent fair coins, whether they are planted or not."""
        self._index(patient)
        return stream(self.seed, patient, "canary bits").integers(0, 2, canary.BITS).astype(bool)

    def _index(self, key: str) -> int:
        head, _, number = key.rpartition("-")
        index = int(number) if head == "phantom" and number.isdecimal() else self.params.patients
        if index < self.params.patients:
            if key == _KEY.format(index):
                return index
            hint = f" Did you mean {_KEY.format(index)!r}?"
        else:
            hint = f" It has {_KEY.format(0)} to {_KEY.format(self.params.patients - 1)}."
        raise UserError(f"The phantom has no patient {key!r}.{hint}")

    def _grids(self, key: str) -> list[Grid]:
        """Return the samples of a visit: the volume, or the slice through the tumor and its nearest neighbors."""
        self._index(key)
        p = self.params
        if p.dims == 3:
            return [Grid(p.size, p.depth)]
        seed = _patient(self.seed, key).tumor.foci[0].seed
        center = float(Grid(p.size, p.depth).voxels(seed[:, None])[0, 0])
        near = sorted(range(p.depth), key=lambda i: (abs(i - center), i))[: p.slices]
        return [Grid(p.size, p.depth, position) for position in sorted(near)]

    def _scan(self, key: str, visit: int) -> Scan:
        site = self.params.site_of(self._index(key))
        return _scan(self.seed, key, visit, site, self.params.noise, self.params.bias)

    def _scene(self, key: str, visit: int, grid: Grid) -> Scene:
        patient = _patient(self.seed, key)
        return patient.scene(grid, self._scan(key, visit).pose, 1 + visit * patient.tumor.rate)

    def _image(self, key: str, visit: int, grid: Grid) -> tuple[NDArray[np.float32], Scene]:
        scan, scene = self._scan(key, visit), self._scene(key, visit, grid)
        signal = scan.sequences.signal(_patient(self.seed, key).tissues, self.params.contrast)
        clean = scene.render(signal)
        if self.params.canary:
            weights = canary.dot_weights(grid, self._dots(key, visit, grid), self.bits(key)) * scene.brain
            clean += weights * (signal[:, Tissue.CSF].reshape(-1, *(1,) * clean[0].ndim) - clean)
        rng = stream(self.seed, key, "noise", visit, -1 if grid.position is None else grid.position)
        brightest = signal[:, [Tissue.CSF, Tissue.GM, Tissue.WM]].max(axis=1)
        image = scan.acquire(rng, grid, clean, brightest) * scene.brain
        return image[[MODALITIES.index(m) for m in self.params.modalities]], scene

    def _dots(self, key: str, visit: int, grid: Grid) -> NDArray[np.float32]:
        """Return the voxel coordinates of the canary sites at a visit, shape (32, dims)."""
        if (key, grid) not in self._known_sites:
            self._known_sites[key, grid] = self._sites(key, grid)
        points = self._known_sites[key, grid]
        return grid.voxels(self._scan(key, visit).pose.back(points)).astype(np.float32)

    def _sites(self, key: str, grid: Grid) -> NDArray[np.float64]:
        """Return the canary sites of a sample in the patient's space, shape (3, 32).

        They are the same at every visit, and quiet at every visit: clear of the tumor as it will have grown, in white
        matter, and without anything that looks like a dot.
        """
        rng = stream(self.seed, key, "canary sites", -1 if grid.position is None else grid.position)
        points = grid.points(refine=1).astype(np.float64)
        points += rng.uniform(-0.3, 0.3, points.shape) * np.array(_in_xyz(grid))[:, None]
        looks = [(self._scan(key, visit).pose, self._scene(key, visit, grid)) for visit in range(self.params.visits)]
        cost = np.max([_unfit(scene)[_nearest(grid, pose, points)] for pose, scene in looks], axis=0)
        keep = np.argsort(cost + 0.5 * rng.uniform(size=cost.size))[:_CANDIDATES]
        points, cost = points[:, keep], cost[keep]
        signal = Sequences.nominal().signal(Tissues.nominal())[_T2:]
        for pose, scene in looks:
            at = grid.voxels(pose.back(points))
            like_a_dot = np.abs(canary.amplitudes(scene.render(signal)[0], at, canary.width(grid.spacing)))
            cost = np.maximum(cost, like_a_dot)
        return points[:, canary.choose(rng, grid.voxels(points), cost)]

    def _cohort(
        self, samples: list[Sample], images: list[NDArray[np.float32]], labels: list[NDArray[np.uint8]],
        brains: list[NDArray[np.bool_]], canaries: dict[str, NDArray[np.bool_]],
        dots: dict[tuple[str, int, int], NDArray[np.float32]],
    ) -> Cohort:  # fmt: skip
        shape = self.inventory().shape
        n = len(samples)
        x = np.stack(images) if n else np.zeros((0, len(self.params.modalities), *shape), np.float32)
        y = np.stack(labels) if n else np.zeros((0, *shape), np.uint8)
        brain = np.stack(brains) if n else np.zeros((0, *shape), bool)
        digest = hashlib.sha256(repr((samples, self.params.modalities)).encode())
        for array in (x, y, brain):
            digest.update(np.ascontiguousarray(array).data)
        origin = Origin(dataset="phantom", synthetic=True, public=True, digest=digest.hexdigest(), notes=self.inventory().notes)
        return Cohort(
            images=x, labels=y, brain=brain, samples=tuple(samples), modalities=self.params.modalities,
            origin=origin, canaries=canaries, dots=dots,
            spacing={(s.patient, s.visit): Grid(self.params.size, self.params.depth).spacing[-len(shape) :] for s in samples},
        )  # fmt: skip


@lru_cache(maxsize=512)
def _patient(seed: int, key: str) -> Patient:
    return Patient.draw(seed, key)


@lru_cache(maxsize=512)
def _scan(seed: int, key: str, visit: int, site: int, noise: float, bias: float) -> Scan:
    return Scan.draw(stream(seed, key, "visit", visit), Scanner.of(seed, site), visit, noise, bias)


def _unfit(scene: Scene) -> NDArray[np.float64]:
    """Return what speaks against a dot in each voxel: 0 in healthy white matter, 2 elsewhere, 10 at the brain's border."""
    bad = (scene.share(Tissue.WM) < 0.99) | (scene.labels > 0)
    # Windows that reach out of the brain would see its border instead of the dot.
    deep = ndimage.binary_erosion(scene.brain, np.ones((3,) * scene.brain.ndim), iterations=2)
    return np.where(deep, np.where(bad, 2.0, 0.0), 10.0)


def _nearest(grid: Grid, pose: Pose, points: NDArray[np.float64]) -> tuple[NDArray[np.intp], ...]:
    """Return the index of the voxel nearest to each point of the patient's space."""
    voxels = np.rint(grid.voxels(pose.back(points))).astype(np.intp)
    return tuple(np.clip(voxels, 0, np.array(grid.shape) - 1).T)


def _in_xyz(grid: Grid) -> tuple[float, float, float]:
    """Return the voxel size along x, y and z in mm; 0 along z in a slice, whose sites lie in its plane."""
    plane = grid.spacing[-1]
    return (plane, plane, 0.0 if grid.position is not None else grid.spacing[0])


def _z_scored(image: NDArray[np.float32], brain: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return every channel with mean 0 and standard deviation 1 inside the brain and exactly 0 outside it."""
    inside = image[:, brain].astype(np.float64)
    mean, spread = inside.mean(axis=1, keepdims=True), inside.std(axis=1, keepdims=True)
    result = np.zeros_like(image)
    result[:, brain] = (inside - mean) / np.maximum(spread, 1e-6)
    return result
