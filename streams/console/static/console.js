"use strict";
// Everything works without this file; it keeps figures current, maps as one types, and marks where a value came from.

const live = document.querySelector("[data-updates]");
if (live) {
  let updates, held;
  const old = document.getElementById("old");
  const follow = () => {
    updates?.close();
    if (document.hidden) return; // a browser has six connections for all tabs: those behind must not keep them
    updates = new EventSource(live.dataset.updates);
    updates.onerror = () => old?.removeAttribute("hidden");
    updates.onmessage = (message) => {
      old?.setAttribute("hidden", "");
      held = message.data; // rendered and escaped by the server
      if (!live.contains(document.activeElement)) live.innerHTML = held;
    };
  };
  follow();
  live.addEventListener("focusout", (event) => {
    if (held !== undefined && document.hasFocus() && !live.contains(event.relatedTarget)) live.innerHTML = held;
  });
  document.addEventListener("visibilitychange", follow);
  addEventListener("pagehide", () => updates?.close());
}

const playground = document.querySelector("[data-playground]");
if (playground) {
  const result = document.getElementById("result");
  let timer, running;
  playground.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      running?.abort();
      running = new AbortController();
      try {
        const body = new URLSearchParams(new FormData(playground));
        const answer = await fetch("/playground?part", { method: "POST", body, signal: running.signal });
        const text = await answer.text();
        if (answer.ok) result.innerHTML = text;
        else result.textContent = answer.status === 403 ? "The session is over. Load the page again." : "The console did not answer.";
      } catch (error) {
        if (error.name !== "AbortError") result.textContent = "The console does not answer.";
      }
    }, 300);
  });
}

/** The values that an element came from: JSON Pointers, or names such as "tenant". */
function sourcesOf(line) {
  return line.dataset.source ? line.dataset.source.replace(", given ", ", ").split(", ") : [];
}

function mark(event) {
  const line = event.target.closest?.(".line");
  for (const marked of document.querySelectorAll(".line.marked")) marked.classList.remove("marked");
  if (!line) return;
  const sources = sourcesOf(line);
  const pointer = line.dataset.pointer;
  for (const other of document.querySelectorAll(".line")) {
    const from = sourcesOf(other);
    if (sources.length ? !from.length && sources.includes(other.dataset.pointer) : from.includes(pointer)) {
      other.classList.add("marked");
      line.classList.add("marked");
    }
  }
}
document.addEventListener("mouseover", mark);

addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.ctrlKey && !event.metaKey && !/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) {
    const search = document.querySelector("[data-search]");
    if (search) {
      event.preventDefault();
      search.focus();
    }
  }
});
