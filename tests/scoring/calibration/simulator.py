"""Simulated leakage of patients, and the shipped rules applied to many simulated audits.

Bootstraps are dear. The shipped interval contains Student's t interval, and so does its combination with repeats. Where the
t bound decides already (the lower bound of a wider interval is lower), the bootstrap is left out; everywhere else the
shipped function is called. Tests hold that containment.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from leakaudit.scoring.controls import ControlResult, negative_control, positive_control
from leakaudit.scoring.intervals import Interval, leakage_interval
from leakaudit.scoring.policy import Policy
from leakaudit.scoring.results import EndpointResult, PairingResult, Verdict
from leakaudit.scoring.verdicts import pairing_verdict

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...], float], Array]

PATIENT_SD = 0.06
"""Spread of patients whose leakage is normal or a shifted exponential."""
OWN_SD = 0.03
"""Spread of one patient's leakage between trainings, beyond what moves all patients."""
SEED_SD = 0.02
"""Spread of the mean leakage between trainings."""
BASE, BASE_SD = 0.01, 0.03
"""Leakage of the many, where few patients are almost fully recovered."""


def normal(rng: np.random.Generator, shape: tuple[int, ...], mean: float, sd: float = PATIENT_SD) -> Array:
    return rng.normal(mean, sd, shape)


def skewed(rng: np.random.Generator, shape: tuple[int, ...], mean: float, sd: float = PATIENT_SD) -> Array:
    """A shifted exponential: most patients below the mean, a few far above."""
    return mean - sd + rng.exponential(sd, shape)


def rare(rng: np.random.Generator, shape: tuple[int, ...], mean: float) -> Array:
    """So many patients at .6 to 1 that the mean is `mean`; the others hardly leak."""
    few = (mean - BASE) / (0.8 - BASE)
    return np.where(rng.uniform(size=shape) < few, rng.uniform(0.6, 1.0, shape), rng.normal(BASE, BASE_SD, shape))


FAMILIES: dict[str, Draw] = {"normal": normal, "skewed": skewed, "rare": rare}


def trainings(rng: np.random.Generator, patients: Array, repeats: int, seed_sd: float = SEED_SD) -> Array:
    """Return leakage in several trainings, (..., repeats, n), of patients (..., n)."""
    *outer, n = patients.shape
    own = rng.normal(0, OWN_SD, (*outer, repeats, n))
    return np.asarray(patients[..., None, :] + own + rng.normal(0, seed_sd, (*outer, repeats, 1)))


def audits(rng: np.random.Generator, count: int, family: str, mean: float, n: int, repeats: int, seed_sd: float = SEED_SD) -> Array:
    """Return `count` audits of one true mean leakage, (count, repeats, n)."""
    return trainings(rng, FAMILIES[family](rng, (count, n), mean), repeats, seed_sd)


def t_bounds(values: Array, level: float = 0.95) -> tuple[Array, Array]:
    """Return Student's t bounds over patients, widened by the repeats, of values (..., repeats, n)."""
    repeats, n = values.shape[-2:]
    patients, means = values.mean(axis=-2), values.mean(axis=-1)
    center = patients.mean(axis=-1)
    reach = stats.t.ppf((1 + level) / 2, n - 1) * patients.std(axis=-1, ddof=1) / math.sqrt(n)
    if repeats > 1:
        extra = stats.t.ppf((1 + level) / 2, repeats - 1) * means.std(axis=-1, ddof=1) / math.sqrt(repeats)
        reach = np.hypot(reach, extra)
    return center - reach, center + reach


def deciding_bounds(values: Array, limit: float | Array, level: float = 0.95) -> tuple[Array, Array]:
    """Return bounds of values (audits, repeats, n) that lie on the same side of `limit` as the shipped ones."""
    low, high = t_bounds(values, level)
    for i in np.flatnonzero((high <= limit) | (low > limit)):
        found = leakage_interval(values[i], level=level, seed=int(i))
        low[i], high[i] = found.low, found.high
    return low, high


def covered(values: Array, truth: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return whether the shipped 95 % interval holds the truth, and whether it lies below it."""
    low, high = deciding_bounds(values, truth)
    # A value exactly at a bound does not occur.
    return (low <= truth) & (truth <= high), high < truth


STRONG = positive_control(0.8, Interval(0.7, 0.9, "given"), 0.10)
QUIET = negative_control(0.0, Interval(-0.05, 0.04, "given", 0.999))


def verdicts(
    values: Array, policy: Policy, *, fail_level: float = 0.95, pass_level: float = 0.95, positive: ControlResult = STRONG
) -> list[Verdict]:
    """Judge audits (count, repeats, n) of an adaptive attack on activations, each by the whole rule for pairings.

    Args:
        values: Leakage of each patient in each training.
        policy: Limits.
        fail_level: Level of the lower bound, corrected for the endpoints of the defense.
        pass_level: Level of the upper bound, corrected for the candidate defenses.
        positive: Its positive control; the control on shuffled messages is passed.
    """
    limit = policy.leakage_max.value
    low, high = deciding_bounds(values, limit, fail_level)
    if pass_level != fail_level:
        high = deciding_bounds(values, limit, pass_level)[1]
    bounds = zip(values, low.tolist(), high.tolist(), strict=True)
    return [judged(table, lower, upper, policy, positive) for table, lower, upper in bounds]


def statuses(values: Array, policy: Policy, **levels: float) -> NDArray[np.str_]:
    """Return the words of `verdicts`."""
    return np.array([verdict.status for verdict in verdicts(values, policy, **levels)])


def judged(values: Array, low: float, high: float, policy: Policy, positive: ControlResult) -> Verdict:
    """Judge one audit (repeats, n) whose bounds are known."""
    patients = values.mean(axis=0)
    endpoint = EndpointResult(
        name="fidelity", channel="activation", family="reconstruction", value=float(patients.mean()),
        interval=Interval(low, high, "simulated"), fail_low=low, pass_high=high, per_patient=tuple(patients.tolist()),
        patients=len(patients), repeats=len(values), positive=positive, negative=QUIET,
    )  # fmt: skip
    pairing = PairingResult(protocol="split", defense="noise", attack="inverter", adaptive=True, endpoints=(endpoint,))
    return pairing_verdict(pairing, policy)


def early(repeats: int) -> Policy:
    """Return the policy that the design figures were simulated with: 30 patients suffice to pass, and so many trainings."""
    return Policy.model_validate({"min_patients": 30, "tail_share": 0.12, "min_repeats": repeats})


def percentile_high(rng: np.random.Generator, values: Array, resamples: int = 2000) -> Array:
    """Return the upper bound of the plain percentile bootstrap of values (count, n): what the rule replaces."""
    weights = _weights(rng, values.shape[1], resamples)
    return np.concatenate([np.quantile(part @ weights, 0.975, axis=1) for part in _parts(values)])


def bootstrap_t(rng: np.random.Generator, values: Array, resamples: int = 2000) -> tuple[Array, Array]:
    """Return the bounds of the bootstrap-t alone of values (count, n): one half of the rule."""
    n = values.shape[1]
    weights = _weights(rng, n, resamples)
    center, se = values.mean(axis=1), values.std(axis=1, ddof=1) / math.sqrt(n)
    found = []
    for part in _parts(values - center[:, None]):
        mean = part @ weights
        error = np.sqrt(np.maximum((part**2) @ weights - mean**2, 0) / (n - 1))
        usable = error > 1e-7 * np.abs(part).max(axis=1, keepdims=True)
        t = np.divide(mean, error, out=np.full(mean.shape, np.nan), where=usable)
        found.append(np.nanquantile(t, [0.025, 0.975], axis=1) if np.isnan(t).any() else np.quantile(t, [0.025, 0.975], axis=1))
    low, high = np.concatenate(found, axis=1)
    return center - high * se, center - low * se


def _weights(rng: np.random.Generator, n: int, resamples: int) -> Array:
    return rng.multinomial(n, np.full(n, 1 / n), resamples).T / n


def _parts(values: Array) -> list[Array]:
    return np.array_split(values, max(1, len(values) // 500))
