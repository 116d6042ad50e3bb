// The job graph as a small layered drawing: inputs, operators, outputs; stateless operators in a row share a box.

import { el, say, svg } from "./dom.js";
import { count, duration } from "./format.js";

const GAP = 40;
const LANE = 14;
const PAD = 12;
const LINE = 15;
const FRAME = 12; // the host's padding, and the edge of a job's ground

// Boxes of one or more nodes: a chain of stateless operators with one parent and one child each becomes one box.
function boxesOf(nodes) {
  const children = new Map(nodes.map((node) => [node.id, []]));
  for (const node of nodes) for (const parent of node.parents) children.get(parent).push(node);
  const boxOf = new Map();
  const boxes = [];
  for (const node of nodes) {
    const isPlain = node.kind === "operator" && !node.stateful;
    const before = node.parents.length === 1 ? boxOf.get(node.parents[0]) : null;
    const isNext = isPlain && before?.isPlain && before.job === node.job && children.get(node.parents[0]).length === 1;
    if (isNext) {
      before.nodes.push(node);
      boxOf.set(node.id, before);
    } else {
      const box = { nodes: [node], isPlain, job: node.job, parents: new Set(), children: new Set(), kind: isPlain ? "plain" : node.stateful ? "state" : node.kind };
      for (const parent of node.parents) box.parents.add(boxOf.get(parent));
      boxOf.set(node.id, box);
      boxes.push(box);
    }
  }
  for (const box of boxes) for (const parent of box.parents) parent.children.add(box);
  return boxes;
}

// Layer: the longest way from an input. Lane: the middle of the outputs that the box leads to.
function place(boxes) {
  for (const box of boxes) box.layer = Math.max(-1, ...[...box.parents].map((parent) => parent.layer)) + 1;
  const last = Math.max(0, ...boxes.map((box) => box.layer));
  const ends = boxes.filter((box) => box.children.size === 0);
  ends.forEach((box, lane) => {
    box.reached = [lane];
    if (box.kind === "output") box.layer = last;
  });
  for (const box of [...boxes].reverse()) {
    box.reached ??= [...new Set([...box.children].flatMap((child) => child.reached))];
    box.lane = (Math.min(...box.reached) + Math.max(...box.reached)) / 2;
  }
  return { layers: last + 1, lanes: Math.max(1, ends.length) };
}

const short = (operator) => operator.replace(/\[.*$/, "");

function linesOf(box, keysOf) {
  const [first] = box.nodes;
  const own = first.job ? first.name.slice(first.job.length + 1) : first.name;
  if (box.kind === "plain") return [box.nodes.map((node) => short(node.operator)).join(" · ")];
  if (box.kind === "input") return [own, "input"];
  const every = `every ${duration(first.slide)}`;
  if (box.kind === "output") return [own === first.lineage ? short(first.operator) : own, `output ${every}`];
  const name = own === first.lineage ? short(first.operator) : own;
  return [name, short(first.operator), keysLine(keysOf(first.name), every)];
}

const keysLine = (keys, every) => (keys === null ? every : `${count(keys)} keys`);

// Words in lines of at most so many characters; a word that is longer breaks at its humps.
function wrapped(text, most) {
  const words = text
    .split(/(?<=[ _])/)
    .flatMap((word) => (word.trimEnd().length > most ? word.split(/(?<=[a-z])(?=[A-Z])/) : [word]));
  const lines = [""];
  for (const word of words) {
    if (lines.at(-1).length + word.trimEnd().length > most && lines.at(-1)) lines.push("");
    lines[lines.length - 1] += word;
  }
  return lines.map((line) => line.trim());
}

export class Graph {
  constructor(host) {
    this.host = host;
    this.drawn = "";
    this.keyed = new Map();
  }

  // keysOf(operator) gives the keys of a stateful operator, null when unknown.
  update(graph, keysOf) {
    const nodes = graph?.nodes ?? [];
    const width = this.host.clientWidth - 2 * FRAME;
    const signature = JSON.stringify([width, nodes]);
    if (width <= 0) return;
    if (signature !== this.drawn) this.draw(nodes, width, keysOf);
    this.drawn = signature;
    for (const [node, line] of this.keyed) say(line, keysLine(keysOf(node.name), `every ${duration(node.slide)}`));
  }

  draw(nodes, width, keysOf) {
    this.keyed = new Map(); // by stateful node the line with its keys, which change while the drawing stays
    if (nodes.length === 0) this.host.replaceChildren(el("p", { class: "empty" }, "The graph is fixed at the start."));
    else this.host.replaceChildren(this.picture(nodes, width, keysOf));
  }

  picture(nodes, width, keysOf) {
    const boxes = boxesOf(nodes);
    const { layers, lanes } = place(boxes);
    const isTall = width < 700;
    const across = isTall
      ? Math.max(96, Math.min(190, (width - LANE * (lanes - 1) - 2 * PAD) / lanes))
      : Math.max(120, Math.min(220, (width - GAP * (layers - 1) - 2 * PAD) / layers));
    for (const box of boxes) {
      box.lines = linesOf(box, keysOf).flatMap((text, at) =>
        wrapped(text, Math.floor((across - 16) / 6.4)).map((line) => ({ line, isName: at === 0 && box.kind !== "plain" })),
      );
      box.width = across;
      box.height = box.lines.length * LINE + 14;
    }
    const tallest = Math.max(...boxes.map((box) => box.height));
    for (const box of boxes) {
      if (isTall) {
        box.x = PAD + box.lane * (across + LANE);
        box.y = PAD + 18 + box.layer * (tallest + 26);
      } else {
        box.x = PAD + box.layer * (across + GAP);
        box.y = PAD + 16 + box.lane * (tallest + LANE + 28) + (tallest - box.height) / 2;
      }
    }
    this.spread(boxes, isTall, across);
    const full = Math.max(...boxes.map((box) => box.x + box.width)) + PAD;
    const high = Math.max(...boxes.map((box) => box.y + box.height)) + PAD + 8;
    return svg(
      "svg",
      { width: full, height: high, viewBox: `0 0 ${full} ${high}`, role: "img", "aria-label": this.inWords(boxes) },
      ...this.jobs(boxes),
      ...boxes.flatMap((box) => [...box.parents].map((parent) => this.edge(parent, box, isTall))),
      ...boxes.map((box) => this.box(box)),
    );
  }

  // Boxes of a layer that would overlap are moved apart.
  spread(boxes, isTall, across) {
    const layers = new Map();
    for (const box of boxes) layers.set(box.layer, [...(layers.get(box.layer) ?? []), box]);
    for (const row of layers.values()) {
      row.sort((one, other) => one.lane - other.lane);
      for (let at = 1; at < row.length; at += 1) {
        if (isTall) row[at].x = Math.max(row[at].x, row[at - 1].x + across + LANE);
        else row[at].y = Math.max(row[at].y, row[at - 1].y + row[at - 1].height + LANE);
      }
    }
  }

  jobs(boxes) {
    const groups = new Map();
    for (const box of boxes) if (box.job) groups.set(box.job, [...(groups.get(box.job) ?? []), box]);
    return [...groups].map(([job, members]) => {
      const left = Math.min(...members.map((box) => box.x)) - 7;
      const top = Math.min(...members.map((box) => box.y)) - 21;
      const right = Math.max(...members.map((box) => box.x + box.width)) + 7;
      const bottom = Math.max(...members.map((box) => box.y + box.height)) + 7;
      return svg(
        "g",
        { class: "job" },
        svg("rect", { x: left, y: top, width: right - left, height: bottom - top, rx: 8 }),
        svg("text", { x: left + 8, y: top + 14 }, job),
      );
    });
  }

  edge(from, to, isTall) {
    if (isTall) {
      const [x, y, toX, toY] = [from.x + from.width / 2, from.y + from.height, to.x + to.width / 2, to.y];
      const middle = (y + toY) / 2;
      return svg("path", { class: "edge", d: `M${x} ${y}C${x} ${middle} ${toX} ${middle} ${toX} ${toY}` });
    }
    const [x, y, toX, toY] = [from.x + from.width, from.y + from.height / 2, to.x, to.y + to.height / 2];
    const middle = (x + toX) / 2;
    return svg("path", { class: "edge", d: `M${x} ${y}C${middle} ${y} ${middle} ${toY} ${toX} ${toY}` });
  }

  box(box) {
    const middle = box.x + box.width / 2;
    const first = box.y + 7 + LINE * 0.75;
    const isRound = box.kind === "input" || box.kind === "output";
    const lines = box.lines.map(({ line, isName }, at) =>
      svg("text", { x: middle, y: first + at * LINE, class: isName ? "name" : null }, line),
    );
    if (box.kind === "state") this.keyed.set(box.nodes[0], lines.at(-1));
    return svg(
      "g",
      { class: `node ${box.kind}` },
      svg("title", {}, box.nodes.at(-1).lineage),
      svg("rect", { x: box.x, y: box.y, width: box.width, height: box.height, rx: isRound ? box.height / 2 : 6 }),
      ...lines,
    );
  }

  inWords(boxes) {
    const inputs = boxes.filter((box) => box.kind === "input").map((box) => box.nodes[0].name);
    const outputs = boxes.filter((box) => box.kind === "output").map((box) => box.nodes[0].name);
    return `Job graph from the inputs ${inputs.join(", ")} to the outputs ${outputs.join(", ")}`;
  }
}
