// The replicas and their units, asked for once a second.

import { byId, say } from "./dom.js";
import { ask } from "./feed.js";
import { clock, count, counted, duration, NONE, span } from "./format.js";
import { Table } from "./tables.js";

const EVERY_MS = 1000;
const SILENT_MS = 5000;
const BAD = new Set(["no owner", "fenced", "waiting", "ended"]);

let shown = null;

const isSilent = (replica) => replica.ago_ms > SILENT_MS;

// The streaming page of a unit is below that of its replica, which is known of those that listen on an address of their own.
function pageOf(unit) {
  if (!unit.page) return null;
  const own = unit.owner === shown.name ? "." : shown.replicas.find((replica) => replica.name === unit.owner)?.page;
  return own ? `${own.replace(/\/$/, "")}/units/${unit.unit}/` : null;
}

const lasting = (since) => (since === null ? NONE : span(Math.max(0, shown.time - since)));

const units = new Table(
  byId("units"),
  "Units",
  [
    { title: "Unit", text: (unit) => unit.unit, href: pageOf },
    { title: "Partitions", text: (unit) => `${unit.topic} ${unit.partitions.join(", ")}` },
    { title: "Owner", text: (unit) => unit.owner ?? NONE },
    { title: "State", text: (unit) => unit.state, tone: (unit) => (BAD.has(unit.state) ? "bad" : null) },
    { title: "There for", text: (unit) => lasting(unit.since), isNumber: true },
    { title: "Restarts", text: (unit) => count(unit.restarts), isNumber: true },
    { title: "Newest batch", text: (unit) => clock(unit.batch), isNumber: true },
    { title: "Lag, records", short: "Lag", text: (unit) => count(unit.lag), isNumber: true },
    { title: "Owner changes", short: "Changes", text: (unit) => count(unit.changes), isNumber: true },
    { title: "Last takeover", short: "Takeover", text: (unit) => duration(unit.takeover_ms), isNumber: true },
  ],
  { key: (unit) => unit.unit },
);

const replicas = new Table(
  byId("replicas"),
  "Replicas",
  [
    { title: "Replica", text: (replica) => replica.name },
    {
      title: "State",
      text: (replica) => (isSilent(replica) ? "silent" : replica.state),
      tone: (replica) => (isSilent(replica) ? "bad" : null),
    },
    { title: "Told", text: (replica) => `${duration(replica.ago_ms)} ago`, isNumber: true },
    { title: "Units", text: (replica) => (isSilent(replica) ? NONE : replica.units.join(", ") || "none") },
  ],
  { key: (replica) => replica.name, empty: "None has told of itself yet." },
);

function update(status) {
  shown = status;
  document.title = `${status.name} – replicas`;
  say(byId("name"), status.name);
  const phase = byId("phase");
  phase.dataset.phase = status.state === "member" ? "running" : "waiting";
  say(phase, status.state);
  const owned = status.units.filter((unit) => unit.owner !== null).length;
  const alive = status.replicas.filter((replica) => !isSilent(replica)).length;
  const generation = status.generation === null ? "" : `, generation ${status.generation} of the group`;
  say(byId("headline"), `${owned} of ${counted(status.units.length, "unit")} with ${counted(alive, "replica")}${generation}`);
  units.update(status.units);
  replicas.update(status.replicas);
}

async function look() {
  const silence = byId("silence");
  if (!document.hidden) {
    try {
      update(await ask("api/status"));
      silence.hidden = true;
    } catch (error) {
      silence.hidden = false;
      byId("phase").dataset.phase = "silent";
      say(byId("phase"), "no answer");
      say(silence, `The replica gives no figures (${error.message}). This page asks every second and goes on by itself when it is back.`);
    }
  }
  setTimeout(look, EVERY_MS);
}

look();
