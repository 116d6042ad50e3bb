"""The demo's screen, at most 80 columns and 24 lines, and its plain lines where there is no terminal.

Owns: Story, screen, plain_line, LEGEND, closing_rows, PROOF_LEGEND.
Never: a question to the stack.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.settings import Settings
from tools.demo.watch import Sample, newest_ranking, newest_windows, top_pages

LEGEND = "by topic: records/s, lag (records not processed yet); seconds that a batch takes"
"""What the plain lines show."""
PROOF_LEGEND = (
    "proof: every row, recomputed from the log (behind: not processed yet;",
    "cut: the last batch judged; closed form: totals that the seed foretells)",
)
"""What the words of the verdict mean."""

_ROWS = 5
_BAR_CELLS = 20
_WIDTH = 79
_CELLS = 16
_LONG_SECONDS = 10.0
"""From here on a hundredth says nothing, and takes place on the line."""


@dataclass(slots=True)
class Story:
    """What the demo does, apart from what the stack does by itself."""

    seconds: float = 0.0
    """Since the pipeline began."""
    now: str = ""
    """What goes on."""
    addresses: str = ""
    """Where a browser can look."""
    told: list[tuple[float, str]] = field(default_factory=list)
    """(when, what) of what has happened."""

    def tell(self, text: str) -> None:
        """Add what has just happened."""
        self.told.append((self.seconds, text))


def screen(story: Story, sample: Sample, settings: Settings) -> RenderableType:
    """Everything on one screen."""
    return Group(
        _title(story, settings),
        Text(f" {story.addresses}", style="dim", no_wrap=True),
        _topics(sample, settings),
        Text(),
        _engine(sample, settings),
        Text(),
        _tables(sample),
        Text(),
        *(Text(f" {minutes(when)}  {what}", style="yellow") for when, what in story.told[-4:]),
    )


def plain_line(story: Story, sample: Sample, settings: Settings) -> str:
    """The same in a line of at most 80 columns."""
    batches = sample.batches
    if batches is None:
        return f"{minutes(story.seconds)}  the engine is down"
    parts = [
        f"{name} {_rate(topic.rate)}/s lag {_count(topic.lag)}"
        if topic.rate is not None
        else f"{name} starts"
        for name, topic in sample.topics.items()
    ]
    took = (
        f"batch {_seconds(batches.processing_seconds)}/{settings.batch_seconds:g} s"
        if batches.done
        else "no batch yet"
    )
    return "  ".join((minutes(story.seconds), *parts, took))


def closing_rows(sample: Sample) -> Iterable[str]:
    """A handful of the newest results."""
    ranking = newest_ranking(sample.tables.get("trending_pages", {}), _ROWS)
    if ranking:
        yield f"top pages of the window that ended at {_clock(ranking[0][0])} (trending_pages)"
    for rank, (_, page, views) in enumerate(ranking, 1):
        yield f"  {rank}  {page}  {views:,} views"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < _LONG_SECONDS else f"{seconds:.0f}"


def minutes(seconds: float) -> str:
    """A length of time as a clock shows it.

    Example:
        >>> minutes(83.4)
        '1:23'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _title(story: Story, settings: Settings) -> RenderableType:
    row = Table.grid(expand=False)
    row.add_column(width=_WIDTH - 30, no_wrap=True)
    row.add_column(width=30, justify="right", no_wrap=True)
    where = "Kafka, Cassandra" if settings.stack == "processes" else "log on disk, SQLite"
    row.add_row(f"[bold] {minutes(story.seconds)}  {story.now}", f"[dim]{where}, {settings.master}")
    return row


def _topics(sample: Sample, settings: Settings) -> RenderableType:
    table = Table.grid(padding=(0, 2), pad_edge=True)
    table.add_column(min_width=10, no_wrap=True)
    for _ in range(3):
        table.add_column(justify="right", min_width=9, no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_row(*(f"[dim]{title}" for title in ("topic", "records/s", "processed", "waiting", "jobs")))
    jobs = {
        "ad-events": [job for job in settings.jobs if job == "campaign_windows"],
        "page-views": [job for job in settings.jobs if job != "campaign_windows"],
    }
    for name, topic in sample.topics.items():
        numbers = (_rate(topic.rate), f"{topic.committed:,}", _count(topic.lag))
        table.add_row(f"[cyan]{name}", *numbers, ", ".join(jobs[name]))
    return table


def _engine(sample: Sample, settings: Settings) -> RenderableType:
    table = Table.grid(padding=(0, 2), pad_edge=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    batches = sample.batches
    if batches is None:
        table.add_row("batch", "[bold red]the engine is down")
        table.add_row("state", "[dim]on the volume")
    else:
        share = batches.processing_seconds / settings.batch_seconds
        took = f"takes {batches.processing_seconds:.2f} s of its {settings.batch_seconds:g} s  {_bar(share)}"
        table.add_row("batch", took if batches.done else "no batch yet")
        keys = ", ".join(f"{name} {count:,}" for name, count in batches.state_keys.items())
        table.add_row("state", f"keys: {keys}" if keys else "no keys yet")
    table.add_row("journal", _journal(sample))
    return table


def _journal(sample: Sample) -> str:
    commit = _clock(sample.commit.time) if sample.commit.time else "none"
    text = f"last commit {commit}, start {sample.starts} of the engine"
    if sample.batches:
        text += f", {sample.batches.done} batches since"
    if sample.batches and sample.batches.again:
        text += f" ({sample.batches.again} again)"
    if sample.batches and sample.batches.failed:
        text += f", {sample.batches.failed} failed"
    return text


def _tables(sample: Sample) -> RenderableType:
    """The newest rows of each table side by side."""
    row = Table.grid(padding=(0, 2), pad_edge=True)
    titles, columns = [], []
    for name, rows in sample.tables.items():
        titles.append(f"[cyan]{name}[/] [dim]{len(rows):,} rows")
        if name == "campaign_windows":
            lines = [
                f"{_clock(start)} {what} {views:>3}" for start, what, views in newest_windows(rows, _ROWS)
            ]
        elif name == "trending_pages":
            ranking = enumerate(newest_ranking(rows, _ROWS), 1)
            lines = [f"{_clock(end)} {rank} {page} {views:>3}" for rank, (end, page, views) in ranking]
        else:
            lines = [f"{page} {views:>5,}" for page, views in top_pages(rows, _ROWS)]
        columns.append(lines + [""] * (_ROWS - len(lines)))
    for _ in columns:
        row.add_column(no_wrap=True, min_width=_CELLS)
    row.add_row(*titles)
    for cells in zip(*columns, strict=True):
        row.add_row(*cells)
    return row


def _bar(share: float) -> str:
    filled = min(round(share * _BAR_CELLS), _BAR_CELLS)
    colour = "green" if share <= 1 else "red"
    return f"[{colour}]{'█' * filled}[/][dim]{'░' * (_BAR_CELLS - filled)}[/] {share:.0%}"


def _rate(rate: float | None) -> str:
    return "..." if rate is None else f"{rate:,.0f}"


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _clock(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1_000, tz=UTC).strftime("%H:%M:%S")


def shortfalls(rows: dict[str, int], kills: int, jobs: Sequence[str]) -> Iterable[str]:
    """Why the demo has not shown what it is there for, beside the verdict."""
    for job in jobs:
        if not rows.get(job):
            yield f"table {job} has no row"
    if not kills:
        yield "the engine was not killed"
