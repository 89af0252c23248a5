"""A report for people: a table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from automations.demo.simulation.report import Counted, Latency, Report


def print_report(report: Report, console: Console) -> None:
    """Print the figures of a run."""
    if console.is_terminal:
        console.print(_build_table(report))
    else:
        for name, value in _list_figures(report):
            console.print(f"{name}: {value}", highlight=False, soft_wrap=True)


def print_counted(counted: Sequence[Counted], console: Console) -> None:
    """Print how many runs the automations have more than before."""
    if not console.is_terminal:
        for one in counted:
            console.print(f"runs of {one.name}: {one.after:,} (+{one.after - one.before:,})",
                          highlight=False, markup=False, soft_wrap=True)  # fmt: skip
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("automation", "runs", "counted now"):
        table.add_column(heading, justify="left" if heading == "automation" else "right")
    for one in counted:
        new = Text(f"+{one.after - one.before:,}", style="green")
        table.add_row(Text(one.name), f"{one.after:,}", new)
    console.print(table)


def _build_table(report: Report) -> Group:
    kinds = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, side in (("kind", "left"), ("sent", "right"), ("acknowledged", "right")):
        kinds.add_column(heading, justify="left" if side == "left" else "right")
    for kind, figures in report.kinds.items():
        is_complete = figures.sent == figures.acknowledged
        kinds.add_row(
            kind,
            f"{figures.sent:,}",
            Text(f"{figures.acknowledged:,}", style="green" if is_complete else "red"),
        )
    figures_table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _list_figures(report):
        if name == "kinds":
            continue  # the table above
        figures_table.add_row(Text(name, style="dim"), value)
    return Group(kinds, figures_table)


def _list_figures(report: Report) -> list[tuple[str, str]]:
    kinds = ", ".join(f"{kind} {one.acknowledged:,}" for kind, one in report.kinds.items())
    answers = ", ".join(f"{status} x {count:,}" for status, count in report.statuses.items())
    figures = {
        "events": f"{report.events_acknowledged:,} of {report.events_sent:,} acknowledged",
        "kinds": kinds,
        "deliveries": f"{report.deliveries:,} ({report.redeliveries:,} of them redeliveries)",
        "answers": answers,
        "retries": f"{report.retries:,}",
        "forged": f"{report.forged_accepted:,} of {report.forged:,} accepted"
        if report.forged
        else "",
        "latency": _describe_latency(report.latency_ms),
        "speed": f"{report.events_per_second:,.0f} events/s, copies included "
        f"({report.events_posted:,} in {report.seconds:.1f} s)",
        "seed": str(report.seed),
    }
    return [(name, value) for name, value in figures.items() if value]


def _describe_latency(latency: Latency | None) -> str:
    if latency is None:
        return ""
    return (
        f"p50 {latency.p50:.1f} ms, p95 {latency.p95:.1f} ms, p99 {latency.p99:.1f} ms, "
        f"max {latency.max:.1f} ms"
    )
