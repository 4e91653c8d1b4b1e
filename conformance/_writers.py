"""Write a report as JSON, Markdown and one HTML page."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from xp_xent.conformance._report import Summary

EXAMPLES = 1  # tests of a topic and its flags that Markdown lists

LEGEND = (
    "A cell has the tests that passed, of those that passed or failed, and the largest error in "
    "ULP; “–”: nothing that the subject takes. Differences by design are neither."
)


def to_json(said: Summary) -> str:
    """Write everything, one line."""
    return json.dumps(said, ensure_ascii=False) + "\n"


def ulps_text(ulps: Any) -> str:
    """Write a largest error shortly."""
    if ulps is None:
        return ""
    x = float(ulps)
    if not math.isfinite(x):
        return "∞"
    return (
        f"{float(f'{x:.3g}'):g}" if x < 1e4 else f"{x:.0e}".replace("e+0", "e").replace("e+", "e")
    )


def words(topic: str) -> str:
    """Write a topic as a heading."""
    return topic.replace("_", " ")


def title(subject: Summary) -> str:
    """Write a subject's name, and what alone it was asked."""
    less = [] if subject["gradients"] else ["values"]
    less += [", ".join(subject["dtypes"])] if subject["dtypes"] else []
    return subject["name"] + (f" ({'; '.join(less)} only)" if less else "")


def to_markdown(said: Summary) -> str:
    """Write the table, and what was wrong, by topic and flag with an example each."""
    topics, subjects = said["topics"], said["subjects"]
    kinds = ("passed", "failed", "by_design", "unsupported")
    totals = [[title(s), *(str(s["counts"][kind]) for kind in kinds)] for s in subjects]
    cells = [[s["name"], *(_markdown_cell(s["topics"].get(t)) for t in topics)] for s in subjects]
    lines = [
        "# Conformance report",
        "",
        f"{said['numberOfTests']} tests.",
        "",
        *_table(["subject", "passed", "failed", "by design", "unsupported"], totals),
    ]
    versions = {k: v for subject in subjects for k, v in subject["versions"].items()}
    lines += ["", "Versions: " + ", ".join(f"{k} {v}" for k, v in versions.items()) + "."]
    absent = [f"{name} ({why})" for name, why in said["absent"].items()]
    lines += ["", "Not asked: " + "; ".join(absent) + "."] if absent else []
    lines += ["", "## By topic", "", LEGEND, ""]
    lines += _table(["subject", *(words(topic) for topic in topics)], cells)
    for subject in subjects:
        lines += _markdown_wrong(subject, said)
    return "\n".join(lines) + "\n"


def _table(heading: list[str], rows: list[list[str]]) -> list[str]:
    ruler = ["---", *["---:"] * (len(heading) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (heading, ruler, *rows)]


def _markdown_cell(cell: Mapping[str, Any] | None) -> str:
    taken = cell["passed"] + cell["failed"] if cell else 0
    if not cell or not taken:
        return "–"
    ulps = f", {ulps_text(cell['ulps'])}" if cell["ulps"] is not None else ""
    return f"{cell['passed']}/{taken}{ulps}"


def _markdown_wrong(subject: Summary, said: Summary) -> list[str]:
    """List what failed, and by which rules the subject differs."""
    failed: dict[tuple[str, ...], list[Summary]] = {}
    rules: dict[str, int] = {}
    for result in subject["results"]:
        if result["outcome"] == "failed":
            case = said["cases"][result["id"]]
            failed.setdefault((case["topic"], *case["flags"]), []).append(result)
        elif result["outcome"] == "by_design":
            rule = re.split(r" \((?=value|gradient)", result["reason"])[0]
            rules[rule] = rules.get(rule, 0) + 1
    lines = ["", f"## {subject['name']}", ""] if failed or rules else []
    for (topic, *flags), results in failed.items():
        links = [x for flag in flags for x in said["notes"].get(flag, {}).get("links", [])]
        about = ", ".join([words(topic), *flags])
        bugs = ", ".join(f"[{_bug(link)}]({link})" for link in links)
        lines.append(f"- {len(results)} × {about}" + (f" ({bugs})" if bugs else ""))
        for result in results[:EXAMPLES]:
            reason = result["reason"].replace("<", "&lt;").replace("`", "'")
            lines.append(f"  - `{result['id']}`: {reason}")
    return lines + [f"- {count} by design: {rule}" for rule, count in rules.items()]


def _bug(link: str) -> str:
    """Shorten a link to an issue: repository#number."""
    parts = link.rstrip("/").split("/")
    return f"{parts[-3]}#{parts[-1]}" if parts[-2] in ("issues", "pull") else parts[-1]


def to_html(said: Summary) -> str:
    """Write one page that needs nothing else.

    Raises
    ------
    ImportError
        jinja2 is not installed.
    """
    import jinja2

    text = (files("xp_xent.conformance") / "report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    environment.filters |= {"ulps": ulps_text, "heat": heat, "words": words, "title": title}
    shown = said | {"subjects": [_without_passed(subject) for subject in said["subjects"]]}
    data = json.dumps(shown, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    return environment.from_string(text).render(said=said, data=data)


def _without_passed(subject: Summary) -> Summary:
    kept = [r for r in subject["results"] if r["outcome"] in ("failed", "by_design")]
    return subject | {"results": kept}


def heat(cell: Mapping[str, Any]) -> str:
    """Give the class of a cell's colour: by the largest error, and whether anything failed."""
    taken = cell["passed"] + cell["failed"] + cell["by_design"]
    if not taken:
        return "none"
    ulps = float(cell["ulps"] or 0.0)
    level = 4 if not math.isfinite(ulps) else min(4, int(math.log10(max(ulps, 1.0)) / 1.7))
    if cell["failed"]:
        return f"bad{level}"
    return f"good{min(level, 2)}" if cell["passed"] else "design"
