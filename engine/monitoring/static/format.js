// Numbers with their units, as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const two = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
export const NONE = "–";

const isMissing = (value) => value === null || value === undefined || Number.isNaN(value);

export function count(value) {
  return isMissing(value) ? NONE : whole.format(value);
}

export const rounded = (value) => one.format(value);

// 1 record, 2 records; 1 batch, 2 batches.
export function counted(value, noun, plural = `${noun}s`) {
  return `${count(value)} ${value === 1 ? noun : plural}`;
}

export function rate(value) {
  if (isMissing(value)) return NONE;
  return `${value > 0 && value < 100 ? one.format(value) : whole.format(value)} /s`;
}

export function duration(ms) {
  if (isMissing(ms)) return NONE;
  if (ms < 1) return ms === 0 ? "0 ms" : `${two.format(ms)} ms`;
  if (ms < 1000) return `${ms < 10 ? one.format(ms) : whole.format(ms)} ms`;
  if (ms < 60_000) return `${two.format(ms / 1000)} s`;
  return span(ms);
}

// A length of time in its two largest units.
export function span(ms) {
  if (isMissing(ms)) return NONE;
  const seconds = Math.floor(ms / 1000);
  const parts = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([number]) => number > 0);
  if (first < 0) return "0 s";
  return parts
    .slice(first, first + 2)
    .filter(([number]) => number > 0)
    .map(([number, unit]) => `${number} ${unit}`)
    .join(" ");
}

export function bytes(value) {
  if (isMissing(value)) return NONE;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  let rest = value;
  while (rest >= 999.5 && step < units.length - 1) {
    rest /= 1000;
    step += 1;
  }
  return `${step === 0 || rest >= 100 ? whole.format(rest) : one.format(rest)} ${units[step]}`;
}

const pad = (number, width = 2) => String(number).padStart(width, "0");

export function day(ms) {
  const date = new Date(ms);
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}

// The time of day; with milliseconds where they tell batches apart.
export function clock(ms, isFine = false) {
  if (isMissing(ms)) return NONE;
  const date = new Date(ms);
  const text = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  return isFine ? `${text}.${pad(date.getMilliseconds(), 3)}` : text;
}

export const moment = (ms, isFine = false) => `${day(ms)} ${clock(ms, isFine)}`;

export function share(part, whole_) {
  return whole_ ? `${whole.format((100 * part) / whole_)} %` : NONE;
}
