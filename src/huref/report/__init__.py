"""What a comparison is handed on as: a page for people, SARIF for machines.

    save_reports(found, models, ReportOptions(...))     gathers the evidence and writes both
    html_page, sarif_log                                the same as text and as a document, from evidence at hand

The last two open no checkpoint and load no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.face import face

if TYPE_CHECKING:
    from huref.report.collection import gather
    from huref.report.files import save_ranking, save_reports
    from huref.report.options import ReportOptions
    from huref.report.page import html_page
    from huref.report.records import Evidence, FileRecord, InputRecord
    from huref.report.sarif import sarif_log
    from huref.report.told import Told, save_told

__all__ = [
    "Evidence",
    "FileRecord",
    "InputRecord",
    "ReportOptions",
    "Told",
    "gather",
    "html_page",
    "sarif_log",
    "save_ranking",
    "save_reports",
    "save_told",
]

_HOMES = {
    "Evidence": "huref.report.records",
    "FileRecord": "huref.report.records",
    "InputRecord": "huref.report.records",
    "ReportOptions": "huref.report.options",
    "Told": "huref.report.told",
    "gather": "huref.report.collection",
    "html_page": "huref.report.page",
    "sarif_log": "huref.report.sarif",
    "save_ranking": "huref.report.files",
    "save_reports": "huref.report.files",
    "save_told": "huref.report.told",
}

if not TYPE_CHECKING:  # so that a type checker sees the names above, and a misspelt one
    __getattr__, __dir__ = face(__name__, _HOMES)
