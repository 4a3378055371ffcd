"""DP-SGD at one seat: the network under per-sample gradients, the noised optimizer, and the ledger of its steps."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import torch

from leakaudit.defenses import Defense, Guarantee, Local
from leakaudit.errors import UserError
from leakaudit.threats import Channel
from leakaudit_dp.accounting import accountant_name, conversion, noise_for, spent
from leakaudit_dp.checking import check, mend
from leakaudit_dp.library import GradSampleModule
from leakaudit_dp.optimizer import UnitOptimizer
from leakaudit_dp.params import DpSgdParams

__all__ = ["DpSgd"]

_ALWAYS = (
    "the numbers of patients and records, from which rates, step counts and weights follow, are public",
    "the random numbers are unpredictable (a pseudo-random generator in floating point, not a cryptographic one)",
    "settings were not tuned on these patients, or their tuning is counted elsewhere",
    "no layer and no loss mixes the samples of a batch",
)
_ELSEWHERE = {
    "trainer": (),
    "site": ("a patient's images are at this site only; at several sites the epsilons compose",),
    "client": (
        "nothing that reaches this client tells of a patient except the gradients of that patient's own rows: the server's and "
        "the other clients' weights, which shape the gradients of everybody else, are frozen or protected and counted too",
        "every client that holds a modality of the patient releases a model of its own, and their epsilons compose",
    ),
}


@dataclass(frozen=True, slots=True)
class _Ledger:
    """What the accountant needs: fixed at the start, but for the steps that the optimizer counts."""

    optimizer: UnitOptimizer
    noise: float
    rate: float


class DpSgd(Defense[DpSgdParams]):
    """DP-SGD (Abadi et al. 2016) around the local training of one seat.

    One defense lives as long as its seat, so the ledger runs over all rounds and is never restarted.
    """

    _ledger: _Ledger | None = None

    def train(self, local: Local) -> Local:
        """Return the training with per-unit clipping and noise.

        Raises:
            UserError: The network, the sampling or the accountant does not allow it; the message says which layer or
                setting.
        """
        self._check_setting(local)
        for name in mend(local.module):
            self.seat.log.info("dp-sgd: layer %r works in place, which per-sample gradients cannot pass; switched off", name)
        # True of every first layer, and nothing that anybody should change.
        warnings.filterwarnings("ignore", message="Full backward hook is firing when gradients are computed")
        check(local.module, local.shape)
        noise = self._noise(local)
        # Asked now, so that an accountant that cannot answer stops the training before it begins.
        spent(self.params.accountant, noise=noise, rate=local.rate, steps=local.steps, delta=self.params.delta)
        # Hooks, never Opacus' ghost clipping: in split learning the gradient comes from the server, no loss of ours runs
        # backward, and ghost clipping then clips nothing without saying so.
        module = GradSampleModule(local.module, loss_reduction="mean", strict=True)
        assert isinstance(local.optimizer, torch.optim.Optimizer)
        optimizer = UnitOptimizer(
            local.optimizer, module, local, noise=noise, clip=self.params.clip,
            generator=self.seat.rng("dp-noise"), log=self.seat.log,
        )  # fmt: skip
        self._ledger = _Ledger(optimizer, noise, local.rate)
        return replace(local, module=module, optimizer=optimizer, takes_canaries=True)

    def guarantee(self) -> Guarantee | None:
        """Return the claim for all steps taken so far; None where no honest claim can be made."""
        ledger, params = self._ledger, self.params
        releases = self._releases()
        if ledger is None or not releases:
            return None
        steps = ledger.optimizer.steps
        epsilon = spent(params.accountant, noise=ledger.noise, rate=ledger.rate, steps=steps, delta=params.delta)
        if epsilon == float("inf"):
            return None
        return Guarantee(
            mechanism=f"DP-SGD: gradient of each {params.unit} clipped to {params.clip:g}, Gaussian noise "
            f"{ledger.noise:.4g} times that, {steps} steps",
            unit=params.unit,
            neighbors="add-or-remove",
            releases=releases,
            epsilon=epsilon,
            delta=params.delta,
            accountant=accountant_name(params.accountant),
            conversion=conversion(params.accountant),
            sampling=f"Poisson over {params.unit}s, rate {ledger.rate:.4g}",
            sampling_assumed=f"Poisson over {params.unit}s: each enters a batch by a coin toss of its own",
            assumes=(*_ALWAYS, *_ELSEWHERE[self.seat.role]),
        )

    def _releases(self) -> tuple[tuple[Channel, str], ...]:
        # What others compute from a release alone (the average of updates, predictions of the model) is covered with it.
        match self.seat.role:
            case "trainer":
                return (("model", self.seat.id), ("output", "model"))
            case "site":
                return (("update", self.seat.id), ("model", "aggregator"), ("output", "model"))
            case "client" if self.params.conditional_claim:
                return (("model", self.seat.id),)
            case _:
                return ()

    def _check_setting(self, local: Local) -> None:
        params = self.params
        if not isinstance(local.optimizer, torch.optim.Optimizer) or isinstance(local.module, GradSampleModule):
            raise UserError(
                f"dp-sgd at {self.seat.id!r} must be the first defense of its chain that changes the optimizer, and may be "
                "there once."
            )
        if local.sampling != "poisson" or local.unit != params.unit:
            raise UserError(
                f"dp-sgd at {self.seat.id!r} protects a {params.unit} and needs batches drawn by Poisson sampling of "
                f"{params.unit}s; they are drawn by {local.sampling} of {local.unit}s."
            )
        units = round(local.expected_units / local.rate)
        if params.delta * units >= 1:
            raise UserError(
                f"dp-sgd: delta {params.delta:g} is not below 1 / {units}, the number of {params.unit}s at {self.seat.id!r}: "
                f"publishing one {params.unit} in full would satisfy it. Use at most {0.1 / units:.1g}."
            )

    def _noise(self, local: Local) -> float:
        params = self.params
        if params.noise_multiplier is not None:
            return params.noise_multiplier
        assert params.target_epsilon is not None
        return noise_for(params.accountant, epsilon=params.target_epsilon, rate=local.rate, steps=local.steps, delta=params.delta)
