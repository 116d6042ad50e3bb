// Which page is shown, the header, and what is said when the engine does not answer.

import { BatchPage } from "./batch.js";
import { byId, say } from "./dom.js";
import { Feed } from "./feed.js";
import { clock, counted, duration, moment, span } from "./format.js";
import { Overview } from "./overview.js";

const overview = new Overview((time) => go(`batches/${time}`));
const page = new BatchPage(byId("batch"));
const DAY_MS = 86_400_000;

function shownBatch() {
  const match = /\/batches\/(\d+)$/.exec(location.pathname);
  return match ? Number(match[1]) : null;
}

function go(path) {
  history.pushState(null, "", path);
  route();
  scrollTo(0, 0);
  byId("content").focus({ preventScroll: true });
}

function route() {
  const time = shownBatch();
  byId("overview").hidden = time !== null || !feed.statistics;
  byId("batch").hidden = time === null;
  if (time === null) {
    page.leave();
    overview.resize();
  }
  update(feed);
}

function headline({ statistics: now }) {
  if (now.startTime === null) return "No batch has begun yet.";
  const uptime = span(feed.now - now.startTime);
  const done = counted(now.numTotalCompletedBatches, "completed batch", "completed batches");
  return `Running batches of ${duration(now.batchDuration)} for ${uptime} since ${moment(now.startTime)} (${done}, ${counted(now.numProcessedRecords, "record")})`;
}

// From which commit this engine went on, and how it caught up; empty when it is the first.
function restartLine({ statistics: { restart, batchDuration }, now }) {
  if (!restart) return "";
  const last = restart.committedBatchTime;
  const away = Math.max(0, restart.time - last);
  const at = (time) => (away < DAY_MS && now - restart.time < DAY_MS ? clock(time) : moment(time));
  const isFine = batchDuration % 1000 !== 0;
  const read = restart.restoreSeconds === null ? "" : `, ${counted(restart.restoredKeys, "key")} restored in ${duration(restart.restoreSeconds * 1000)}`;
  const done = counted(restart.numBatches, "batch", "batches");
  const worth = isFine ? duration(restart.coversMs) : span(restart.coversMs);
  const end =
    restart.caughtUpTime !== null
      ? `caught up at ${at(restart.caughtUpTime)} with ${done} covering ${worth}`
      : restart.numBatches
        ? `still catching up: ${done} covering ${worth} so far`
        : "no batch is committed since";
  return `Restarted at ${at(restart.time)}, ${span(away)} after the last committed batch (${at(last)})${read}; ${end}.`;
}

const silenceOf = ({ refusal }) => (refusal === null ? "no answer" : "refused");

function sayPhase(now) {
  const { statistics, silentSince } = now;
  const node = byId("phase");
  node.dataset.phase = silentSince === null ? statistics?.status ?? "starting" : "silent";
  say(node, silentSince === null ? node.dataset.phase : silenceOf(now));
}

function saySilence({ silentSince, lastAnswer, refusal }) {
  const node = byId("silence");
  node.hidden = silentSince === null;
  if (silentSince === null) return;
  const since = lastAnswer === null ? "" : ` since ${clock(silentSince)}, ${span(Date.now() - silentSince)} ago`;
  const what = refusal === null ? `The engine does not answer${since}.` : `There are no figures${since}. What answered said ${refusal}${/[.!?]$/.test(refusal) ? "" : "."}`;
  say(node, `${what} This page asks every second and goes on by itself when it is back.`);
}

function sayNotice({ statistics, silentSince }) {
  const node = byId("notice");
  const text = silentSince === null ? statistics?.statusText ?? "" : "";
  node.hidden = !text;
  node.classList.toggle("bad", statistics?.status === "failed");
  say(node, text && text[0].toUpperCase() + text.slice(1) + (text.endsWith(".") ? "" : "."));
}

function update(now) {
  sayPhase(now);
  saySilence(now);
  sayNotice(now);
  if (!now.statistics) return;
  say(byId("app"), now.statistics.app ?? "Streaming");
  say(byId("headline"), headline(now));
  say(byId("restart"), restartLine(now));
  const time = shownBatch();
  if (time !== null) page.update(time, now);
  else {
    byId("overview").hidden = false;
    overview.update(now);
    document.title = `${now.silentSince === null ? "" : `(${silenceOf(now)}) `}${now.statistics.app ?? "Streaming"} – streaming`;
  }
}

// An answer that cannot be drawn leaves the page as it was, and says so.
function sayFailure(error) {
  const node = byId("failure");
  node.hidden = error === null;
  if (error === null) return;
  console.error("the page could not draw the engine's answer", error);
  say(node, `The page could not draw the engine's last answer (${error}). It asks again every second; what is shown may be old.`);
}

const feed = new Feed(update, sayFailure);

document.addEventListener("click", (event) => {
  if (event.target.closest("a.skip")) {
    event.preventDefault(); // its address is one of the page's base
    byId("content").focus();
    return;
  }
  const link = event.target.closest("a[data-nav]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});
addEventListener("popstate", route);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => overview.redraw());
new ResizeObserver(() => byId("overview").hidden || overview.resize()).observe(byId("content"));
feed.start();
route();
