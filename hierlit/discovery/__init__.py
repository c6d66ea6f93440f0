"""Levels and parents of labels whose hierarchy nobody wrote down, from rows and labels alone."""

from hierlit.discovery.agreement import Agreement, Hierarchy
from hierlit.discovery.options import DiscoverOptions
from hierlit.discovery.search import Discovery, discover

__all__ = ["Agreement", "DiscoverOptions", "Discovery", "Hierarchy", "discover"]
