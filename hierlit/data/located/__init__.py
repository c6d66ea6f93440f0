"""A person's own sequences, images and texts: files of several formats, and the data modules that read them."""

from hierlit.data.located.located_arrays import LocatedArrays

__all__ = ["LocatedArrays"]
