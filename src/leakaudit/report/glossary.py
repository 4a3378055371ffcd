"""The glossary: every term that the page uses, for a reader who knows hospitals and not deep learning."""

from __future__ import annotations

from functools import lru_cache

from markupsafe import Markup, escape

__all__ = ["GLOSSARY", "term"]

GLOSSARY: dict[str, tuple[str, str]] = {
    "accountant": ("accountant", "The calculation that adds up what every step and round of a training costs in epsilon."),
    "adaptive": ("adaptive", "The attack knows the defense and is built against it. Only such an attack can support a PASS."),
    "adversary": ("adversary", "Whoever tries to learn about patients: here a partner in the collaboration, or an outsider."),
    "alarm": ("alarm", "A defense noticed tampering and stopped the training."),
    "anchor": ("anchor, full recovery", "The score of full recovery. Leakage 1 means the attack reached it."),
    "auc": ("AUC", "How well members and non-members of the training set are told apart: 0.5 is guessing, 1 is certainty."),
    "auxiliary": ("auxiliary patients", "Other patients whose images the adversary may own and practice on."),
    "balanced-accuracy": ("balanced accuracy", "Mean of the shares of members and of non-members that were called correctly."),
    "baseline": ("baseline", "One training of one protocol with one defense; or a reference value to compare with."),
    "blind-baseline": (
        "blind baseline, confounded",
        "What can be told from a patient\u2019s hospital and image intensities alone, without any model. Where that works, a "
        "membership number is confounded: it may measure the difference between hospitals.",
    ),
    "bonferroni": (
        "Bonferroni",
        "Where many questions are asked at once, each must be answered more strictly: the error is shared out.",
    ),
    "canary": ("canary", "Bits hidden in training data on purpose; whoever reads them back has proved a leak."),
    "chance": ("chance", "What an adversary reaches by its best guess without any message. Leakage 0 means no better than that."),
    "channel": ("channel", "A kind of message between the partners, for example features or model updates."),
    "claim": (
        "claim: REFUTED, NOT REFUTED, UNTESTABLE",
        "What an audit can say about a formal guarantee. Refuted: more was shown than is claimed. Not refuted: less was shown, "
        "though more could have been. Untestable: more could not have been shown. None of them proves a guarantee.",
    ),
    "cell": ("cell", "One step of the work: a training, an attack, a scoring."),
    "clopper-pearson": ("Clopper-Pearson", "An interval for a share of patients that holds for small numbers too."),
    "cohort": ("cohort", "The patients of this audit, split by patient into those trained on, tested on, and held out."),
    "control": (
        "control: positive, negative, planted",
        "A check of the audit itself. Positive: the attack must work where nothing defends. Negative: it must find nothing in "
        "shuffled messages. Planted: it must find a leak that was put there on purpose.",
    ),
    "cut": ("cut, level", "Where the network is divided between hospital and server. Shallow levels are closer to the image."),
    "defense": ("defense", "What is changed so that less leaks, for example noise on the messages."),
    "delta": ("delta", "Probability with which a formal guarantee may fail. Belongs to epsilon."),
    "dfil": (
        "dFIL, Fisher information",
        "How much one message tells about each voxel of an image (diagonal Fisher information leakage; Maeng et al., NeurIPS "
        "2023). An unbiased attacker with one message has a mean squared error of at least 1/dFIL.",
    ),
    "dice": (
        "Dice",
        "Overlap of the predicted and the expert\u2019s tumor outline: 0 none, 1 perfect. The measure of usefulness here.",
    ),
    "dp": (
        "differential privacy, DP",
        "A formal guarantee that the result hardly changes when one unit (image, patient, site) is left out.",
    ),
    "dominated": (
        "dominated",
        "A training is significantly dominated where another one leaks significantly less in every kind of leakage measured for "
        "both, and is not less useful. The others form a band: between them the evidence does not choose.",
    ),
    "endpoint": ("endpoint", "One score by which an attack is measured, for example image similarity or recognizing the patient."),
    "epsilon": (
        "epsilon",
        "Strength of a formal guarantee: smaller is stricter. It covers only the channels and the unit it names.",
    ),
    "equal-utility": (
        "equal usefulness",
        "Defenses are compared at one and the same Dice, read off the curve of each as its strength is changed; never beyond it.",
    ),
    "federated": ("federated learning", "Each hospital trains on its own patients and sends model updates, never images."),
    "fidelity": ("fidelity", "How like the original a reconstruction is. It does not tell whether the patient is recognized."),
    "hd95": ("HD95", "Distance between the predicted and the expert\u2019s outline, without the worst 5 %. Smaller is better."),
    "identity": (
        "identity, rank-1",
        "Whether a reconstruction finds its own patient first (at rank 1) in a gallery of other visits of many patients.",
    ),
    "interval": (
        "interval",
        "Range that contains the true value in about 95 of 100 such audits. Verdicts rest on it, not on the value.",
    ),
    "leakage": (
        "leakage",
        "How far an attack got from its best guess (0) to full recovery (1). 0.10 does not mean 10 % of patients.",
    ),
    "limit": ("limit, threshold", "The largest value that the policy accepts: a convention of its owner, not a legal number."),
    "member": ("member, membership", "A member is a patient whose data was used in training; membership is the fact of it."),
    "mri": ("MRI", "Magnetic resonance imaging. T1, T1ce, T2 and FLAIR are its sequences."),
    "mse": ("MSE", "Mean squared error: the mean squared difference of two images, voxel by voxel. 0 is identical."),
    "n": ("n", "Number of patients behind a figure."),
    "neighbors": ("neighbors", "Two sets of data that differ in one unit: one more or fewer, or one replaced."),
    "nmi": ("NMI", "Normalized mutual information: how much one image tells about another. Shown, never decided on."),
    "outcome": ("PASS, FAIL, REVIEW, ERROR, N/A", "The statuses. Their meaning stands above the matrix of pairings."),
    "p": (
        "p value, adjusted",
        "How often evidence that is about nobody in particular would do as well by chance; small is telling. Adjusted: corrected "
        "for the number of tests in this run (Benjamini and Hochberg). Its floor is the smallest value that so few patients allow.",
    ),
    "pairing": ("pairing", "One protocol with one defense under one attack."),
    "seat": ("party, seat, role", "A participant, its place in the protocol, and what it does there (client, server, site)."),
    "poisson": (
        "Poisson sampling",
        "Every unit enters a batch by its own coin toss. Many epsilons hold only for batches drawn so.",
    ),
    "protocol": ("protocol", "How the partners train together: centralized, split or federated."),
    "pseudonym": ("pseudonym", "A random-looking code for a patient, valid in this report only."),
    "psnr": ("PSNR", "Peak signal-to-noise ratio in decibels (dB), another likeness of images. Shown, never decided on."),
    "quantile": ("quantile, median", "The median splits the patients in halves; 5 % of them lie below the 5 % quantile."),
    "reconstruction": ("reconstruction", "An image that the attack made from the messages."),
    "release": ("release", "What leaves a party. A formal guarantee covers the releases it names."),
    "repeat": ("repeat", "One complete training with its own random numbers. Trainings differ in what they leak."),
    "replica": ("replica", "The defended computation without its data. An attack that uses it is adaptive."),
    "scope": (
        "scope",
        "What an interval speaks of: this one trained model, or trainings like these; these patients, or patients like these.",
    ),
    "shuffled": (
        "shuffled",
        "Messages or evidence exchanged between patients, so that nothing is about its own patient any more: what is still found "
        "is chance.",
    ),
    "site": ("site", "One participating hospital."),
    "split": (
        "split learning",
        "The network is divided: hospitals compute the first layers and send features, a server computes the rest.",
    ),
    "ssim": ("SSIM, MS-SSIM", "Structural similarity of two images inside the brain (MS: at several scales): 1 is identical."),
    "threat-model": ("threat model", "Who the adversary is, what it sees, what it may change and what it knows."),
    "tpr": (
        "TPR, FPR",
        "True and false positive rate: the share of members that are found, and of non-members that are taken for members.",
    ),
    "unit": ("unit", "Whose presence a formal guarantee hides: one record (image), one patient, or one site."),
    "utility": ("utility", "What the trained model is worth, measured by Dice. It never offsets a privacy failure."),
    "worst": (
        "worst patient",
        "The attacked patient who leaks most. Patients who were not attacked may leak more: the share that may is stated with it.",
    ),
    "regions": ("WT, TC, ET", "Whole tumor, tumor core, enhancing tumor: the regions that are outlined."),
}
"""Term by its key: words shown, explanation. The key is part of the anchor `g-<key>`."""


@lru_cache
def term(key: str, text: str | None = None) -> Markup:
    """Return a link from a word on the page to its entry.

    Args:
        key: Key of the entry.
        text: Words shown; by default the first words of the entry.

    Raises:
        KeyError: There is no such entry.
    """
    shown = text if text is not None else GLOSSARY[key][0].split(",")[0].split(":")[0]
    if key not in GLOSSARY:
        raise KeyError(key)
    return Markup('<a class="term" href="#g-{}">{}</a>').format(key, escape(shown))
