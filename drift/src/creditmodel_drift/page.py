"""The report's page: what a person reads who has never heard of PSI, then the figures, then Evidently's report.

One file without a reference to anything outside it; a content security policy says so to the browser, for Evidently's
scripts too, which run in a frame of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from html import escape
from itertools import pairwise
from textwrap import shorten

from creditmodel_bundle.bins import CategoryBins, NumberBins
from creditmodel_bundle.measurement import Drift
from creditmodel_drift.check import Checked
from creditmodel_drift.evidently_report import EvidentlyReport
from creditmodel_drift.insights import Insights
from creditmodel_drift.keep import Mark, html_mark
from creditmodel_drift.measure import notes
from creditmodel_drift.sections import decisions_section, quality_section, trend_section
from creditmodel_drift.verdict import ACT, WATCH, ColumnVerdict, Verdict

__all__ = ["page", "plain_words"]

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "img-src data: blob:; font-src data:; frame-src 'self'; base-uri 'none'; form-action 'none'"
)
_CHARTS = 6
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1c2733;background:#f6f7f9;margin:0}
main{max-width:68rem;margin:0 auto;padding:1.5rem}
section{background:#fff;border:1px solid #e1e5ea;border-radius:8px;padding:1rem 1.5rem;margin:0 0 1rem}
h1{font-size:1.6rem;margin:.2rem 0}h2{font-size:1.15rem;margin:.2rem 0 .6rem}h3{font-size:1rem;margin:.2rem 0}
.drift{border-left:8px solid #c4302b}
.no_drift{border-left:8px solid #2e7d4f}.inconclusive{border-left:8px solid #b7791f}
.muted{color:#5b6875}table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:right;padding:.25rem .6rem;border-bottom:1px solid #edf0f3}
th:first-child,td:first-child,td:last-child,th:last-child{text-align:left}
tr.drifted td{background:#fdf0ef}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(19rem,1fr));gap:1rem}
figure{margin:0}figcaption{font-size:.85rem}svg{width:100%;height:auto}
svg text{font:10px system-ui,sans-serif;fill:#5b6875}
.before{fill:#9fb0c3}.after{fill:#1f5f99}.hot{fill:#c4302b}
i.key{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 .8em}
iframe{width:100%;height:80vh;border:1px solid #e1e5ea;border-radius:8px;background:#fff}
summary{cursor:pointer;font-weight:600}
"""
# Evidently's page remembers its theme in localStorage, which a sandboxed frame has not: without this it stays blank.
_NO_STORAGE = "{getItem: () => null, setItem() {}, removeItem() {}}"
_FRAME_HEAD = f"<head><script>Object.defineProperty(window, 'localStorage', {{value: {_NO_STORAGE}}})</script>"
_TITLES = {
    "drift": "Drift: today's applicants differ from those the model was built on",
    "no_drift": "No drift: today's applicants look like those the model was built on",
    "inconclusive": "Inconclusive: too little to tell",
}


def page(
    name: str,
    checked: Checked,
    measured: Drift,
    evidently: EvidentlyReport,
    insights: Insights,
    mark: Mark,
    created: datetime,
) -> bytes:
    """The whole page as UTF-8."""
    verdict = checked.verdict
    sections = [
        _headline(name, verdict, measured, created),
        _data(checked, insights),
        _table(verdict) if verdict.rows else "",
        _charts(verdict) if verdict.rows else "",
        trend_section(insights.trend, verdict),
        decisions_section(insights.decisions),
        quality_section(insights.realised, insights.estimated),
        _reading(verdict),
        _evidently(evidently),
    ]
    return (
        f"<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>{html_mark(mark)}"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        "<meta name='viewport' content='width=device-width'>"
        f"<title>Drift report: {escape(name)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    ).encode()


def plain_words(verdict: ColumnVerdict) -> str:
    """How a column moved, as one sentence about the bin that changed most."""
    table = verdict.column.table
    before, after = _shares(table.counts), _shares(verdict.counts)
    at = max(range(len(before)), key=lambda i: abs(after[i] - before[i]))
    what = _words(table, at)
    direction = "rose" if after[at] > before[at] else "fell"
    return f"{_title(verdict)}: the share of applicants {what} {direction} from {before[at]:.1%} to {after[at]:.1%}."


def _words(table: NumberBins | CategoryBins, at: int) -> str:
    """A bin as part of a sentence about applicants: "above 2 and up to 5, other than 3"."""
    if at >= table.out_of_range:
        return table.labels()[at]
    if isinstance(table, CategoryBins) or at < len(table.points):
        return f"at {table.labels()[at].removeprefix('= ')}"
    interval = at - len(table.points)
    low, high = [table.minimum, *table.edges][interval], [*table.edges, table.maximum][interval]
    begins = "" if low is None else f"above {low:g} and " if interval else f"from {low:g} "
    words = f"{begins}up to {high:g}" if high is not None else begins.removesuffix(" and ").strip() or "at any value"
    apart = [
        f"{point:g}" for point in table.points if (low is None or point >= low) and (high is None or point <= high)
    ]
    return words + (f", other than {', '.join(apart)}," if apart else "")


def _headline(name: str, verdict: Verdict, measured: Drift, created: datetime) -> str:
    window = measured.window
    span = f", scored from {window.start} to {window.end}" if window.start and window.end else ""
    moved = [c for c in ([verdict.score] if verdict.score else []) + list(verdict.features) if c.drifted]
    words = "".join(f"<li>{escape(plain_words(column))}</li>" for column in moved[:8])
    more = f"<p class='muted'>and {len(moved) - 8} more, below</p>" if len(moved) > 8 else ""
    return (
        f"<section class='{verdict.outcome}'><h1>{_TITLES[verdict.outcome]}</h1>"
        f"<p>{escape(_meaning(verdict))}</p>{f'<ul>{words}</ul>' if words else ''}{more}"
        f"<p class='muted'>{escape(name)}. {verdict.rows:,} applicants{escape(span)}, compared with "
        f"{verdict.reference_rows:,} of the reference. Checked {created:%Y-%m-%d %H:%M} UTC"
        f"{f', model {escape(measured.digest[:19])}…' if measured.digest else ''}.</p></section>"
    )


def _meaning(verdict: Verdict) -> str:
    if verdict.outcome == "inconclusive":
        return f"There is no answer for this window: {verdict.reason}."
    drifted = f"{len(verdict.drifted)} of {len(verdict.features)} features shifted by more than chance explains"
    score = verdict.score
    if score is None:
        outcome = "no scores were recorded"
    elif score.drifted:
        outcome = "the scores that the model gives shifted by more than that"
    else:
        outcome = "the scores that the model gives kept their distribution"
    if verdict.outcome == "no_drift":
        calm = "No feature shifted by more than chance or habit explains."
        return f"{drifted}; {outcome}. That is below the limits of an alarm." if verdict.drifted else calm
    return f"{drifted}; {outcome}. The model may judge such applicants less well than it was measured to."


def _data(checked: Checked, insights: Insights) -> str:
    items = [*notes(checked, insights.realised), *insights.problems]
    items += [f"{n:,} requests were refused with: {e}" for e, n in checked.counts.census.refusals]
    for word, parts in (("corrupt", checked.survey.corrupt), ("foreign", checked.survey.foreign)):
        items += [f"{word} part {name}: {why}" for name, why in list(parts.items())[:20]]
    if not items:
        return ""
    return f"<section><h2>About the data</h2><ul>{''.join(f'<li>{escape(i)}</li>' for i in items)}</ul></section>"


def _table(verdict: Verdict) -> str:
    rows = "".join(_row(c) for c in ([verdict.score] if verdict.score else []) + list(verdict.features))
    return (
        "<section><h2>Every column</h2><p class='muted'>PSI says how differently today's applicants spread over the "
        f"values of a column: 0 is not at all, under {WATCH:g} is read as stable, over {ACT:g} as a reason to act. A "
        "column with a PSI over its threshold, or with too many missing or unknown values, has drifted.</p>"
        "<table><tr><th>column<th>PSI<th>threshold<th>missing<th>was"
        f"<th>unseen or out of range<th>was<th>why it drifted</tr>{rows}</table></section>"
    )


def _row(c: ColumnVerdict) -> str:
    rates = (c.missing_rate, c.reference_missing_rate, c.unseen_rate, c.reference_unseen_rate)
    return (
        f"<tr{' class=drifted' if c.drifted else ''}><td>{escape(_title(c))}<td>{c.psi:.3f}<td>{c.threshold:.3f}"
        f"{''.join(f'<td>{rate:.1%}' for rate in rates)}<td>{escape('; '.join(c.causes))}</tr>"
    )


def _charts(verdict: Verdict) -> str:
    columns = ([verdict.score] if verdict.score else []) + list(verdict.features)
    first = [c for c in columns if c.drifted or c is verdict.score] or columns
    first = first[: max(_CHARTS, 1)]
    rest = [c for c in columns if c not in first]
    folded = f"<details><summary>{len(rest)} more columns</summary>{_grid(rest)}</details>" if rest else ""
    return (
        "<section><h2>Distributions over the frozen bins</h2><p class='muted'>Share of applicants per bin:"
        "<i class='key' style='background:#9fb0c3'></i>reference<i class='key' style='background:#1f5f99'></i>current"
        f"<i class='key' style='background:#c4302b'></i>current, drifted</p>{_grid(first)}{folded}</section>"
    )


def _grid(columns: Iterable[ColumnVerdict]) -> str:
    return f"<div class='charts'>{''.join(_chart(column) for column in columns)}</div>"


def _chart(verdict: ColumnVerdict) -> str:
    """Paired bars, reference beside current. Bins that are empty in both are left out."""
    table = verdict.column.table
    before, after = _shares(table.counts), _shares(verdict.counts)
    names = zip(table.labels(), _ticks(table), strict=True)
    shown = [(label, p, q) for label, p, q in zip(names, before, after, strict=True) if p or q]
    top = max((max(p, q) for _, p, q in shown), default=1.0) or 1.0
    width = 300 / max(len(shown), 1)
    kind = "hot" if verdict.drifted else "after"
    bars = "".join(
        _bars(i * width, width, p / top, q / top, label, (p, q), kind) for i, (label, p, q) in enumerate(shown)
    )
    what = escape(shorten(verdict.column.description, 80, placeholder=" …"))
    return (
        f"<figure><figcaption><b>{escape(_title(verdict))}</b> PSI {verdict.psi:.3f} <span class='muted'>{what}</span>"
        f"</figcaption><svg viewBox='0 0 360 160' role='img'>{bars}</svg></figure>"
    )


def _ticks(table: NumberBins | CategoryBins) -> list[str]:
    """What stands below each bin: short, to three digits."""
    if isinstance(table, CategoryBins):
        return [label if len(label) <= 16 else f"{label[:15]}…" for label in table.labels()]
    edges = [_brief(edge) for edge in table.edges]
    inner = [f"{low} to {high}" for low, high in pairwise(edges)]
    intervals = [f"to {edges[0]}", *inner, f"over {edges[-1]}"] if edges else ["other"]
    return [*(_brief(point) for point in table.points), *intervals, *table.labels()[-2:]]


def _brief(value: float) -> str:
    """A number to three digits: 12.9k for 12,850."""
    for size, unit in ((1e9, "bn"), (1e6, "m"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _bars(
    x: float, width: float, p: float, q: float, name: tuple[str, str], shares: tuple[float, float], kind: str
) -> str:
    thick = min(width * 0.42, 24)
    middle = x + width / 2
    label, short = name
    tip = f"<title>{escape(label)}: reference {shares[0]:.1%}, current {shares[1]:.1%}</title>"
    return (
        f"<g>{tip}{_bar('before', middle - thick, thick, p)}{_bar(kind, middle, thick, q)}"
        f"<text transform='translate({middle:.1f},106) rotate(40)'>{escape(short)}</text></g>"
    )


def _bar(kind: str, x: float, width: float, height: float) -> str:
    """A bar of a height between 0 and 1."""
    tall = 96 * height
    return f"<rect class='{kind}' x='{x:.1f}' y='{100 - tall:.1f}' width='{width:.1f}' height='{tall:.1f}'/>"


def _reading(verdict: Verdict) -> str:
    s = verdict.settings
    return (
        "<section><details><summary>How to read this</summary><p>Training cut each feature into bins that hold about a "
        "tenth of the applicants each, and froze them. The population stability index (PSI) says how differently "
        "today's applicants spread over those bins: 0 is not at all. The credit industry reads "
        f"under {WATCH:g} as stable, {WATCH:g} to {ACT:g} as worth a look and over {ACT:g} as a reason to act.</p>"
        "<p>A small sample spreads differently by chance alone. A column's threshold is therefore the larger of the "
        f"practical limit ({s.psi:g}) and the highest PSI that chance explains for this many applicants; over all "
        f"columns together, a false finding has a probability of about {s.alpha:.1%} at most. The data have "
        f"drifted when one column's PSI is over {s.alarm_psi:g}, or over {s.max_drifted_share:.0%} of the features. "
        "Missing, unseen and "
        "out-of-range values have exact tests of their own. With fewer than "
        f"{verdict.min_rows or 'any number of'} applicants there is no verdict, since a serious shift could pass "
        "unseen.</p></details></section>"
    )


def _evidently(evidently: EvidentlyReport) -> str:
    left = "".join(f"<li>{escape(name)} {escape(why)}</li>" for name, why in evidently.left_out.items())
    out = f"<p>Left out:</p><ul>{left}</ul>" if left else ""
    if evidently.html is None:
        why = escape(evidently.problem or "")
        return f"<section><h2>Evidently</h2><p>There is no report by Evidently: {why}.</p>{out}</section>"
    framed = escape(evidently.html.replace("<head>", _FRAME_HEAD, 1), quote=True)
    return (
        f"<section><h2>Evidently</h2><p>Evidently's own view of a random sample ({evidently.rows[0]:,} reference, "
        f"{evidently.rows[1]:,} current rows). Its tests and limits are its own and may differ from the verdict above, "
        f"which counts all rows.</p>{out}<iframe title='Evidently report' sandbox='allow-scripts' "
        f'srcdoc="{framed}"></iframe></section>'
    )


def _title(verdict: ColumnVerdict) -> str:
    return "score (log-odds)" if verdict.column.name.startswith("_") else verdict.column.name


def _shares(counts: list[int]) -> list[float]:
    total = sum(counts) or 1
    return [count / total for count in counts]
