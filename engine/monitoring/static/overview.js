// The first page: key figures, timelines, batches, graph, state.

import { Timeline } from "./charts.js";
import { byId, el, mark, say } from "./dom.js";
import { bytes, clock, count, counted, duration, NONE, rate, rounded, share, span } from "./format.js";
import { Graph } from "./graph.js";
import { facts, Table } from "./tables.js";

const STEP = 10;
const LEAST_SPAN = 60_000;
const BEFORE_RESTART = 0.09; // of the time since it: room for the word, and for the eye to see that nothing is known before
const NORMAL_LAG = 1.5; // batches' worth
const NORMAL_AGE = 3; // intervals since what is committed
const sum = (values) => Object.values(values).reduce((total, value) => total + value, 0);
const rateOf = (records, batch) => (batch.coversMs ? (records * 1000) / batch.coversMs : 0);

export class Overview {
  constructor(open) {
    this.open = open;
    this.rows = STEP;
    this.span = 300;
    this.timelines = new Map();
    this.cpu = new Map(); // by pid what an executor had used at the last answer
    this.graph = new Graph(byId("graph"));
    this.makeTables();
    byId("more").addEventListener("click", () => {
      this.rows += 10 * STEP;
      this.update(this.feed);
    });
    byId("spans").addEventListener("change", (event) => {
      this.span = Number(event.target.value);
      this.update(this.feed);
    });
  }

  makeTables() {
    const isFine = () => this.interval % 1000 !== 0;
    const href = (batch) => `batches/${batch.batchTime}`;
    const time = { title: "Batch time", text: (batch) => clock(batch.batchTime, isFine()), href };
    const records = { title: "Records", text: (batch) => count(batch.inputSize), isNumber: true };
    const scheduling = { title: "Scheduling delay", short: "Scheduling", text: (batch) => duration(batch.schedulingDelay), isNumber: true };
    const isLate = (batch) => (batch.processingTime > this.interval ? "bad" : "");
    const processing = { title: "Processing time", short: "Processing", text: (batch) => duration(batch.processingTime), isNumber: true, tone: isLate };
    const total = { title: "Total delay", short: "Total", text: (batch) => duration(batch.totalDelay), isNumber: true };
    const outputs = {
      title: "Outputs: succeeded/total",
      short: "Outputs",
      text: (batch) => `${batch.numCompletedOutputOps}/${batch.numTotalOutputOps}`,
      isNumber: true,
      tone: (batch) => (batch.numFailedOutputOps ? "bad" : ""),
    };
    const status = { title: "Status", text: (batch) => this.statusOf(batch), tone: (batch) => batch.status.toLowerCase() };
    const error = { title: "Error", text: (batch) => batch.firstFailureReason ?? "", hint: (batch) => batch.firstFailureReason };
    const keyed = { key: (batch) => batch.batchTime, badIf: (batch) => batch.status === "FAILED" };
    this.running = new Table(byId("running"), "Running batches", [time, records, scheduling, { ...processing, title: "Running for", short: "Running", text: (batch) => duration(this.runningFor(batch)), tone: (batch) => (this.runningFor(batch) > this.interval ? "bad" : "") }, outputs, status], { ...keyed, empty: "None at this moment." });
    this.waiting = new Table(byId("waiting"), "Waiting batches", [{ ...time, href: undefined }, { title: "Due for", text: (batch) => duration(Math.max(0, this.feed.now - batch.batchTime)), isNumber: true }, { title: "Status", text: () => "queued" }], { ...keyed, empty: "None: every batch begins when it is due." });
    this.completed = new Table(byId("completed"), "Completed batches", [time, records, scheduling, processing, total, outputs, status, error], { ...keyed, empty: "None yet." });
    this.state = new Table(
      byId("state"),
      "State by operator",
      [
        { title: "Job", text: (row) => row.job },
        { title: "Operator", text: (row) => row.operator },
        { title: "Keys", text: (row) => count(row.keys), isNumber: true },
        { title: "Updated", text: (row) => count(row.updated), isNumber: true },
        { title: "On the volume", short: "Volume", text: (row) => bytes(row.bytes), isNumber: true },
        { title: "In batch", text: (row) => clock(row.batchTime, isFine()) },
      ],
      { key: (row) => row.name, empty: "No operator keeps state, or no batch is committed yet." },
    );
    this.partitions = new Table(
      byId("partitions"),
      "Lag by partition",
      [
        { title: "Topic", text: (row) => row.topic },
        { title: "Partition", text: (row) => String(row.partition), isNumber: true },
        { title: "Records", text: (row) => count(row.lagRecords), isNumber: true },
        { title: "Age of what is committed", short: "Age", text: (row) => (row.lagRecords ? duration(row.lagSeconds * 1000) : this.isWaiting ? NONE : "up to date"), isNumber: true },
      ],
      { key: (row) => `${row.topic}/${row.partition}`, empty: "The inputs tell none." },
    );
    this.executors = new Table(
      byId("executors"),
      "Executors",
      [
        { title: "Executor", text: (row) => String(row.id), isNumber: true },
        { title: "Process", text: (row) => `pid ${row.pid}`, isNumber: true },
        { title: "CPU", text: (row) => this.cpuOf(row), isNumber: true },
        { title: "Memory", text: (row) => bytes(row.residentBytes), isNumber: true },
      ],
      { key: (row) => row.id, empty: "Tasks run in the engine's own process." },
    );
  }

  // Of one core, since the last answer.
  cpuOf({ pid, cpuSeconds }) {
    const { now } = this.feed.statistics;
    const seen = this.cpu.get(pid);
    if (cpuSeconds === null) return "gone";
    if (!seen || now - seen.now >= 900) {
      const used = seen ? `${count((100_000 * (cpuSeconds - seen.cpuSeconds)) / (now - seen.now))} %` : NONE;
      this.cpu.set(pid, { now, cpuSeconds, used });
    }
    return this.cpu.get(pid).used;
  }

  statusOf(batch) {
    const again = batch.status === "COMPLETED" && batch.attempt > 0 ? `, run ${batch.attempt + 1}` : "";
    return batch.status.toLowerCase() + again;
  }

  runningFor(batch) {
    return Math.max(0, this.feed.now - batch.batchTime - (batch.schedulingDelay ?? 0));
  }

  // Whether a batch waits; then nothing is up to date, whatever the last plan saw.
  get isWaiting() {
    return this.feed.statistics.numWaitingBatches > 0;
  }

  get interval() {
    return this.feed.statistics?.batchDuration ?? 1000;
  }

  // Figures of the timelines, those of single streams after their sum.
  figures(batches) {
    const delay = (key, title, more = {}) => ({ key, title, of: (batch) => batch[key], format: duration, ...more });
    const last = batches.at(-1);
    const inputs = Object.keys(last?.inputs ?? {});
    const lagOf = ({ lagRecords }) => (Object.keys(lagRecords).length ? sum(lagRecords) : null);
    return [
      { key: "inputRate", title: "Input rate", of: (batch) => batch.inputRate, format: rate },
      ...(inputs.length > 1
        ? inputs.map((name) => ({ key: `inputRate/${name}`, title: name, isSub: true, of: (batch) => rateOf(batch.inputs[name] ?? 0, batch), format: rate }))
        : []),
      delay("schedulingDelay", "Scheduling delay"),
      delay("processingTime", "Processing time", { limit: () => this.interval }),
      delay("totalDelay", "Total delay"),
      ...(batches.some((batch) => lagOf(batch) !== null) ? [{ key: "lag", title: "Lag, uncommitted", of: lagOf, format: (value) => count(value) }] : []),
    ];
  }

  update(feed) {
    this.feed = feed;
    if (!feed.statistics) return;
    const ended = (feed.sorted ?? []).filter((batch) => batch.status === "COMPLETED");
    this.drawTiles(ended);
    this.drawTimelines(ended);
    this.drawTables();
    const keys = new Map(feed.state.operators.map((row) => [row.name, row.keys]));
    const jobs = new Set((feed.graph?.nodes ?? []).map((node) => node.job).filter(Boolean));
    say(byId("graph-note"), feed.graphRefusal ?? (jobs.size ? counted(jobs.size, "job") : ""));
    this.graph.update(feed.graph, (name) => keys.get(name) ?? null);
    this.drawState();
  }

  drawTiles(ended) {
    const { statistics, state, now, silentSince } = this.feed;
    const { percentiles } = statistics;
    const last = ended.at(-1);
    const isSilent = silentSince !== null;
    const age = state.checkpoint.lastCommitTime === null ? null : Math.max(0, now - state.checkpoint.lastCommitTime);
    const keys = sum(state.operators.map((row) => row.keys));
    const size = sum(state.operators.map((row) => row.bytes));
    const typical = ({ p50, p95 }, format) => (p50 === null ? "no batch yet" : `median ${format(p50)}\np95 ${format(p95)}`);
    const used = last ? `${share(last.processingTime, this.interval)} of ${duration(this.interval)}\np95 ${duration(percentiles.processingTime.p95)}` : "no batch yet";
    const tiles = [
      ["Input rate", rate(last?.inputRate), typical(percentiles.inputRate, rate)],
      ["Processing time", duration(last?.processingTime), used, last?.processingTime > this.interval],
      ["Total delay", duration(last?.totalDelay), typical(percentiles.totalDelay, duration), last?.totalDelay > 2 * this.interval],
      ["Waiting", counted(statistics.numWaitingBatches, "batch", "batches"), statistics.numFailedRuns ? counted(statistics.numFailedRuns, "failed run") : "no failed run", statistics.numWaitingBatches > 1],
      ["Lag, uncommitted", ...this.lag(state.partitions, percentiles.inputRate.p50)],
      ["State", counted(keys, "key"), `${bytes(size)}\non the volume`],
      ["Last commit", age === null ? NONE : age < 1000 ? "now" : `${span(age)} ago`, state.checkpoint.epoch ? `epoch ${state.checkpoint.epoch}` : "no checkpoint folder", age > 5 * this.interval + 1000 || isSilent],
    ];
    const host = byId("tiles");
    if (host.childElementCount !== tiles.length) {
      host.replaceChildren(...tiles.map(([name]) => el("div", { class: "tile" }, el("dt", {}, name), el("dd", { class: "value" }), el("dd", { class: "note" }))));
    }
    tiles.forEach(([, value, note, isBad], at) => {
      const tile = host.children[at];
      say(tile.children[1], value);
      say(tile.children[2], note);
      mark(tile, "bad", isBad);
    });
  }

  // Value and note: records that the newest plan found in the source and in no commit, those of its own batch among them; how many
  // intervals of input that is, and the age of what is committed. While a batch hangs nothing is planned: only the age grows.
  lag(partitions, usualRate) {
    if (!partitions.length) return [NONE, "the inputs tell none"];
    const behind = partitions.reduce((total, { lagRecords }) => total + lagRecords, 0);
    if (!behind) return ["0", this.isWaiting ? "records\nwhen last asked" : "records\nup to date"];
    const oldest = 1000 * Math.max(...partitions.map(({ lagSeconds }) => lagSeconds));
    const worth = usualRate ? behind / ((usualRate * this.interval) / 1000) : null;
    const isOne = worth !== null && worth < NORMAL_LAG;
    if (isOne && !this.isWaiting && oldest < NORMAL_AGE * this.interval) return [count(behind), "one batch's worth,\nas is normal"];
    const amount = worth === null ? "records" : isOne ? "when last asked," : `${rounded(worth)} batches' worth`;
    return [count(behind), `${amount}\nup to ${duration(oldest)} old`];
  }

  drawTimelines(ended) {
    const { now, restarts, sorted, statistics } = this.feed;
    const edge = this.span ? now - this.span * 1000 : -Infinity;
    const shown = ended.filter((batch) => batch.batchTime >= edge);
    const from = this.beginning(ended, shown, edge);
    const range = [from / 1000, Math.max(now, from + LEAST_SPAN) / 1000];
    const parts = shown.flatMap((batch, at) => (at && shown[at - 1].instance !== batch.instance ? [null, batch] : [batch]));
    const failed = (sorted ?? []).filter((batch) => batch.numFailedRuns || batch.status === "FAILED");
    const marks = [
      ...restarts.map(({ time }) => ({ time, kind: "restart" })),
      ...failed.map((batch) => ({ time: batch.batchTime, kind: "failed" })),
    ];
    say(byId("timelines-note"), `last ${shown.length} batches, ${count(statistics.numActiveBatches)} active, ${count(statistics.numTotalCompletedBatches)} completed`);
    const figures = this.figures(ended);
    if (figures.map(({ key }) => key).join() !== [...this.timelines.keys()].join()) this.makeTimelines(figures);
    for (const timeline of this.timelines.values()) timeline.update(parts, range, marks);
  }

  // Where the axis begins: at the first batch or restart, and at the window's edge once there is more than the window.
  beginning(ended, shown, edge) {
    // What a start runs again has a time of its own, however long ago: it does not tell that there is more.
    if (ended.some(({ batchTime, attempt }) => batchTime < edge && attempt === 0)) return edge;
    const { now } = this.feed;
    const restarts = this.feed.restarts.filter(({ time }) => time >= edge);
    const rooms = restarts.map(({ time }) => Math.max(edge, time - BEFORE_RESTART * Math.max(LEAST_SPAN, now - time)));
    return Math.min(now, ...shown.slice(0, 1).map(({ batchTime }) => batchTime), ...rooms);
  }

  makeTimelines(figures) {
    const host = byId("timelines");
    host.replaceChildren();
    this.timelines = new Map(figures.map((figure) => [figure.key, new Timeline(figure, host, this.open)]));
    this.redraw();
  }

  // The theme or the width has changed.
  redraw() {
    for (const timeline of this.timelines.values()) timeline.draw();
    if (this.feed) this.update(this.feed);
  }

  resize() {
    for (const timeline of this.timelines.values()) timeline.resize();
    if (this.feed) this.update(this.feed);
  }

  drawTables() {
    const { statistics, waiting, sorted = [] } = this.feed;
    const isActive = (batch) => batch.status === "PROCESSING" || batch.status === "QUEUED";
    const active = sorted.filter(isActive).reverse();
    const ended = sorted.filter((batch) => !isActive(batch)).reverse();
    say(byId("running-count"), `(${active.length})`);
    say(byId("waiting-count"), `(${statistics.numWaitingBatches})`);
    const shown = ended.slice(0, this.rows);
    say(byId("completed-count"), `(last ${shown.length} out of ${count(Math.max(statistics.numTotalCompletedBatches, ended.length))})`);
    this.running.update(active);
    this.waiting.update(waiting.slice(0, 10));
    this.completed.update(shown);
    mark(this.completed.table, "no-errors", shown.every((batch) => !batch.firstFailureReason));
    byId("more").hidden = ended.length <= this.rows;
  }

  drawState() {
    const { state, now } = this.feed;
    this.state.update(state.operators);
    const kept = state.checkpoint;
    const volume = kept.sizeBytes ? `${bytes(kept.freeBytes)} of ${bytes(kept.sizeBytes)}` : NONE;
    facts(byId("checkpoint"), [
      ["Epoch", kept.epoch ? count(kept.epoch) : "no checkpoint folder"],
      ["Last commit", kept.lastCommitTime === null ? NONE : `${clock(kept.lastCommitTime, true)}, ${span(Math.max(0, now - kept.lastCommitTime))} ago`],
      ["Journal", bytes(kept.journalBytes)],
      ["Snapshots on the volume", bytes(kept.stateBytes)],
      ["Snapshots written", `${count(kept.numSnapshots)}, ${bytes(kept.snapshotBytesTotal)}`],
      ["State in commits", bytes(kept.deltaBytesTotal)],
      ["Free on the volume", volume, kept.sizeBytes && kept.freeBytes < kept.sizeBytes / 20],
      ["Last restored", kept.restoreSeconds === null ? NONE : `${counted(kept.restoredKeys, "key")} in ${duration(kept.restoreSeconds * 1000)}`],
      ["Failures", kept.numFailures ? `${count(kept.numFailures)}: ${kept.lastFailure}` : "0", kept.numFailures > 0],
    ]);
    this.partitions.update(state.partitions);
    this.executors.update(state.executors);
    const replaced = state.numExecutorsReplaced ? `, ${count(state.numExecutorsReplaced)} replaced` : "";
    say(byId("executors-count"), `(${state.executors.length}${replaced})`);
  }
}
