"""What a comparison is handed on as: a page for people, SARIF for machines. Opens no checkpoint, loads no torch."""

from huref.report.page import html_page
from huref.report.records import Evidence, FileRecord, InputRecord
from huref.report.sarif import sarif_log

__all__ = ["Evidence", "FileRecord", "InputRecord", "html_page", "sarif_log"]
