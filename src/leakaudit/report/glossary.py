"""Fixed words of the report: statuses, channels, attack families, glossary, and what frameworks ask."""

from __future__ import annotations

__all__ = ["CHANNEL_WORDS", "FAMILY_WORDS", "FRAMEWORKS", "GLOSSARY", "STATUS_WORDS", "THRESHOLD_WORDS", "UNIT_WORDS"]

STATUS_WORDS: dict[str, str] = {
    "PASS": "These attacks, on these patients, stayed below the limit. A stronger attack may not.",
    "FAIL": "A leak above the limit was shown.",
    "REVIEW": "The evidence cannot decide. This is not a mild PASS.",
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

UNIT_WORDS: dict[str, str] = {
    "record": "one image or slice. A patient with several images is protected less than the figure says",
    "patient": "all data of one patient",
    "site": "all data of one hospital",
}

THRESHOLD_WORDS: dict[str, str] = {
    "leakage_max": "largest acceptable leakage",
    "membership_max": "largest acceptable leakage of membership",
    "patient_max": "largest acceptable leakage of a single patient",
    "tail_share": "largest acceptable share of patients that may be worse than the worst one seen",
    "control_factor": "how many times the limit an attack must reach undefended before its failure means anything",
    "min_patients": "fewest attacked patients for a PASS",
    "min_repeats": "fewest training repeats for a PASS",
    "dice_margin": "largest acceptable loss of Dice",
}

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("adaptive", "The attack knows the defense and is built against it. Only such an attack can support a PASS."),
    ("adversary", "Whoever tries to learn about patients: here a partner in the collaboration, or an outsider."),
    ("anchor", "The score of full recovery. Leakage 1 means the attack reached it."),
    ("AUC", "How well members and non-members of the training set can be told apart: 0.5 is guessing, 1 is certainty."),
    ("auxiliary patients", "Other patients whose images the adversary may own and practice on."),
    ("baseline", "One training of one protocol with one defense; or a reference value to compare with."),
    ("chance", "What an adversary reaches by its best guess without any message. Leakage 0 means no better than that."),
    ("channel", "A kind of message between the partners, for example features or model updates."),
    ("cohort", "The patients of this audit, split by patient into those trained on, tested on, and held out."),
    (
        "control",
        "A check of the audit itself: the attack must work where nothing defends, and find nothing in shuffled messages.",
    ),
    ("cut, level", "Where the network is divided between hospital and server. Shallow levels are closer to the image."),
    ("defense", "What is changed so that less leaks, for example noise on the messages."),
    ("delta", "Probability with which a formal guarantee may fail. Belongs to epsilon."),
    ("Dice", "Overlap of the predicted and the expert's tumor outline: 0 none, 1 perfect. The measure of usefulness here."),
    (
        "differential privacy",
        "A formal guarantee that the result hardly changes when one unit (image, patient, site) is left out.",
    ),
    ("endpoint", "One score by which an attack is measured, for example image similarity or recognizing the patient."),
    ("epsilon", "Strength of a formal guarantee: smaller is stricter. It covers only the channels and the unit it names."),
    ("federated learning", "Each hospital trains on its own patients and sends model updates, never images."),
    ("HD95", "Distance between the predicted and the expert's outline, without the worst 5 %. Smaller is better."),
    ("interval", "Range that contains the true value in about 95 of 100 such audits. Verdicts rest on it, not on the value."),
    ("leakage", "How far an attack got from its best guess (0) to full recovery (1). 0.10 does not mean 10 % of patients."),
    ("member", "A patient whose data was used in training."),
    ("n", "Number of patients behind a figure."),
    ("pairing", "One protocol with one defense under one attack."),
    ("party, seat, role", "A participant, its place in the protocol, and what it does there (client, server, site)."),
    ("protocol", "How the partners train together: centralized, split or federated."),
    ("pseudonym", "A random-looking code for a patient, valid in this report only."),
    ("reconstruction", "An image that the attack made from the messages."),
    ("repeat", "One complete training with its own random numbers. Trainings differ in what they leak."),
    ("site", "One participating hospital."),
    (
        "split learning",
        "The network is divided: hospitals compute the first layers and send features, a server computes the rest.",
    ),
    ("SSIM", "Structural similarity of two images inside the brain: 1 is identical."),
    ("threat model", "Who the adversary is, what it sees, what it may change and what it knows."),
    ("utility", "What the trained model is worth, measured by Dice. It never offsets a privacy failure."),
    ("WT, TC, ET", "Whole tumor, tumor core, enhancing tumor: the regions that are outlined."),
)

FRAMEWORKS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("EDPB Opinion 28/2024", "How likely is it that personal data can be obtained from the model or through queries?",
     (("matrix", "Matrix of pairings"), ("coverage", "Coverage"))),
    ("GDPR, data protection impact assessment", "Description, risks, measures and remaining risk.",
     (("pairings", "Pairing by pairing"), ("evidence", "Evidence"), ("limits", "Limitations"))),
    ("EU AI Act, Annex IV", "Testing procedures, data characteristics, metrics, dated and signed reports.",
     (("provenance", "Provenance"), ("signoff", "Sign-off"))),
    ("NIST AI RMF, MEASURE 2.10", "Privacy risk is examined and documented.",
     (("evidence", "Evidence"), ("channels", "Leakage by channel"))),
    ("ISO/IEC 27559", "Threat modeling, maximum and average risk, adversarial testing.",
     (("pairings", "Pairing by pairing"), ("coverage", "Coverage"))),
    ("HIPAA, expert determination", "Material for an expert's own methods and result; never the determination itself.",
     (("evidence", "Evidence"), ("limits", "Limitations"))),
)  # fmt: skip
"""Framework, question it asks, sections (anchor, title) that hold material for it. No claim of conformity."""
