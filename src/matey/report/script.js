// Rollouts play, tables sort by the buttons in their headings, printing opens what is folded.
for (const player of document.querySelectorAll(".player")) {
  const frames = [...player.querySelectorAll(".frame")];
  const [slider, button] = [player.querySelector("input"), player.querySelector("button")];
  const dots = [...player.querySelectorAll(".curve circle")];
  const show = (i) => {
    const step = frames[i].dataset.step;
    frames.forEach((frame, j) => frame.classList.toggle("now", i === j));
    dots.forEach((dot) => dot.classList.toggle("now", dot.dataset.x === step));
    if (slider) slider.value = i;
    slider?.setAttribute("aria-valuetext", frames[i].querySelector(".step").textContent);
  };
  let timer;
  const play = (on) => {
    clearInterval(timer);
    timer = on && setInterval(() => show((slider.valueAsNumber + 1) % frames.length), 450);
    button.classList.toggle("on", on);
    button.setAttribute("aria-label", on ? "Pause" : "Play");
  };
  slider?.addEventListener("input", () => { play(false); show(slider.valueAsNumber); });
  button?.addEventListener("click", () => play(!button.classList.contains("on")));
  player.classList.add("playing");
  show(frames.length - 1);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...[...table.tHead.rows].at(-1).cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const compare = (a, b) => {
      const [x, y] = [parseFloat(key(a)), parseFloat(key(b))];
      if (isNaN(x) && isNaN(y)) return key(a).localeCompare(key(b)) * (up ? 1 : -1);
      if (isNaN(x) || isNaN(y)) return isNaN(x) ? 1 : -1;
      return (x - y) * (up ? 1 : -1);
    };
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}

let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((part) => { part.open = true; });
});
addEventListener("afterprint", () => folded.forEach((part) => { part.open = false; }));
