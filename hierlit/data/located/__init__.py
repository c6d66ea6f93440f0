"""A person's own sequences, images and texts: files of several formats, and the data modules that read them."""

from hierlit.data.located.located_arrays import LocatedArrays
from hierlit.data.located.token_labels import TokenLabels

__all__ = ["LocatedArrays", "TokenLabels"]
