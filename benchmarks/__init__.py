"""Figures, and the scripts that measure them: ``make bench`` runs all of them side by side and writes RESULTS.md."""
