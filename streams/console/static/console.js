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
        if (answer.redirected) result.textContent = "The session is over. Keep what you typed elsewhere, then load the page again.";
        else if (answer.ok) result.innerHTML = text;
        else result.textContent = answer.status === 403 ? "The session is over. Load the page again." : "The console did not answer.";
      } catch (error) {
        if (error.name !== "AbortError") result.textContent = "The console does not answer.";
      }
    }, 300);
  });
}

// What was made of the payload, in rows or as JSON, has the values that it came from: JSON Pointers, or names.
const made = [...document.querySelectorAll("[data-source]")].map((element) => [
  element,
  new Set(element.dataset.source.replace(", given ", ", ").split(", ")),
]);
const sources = new Map(made);
const payload = [...document.querySelectorAll("[data-payload] .line")];
if (payload.length) document.querySelector("[data-marks]")?.removeAttribute("hidden");

function othersOf(element) {
  if (sources.has(element)) return payload.filter((line) => sources.get(element).has(line.dataset.pointer));
  return made.filter(([, from]) => from.has(element.dataset.pointer)).map(([other]) => other);
}

function linkedAt(target) {
  return target.closest?.("[data-source], [data-payload] .line");
}

function mark(target) {
  for (const marked of document.querySelectorAll(".marked")) marked.classList.remove("marked");
  const element = linkedAt(target);
  const others = element && payload.length ? othersOf(element) : [];
  if (!others.length) return;
  for (const marked of [element, ...others]) marked.classList.add("marked");
  const [first] = others;
  const box = first.closest("[data-payload]");
  if (!box) return;
  const top = first.offsetTop - box.offsetTop;
  const hidden = top < box.scrollTop || top + first.offsetHeight > box.scrollTop + box.clientHeight;
  if (hidden) box.scrollTop = top - box.clientHeight / 3;
}
document.addEventListener("mouseover", (event) => mark(event.target));
document.addEventListener("focusin", (event) => mark(event.target));

addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const group = payload.length && step && !event.ctrlKey && !event.metaKey && !event.altKey && !event.shiftKey
    ? event.target.closest?.('[role="group"]')
    : null;
  if (!group) return;
  const linked = [...group.querySelectorAll("[data-source], .line")].filter((line) => linkedAt(line) === line && othersOf(line).length);
  const next = linked[linked.indexOf(linkedAt(event.target)) + step];
  if (!next) return;
  event.preventDefault();
  next.tabIndex = -1;
  next.focus();
});

if (location.hash === "#q") document.getElementById("q")?.focus();
addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.ctrlKey && !event.metaKey && !/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) {
    const search = document.querySelector("[data-search]");
    event.preventDefault();
    if (search) search.focus();
    else location.assign("/events#q");
  }
});
