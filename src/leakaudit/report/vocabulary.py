"""Fixed words of the report for statuses, channels, attack families, endpoints, thresholds and raw scores."""

from __future__ import annotations

__all__ = ["CHANNEL_WORDS", "FAMILY_WORDS", "KIND_WORDS", "RAW_WORDS", "STATUS_WORDS", "THRESHOLD_WORDS", "UNIT_WORDS", "raw_name"]

STATUS_WORDS: dict[str, str] = {
    "PASS": "These attacks, on these patients, stayed below the limit. A stronger attack may not.",
    "FAIL": "A leak above the limit was shown.",
    "REVIEW": "Not a mild PASS: the evidence cannot decide.",
    "ERROR": "No result: something failed. Nothing is known here.",
    "N/A": "Not applicable: the channel is absent here, or the attack has no meaning.",
    "control": "Undefended. Shows that the attack works; never counted for or against release.",
}

CHANNEL_WORDS: dict[str, str] = {
    "activation": "intermediate features that a hospital computes from its images and sends on",
    "cut-gradient": "correction signals sent back to the hospital that holds the images",
    "label": "tumor masks, or signals that depend on them",
    "update": "a hospital's change to the shared model, sent for averaging",
    "model": "the shared model, sent to every hospital",
    "output": "the finished model's predictions",
    "control": "bookkeeping messages without image content",
}

FAMILY_WORDS: dict[str, str] = {
    "reconstruction": "rebuild a patient's images or masks",
    "membership": "tell whether a patient's data was used in training",
    "label": "recover tumor masks",
    "property": "recover a property, for example tumor volume",
    "identity": "recognize the same patient in another examination",
}

KIND_WORDS: dict[str, str] = {
    "fidelity": "likeness of the image",
    "mask": "overlap of the mask",
    "identity": "recognizing the patient",
    "canary": "planted bits read back",
    "membership": "telling who was trained on",
    "property": "a property of the patient",
    "epsilon": "privacy loss shown",
}

UNIT_WORDS: dict[str, str] = {
    "record": "one image or slice. A patient with several images is protected less than the figure says",
    "patient": "all data of one patient",
    "site": "all data of one hospital",
}

THRESHOLD_WORDS: dict[str, str] = {
    "leakage_max": "largest acceptable leakage",
    "membership_max": "largest acceptable leakage of membership",
    "patient_max": "largest acceptable leakage of a single patient",
    "tail_share": "PASS must rule out that a larger share of patients lies above patient_max",
    "tail_fail": "FAIL where more than this share of patients is shown to lie above patient_max",
    "control_factor": "how many times the limit an attack must reach undefended before its failure means anything",
    "min_patients": "fewest attacked patients for a PASS",
    "min_repeats": "fewest training repeats for a PASS",
    "dice_margin": "largest acceptable loss of Dice",
}

RAW_WORDS: dict[str, str] = {
    "auc": "AUC",
    "auc_within_sites": "AUC within sites",
    "balanced_accuracy": "balanced accuracy",
    "auc_blind": "AUC of the blind baseline",
    "gallery_of_other_visit": "gallery of other visits",
    "mean_rank": "mean rank",
    "ms_ssim": "MS-SSIM",
    "mse": "MSE",
    "mse_leakage": "leakage by MSE",
    "mse_of_chance": "MSE of chance",
    "nmi": "NMI",
    "psnr_db": "PSNR",
    "psnr": "PSNR",
    "rank_1": "rank-1",
    "rank_1_of_truth": "rank-1 of the true images",
    "ssim": "SSIM",
    "ssim_of_chance": "SSIM of chance",
    "tpr_at_1_percent_fpr": "TPR at 1 % FPR",
    "tpr_at_0_1_percent_fpr": "TPR at 0.1 % FPR",
}


def raw_name(name: str) -> str:
    """Return the name of a raw score for people; an unknown one loses its underscores."""
    return RAW_WORDS.get(name, name.replace("_", " "))
