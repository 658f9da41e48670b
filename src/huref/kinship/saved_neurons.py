"""Two saved fingerprints' neurons: the verdict that codes in files give, without any weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from huref.fingerprints.codes import Codes, LayerCodes
from huref.fingerprints.record import Fingerprint
from huref.kinship.conclusion import Known
from huref.kinship.recognition import (
    CLEAR,
    NO_PARTNERS,
    TURNED_BY,
    Coded,
    Recognised,
    Recognition,
    best_of,
    recognise,
)
from huref.kinship.verdict.decision import Side
from huref.kinship.witnesses import MIN_NEURONS, examine

_UNSEEN = (
    "of models of one width codes do not see a replaced tokenizer with a turned stream, nor, by tokens alone, layers "
    "put behind another model's embeddings: compare the models themselves"
)

_FEWEST_SHARED = 0.4
"""Share of the smaller sample of tokens that both have to have: with fewer, kin may meet at chance."""


def saved_kinship(
    a: Fingerprint, b: Fingerprint, x: Codes, y: Codes, seen: Mapping[str, Recognition] | None = None
) -> tuple[Known, Recognised | str]:
    """What two files say of two models, and what their neurons show, or why they show nothing.

    Args:
        seen: by frame, what a screening showed already; None to look closely.
    """
    known = Known(_side(a, x), _side(b, y), _vocabularies(a, b), unseen=_unseen(a, b, x, y))
    return known, _recognised(a, b, x, y, seen)


def can_be_cleared(a: Fingerprint, b: Fingerprint, x: Codes, y: Codes) -> bool:
    """Whether agreement at chance would show that two models are independent."""
    return shared_tokens(x, y) > 0 and not _unseen(a, b, x, y)


def _unseen(a: Fingerprint, b: Fingerprint, x: Codes, y: Codes) -> str:
    """What may hide kinship from these files, or nothing."""
    is_one_width = a.geometry["d_model"] == b.geometry["d_model"]
    is_seen = bool(x.plain and y.plain) and _vocabularies(a, b) == "same"
    return _UNSEEN if is_one_width and not is_seen else ""


def shared_tokens(x: Codes, y: Codes) -> int:
    """Strings that both frames rest on; 0 where they are too few."""
    n_shared = x.shared_tokens(y)
    return n_shared if n_shared >= _FEWEST_SHARED * min(x.n_tokens, y.n_tokens) else 0


def _recognised(
    a: Fingerprint, b: Fingerprint, x: Codes, y: Codes, seen: Mapping[str, Recognition] | None
) -> Recognised | str:
    if x.recipe != y.recipe:
        return "the files hold codes of different recipes"
    if min(a.geometry["d_ff"], b.geometry["d_ff"]) < MIN_NEURONS:
        return f"fewer than {MIN_NEURONS} feed-forward neurons in a layer"
    if seen:
        return replace(best_of(seen), shared_tokens=shared_tokens(x, y))
    tried: dict[str, Recognition] = {}
    for method, sides in (("tokens", (x.layers, y.layers)), ("identity", (x.plain, y.plain))):
        if method == "identity" and a.geometry["d_model"] != b.geometry["d_model"]:
            continue
        found = recognise(_coded(sides[0], a), _coded(sides[1], b), method)
        if found is not None:
            tried[method] = found
            if found.agreement >= CLEAR:
                break
    if not tried:
        return NO_PARTNERS
    best = best_of(tried)
    is_one_width = a.geometry["d_model"] == b.geometry["d_model"]
    return replace(best, shared_tokens=shared_tokens(x, y), is_turned=is_one_width and _is_turned(best, x, y))


def _coded(layers: Mapping[int, LayerCodes], made: Fingerprint) -> Coded:
    return Coded(made.geometry["n_layers"], tuple(sorted(layers)), layers.__getitem__)


def _is_turned(found: Recognised, x: Codes, y: Codes) -> bool:
    """Whether the neurons that agree do not in the streams' own dimensions, of layers kept in both frames."""
    if found.found.method != "tokens" or found.found.agreement < CLEAR:
        return False
    seen = [match for match in found.found.layers if match.layer_a in x.plain and match.layer_b in y.plain]
    if not seen:
        return False
    best = max(seen, key=lambda match: match.agreement)
    return examine(x.plain[best.layer_a], y.plain[best.layer_b], TURNED_BY).best < CLEAR


def _side(made: Fingerprint, codes: Codes) -> Side:
    g = made.geometry
    return Side(made.model, g["n_layers"], g["d_model"], g["d_ff"], g["n_heads"], g["vocab_size"], codes.n_experts)


def _vocabularies(a: Fingerprint, b: Fingerprint) -> str:
    """Files tell whether two vocabularies are one, not which holds the other."""
    return "same" if a.tokens["vocabulary"] == b.tokens["vocabulary"] else "other"
