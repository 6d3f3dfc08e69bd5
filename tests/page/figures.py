"""What was measured on the way; shown at the end, held against nothing."""

FIGURES: list[str] = []
