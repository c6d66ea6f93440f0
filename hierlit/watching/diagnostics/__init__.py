"""Diagnostics: plain functions that find what fails in a run and why, and name the setting to change."""

from hierlit.watching.diagnostics.callback import Diagnostics
from hierlit.watching.diagnostics.causes import Settings, Unlearned, count_causes, explain
from hierlit.watching.diagnostics.evidence import Evidence, Trials
from hierlit.watching.diagnostics.labels import needed_square, parents_of, polynomials, stuck
from hierlit.watching.diagnostics.probe import probe, widened
from hierlit.watching.diagnostics.signatures import (
    DiagnosticWarning,
    Finding,
    exploding_norm,
    missing_degree,
    narrow_window,
    single_label,
)

__all__ = [
    "DiagnosticWarning",
    "Diagnostics",
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
