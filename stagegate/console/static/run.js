// The page of a run: its graph, the selected state, and all of it up to date while the run goes on.
import { drawGraph } from "./graph.js";
import { follow, replace } from "./live.js";

const run = document.getElementById("run");
const place = document.getElementById("graph");
const page = run.dataset.page;
const graph = JSON.parse(run.dataset.graph);
let drawn = JSON.parse(run.dataset.drawn);
let selected = new URLSearchParams(location.search).get("state");

const address = (name) => `${page}?state=${encodeURIComponent(name)}`;
const update = drawGraph(place, graph, { href: (name) => `${address(name)}#selected`, onSelect: (name) => select(name) });

async function select(name) {
  selected = name;
  history.replaceState(null, "", address(name));
  update({ selected });
  await show(`state=${encodeURIComponent(name)}`);
}

/** What the selected state is now; the last one asked for is the one that counts. False where there is none. */
let asked = 0;
async function show(query) {
  const turn = ++asked;
  const answer = await fetch(`${page}/state?${query}`);
  const html = await answer.text();
  if (answer.ok && turn === asked) replace("selected", html);
  return answer.ok;
}

document.addEventListener("click", (event) => {
  const link = event.target instanceof Element && event.target.closest("a[data-state], a[data-visit]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (link.dataset.state) select(link.dataset.state);
  else show(`visit=${encodeURIComponent(link.dataset.visit)}`);
  document.getElementById("selected").scrollIntoView({ block: "nearest" });
});

document.addEventListener("submit", async (event) => {
  if (!event.target.matches("[data-visits]")) return;
  event.preventDefault();
  const field = event.target.querySelector("[type=number]");
  if (await show(new URLSearchParams(new FormData(event.target)))) return;
  field.setCustomValidity("There is none.");
  field.reportValidity();
  field.addEventListener("input", () => field.setCustomValidity(""), { once: true });
});

document.getElementById("all-states").addEventListener("change", (event) => {
  update({ all: event.target.checked });
  centre();
});

if (graph.nodes.length) {
  document.getElementById("graph-section").hidden = false;
  update({ drawn, selected });
  centre();
}

document.getElementById("whole").addEventListener("change", (event) => {
  place.classList.toggle("whole", event.target.checked);
  centre();
});

/** Brings the state that failed or runs into sight, or else where it starts, without moving the page. */
function centre() {
  const start = [...place.querySelectorAll(".node")].find((node) => node.dataset.key === graph.starts[0]);
  const node = place.querySelector(".node.failed, .node.running") ?? start;
  if (!node) return;
  const [inner, outer] = [node.getBoundingClientRect(), place.getBoundingClientRect()];
  place.scrollBy(inner.left - outer.left - (outer.width - inner.width) / 2, inner.top - outer.top - outer.height / 2);
}

if (run.dataset.stream) {
  follow(run, (data) => {
    const changed = JSON.stringify(data) !== JSON.stringify(drawn);
    const isRead = data.is_whole && document.querySelector("[data-unread]");
    const isOther = selected && JSON.stringify(data.states[selected]) !== JSON.stringify(drawn.states[selected]);
    drawn = data;
    if (changed) update({ drawn });
    if (isRead) show(location.search.slice(1));
    else if (isOther) show(`state=${encodeURIComponent(selected)}`);
  });
}
