// What the engine tells, asked for once a second; goes on by itself when the engine dies and comes back.

const EVERY_MS = 1000;
const PATIENCE_MS = 4000;
const KEPT = 1000;

// An answer that is no figures: the engine, or whoever has its port, said something else.
export class Refusal extends Error {
  constructor(status, text) {
    const said = text.trim().slice(0, 300);
    super(said.startsWith(`${status}:`) ? said : `${status}: ${said}`);
    this.status = status;
  }
}

// Throws a Refusal when something else was answered, and fetch's own errors when nothing was.
export async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" });
  const text = await answer.text();
  if (!answer.ok) throw new Refusal(answer.status, text);
  try {
    return JSON.parse(text);
  } catch {
    throw new Refusal(answer.status, text);
  }
}

export class Feed {
  constructor(onChange, onFailure) {
    this.onChange = onChange;
    this.onFailure = onFailure; // told the error of an answer that could not be shown, null of one that could
    this.batches = new Map(); // by batch time, those of engines before this one too
    this.waiting = [];
    this.statistics = null;
    this.state = null;
    this.graph = null;
    this.graphRefusal = null;
    this.instance = null;
    this.revision = 0;
    this.restarts = []; // {time} at which another process took over
    this.skew = 0; // the engine's clock minus ours
    this.lastAnswer = null; // by our clock
    this.silentSince = null; // since when there are no figures
    this.refusal = null; // what was answered in their place; null when nothing was
  }

  get now() {
    return Date.now() + this.skew;
  }

  start() {
    document.addEventListener("visibilitychange", () => !document.hidden && this.poll());
    this.poll();
  }

  // One question at a time; a hidden page asks nothing.
  async poll() {
    if (this.isAsking || document.hidden) return;
    this.isAsking = true;
    clearTimeout(this.timer);
    try {
      const live = await this.listen();
      if (live !== null && live.instance !== this.instance) this.meet(live);
      else if (live !== null) this.take(live);
      this.onChange(this);
      this.onFailure(null);
    } catch (error) {
      this.onFailure(error);
    } finally {
      // Whatever an answer did to the page: the next one is asked for.
      this.isAsking = false;
      this.timer = setTimeout(() => this.poll(), EVERY_MS);
    }
  }

  // The newest answer, whole when another process gives it; null when there is none.
  async listen() {
    try {
      let live = await ask(`api/v1/live?since=${this.revision}`);
      if (live.instance !== this.instance && this.revision) live = await ask("api/v1/live?since=0");
      this.lastAnswer = Date.now();
      this.silentSince = this.refusal = null;
      return live;
    } catch (error) {
      this.silentSince ??= this.lastAnswer ?? Date.now();
      this.refusal = error instanceof Refusal ? error.message : null;
      return null;
    }
  }

  // Another process answers: what it has not seen stays here, so that the gap can be seen.
  meet(live) {
    if (this.instance !== null) {
      this.restarts.push({ time: live.statistics.now, instance: live.instance });
      // What was not done when the engine died is run again or planned anew; its successor will tell.
      for (const [time, { status }] of this.batches) if (status === "PROCESSING" || status === "QUEUED") this.batches.delete(time);
    }
    this.instance = live.instance;
    this.revision = 0;
    this.graph = null;
    this.take(live);
  }

  take(live) {
    this.statistics = live.statistics;
    this.state = live.state;
    this.skew = live.statistics.now - Date.now();
    this.markRestart(live.statistics);
    this.waiting = [];
    for (const batch of live.batches) {
      if (batch.revision === undefined) this.waiting.push(batch);
      else this.batches.set(batch.batchTime, { ...batch, instance: this.instance });
    }
    this.sorted = [...this.batches.values()].sort((one, other) => one.batchTime - other.batchTime);
    for (const old of this.sorted.splice(0, Math.max(0, this.sorted.length - KEPT))) {
      this.batches.delete(old.batchTime);
    }
    this.revision = live.revision; // seen when all of it was taken
    if (this.graph === null && this.statistics.startTime !== null) this.fetchGraph();
  }

  // A page that was opened after the restart knows of it from the engine.
  markRestart({ startTime, restart }) {
    const known = this.restarts.at(-1);
    if (known?.instance === this.instance) known.time = startTime ?? known.time;
    else if (restart) this.restarts.push({ time: restart.time, instance: this.instance });
  }

  async fetchGraph() {
    this.graph = { nodes: [] };
    try {
      this.graph = await ask("api/v1/graph");
      this.graphRefusal = null;
    } catch (error) {
      this.graph = null; // the next answer asks again
      this.graphRefusal = error instanceof Refusal ? error.message : null;
    }
  }
}
