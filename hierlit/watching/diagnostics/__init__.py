"""Diagnostics: plain functions that find what fails in a run and why, and name the setting to change."""

from hierlit.watching.diagnostics.callback import Diagnostics
from hierlit.watching.diagnostics.causes import Unlearned
from hierlit.watching.diagnostics.signatures import DiagnosticWarning, Finding

__all__ = ["DiagnosticWarning", "Diagnostics", "Finding", "Unlearned"]
