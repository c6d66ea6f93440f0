"""report.html of an experiment: one file with the question, the set-up, figures, table, prediction and verdict."""

from __future__ import annotations

import io
import os
import platform
import re
import shlex
from dataclasses import fields
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from jinja2 import Environment
from matplotlib.figure import Figure

from hierlit.experiments.base import Experiment, Verdict
from hierlit.experiments.runner import cells_of
from hierlit.files.atomic import replace_text

REPORT = "report.html"
TEMPLATE = "report.html.jinja"
DPI = 150


def save_figures(figures: dict[str, Figure], folder: Path) -> dict[str, str]:
    """Write each figure as PNG and SVG, close it, and return the SVG elements by name."""
    drawn = {}
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=DPI)
        figure.set_layout_engine("none")  # laid out by now
        text = io.StringIO()
        with plt.rc_context({"svg.fonttype": "none"}):
            figure.savefig(text, format="svg", metadata={"Date": None})
        plt.close(figure)
        (folder / f"{name}.svg").write_text(text.getvalue())
        svg = text.getvalue()[text.getvalue().index("<svg") :]
        drawn[name] = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)  # ids that no other figure has
    return drawn


def write_report(
    name: str,
    experiment: Experiment,
    results: pd.DataFrame,
    failures: dict[str, str],
    folder: Path,
) -> Verdict | None:
    """Draw the figures and write the report of the rows there are.

    Args:
        name: Of the experiment.
        experiment: The experiment.
        results: Its rows.
        failures: Why runs failed, by name.
        folder: Gets `report.html`, and each figure as PNG and SVG.

    Returns:
        The verdict; None if there are no rows to judge.
    """
    if results.empty:
        return None
    summary, verdict = experiment.summary(results), experiment.verdict(results)
    minutes = results["seconds"].sum() / 60
    options = {field.name: getattr(experiment, field.name) for field in fields(experiment)}
    options["configs"] = {name: Path(str(path)).name for name, path in experiment.configs.items()}
    render_report(
        folder,
        name=name,
        question=experiment.question,
        prediction=experiment.prediction,
        options=options,
        figures=save_figures(experiment.figures(results, folder), folder),
        summary=as_html(summary, digits=4),
        verdict=verdict,
        set_up=(
            f"{len(results)} runs, {minutes:.1f} minutes of them together. Every run is in results.csv, with its logs "
            "in runs."
        ),
        commands={"The command of each run of seed 0": commands_of(experiment)},
        failures=failures,
    )
    return verdict


def as_html(table: pd.DataFrame, digits: int) -> str:
    """Return a table of the report."""
    return str(table.to_html(index=False, border=0, float_format=lambda value: f"{value:.{digits}g}", na_rep=""))


def render_report(folder: Path, **context: Any) -> None:
    """Write `report.html` of what the template names."""
    template = Environment(autoescape=True).from_string((files("hierlit.experiments") / TEMPLATE).read_text())
    page = template.render(versions=versions(), **context)
    replace_text(folder / REPORT, page)


def commands_of(experiment: Experiment) -> list[str]:
    """Return the command of each run of the first seed, as it runs in the working directory."""
    commands = []
    for settings, seed in cells_of(experiment):
        if seed == 0:
            fit, flag, _, *others = experiment.fit_arguments(settings, seed)
            path = os.path.relpath(experiment.config(settings).absolute)
            commands.append(f"python -m hierlit {fit} {flag} {shlex.join([path, *others])}")
    return commands


def versions() -> str:
    """Return what the runs ran on."""
    named = ", ".join(f"{name} {version(name)}" for name in ("hierlit", "torch", "lightning"))
    return f"{named}, Python {platform.python_version()}, {platform.machine()}"
