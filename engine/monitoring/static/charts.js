// A timeline of one figure beside its histogram; both are uPlot's, share the y axis, and follow the theme.

import { el, mark, say } from "./dom.js";
import { clock, count } from "./format.js";

/* global uPlot */

const HEIGHT = 128;
const TOP = 18; // room for words above the plot, where no line runs
const AXIS = 26;
const SIDE = 64;
const BINS = 14;

export const colours = () => {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return {
    line: of("--accent"),
    area: of("--accent-soft"),
    bad: of("--bad"),
    text: of("--muted"),
    grid: of("--hairline"),
    strong: of("--ink-2"),
    font: `11px ${getComputedStyle(document.body).fontFamily}`,
  };
};

// The next number that reads well: 1, 2 or 5 times a power of ten, with steps between.
function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= value) * power;
}

const ticks = (top) => (top > 1 ? [0, top / 2, top] : [0, top]);

export class Timeline {
  // figure: {key, title, of(batch), format(value), limit?(), isSub?}
  constructor(figure, host, open) {
    this.figure = figure;
    this.open = open;
    this.top = 1;
    this.range = [0, 1];
    this.heading = el("h3", {}, figure.title);
    this.average = el("p", { class: "average" });
    this.legend = el("p", { class: "legend" });
    this.pointed = el("p", { class: "pointed", "aria-hidden": "true" });
    this.plot = el("div", { class: "plot", role: "img", "aria-label": figure.title });
    this.histogram = el("div", { class: "histogram", role: "img", "aria-label": `Histogram of ${figure.title}` });
    this.row = el(
      "div",
      { class: figure.isSub ? "timeline sub" : "timeline", "data-key": figure.key },
      el("div", { class: "label" }, this.heading, this.average, this.legend, this.pointed),
      this.plot,
      this.histogram,
    );
    host.append(this.row);
  }

  draw() {
    this.lines?.destroy();
    this.bars?.destroy();
    const colour = colours();
    this.lines = new uPlot(this.lineOptions(colour), [[], [], []], this.plot);
    this.bars = new uPlot(this.barOptions(colour), [[], []], this.histogram);
    this.lines.over.addEventListener("click", () => {
      const batch = this.batches?.[this.lines.cursor.idx];
      if (batch) this.open(batch.batchTime);
    });
  }

  axis(colour, more) {
    return {
      stroke: colour.text,
      font: colour.font,
      grid: { stroke: colour.grid, width: 1 },
      ticks: { show: false },
      gap: 6,
      ...more,
    };
  }

  lineOptions(colour) {
    return {
      width: Math.max(this.plot.clientWidth, 120),
      height: HEIGHT,
      legend: { show: false },
      padding: [TOP, 6, 0, 0],
      cursor: {
        sync: { key: "batches" },
        drag: { x: false, y: false, setScale: false },
        y: false,
        points: { size: 7, width: 0, fill: colour.line },
      },
      scales: { x: { time: true, range: () => this.range }, y: { range: () => [0, this.top] } },
      axes: [
        this.axis(colour, { size: AXIS, space: 70, grid: { show: false }, values: (plot, splits) => splits.map((at) => this.timeLabel(plot, at)) }),
        this.axis(colour, { size: SIDE, splits: () => ticks(this.top), values: (_, splits) => splits.map(this.figure.format) }),
      ],
      series: [
        {},
        { stroke: colour.line, width: 1.5, fill: colour.area, points: { size: 4, fill: colour.line } },
        { stroke: colour.bad, width: 1.5, points: { show: true, size: 4, fill: colour.bad, stroke: colour.bad } },
      ],
      hooks: { draw: [(plot) => this.drawMarks(plot, colour)], setCursor: [(plot) => this.point(plot)] },
    };
  }

  // A label that would be cut at the edge is left out.
  timeLabel(plot, at) {
    const x = plot.valToPos(at, "x");
    return x > 24 && x < plot.over.clientWidth - 24 ? clock(at * 1000) : "";
  }

  barOptions(colour) {
    return {
      width: Math.max(this.histogram.clientWidth, 60),
      height: HEIGHT,
      legend: { show: false },
      padding: [TOP, 14, 0, 4],
      cursor: { show: false },
      scales: {
        x: { time: false, ori: 1, dir: 1, range: () => [0, this.top] },
        y: { ori: 0, dir: 1, range: (_, __, most) => [0, Math.max(most, 1)] },
      },
      axes: [
        this.axis(colour, { side: 3, size: 4, splits: () => ticks(this.top), values: (_, splits) => splits.map(() => "") }),
        this.axis(colour, {
          side: 2,
          size: AXIS,
          grid: { show: false },
          splits: (plot) => [0, plot.scales.y.max],
          values: (_, splits) => splits.map(count),
        }),
      ],
      series: [
        {},
        { fill: colour.line, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [1, Infinity], align: 1, gap: 1 }) },
      ],
    };
  }

  // batches: those with the figure, oldest first; null between the engines of a restart.
  update(batches, range, marks) {
    this.batches = batches;
    this.range = range;
    this.marks = marks;
    const limit = this.figure.limit?.() ?? null;
    const values = batches.map((batch) => (batch ? this.figure.of(batch) : null));
    const shown = values.filter((value) => value !== null);
    const most = Math.max(0, ...shown);
    this.limit = limit;
    this.top = ceiling(limit === null ? most : Math.max(most, limit * 1.2));
    const times = batches.map((batch, at) => (batch ? batch.batchTime : batches[at - 1].batchTime + 1) / 1000);
    const over = values.map((value) => (limit !== null && value > limit ? value : null));
    this.lines.setData([times, values, over]);
    const counts = new Array(BINS).fill(0);
    for (const value of shown) counts[Math.min(BINS - 1, Math.floor((value / this.top) * BINS))] += 1;
    this.bars.setData([counts.map((_, at) => (at * this.top) / BINS), counts]);
    this.tell(shown, most);
  }

  tell(shown, most) {
    const { format, title } = this.figure;
    const last = shown.at(-1);
    const average = shown.length ? shown.reduce((sum, value) => sum + value, 0) / shown.length : null;
    say(this.average, shown.length ? `avg ${format(average)}` : "no batch yet");
    mark(this.row, "over", this.limit !== null && last > this.limit);
    const interval = this.limit === null ? "" : `batch interval ${format(this.limit)}`;
    say(this.legend, interval);
    const limit = interval && `, ${interval}`;
    const text = shown.length
      ? `${title} of ${shown.length} batches: last ${format(last)}, average ${format(average)}, largest ${format(most)}${limit}`
      : `${title}: no batch yet`;
    this.plot.setAttribute("aria-label", text);
    this.histogram.setAttribute("aria-label", `Histogram: ${text}`);
  }

  point(plot) {
    const batch = this.batches?.[plot.cursor.idx];
    say(this.pointed, batch ? `${clock(batch.batchTime)}  ${this.figure.format(this.figure.of(batch))}` : "");
  }

  drawMarks(plot, colour) {
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio || 1;
    ctx.save();
    ctx.font = `${11 * ratio}px ${getComputedStyle(document.body).fontFamily}`;
    ctx.lineWidth = ratio;
    ctx.textAlign = "center";
    ctx.textBaseline = "bottom";
    if (this.limit !== null) {
      const y = plot.valToPos(this.limit, "y", true);
      this.dash(ctx, colour.bad, [6, 4], bbox.left, y, bbox.left + bbox.width, y, ratio);
    }
    for (const { time, kind } of this.marks ?? []) {
      const x = plot.valToPos(time / 1000, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      if (kind === "restart") {
        this.dash(ctx, colour.strong, [2, 3], x, bbox.top, x, bbox.top + bbox.height, ratio);
        const half = ctx.measureText("restart").width / 2;
        ctx.fillStyle = colour.strong;
        ctx.fillText("restart", Math.min(Math.max(x, bbox.left + half), bbox.left + bbox.width - half), bbox.top - 4 * ratio);
      } else {
        ctx.fillStyle = colour.bad;
        ctx.beginPath();
        ctx.moveTo(x, bbox.top + bbox.height - 7 * ratio);
        ctx.lineTo(x - 4 * ratio, bbox.top + bbox.height);
        ctx.lineTo(x + 4 * ratio, bbox.top + bbox.height);
        ctx.fill();
      }
    }
    ctx.restore();
  }

  dash(ctx, stroke, pattern, x, y, toX, toY, ratio) {
    ctx.strokeStyle = stroke;
    ctx.setLineDash(pattern.map((length) => length * ratio));
    ctx.beginPath();
    ctx.moveTo(x, y);
    ctx.lineTo(toX, toY);
    ctx.stroke();
    ctx.setLineDash([]);
  }

  resize() {
    if (!this.plot.clientWidth) return;
    this.lines.setSize({ width: this.plot.clientWidth, height: HEIGHT });
    this.bars.setSize({ width: this.histogram.clientWidth, height: HEIGHT });
  }
}
