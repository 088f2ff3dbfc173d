// Keys for those who do not leave the keyboard. Every page works without this file.
"use strict";

const typing = (element) => element.closest("input, select, textarea") !== null;
const links = () => [...document.querySelectorAll("[data-rows] > li :is(h2, h3) a")];

function step(by) {
  const all = links();
  const at = all.indexOf(document.activeElement);
  const next = at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by;
  if (all[next]) all[next].focus();
}

function follow(rel) {
  const link = document.querySelector(`a[rel="${rel}"]`);
  if (link) link.click();
}

const keys = {
  "/": () => {
    const field = document.querySelector("#q, #text");
    if (field) field.focus();
    else location.assign(document.body.dataset.home);
  },
  j: () => step(1),
  k: () => step(-1),
  n: () => follow("next"),
  p: () => follow("prev"),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  if (!Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  keys[event.key]();
});

for (const form of document.querySelectorAll("form[data-busy]")) {
  form.addEventListener("submit", () => {
    form.querySelector("[data-busy-told]").textContent = form.dataset.busy;
  });
}

const found = document.querySelector("[data-focus]");
if (found) found.focus();
