// Parts of a page that are sent again whenever they have changed. An element with `data-stream` says where
// from; it, or what is in it, has `data-part`. The server has escaped what it sends, as in the page itself.

export function follow(root, onData = () => {}) {
  let source = null;
  const open = () => {
    source = new EventSource(root.dataset.stream);
    source.addEventListener("shown", (event) => {
      const { parts, data } = JSON.parse(event.data);
      for (const [name, html] of Object.entries(parts)) replace(name, html);
      if (data) onData(data);
      document.documentElement.dataset.live = "shown";
    });
    source.addEventListener("problem", (event) => {
      for (const [name, html] of Object.entries(JSON.parse(event.data).parts)) replace(name, html);
      document.documentElement.dataset.live = "problem";
    });
    source.addEventListener("final", () => {
      stop();
      document.removeEventListener("visibilitychange", onVisibility);
    });
  };
  const stop = () => {
    source?.close();
    source = null;
  };
  // A page that nobody looks at asks for nothing.
  const onVisibility = () => (document.hidden ? stop() : source ?? open());
  document.addEventListener("visibilitychange", onVisibility);
  window.addEventListener("pagehide", stop);
  if (!document.hidden) open();
}

/** Puts HTML into a part; what had the focus there keeps it, and what was opened or chosen stays so. */
export function replace(name, html) {
  const part = document.querySelector(`[data-part="${name}"]`);
  if (!part) return;
  const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const chosen = Object.fromEntries([...part.querySelectorAll("select")].map((field) => [field.name, field.value]));
  const opened = [...part.querySelectorAll("details[open][id]")].map((details) => details.id);
  part.innerHTML = html;
  for (const field of part.querySelectorAll("select")) field.value = chosen[field.name] ?? field.value;
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  if (focused) [...part.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
}

const list = document.querySelector("[data-stream][data-part]"); // a page that is one list
if (list) follow(list);
