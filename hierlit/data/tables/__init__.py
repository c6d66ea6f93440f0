"""A person's own tables: files of several formats, and the data module that reads them."""

from hierlit.data.tables.label_table import LabelTable

__all__ = ["LabelTable"]
