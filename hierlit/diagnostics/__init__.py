"""Diagnostics: plain functions that tell of a run what fails and why, and name the setting to change."""

from hierlit.diagnostics.causes import Settings, Unlearned, count_causes, explain
from hierlit.diagnostics.evidence import Evidence, Trials
from hierlit.diagnostics.labels import needed_square, parents_of, polynomials, stuck
from hierlit.diagnostics.probe import probe, widened
from hierlit.diagnostics.signatures import (
    DiagnosticWarning,
    Finding,
    exploding_norm,
    missing_degree,
    narrow_window,
    single_label,
)

__all__ = [
    "DiagnosticWarning",
    "Evidence",
    "Finding",
    "Settings",
    "Trials",
    "Unlearned",
    "count_causes",
    "explain",
    "exploding_norm",
    "missing_degree",
    "narrow_window",
    "needed_square",
    "parents_of",
    "polynomials",
    "probe",
    "single_label",
    "stuck",
    "widened",
]
