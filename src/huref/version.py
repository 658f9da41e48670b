"""The version of huref, in one place: packages, artefacts and `huref --version` read it here."""

__version__ = "0.1.0"
