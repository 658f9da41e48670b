"""A bench's figures as text: tables of methods, of kinds, of groups, of verdicts, and the goals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]
GROUP_NOTES = {
    "kin": "an offspring and a base it descends from",
    "same-init": "two bases from the same first weights, or their offspring: counted on neither side",
    "twins": "two bases that differ by seed alone",
    "twin's offspring": "offspring of two twins, made in the same way",
    "base's twin": "an offspring and the twin of its base",
    "student": "a distilled student and its teacher's base: independent by definition",
    "bases": "two other bases",
    "other": "an offspring and a base of other data or shape",
}
GOAL_SCORE, RIVAL = "agreement", "AWM"


def as_text(document: Document) -> str:
    """The whole report."""
    blocks = [
        _head(document),
        _scores(document),
        _z_table(document),
        _lowest_table(document),
        _group_table(document),
        *_verdicts(document),
        _faults(document),
        _costs(document),
        _methods(document),
        _goals(document),
    ]
    return "\n\n".join(block for block in blocks if block)


def goals(document: Document) -> list[tuple[str, bool, str]]:
    """What the verdict's statistic is held to, whether it is reached, and what was found; none without that score."""
    score = next((s for s in document["scores"] if s["title"] == GOAL_SCORE), None)
    if score is None:
        return []
    found = [
        (f"{GOAL_SCORE}: AUC 1 over every derivation", score["auc"] == 1.0, _number(score["auc"], 4)),
        (
            f"{GOAL_SCORE}: every derivation found at 1 % false positives",
            score["tpr_at_1_percent"] == 1.0,
            _number(score["tpr_at_1_percent"], 4),
        ),
    ]
    known = score["identification"]
    found.append(
        (
            f"{GOAL_SCORE}: the base of every offspring identified",
            known["right"] == known["asked"] > 0,
            f"{known['right']} of {known['asked']}",
        )
    )
    rival = next((s for s in document["scores"] if s["title"] == RIVAL), None)
    if rival:
        ours, theirs = score["by_kind"], rival["by_kind"]
        lost = [kind for kind in ours if not _beats(ours[kind]["z"], theirs[kind]["z"])]
        found.append((f"|z| above {RIVAL}'s on every kind", not lost, f"not on {', '.join(lost)}" if lost else "all"))
    for verdicts in document["verdicts"]:
        false = verdicts["false_accusations"]
        found.append(
            (
                f"{verdicts['method']}: no false accusation",
                not false,
                f"{len(false)} of {verdicts['strangers']} pairs",
            )
        )
    return found


def _beats(ours: Any, theirs: Any) -> bool:
    if theirs is None:
        return ours is not None
    return ours is not None and abs(float(ours)) > abs(float(theirs))


def _head(document: Document) -> str:
    zoo = document.get("zoo", {})
    lines = ["huref lab bench", document.get("machine", "")]
    if zoo:
        lines.append(
            f"{zoo['models']} models: {zoo['bases']} bases, {zoo['offspring']} offspring, {zoo['attacked']} attacked "
            f"copies; {zoo['seconds']:.0f} s with {zoo['jobs']} processes"
        )
    reused = [f"{n} of {name}" for name, n in document.get("reused", {}).items()]
    if reused:
        lines.append(f"answers taken over from an earlier run on the same files: {', '.join(reused)}")
    lines += [
        f"  {count:>5} pairs  {group:<17} {GROUP_NOTES[group]}"
        for group, count in document["groups"].items()
        if count
    ]
    return "\n".join(line for line in lines if line)


def _scores(document: Document) -> str:
    titles = (("AUC", "[95 %]", "vs hard", "TPR@1%", "TPR@0", "worst kin", "best stranger", "base found", "missing"),)
    rows = []
    for s in document["scores"]:
        kin, strangers, known = s["kin"], s["strangers"], s["identification"]
        missing = f"{kin['n'] - kin['scored']}+{strangers['n'] - strangers['scored']}"
        rows.append(
            (
                s["title"],
                _number(s["auc"], 4),
                f"{_number(s['auc_interval'][0], 3)}-{_number(s['auc_interval'][1], 3)}",
                _number(s["auc_hard"], 4),
                _number(s["tpr_at_1_percent"], 3),
                _number(s["tpr_at_no_false_alarm"], 3),
                _number(kin["min"], 3),
                _number(strangers["max"], 3),
                f"{known['right']}/{known['asked']}",
                missing,
            )
        )
    notes = [
        f"  {s['title']}: worst kin {_pair(s['kin']['lowest'])}; best stranger {_pair(s['strangers']['highest'])}"
        f"; {_number(s['identification']['candidates'], 1)} candidate bases on average; {_held_out(s['held_out'])}"
        for s in document["scores"]
    ]
    caption = (
        "Kin against strangers. AUC with a bootstrap interval over bases; against the hard strangers alone (twins,\n"
        "their offspring, students); share of kin found at 1 % and at no false positive; lowest score of kin,\n"
        "highest of strangers; offspring whose base scores highest of all it was compared with; kin + stranger\n"
        "pairs without a score, which count as below all others"
    )
    return "\n".join([caption, _table(titles[0], rows), *notes])


def _held_out(found: Mapping[str, int]) -> str:
    """The threshold of a base is the highest score of the strangers that it has no part in."""
    return (
        f"at the other bases' threshold {found['found']} of {found['kin']} kin found, {found['accused']} of "
        f"{found['strangers']} strangers accused"
    )


def _z_table(document: Document) -> str:
    caption = "|z|: a kind's mean score from the mean of unattacked strangers, in their standard deviations"
    return _by_kind(document, caption, lambda kind: _magnitude(kind["z"]))


def _lowest_table(document: Document) -> str:
    caption = "Lowest score of each kind; a dash where no pair has one, * where some have none"

    def cell(kind: Mapping[str, Any]) -> str:
        mark = "*" if 0 < kind["scored"] < kind["n"] else ""
        return _number(kind["min"], 3) + mark

    return _by_kind(document, caption, cell)


def _by_kind(document: Document, caption: str, cell: Callable[[Mapping[str, Any]], str]) -> str:
    scores = document["scores"]
    if not scores or not document["kinds"]:
        return ""
    rows = []
    for kind in document["kinds"]:
        n = scores[0]["by_kind"][kind]["n"]
        rows.append((f"{kind} ({n})", *(cell(s["by_kind"][kind]) for s in scores)))
    return f"{caption}\n{_table([s['title'] for s in scores], rows)}"


def _group_table(document: Document) -> str:
    scores = document["scores"]
    groups = [group for group, count in document["groups"].items() if count]
    if not scores:
        return ""
    rows = [
        (
            f"{group} ({document['groups'][group]})",
            *(f"{_number(s['by_group'][group]['mean'], 2)} / {_number(_end(s, group), 2)}" for s in scores),
        )
        for group in groups
    ]
    return f"Mean / highest score of each group (kin: lowest)\n{_table([s['title'] for s in scores], rows)}"


def _end(score: Mapping[str, Any], group: str) -> float | None:
    found: float | None = score["by_group"][group]["min" if group == "kin" else "max"]
    return found


def _verdicts(document: Document) -> Iterator[str]:
    for found in document["verdicts"]:
        false = found["false_accusations"]
        lines = [
            f"Verdicts of {found['method']}",
            f"  strangers accused: {len(false)} of {found['strangers']} (a rate of at most "
            f"{100 * found['false_accusation_rate_bound']:.2f} % with 95 % confidence, were pairs independent)",
            f"  kin found: {found['kin_found']} of {found['kin']}; called independent: {found['kin_denied']}; "
            f"inconclusive: {found['abstentions']['kin']} kin, {found['abstentions']['strangers']} strangers",
            *(f"  FALSE: {a} and {b}: {verdict}" for a, b, verdict in false),
        ]
        counted = {**found["by_kind"], **{f"[{g}]": c for g, c in found["by_group"].items() if g != "kin"}}
        names = sorted({verdict for counts in counted.values() for verdict in counts})
        rows = [(kind, *(str(counts.get(name, "")) for name in names)) for kind, counts in counted.items()]
        yield "\n".join([*lines, _table(names, rows)])


def _faults(document: Document) -> str:
    lines = [f"  {s['title']}: {n} pairs: {fault}" for s in document["scores"] for fault, n in s["faults"].items()]
    return "\n".join(["Pairs without a score", *lines]) if lines else ""


def _costs(document: Document) -> str:
    costs = document.get("costs") or []
    if not costs:
        return ""
    rows = [
        (
            row["method"],
            _number(row.get("seconds"), 2),
            _number(row.get("cpu_seconds"), 2),
            _number(row.get("seconds_of_the_process"), 2),
            _number(row.get("peak_mib"), 0),
        )
        for row in costs
    ]
    caption = "SmolLM2-135M and a copy (bfloat16 safetensors), each method in a process of its own, one run"
    faults = [f"  {row['method']}: {row['fault']}" for row in costs if row["fault"]]
    return "\n".join([caption, _table(("seconds", "CPU", "with imports", "peak MiB"), rows), *faults])


def _methods(document: Document) -> str:
    lines = ["Methods; seconds are of one process while the bench ran"]
    for m in document["methods"]:
        if m["unavailable"]:
            lines.append(f"  {m['name']}: did not run: {m['unavailable']}")
            continue
        lines.append(
            f"  {m['name']}: {_number(m['seconds_a_pair'], 4)} s a pair, {_number(m['seconds_a_model'], 3)} s to "
            f"prepare a model; {m['answered']} of {m['pairs']} pairs answered; {m['source']}"
        )
    return "\n".join(lines)


def _goals(document: Document) -> str:
    return "\n".join(f"[{'met' if is_met else 'MISSED'}] {goal}: {found}" for goal, is_met, found in goals(document))


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under their titles, the first to the left."""
    first = max([len(row[0]) for row in rows], default=0)
    widths = [max(len(title), *(len(row[i + 1]) for row in rows)) if rows else len(title) for i, title in _at(titles)]
    lines = [" " * first + "".join(f"  {title:>{width}}" for title, width in zip(titles, widths, strict=True))]
    for row in rows:
        cells = (f"  {cell:>{width}}" for cell, width in zip(row[1:], widths, strict=True))
        lines.append(f"{row[0]:<{first}}{''.join(cells)}")
    return "\n".join(f"  {line}".rstrip() for line in lines)


def _at(titles: Sequence[str]) -> list[tuple[int, str]]:
    return list(enumerate(titles))


def _pair(names: Sequence[str] | None) -> str:
    return f"{names[0]} ~ {names[1]}" if names else "-"


def _magnitude(value: Any) -> str:
    return "-" if value is None else f"{abs(float(value)):.1f}"


def _number(value: Any, digits: int) -> str:
    return "-" if value is None else f"{float(value):.{digits}f}"
