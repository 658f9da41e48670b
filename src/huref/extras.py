"""Libraries that only some commands need: what is missing is said before any work, with what installs it."""

from __future__ import annotations

import importlib
import importlib.util

from huref.errors import UsageError

_EXTRAS = {
    "torch": "torch",
    "tokenizers": "tokens",
    "sentencepiece": "tokens",
    "tiktoken": "tokens",
    "py_arkworks_bls12381": "proof",
    "pandas": "frames",
    "transformers": "check",
    "obstore": "stores",
}
"""Library -> the extra of huref's that brings it."""


def require(library: str, where: str) -> None:
    """Refuse to begin what a library is missing for.

    Args:
        library: one of huref's optional ones; it is imported.
        where: the command or option that needs it.

    Raises:
        UsageError: not installed, or installed and broken.
    """
    cure = f"pip install 'huref[{_EXTRAS[library]}]'"
    if importlib.util.find_spec(library) is None:
        raise UsageError(
            f"{where} needs {library}, which is not installed: {cure}",
            where=where,
            expected=f"the extra that brings {library}",
            got="huref without it",
            next_step=cure,
        )
    if reason := trouble(library):
        raise UsageError(
            f"{where} needs {library}, which is installed and cannot be imported",
            where=where,
            expected=f"a {library} that this Python can import",
            got=reason,
            next_step=f"mend it: pip install --force-reinstall {library}",
        )


def trouble(library: str) -> str:
    """Why an installed library cannot be imported; empty where it can."""
    try:
        module = importlib.import_module(library)
    except (Exception, SystemExit) as error:  # another processor's build, a broken driver, a library that is missing
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
    return "" if getattr(module, "__file__", None) else "a folder of that name, as an uninstall may leave it"
