"""Time and energy of generation: measured by `widthprune profile`, and recomputed from the published runs."""
