// A state machine as an SVG: dagre lays it out, each Map or Parallel state with what is in it as one node.
import { Graph, layout } from "./vendor/dagre.esm.js";

const SVG = "http://www.w3.org/2000/svg";
const MARKS = { succeeded: "✓", failed: "✕", caught: "↷", running: "●", aborted: "■", unread: "…" };
const HEIGHT = 38;
const PADDING = 16;
const HEADER = 44;

/** Draws `graph` into `place`; gives `update`, which draws what the run has come to. */
export function drawGraph(place, graph, { href, onSelect }) {
  const closed = new Set();
  let drawn = { states: {}, ways: [] };
  let selected = null;
  let all = false;

  function update(changes) {
    ({ drawn, selected, all } = { drawn, selected, all, ...changes });
    const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    place.replaceChildren(picture());
    if (focused) [...place.querySelectorAll("[data-key]")].find((node) => node.dataset.key === focused)?.focus();
  }

  function picture() {
    const ways = new Set(drawn.ways.map(([begin, end]) => JSON.stringify([begin, end])));
    const hidden = all ? new Set() : untaken(graph, drawn.states);
    const machine = arrange("", { graph, closed, hidden, states: drawn.states });
    const svg = element("svg", { width: machine.width + 8, height: machine.height + 8, viewBox: `-4 -4 ${machine.width + 8} ${machine.height + 8}` });
    svg.append(arrowheads());
    const draw = (parent, part) => {
      for (const edge of part.edges) {
        const taken = ways.has(JSON.stringify([edge.begin, edge.end]));
        const kind = `edge ${edge.kind}${taken ? " taken" : ""}`;
        parent.append(element("path", { class: kind, d: curve(edge.points), "marker-end": `url(#arrow${taken ? "-taken" : ""})` }));
      }
      for (const node of part.nodes) {
        const group = element("g", { transform: `translate(${node.x} ${node.y})` });
        group.append(stateLink(node), ...(node.holds ? [toggle(node)] : []));
        if (node.inside) {
          const inside = element("g", { transform: `translate(${PADDING} ${HEADER})` });
          draw(inside, node.inside);
          group.append(inside);
        }
        parent.append(group);
      }
    };
    draw(svg, machine);
    return svg;
  }

  function stateLink(node) {
    const state = drawn.states[node.name] ?? { status: "waiting", retries: 0, counts: "", visits: 0 };
    const said = `${caption(node.name, state)}, ${node.kind}, ${state.status}`;
    const link = element("a", { href: href(node.name), class: `node ${state.status}${node.inside ? " opened" : ""}`, "aria-label": said });
    link.dataset.key = node.name;
    if (node.name === selected) link.setAttribute("aria-current", "true");
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      onSelect(node.name);
    });
    const title = element("title");
    title.textContent = said;
    const text = element("text", { x: node.holds ? 32 : 12, y: 24 });
    text.textContent = `${MARKS[state.status] ?? ""} ${caption(node.name, state)}`;
    link.append(title, element("rect", { width: node.width, height: node.height, rx: node.kind === "Choice" ? 19 : 8 }), text);
    return link;
  }

  function toggle(node) {
    const isClosed = closed.has(node.name);
    const button = element("g", { class: "toggle", role: "button", tabindex: 0, "aria-expanded": !isClosed, "aria-label": `What is in ${node.name}` });
    button.dataset.key = `toggle ${node.name}`;
    const flip = () => {
      isClosed ? closed.delete(node.name) : closed.add(node.name);
      update({});
    };
    button.addEventListener("click", flip);
    button.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      flip();
    });
    const text = element("text", { x: 11, y: 24 });
    text.textContent = isClosed ? "▸" : "▾";
    button.append(element("rect", { x: 4, y: 7, width: 24, height: 24, rx: 5 }), text);
    return button;
  }

  return update;
}

/** States that were not entered, and that a run which goes well never enters. */
function untaken(graph, states) {
  const onward = graph.edges.filter((edge) => edge.kind !== "catch");
  const after = (name) => onward.filter((edge) => edge.begin === name).map((edge) => edge.end);
  const failing = new Set(graph.nodes.filter((node) => node.kind === "Fail").map((node) => node.name));
  for (let before = -1; before !== failing.size; ) {
    before = failing.size;
    for (const { name } of graph.nodes) {
      const ends = after(name);
      if (ends.length && ends.every((end) => failing.has(end))) failing.add(name);
    }
  }
  const reached = new Set();
  for (const waiting = [...graph.starts]; waiting.length; ) {
    const name = waiting.pop();
    if (reached.has(name)) continue;
    reached.add(name);
    waiting.push(...after(name));
  }
  const names = graph.nodes.map((node) => node.name).filter((name) => !(name in states));
  return new Set(names.filter((name) => failing.has(name) || !reached.has(name)));
}

/** Places and sizes of what is in `holder`, from its own upper left corner. */
function arrange(holder, surroundings) {
  const { graph, closed, hidden, states } = surroundings;
  const sheet = new Graph();
  sheet.setGraph({ nodesep: 26, ranksep: 34, edgesep: 14 });
  sheet.setDefaultEdgeLabel(() => ({}));
  const nodes = graph.nodes.filter((node) => node.holder === holder && !hidden.has(node.name)).map((node) => {
    const holds = graph.nodes.some((other) => other.holder === node.name);
    const inside = holds && !closed.has(node.name) ? arrange(node.name, surroundings) : null;
    const text = caption(node.name, states[node.name] ?? {});
    const own = text.length * 7.6 + (holds ? 70 : 46);
    const width = Math.max(own, inside ? inside.width + 2 * PADDING : 0);
    return { ...node, holds, inside, width, height: inside ? inside.height + HEADER + PADDING : HEIGHT };
  });
  const names = new Set(nodes.map((node) => node.name));
  const edges = graph.edges.filter((edge) => names.has(edge.begin) && names.has(edge.end));
  for (const { name, width, height } of nodes) sheet.setNode(name, { width, height });
  for (const edge of edges) sheet.setEdge(edge.begin, edge.end);
  layout(sheet);
  return {
    width: sheet.graph().width,
    height: sheet.graph().height,
    nodes: nodes.map((node) => {
      const { x, y } = sheet.node(node.name);
      return { ...node, x: x - node.width / 2, y: y - node.height / 2 };
    }),
    edges: edges.map((edge) => ({ ...edge, points: sheet.edge(edge.begin, edge.end).points })),
  };
}

function curve(points) {
  const [first, ...others] = points;
  const last = others.at(-1);
  const middles = others.slice(0, -1).map((point, index) => {
    const next = others[index + 1];
    const end = index === others.length - 2 ? last : { x: (point.x + next.x) / 2, y: (point.y + next.y) / 2 };
    return `Q${point.x} ${point.y} ${end.x} ${end.y}`;
  });
  return `M${first.x} ${first.y}${middles.join("") || `L${last.x} ${last.y}`}`;
}

function arrowheads() {
  const definitions = element("defs");
  for (const name of ["arrow", "arrow-taken"]) {
    const marker = element("marker", { id: name, viewBox: "0 0 8 8", refX: 8, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto" });
    marker.append(element("path", { d: "M0 0L8 4L0 8z" }));
    definitions.append(marker);
  }
  return definitions;
}

const retried = (times) => (times === 1 ? "1 retry" : times ? `${times} retries` : "");
const caption = (name, state) => [name, state.counts, retried(state.retries)].filter(Boolean).join(" · ");

function element(name, attributes = {}) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
