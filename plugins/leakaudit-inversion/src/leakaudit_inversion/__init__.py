"""Model inversion for leakaudit: images of patients from what a split network sends across the cut."""
