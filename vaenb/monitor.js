// The page's side of vaenb.monitor: draws what Python sends as traits, and asks Python for things in messages.
// Traits only ever go from Python to the page and messages only from the page to Python, so neither side
// overwrites the other while a training runs.

const STYLE = `
.vaenb-monitor { --ink: var(--jp-ui-font-color1, #23241f); --quiet: var(--jp-ui-font-color2, #6d6c64); --line: #c9c6bc;
  --first: #0b5c74; --second: #b4541f; --paper: transparent; color: var(--ink); font: 13px/1.35 var(--jp-ui-font-family, system-ui, sans-serif); max-width: 860px; }
.vaenb-monitor:focus { outline: none; }
.vaenb-monitor.dark { --ink: var(--jp-ui-font-color1, #eee); --quiet: var(--jp-ui-font-color2, #b8b6ae); --line: #55544e; --first: #6cc5e0; --second: #f2a06b; }
.vaenb-monitor .bar { display: flex; flex-wrap: wrap; gap: 6px 12px; align-items: center; margin: 4px 0; }
.vaenb-monitor button { font: inherit; color: inherit; background: transparent; border: 1px solid var(--quiet); border-radius: 4px; padding: 3px 10px; min-height: 28px; cursor: pointer; }
.vaenb-monitor button:hover:not(:disabled) { border-color: var(--first); color: var(--first); }
.vaenb-monitor button:disabled { opacity: .55; cursor: default; }
.vaenb-monitor :focus-visible { outline: 2px solid var(--first); outline-offset: 1px; }
.vaenb-monitor label { display: flex; align-items: center; gap: 6px; }
.vaenb-monitor input[type=range] { width: 130px; accent-color: var(--first); }
.vaenb-monitor output { min-width: 3.2em; font-variant-numeric: tabular-nums; }
.vaenb-monitor .note { color: var(--second); min-height: 1.35em; margin: 2px 0; }
.vaenb-monitor progress { width: 100%; height: 5px; accent-color: var(--first); display: block; }
.vaenb-monitor .panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 240px), 1fr)); gap: 10px 14px; margin-top: 8px; }
.vaenb-monitor figure[hidden] { display: none; }
.vaenb-monitor figure { margin: 0; min-width: 0; }
.vaenb-monitor figcaption { font-weight: 600; margin-bottom: 1px; }
.vaenb-monitor figcaption small { font-weight: 400; color: var(--quiet); }
.vaenb-monitor .wide { grid-column: 1 / -1; }
.vaenb-monitor canvas { display: block; max-width: 100%; image-rendering: pixelated; background: #fff; }
.vaenb-monitor svg { display: block; width: 100%; overflow: hidden; }
.vaenb-monitor svg text { fill: var(--quiet); font-size: 11px; font-family: inherit; }
.vaenb-monitor:not(.validated) .validation { display: none; }
.vaenb-monitor .training { color: var(--first); } .vaenb-monitor .validation { color: var(--second); }`;
const LIGHT = "#282286 #1fa3e4 #106c35 #c0a119 #d8617f #6c113b #098c71 #7b7e1d #a9469c #595a61".split(" ");
const DARK = "#959a9f #d7ecf8 #8deac1 #bbb959 #ec96d4 #b9498d #60b78d #679728 #d455e8 #f8e890".split(" "); // as the explorer's
const HEIGHT = 140, PATIENCE_MS = 4000;
const GONE = "The kernel was restarted or shut down, and this training has ended with it: run the cell again.";

const make = (tag, parent, properties = {}) => parent.appendChild(Object.assign(document.createElement(tag), properties));
const number = (value, digits = 3) => Number(value.toPrecision(digits)).toString().replace("-", "\u2212");
const fixed = (value, digits) => value.toFixed(digits).replace("-", "\u2212");
const bounds = (values) => {
  const low = Math.min(...values), high = Math.max(...values), room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - room, high + room];
};

// A plot: scales, frame and ticks; `inside` gets the two scales and returns what is drawn there.
function plot(width, [x0, x1], [y0, y1], words, label, inside) {
  const left = 46, right = 6, top = 6, bottom = 30;
  const X = (x) => left + (width - left - right) * (x - x0) / (x1 - x0 || 1);
  const Y = (y) => HEIGHT - bottom - (HEIGHT - top - bottom) * (y - y0) / (y1 - y0 || 1);
  const ticks = words.ticks ?? [0.08, 0.92].map((share) => y0 + (y1 - y0) * share);
  const tick = (y) => `<text x="${left - 5}" y="${Y(y) + 4}" text-anchor="end">${number(y)}</text><path d="M${left - 3} ${Y(y)}h3" stroke="var(--quiet)"/>`;
  const clip = `clip${Math.random().toString(36).slice(2)}`;
  return `<svg role="img" aria-label="${label}" viewBox="0 0 ${width} ${HEIGHT}" height="${HEIGHT}">
    <clipPath id="${clip}"><rect x="${left}" y="${top}" width="${width - left - right}" height="${HEIGHT - top - bottom}"/></clipPath>
    <path d="M${left} ${top}V${HEIGHT - bottom}H${width - right}" fill="none" stroke="var(--quiet)"/>
    ${ticks.map(tick).join("")}
    <text x="${left}" y="${HEIGHT - 16}">${words.low ?? number(x0)}</text><text x="${width - right}" y="${HEIGHT - 16}" text-anchor="end">${words.high ?? number(x1)}</text>
    <text x="${(left + width - right) / 2}" y="${HEIGHT - 3}" text-anchor="middle">${words.x}</text>
    <g clip-path="url(#${clip})">${inside(X, Y)}</g></svg>`;
}

const path = (points, X, Y) => points.map(([x, y], i) => `${i ? "L" : "M"}${X(x).toFixed(1)} ${Y(y).toFixed(1)}`).join("");

// The first tenth of a training falls so steeply that the rest would be a flat line: the scale is that of what came later.
function drawCurve(width, { training, validation }, name) {
  const all = [...training, ...validation], end = Math.max(...all.map(([x]) => x), 1), later = all.filter(([x]) => x > 0.1 * end);
  const last = (points) => points.length ? fixed(points.at(-1)[1], 2) : "none";
  const line = (points, colour, X, Y) => points.length === 0 ? "" : `<path d="${path(points, X, Y)}" fill="none" stroke="${colour}" stroke-width="1.6"/>
    <circle cx="${X(points.at(-1)[0])}" cy="${Y(points.at(-1)[1])}" r="2.6" fill="${colour}"/>`;
  return plot(width, [0, end], bounds((later.length ? later : all).map(([, y]) => y)), { x: "epoch", low: "0", high: number(Math.floor(end)) },
    `${name} over the epochs: training ${last(training)}${validation.length ? `, validation ${last(validation)}` : ""} nats`,
    (X, Y) => line(training, "var(--first)", X, Y) + line(validation, "var(--second)", X, Y));
}

function drawPlane(width, trail) {
  const later = trail.length > 10 ? trail.slice(Math.floor(trail.length / 10)) : trail;
  const [low, x1] = bounds(later.map(([x]) => x)), x0 = Math.max(0, low), [y0, y1] = bounds(later.map(([, y]) => y)), [rate, distortion] = trail.at(-1);
  return plot(width, [x0, x1], [y0, y1], { x: "rate" },
    `Rate ${fixed(rate, 2)} and distortion ${fixed(distortion, 2)} nats, on their way since the first epoch`, (X, Y) => {
      const step = (x1 + y1 - x0 - y0) / 6, lines = [1, 2, 3, 4, 5].map((i) => x0 + y0 + i * step);
      return lines.map((total) => `<path d="M${X(x0)} ${Y(total - x0)}L${X(x1)} ${Y(total - x1)}" stroke="var(--line)"/>`).join("")
        + `<path d="${path(trail, X, Y)}" fill="none" stroke="var(--second)" stroke-width="1.3"/><circle cx="${X(rate)}" cy="${Y(distortion)}" r="4" fill="var(--second)"/>`;
    });
}

function drawUnits(width, { weight, unit, dead }) {
  const active = weight.filter((w) => w >= dead).length, high = Math.max(...weight, 0.05);
  return plot(width, [-0.5, weight.length - 0.5], [0, high * 1.08], { x: "dimension of the code", low: "0", high: String(weight.length - 1), ticks: [0, high] },
    `${unit === "nats" ? "KL" : "Variance"} of each of ${weight.length} dimensions, ${active} of them active`, (X, Y) => {
      const size = Math.max(1, 0.72 * (X(1) - X(0)));
      return weight.map((w, j) => `<rect x="${X(j) - size / 2}" y="${Math.min(Y(w), Y(0) - 1)}" width="${size}" height="${Math.max(1, Y(0) - Y(w))}" fill="${w < dead ? "var(--line)" : "var(--first)"}"/>`).join("");
    });
}

function drawMap(width, { codes, labels, dims, dark }) {
  const xy = new Float32Array(codes.buffer, codes.byteOffset, codes.byteLength / 4), reach = Math.max(2.2, ...xy.map(Math.abs)) * 1.04;
  return plot(width, [-reach * (width - 50) / (HEIGHT - 36), reach * (width - 50) / (HEIGHT - 36)], [-reach, reach],
    { x: dims[1] === null ? `z[${dims[0]}]` : `z[${dims[0]}] across, z[${dims[1]}] up`, low: "", high: "", ticks: [-1, 0, 1].map((side) => side * (reach < 5 ? 2 : Math.floor(0.8 * reach))) },
    `Map of the codes of ${xy.length / 2} fixed examples`, (X, Y) => {
      const rings = [1, 2].map((r) => `<circle cx="${X(0)}" cy="${Y(0)}" r="${Y(0) - Y(r)}" fill="none" stroke="var(--line)"/>`).join("");
      return rings + Array.from({ length: xy.length / 2 }, (_, i) =>
        `<circle cx="${X(xy[2 * i]).toFixed(1)}" cy="${Y(xy[2 * i + 1]).toFixed(1)}" r="1.9" fill="${labels ? (dark ? DARK : LIGHT)[labels[i] % 10] : "var(--first)"}"/>`).join("");
    });
}

// Originals above reconstructions, one pixel of the canvas for one of the image; the style sheet enlarges them.
// Ink on paper; in a dark theme chalk on slate, as in the explorer.
function drawImages(canvas, { shape: [rows, n, h, w, c], pixels }, width, dark) {
  const wide = n * (w + 1) + 1, high = rows * (h + 1) + 1;
  Object.assign(canvas, { width: wide, height: high });
  canvas.style.width = `${Math.min(width, 8 * wide, Math.round(wide * Math.max(1, 52 / h)))}px`;
  const context = canvas.getContext("2d"), image = context.createImageData(wide, high);
  if (dark) for (let i = 0; i < image.data.length; i++) image.data[i] = i % 4 === 3 ? 255 : 20;
  else image.data.fill(255);
  for (let row = 0; row < rows; row++) for (let i = 0; i < n; i++) for (let y = 0; y < h; y++) for (let x = 0; x < w; x++) {
    const from = (((row * n + i) * h + y) * w + x) * c, to = 4 * ((row * (h + 1) + y + 1) * wide + i * (w + 1) + x + 1);
    for (let k = 0; k < 3; k++) image.data[to + k] = c === 1 ? (dark ? 20 + (224 * pixels.getUint8(from)) / 255 : 255 - pixels.getUint8(from)) : pixels.getUint8(from + k);
  }
  context.putImageData(image, 0, 0);
}

// Calls `tell` once when the kernel that trains is gone; returns what ends the watch.
function watchKernel(model, tell) {
  const end = () => { clearInterval(clock); model.off("comm_live_update", gone); };
  const gone = () => { end(); tell(); };
  const clock = setInterval(() => {
    const kernel = model.widget_manager?.kernel;
    if (kernel === null || ["dead", "terminating", "restarting", "autorestarting"].includes(kernel?.status)) gone();
  }, 1000);
  model.on("comm_live_update", gone); // the notebook says so when its kernel is another one
  return end;
}

// Buttons and slider. What has been asked for is shown as pending until Python says that it has acted.
function addControls(model, bar, note) {
  let asked = 0, timer = null;
  const ask = (kind, value) => {
    asked += 1;
    model.send({ ask: kind, value, id: asked });
    clearTimeout(timer);
    timer = setTimeout(() => { note.textContent = "No answer yet: the current step is long, or the kernel is no longer there."; }, PATIENCE_MS);
  };
  const pause = make("button", bar, { type: "button", textContent: "Pause" });
  const stop = make("button", bar, { type: "button", textContent: "Stop" });
  const label = make("label", bar, { textContent: "\u03b2 " }), slider = make("input", label, { type: "range", min: "-101", max: "100", step: "1" }), shown = make("output", label);
  slider.setAttribute("aria-label", "Weight of the KL, beta");
  const beta = () => Number(slider.value) < -100 ? 0 : model.get("progress").beta_start * 10 ** (Number(slider.value) / 50);
  const show = (value) => { shown.textContent = number(value, 2); slider.setAttribute("aria-valuetext", number(value, 2)); };
  // JupyterLab looks for this from the focused element upwards, and a control is itself what its shortcuts ask for.
  for (const control of [pause, stop, slider]) control.dataset.lmSuppressShortcuts = "true";
  const best = () => { stop.textContent = Object.keys(model.get("course").curves ?? {}).some((name) => name.startsWith("val_")) ? "Stop and keep the best" : "Stop"; };
  pause.onclick = () => ask(model.get("progress").paused ? "resume" : "pause");
  stop.onclick = () => { stop.disabled = true; ask("stop"); };
  slider.oninput = () => show(beta());
  slider.onchange = () => ask("beta", beta());
  return (progress, lost) => {
    if (lost || progress.seen >= asked) clearTimeout(timer);
    label.hidden = progress.beta === null;
    label.style.display = label.hidden ? "none" : "";
    best(); // without validation there is nothing to choose the best by
    pause.textContent = progress.paused ? "Resume" : "Pause";
    slider.disabled = lost;
    pause.disabled = stop.disabled = lost || Boolean(progress.stopping);
    if (progress.beta !== null && document.activeElement !== slider) {
      slider.value = progress.beta > 0 ? Math.round(50 * Math.log10(progress.beta / progress.beta_start)) : -101;
    }
    if (progress.beta !== null && progress.seen >= asked) show(progress.beta);
  };
}

function render({ model, el }) {
  const root = make("div", el, { className: "vaenb-monitor", tabIndex: -1 }); // a click beside a control gives it the focus
  root.dataset.lmSuppressShortcuts = "true";
  root.addEventListener("keydown", (event) => { if (event.key === "Escape") root.closest(".jp-Cell")?.focus(); });
  make("style", root, { textContent: STYLE });
  const status = make("div", root), done = make("progress", root, { max: 1 }), bar = make("div", root, { className: "bar" });
  const note = make("div", root, { className: "note" }), panels = make("div", root, { className: "panels" }), made = {};
  note.setAttribute("role", "status");
  done.setAttribute("aria-label", "Share of the training that is done");
  const update = addControls(model, bar, note);
  const legend = `<small><span class="training">training</span><span class="validation">, validation</span></small>`;
  const titles = { ELBO: `ELBO ${legend}`, Reconstruction: `Reconstruction ${legend}`, KL: `KL ${legend}`, Loss: `Loss ${legend}`, plane: "Distortion over rate <small>lines: equal ELBO</small>",
    units: "KL per dimension", map: "Codes <small>rings: 1 and 2 standard deviations</small>", images: "Originals <small>above</small> reconstructions" };
  for (const [name, title] of Object.entries(titles)) {
    const figure = make("figure", panels, { hidden: true, className: name === "images" ? "wide" : "" });
    make("figcaption", figure, { innerHTML: title });
    made[name] = make("div", figure);
  }
  const open = (name) => { made[name].parentNode.hidden = false; return made[name]; };
  const draw = (name, drawing, value) => { const box = open(name); box.innerHTML = drawing(Math.max(180, box.clientWidth), value, name); };

  let lost = false;
  const showProgress = () => {
    const progress = model.get("progress");
    if (progress.text === undefined) return;
    status.textContent = lost ? progress.text.replace(/, .*/, ", ended") : progress.text;
    done.value = progress.share;
    update(progress, lost);
    if (lost) note.textContent = GONE;
    else if (progress.seen || progress.note) note.textContent = progress.note;
  };
  const showCurves = () => {
    const { epochs = [], curves = {}, running = {}, at, vae } = model.get("course");
    root.classList.toggle("validated", Object.keys(curves).some((name) => name.startsWith("val_")));
    const points = (name) => epochs.map((epoch, i) => [epoch, curves[name]?.[i]]).filter(([, y]) => y !== null && y !== undefined);
    const ahead = (name) => Number.isFinite(running[name]) ? [[at, running[name]]] : [];
    for (const [title, name] of vae ? [["ELBO", "elbo"], ["Reconstruction", "reconstruction"], ["KL", "kl"]] : [["Loss", "loss"]]) {
      const lines = { training: [...points(name), ...ahead(name)], validation: points(`val_${name}`) };
      if (lines.training.length) draw(title, drawCurve, lines);
    }
    const of = curves.val_kl ? "val_" : "", distortion = new Map(points(`${of}reconstruction`));
    const trail = points(`${of}kl`).filter(([epoch]) => distortion.has(epoch)).map(([epoch, rate]) => [rate, -distortion.get(epoch)]);
    if (trail.length) draw("plane", drawPlane, trail);
  };
  const showLook = () => {
    const look = model.get("look");
    if (look.weight === undefined) return;
    const when = look.epoch ? `after ${number(look.epoch, look.epoch < 100 ? 2 : 3)} epochs` : "before the training";
    made.units.previousSibling.innerHTML = `${look.unit === "nats" ? "KL" : "Variance"} per dimension <small>${when}</small>`;
    made.map.previousSibling.innerHTML = `Codes <small>${when}; rings: 1 and 2 standard deviations</small>`;
    made.images.previousSibling.innerHTML = `Originals <small>above</small> reconstructions <small>${when}</small>`;
    draw("units", drawUnits, look);
    draw("map", drawMap, { ...look, dark: root.classList.contains("dark") });
    if (!look.images) return;
    const box = open("images"), canvas = box.firstChild ?? make("canvas", box);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${look.images.shape[1]} fixed examples above what the model makes of them`);
    drawImages(canvas, look.images, box.clientWidth, root.classList.contains("dark"));
  };
  const shade = () => {
    const light = document.body.dataset.jpThemeLight;
    root.classList.toggle("dark", light ? light === "false" : document.body.classList.contains("vscode-dark") || (!document.body.classList.contains("vscode-light") && matchMedia("(prefers-color-scheme: dark)").matches));
  };
  const all = () => { showProgress(); showCurves(); showLook(); };
  model.on("change:progress", showProgress);
  model.on("change:course", showCurves);
  model.on("change:look", showLook);
  let width = 0; // drawing changes the height, so only another width is a reason to draw again
  const resized = new ResizeObserver(() => { if (root.clientWidth !== width) { width = root.clientWidth; all(); } }), themed = new MutationObserver(() => { shade(); showLook(); });
  resized.observe(root);
  themed.observe(document.body, { attributes: true });
  shade();
  const unwatch = watchKernel(model, () => { lost = true; showProgress(); });
  return () => { unwatch(); resized.disconnect(); themed.disconnect(); };
}

export default { render };
