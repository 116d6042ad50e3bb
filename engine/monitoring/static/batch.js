// The page of one batch.

import { el, mark } from "./dom.js";
import { ask, Refusal } from "./feed.js";
import { bytes, clock, count, duration, moment, NONE, share } from "./format.js";
import { facts, Table } from "./tables.js";

const STAGES = {
  plan: "ask the inputs for ranges",
  begin: "write the begin record",
  state: "compute every shard of state",
  outputs: "run the outputs",
  finish: "read what no output read",
  ledger: "write the ledger",
  commit: "write the commit record",
  snapshot: "write snapshots, after the batch",
  purge: "remove what is not needed, after the batch",
};

const ENDED = new Set(["COMPLETED", "FAILED"]);

export class BatchPage {
  constructor(host) {
    this.host = host;
    this.shown = null;
  }

  reason(error) {
    if (!(error instanceof Refusal)) return "The engine does not answer.";
    if (error.status !== 404) return "This is no batch, but what was answered in its place:";
    return "The engine does not keep this batch: it keeps the last 1,000 since its start.";
  }

  leave() {
    this.shown = null;
  }

  // Asks again until the batch has ended and what comes after it is told too.
  async update(time, feed) {
    const live = feed.batches.get(time);
    const key = `${time}/${live?.instance}/${live?.revision}`;
    if (this.shown === key || feed.silentSince !== null) return;
    if (this.shown === null) this.host.replaceChildren(el("p", { class: "empty" }, "Asking the engine."));
    this.shown = key;
    document.title = `Batch ${clock(time)} – ${feed.statistics.app ?? "streaming"}`;
    try {
      const batch = await ask(`api/v1/batches/${time}`);
      if (this.shown === key) this.draw(batch);
    } catch (error) {
      this.host.replaceChildren(
        el("p", { class: "crumb" }, el("a", { href: ".", "data-nav": true }, "All batches")),
        el("h2", {}, `Batch ${moment(time)}`),
        el("p", { class: "empty" }, this.reason(error)),
        el("p", { class: "empty" }, String(error.message)),
      );
      if (error.status !== 404) this.shown = ""; // the next answer asks again
    }
  }

  draw(batch) {
    const interval = batch.batchDuration;
    const isFine = interval % 1000 !== 0;
    const link = (time, text) =>
      time === null ? null : el("a", { href: `batches/${time}`, "data-nav": true }, text);
    const figures = el("dl", { class: "facts wide" });
    facts(figures, this.figures(batch));
    const sections = [
      this.failures(batch),
      this.section("Stages", "time of each step, one after another", (host) => this.stages(host, batch)),
      this.section("Outputs", "", (host) => this.outputs(host, batch)),
      this.section("Ranges", "[from, until) of each partition", (host) => this.ranges(host, batch)),
      batch.state.length ? this.section("State", "after the batch", (host) => this.state(host, batch)) : null,
    ];
    this.host.replaceChildren(
      el(
        "nav",
        { class: "crumb", "aria-label": "Batches" },
        el("a", { href: ".", "data-nav": true }, "All batches"),
        link(batch.previousBatch, "← earlier"),
        link(batch.nextBatch, "later →"),
      ),
      el(
        "h2",
        { class: "batch-title" },
        `Batch ${moment(batch.batchTime, isFine)} `,
        el("span", { class: "tag", "data-tone": batch.status.toLowerCase() }, batch.status.toLowerCase()),
      ),
      figures,
      ...sections.filter((section) => section !== null),
    );
    this.host.dataset.batch = batch.batchTime;
  }

  figures(batch) {
    const dead = Object.entries(batch.deadLetters);
    const tasks = Object.entries(batch.tasks).filter(([, number]) => number > 0);
    const list = (pairs, none) => (pairs.length ? pairs.map(([name, number]) => `${count(number)} ${name}`).join(", ") : none);
    return [
      ["Batch interval", batch.coversMs > batch.batchDuration ? `${duration(batch.batchDuration)}, caught up ${duration(batch.coversMs)}` : duration(batch.batchDuration)],
      ["Records", count(batch.inputSize)],
      ["Scheduling delay", duration(batch.schedulingDelay)],
      ["Processing time", duration(batch.processingTime), batch.processingTime > batch.batchDuration],
      ["Total delay", duration(batch.totalDelay)],
      ["Runs", `${count(batch.attempt + 1)}${batch.numFailedRuns ? `, ${count(batch.numFailedRuns)} failed` : ""}`, batch.numFailedRuns > 0],
      ["Tasks", list(tasks, ENDED.has(batch.status) ? "0" : NONE), Boolean(batch.tasks.failed || batch.tasks.lost)],
      ["Dead letters", list(dead, "0"), dead.length > 0],
      ["State in the commit", bytes(batch.deltaBytes)],
    ];
  }

  section(title, note, drawInto) {
    const host = el("div");
    drawInto(host);
    return el("section", {}, el("h2", {}, `${title} `, note ? el("small", {}, note) : null), host);
  }

  failures(batch) {
    if (!batch.failures.length) return null;
    const items = batch.failures.map((failure) =>
      el(
        "div",
        { class: "failure" },
        el("p", {}, el("strong", {}, `Run ${failure.attempt + 1}${failure.stage ? `, ${failure.stage}` : ""}, ${clock(failure.time, true)}: `), failure.reason),
        el("details", { open: batch.failures.length === 1 }, el("summary", {}, "Traceback"), el("pre", { tabindex: 0 }, failure.traceback.trimEnd())),
      ),
    );
    return el("section", { class: "failures" }, el("h2", {}, "Errors"), ...items);
  }

  stages(host, batch) {
    const total = batch.stages.reduce((sum, stage) => sum + stage.seconds, 0);
    if (!total) {
      host.append(el("p", { class: "empty" }, "Told when the batch is committed."));
      return;
    }
    let before = 0;
    const rows = batch.stages.map(({ name, seconds }) => {
      const bar = el("span", { class: "bar", "aria-hidden": "true" });
      bar.style.marginLeft = `${(100 * before) / total}%`;
      bar.style.width = `${(100 * seconds) / total}%`;
      before += seconds;
      return el(
        "li",
        { title: STAGES[name] ?? "" },
        el("span", { class: "stage" }, name),
        el("span", { class: "track" }, bar),
        el("span", { class: "figure" }, duration(seconds * 1000)),
        el("span", { class: "figure part" }, share(seconds, total)),
      );
    });
    host.append(el("ol", { class: "stages" }, ...rows));
  }

  outputs(host, batch) {
    const rows = (output) => Object.entries(output.rows).map(([table, number]) => `${count(number)} in ${table}`).join(", ");
    const table = new Table(
      host,
      "Outputs of the batch",
      [
        { title: "Job", text: (output) => output.job },
        { title: "Output", text: (output) => output.description },
        { title: "Status", text: (output) => output.status.toLowerCase(), tone: (output) => output.status.toLowerCase() },
        { title: "Duration", text: (output) => duration(output.duration), isNumber: true },
        { title: "Rows", text: rows },
        { title: "Error", text: (output) => output.error ?? "" },
      ],
      { key: (output) => output.name, badIf: (output) => output.status === "FAILED", empty: "No output was due, or none has begun." },
    );
    table.update(batch.operations);
    mark(table.table, "no-errors", batch.operations.every((output) => !output.error));
  }

  ranges(host, batch) {
    new Table(
      host,
      "Ranges of the batch",
      [
        { title: "Topic", text: (part) => part.topic },
        { title: "Partition", text: (part) => String(part.partition), isNumber: true },
        { title: "From", text: (part) => count(part.fromOffset), isNumber: true },
        { title: "Until", text: (part) => count(part.untilOffset), isNumber: true },
        { title: "Records", text: (part) => count(part.records), isNumber: true },
        { title: "Left for later", text: (part) => (part.lagRecords === null ? NONE : count(part.lagRecords)), isNumber: true },
      ],
      { key: (part) => `${part.topic}/${part.partition}`, empty: "Only the sums of this batch are kept." },
    ).update(batch.ranges);
  }

  state(host, batch) {
    new Table(
      host,
      "State after the batch",
      [
        { title: "Operator", text: (row) => row.operator },
        { title: "Keys", text: (row) => count(row.keys), isNumber: true },
        { title: "Updated", text: (row) => count(row.updated), isNumber: true },
        { title: "Bytes", text: (row) => bytes(row.bytes), isNumber: true },
      ],
      { key: (row) => row.operator },
    ).update(batch.state);
  }
}
