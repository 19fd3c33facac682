"""The old place of `captum_shared.files`, until everyone has moved."""

from captum_shared.files import output_folder, write_bytes, write_csv, write_figure, write_json, write_text

__all__ = ["output_folder", "write_bytes", "write_csv", "write_figure", "write_json", "write_text"]
