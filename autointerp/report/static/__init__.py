"""The static report: one self-contained HTML file of a run."""
