"""Identifiers that no part of leakaudit can know: foreign code brings them along."""

from __future__ import annotations

NAME = "Oyelaran^Funmilayo"
NUMBER = "MRN-60417728"
PATH = f"/mnt/pacs/Haematology Ward 9/{NAME} {NUMBER}/flair.nii.gz"
ADDRESS = "funmilayo.oyelaran@klinikum-seeberg.example"

ALL = (NAME, "Oyelaran", "Funmilayo", NUMBER, "60417728", "Haematology", ADDRESS, "klinikum-seeberg")
