import { makeModel } from "./network.js";

// The latent space under the hand. One module for two hosts: an anywidget, whose model is a Python kernel, and a page without
// a kernel, where `hostless` answers the same messages from the facts that the page carries. Written by hand, no build step.

// ---- numbers ---------------------------------------------------------------------------------------------------------------

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const dot = (a, b) => { let sum = 0; for (let i = 0; i < a.length; i++) sum += a[i] * b[i]; return sum; };
const length = (a) => Math.sqrt(dot(a, a));
const mix = (a, b, t) => Float32Array.from(a, (value, i) => (1 - t) * value + t * b[i]);
const range = (n) => [...Array(n).keys()];
const signed = (value, digits = 2) => (value + 0 || 0).toFixed(digits).replace("-", "\u2212");
const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const floatsOf = (text) => new Float32Array(bytesOf(text).buffer);
const rows = (flat, width) => range(flat.length / width).map((i) => flat.subarray(i * width, (i + 1) * width));
const conditionOf = (facts, chosen) => (facts.condition ? [Float32Array.from(facts.condition.columns.flatMap((column, i) => column.vectors[chosen[i]]))] : []);
/** What one example is called: an image, a series or a row of numbers. */
const nounOf = (facts) => (facts.shape.length === 3 ? "image" : facts.series ? "series" : "row");
const flatten = (codes) => { const out = new Float32Array(codes.length * codes[0].length); codes.forEach((c, i) => out.set(c, i * c.length)); return out; };

/** A repeatable source of numbers in [0, 1) (mulberry32). */
function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Box and Muller: a standard normal number from two uniform ones. */
const normal = (random) => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

/** A code between a and b; spherical: the direction turns evenly and the length changes evenly (as `vaenb.plot.interpolate`). */
function between(a, b, t, spherical) {
  const la = length(a), lb = length(b);
  if (!spherical || !la || !lb) return mix(a, b, t);
  const u = a.map((v) => v / la), v = b.map((w) => w / lb);
  const angle = 2 * Math.atan2(length(u.map((x, i) => x - v[i])), length(u.map((x, i) => x + v[i])));
  if (Math.sin(angle) < 1e-6) return mix(a, b, t);
  const s = ((1 - t) * la + t * lb) / Math.sin(angle), p = Math.sin((1 - t) * angle), q = Math.sin(t * angle);
  return Float32Array.from(u, (x, i) => s * (p * x + q * v[i]));
}

/** Of the wishes that come while one is being granted only the newest is kept, so a slow decoder never builds a queue. */
function newest(work, failed) {
  let busy = false, next;
  return async (...wish) => {
    next = wish;
    if (busy) return;
    busy = true;
    while (next) {
      const now = next;
      next = undefined;
      try { await work(...now, () => next !== undefined); } catch (error) { failed(error); }
    }
    busy = false;
  };
}

// ---- without a kernel ------------------------------------------------------------------------------------------------------

/** What the picture shows is bytes: 0 and 255 are the ends of the data's range. Vectors stay numbers. */
function toFrame(values, facts) {
  if (facts.shape.length === 1) return Float32Array.from(values);
  const [low, high] = facts.range;
  return Uint8ClampedArray.from(values, (v) => (255 * (v - low)) / (high - low));
}

/** The images of a sheet, each as bytes (h * w * c), or the vectors of a list. */
async function framesOf(sheet, facts) {
  if (facts.shape.length === 1) return rows(floatsOf(sheet.values), facts.shape[0]);
  const [h, w, c] = facts.shape, image = new Image();
  image.src = sheet.png;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return range(sheet.n).map((i) => {
    const { data } = context.getImageData((i % sheet.columns) * w, Math.floor(i / sheet.columns) * h, w, h);
    return Uint8ClampedArray.from({ length: h * w * c }, (_, k) => data[4 * Math.floor(k / c) + (k % c)]);
  });
}

/** A decoder made of pictures: between the four nearest places of a table over two dimensions. */
function atlasDecoder(atlas, frames, facts) {
  const place = (z, k) => {
    const j = atlas.dims[k], t = clamp(((z[j] - facts.mean[j]) / facts.scale[j] + atlas.reach) / (2 * atlas.reach), 0, 1) * (atlas.side - 1);
    return [Math.min(Math.floor(t), atlas.side - 2), t - Math.min(Math.floor(t), atlas.side - 2)];
  };
  return (z) => {
    const [[x, fx], [y, fy]] = [place(z, 0), place(z, 1)], at = (i, k) => frames[(y + k) * atlas.side + x + i];
    return frames[0].map((_, i) => (1 - fy) * ((1 - fx) * at(0, 0)[i] + fx * at(1, 0)[i]) + fy * ((1 - fx) * at(0, 1)[i] + fx * at(1, 1)[i]));
  };
}

/** The answers that Python would give, from what the page carries. */
async function localAnswers(facts) {
  const d = facts.latent_dim, codes = rows(floatsOf(facts.codes), d), spreads = facts.spread && rows(floatsOf(facts.spread), d);
  const thumbs = await framesOf(facts.thumbs, facts);
  const network = facts.network && makeModel(facts.network);
  const decode = network ? (z, chosen) => toFrame(network.decode(z, ...conditionOf(facts, chosen)), facts) : atlasDecoder(facts.atlas, await framesOf(facts.atlas, facts), facts);
  const closest = (frame) => {
    let best = 0, least = Infinity;
    thumbs.forEach((thumb, i) => {
      let sum = 0;
      for (let k = 0; k < frame.length && sum < least; k++) sum += (frame[k] - thumb[k]) ** 2;
      if (sum < least) [best, least] = [i, sum];
    });
    return best;
  };
  return {
    decode: ({ condition }, z) => ({ frames: rows(z, d).map((code) => decode(code, condition)) }),
    encode({ condition }, pixels) {
      if (!network?.encode) throw new Error("This page carries no encoder, so it cannot encode an image: run the cell again.");
      const [low, high] = facts.range, steps = facts.levels && facts.levels - 1;
      const code = network.encode(Float32Array.from(pixels, (p) => low + (high - low) * (steps ? Math.round(p * steps) / steps : p)), ...conditionOf(facts, condition));
      return { codes: [Float32Array.from(code)] };
    },
    example({ index }) {
      const i = facts.index.indexOf(index);
      if (!thumbs[i]) throw new Error(`This page does not carry example ${index}: run the cell again, or choose one of those it shows.`);
      return { codes: [codes[i]], spread: spreads && spreads[i], frames: [thumbs[i]], labels: [facts.labels ? facts.labels[i] : null], given: facts.condition?.given[i] };
    },
    sample({ n, seed, temperature, source, condition }) {
      const random = uniform(seed), { draws: all, by } = facts.sources[source], draws = by ? by[condition[0]] : all, stored = draws && rows(floatsOf(draws), d);
      const draw = () => Float32Array.from({ length: d }, (_, j) => facts.mean[j] + temperature * facts.scale[j] * normal(random));
      return { codes: range(n).map(() => (stored ? stored[Math.floor(random() * stored.length)] : draw())) };
    },
    nearest({ condition }, z) {
      const found = rows(z, d).map((code) => closest(decode(code, condition)));
      return { frames: found.map((i) => thumbs[i]), labels: found.map((i) => (facts.labels ? facts.labels[i] : null)) };
    },
  };
}

/** The few methods of a widget's model that `render` uses, for a page without a kernel. */
function hostless(facts, state = {}) {
  const values = { facts, state }, heard = [], answers = localAnswers(facts);
  const reply = (content, buffer) => heard.forEach((listener) => listener(content, buffer));
  return {
    get: (name) => values[name],
    set(name, value) { values[name] = value; },
    save_changes() {},
    on(event, listener) { if (event === "msg:custom") heard.push(listener); },
    off() {},
    send({ id, kind, ...request }, callbacks, array) {
      answers.then((known) => reply({ id, ...known[kind](request, array) })).catch((error) => reply({ id, error: String(error.message || error) }));
    },
  };
}

// ---- with a kernel ---------------------------------------------------------------------------------------------------------

/** What came over the wire: its arrays lie one behind another in one buffer. */
function unpacked(content, buffers, facts) {
  if (!buffers || !buffers.length) return content;
  const bytes = (view) => view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
  const size = facts.shape.reduce((a, b) => a * b, 1), parts = [...buffers];
  const codes = content.has.includes("codes") && rows(new Float32Array(bytes(parts.shift())), facts.latent_dim);
  const frames = content.has.includes("frames") && rows(new (facts.shape.length === 1 ? Float32Array : Uint8ClampedArray)(bytes(parts.shift())), size);
  return { ...content, codes, frames };
}

const LOST = "The kernel that decodes was restarted or shut down, so these pictures no longer follow: run the cell again.";
const LATE = "The model has not answered for a few seconds: the kernel is busy, or it has died. The view goes on by itself when an answer comes.";
const LOST_COPY = "The kernel was restarted or shut down: a copy of the model in this page answers. For all examples and the model itself run the cell again.";
const LATE_COPY = "The model has not answered for a few seconds: the kernel is busy, or there is none. Until it answers, a copy of the model in this page does.";

/**
 * Questions to the model. When the kernel does not answer, the copy of the networks does that lies in the page beside the
 * widget or, where there is none, was asked for in time; and a sentence says so.
 */
class Host {
  constructor(model, facts, tell) {
    Object.assign(this, { model, facts, tell, waiting: new Map(), count: 0, name: Math.random().toString(36).slice(2), lost: false });
    this.hear = (content, buffers) => this.answer(content, buffers);
    this.cut = () => { this.lost = true; this.watch(); };
    model.on("msg:custom", this.hear);
    model.on("comm_live_update", this.cut); // JupyterLab says so when the kernel is restarted or shut down
    this.clock = setInterval(() => this.watch(), 1000);
    if (facts.live) this.spare = setTimeout(() => this.fetchCopy(), 2500);
  }

  /** Where the copy lies in this page, or else the kernel's own word for it. */
  async fetchCopy() {
    const text = () => document.getElementById(`${this.facts.id}-facts`)?.textContent;
    const found = text() ? JSON.parse(text()) : this.silent() ? undefined : (await this.ask("copy")).copy;
    if (found && !this.copy) this.copy = localAnswers({ ...this.facts, network: found.network, atlas: found.atlas });
    return this.copy;
  }

  /** An answer without the kernel. */
  help(asked) {
    asked.helped = true;
    (this.copy || this.fetchCopy()).then(async (known) => {
      if (!known || !known[asked.kind]) { asked.helped = false; return; }
      try { asked.resolve(await known[asked.kind](asked.request, asked.array)); } catch (error) { asked.reject(error); }
    }).catch(asked.reject);
  }

  silent() {
    const now = Date.now();
    return this.facts.live && (this.lost || [...this.waiting.values()].some((asked) => now - asked.since > 3500));
  }

  ask(kind, request = {}, array = undefined) {
    const id = `${this.name}${++this.count}`;
    return new Promise((resolve, reject) => {
      const asked = { resolve, reject, since: Date.now(), kind, request, array };
      if (this.copy && this.silent()) { this.help(asked); return; }
      this.waiting.set(id, asked);
      try { this.model.send({ id, kind, ...request }, undefined, this.facts.live ? (array ? [array] : []) : array); }
      catch (error) { this.cut(); }
    });
  }

  answer(content, buffers) {
    const asked = this.waiting.get(content.id);
    if (!asked) return; // another view's question
    this.waiting.delete(content.id);
    this.lost = false;
    if (asked.helped) { /* the copy has answered */ } else if (content.error) asked.reject(new Error(content.error));
    else asked.resolve(unpacked(content, buffers, this.facts));
    if (this.said) this.watch();
  }

  watch() {
    const kernel = this.model.widget_manager?.kernel;
    const dead = this.facts.live && (kernel === null || ["dead", "terminating", "restarting", "autorestarting"].includes(kernel?.status));
    this.lost ||= dead;
    const silent = this.silent();
    if (silent) for (const asked of this.waiting.values()) if (!asked.helped && asked.kind !== "copy") this.help(asked);
    const sentence = !silent ? "" : this.copy ? (this.lost ? LOST_COPY : LATE_COPY) : this.lost ? LOST : LATE;
    if (sentence !== (this.said || "")) this.tell((this.said = sentence));
  }

  close() {
    clearInterval(this.clock);
    clearTimeout(this.spare);
    this.model.off("msg:custom", this.hear);
    this.model.off("comm_live_update", this.cut);
  }
}

// ---- elements --------------------------------------------------------------------------------------------------------------

/** h("button", { className: "wide", onclick: go }, "Go") */
function h(tag, props = {}, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) el.addEventListener(name.slice(2), value);
    else if (name in el) el[name] = value;
    else el.setAttribute(name, value);
  }
  el.append(...children.filter((child) => child !== null && child !== undefined));
  return el;
}

const button = (text, onclick, props = {}) => h("button", { type: "button", onclick, ...props }, text);
const field = (text, control) => h("label", { className: "field" }, h("span", {}, text), control);
const check = (text, control) => h("label", { className: "check" }, control, h("span", {}, text));
const options = (pairs) => pairs.map(([value, text]) => h("option", { value }, text));
const canvas = (label) => h("canvas", { className: "frame", role: "img", "aria-label": label, width: 1, height: 1 });

/** A finger that comes down on a slider moves it; where it goes on to scroll the page, the slider goes back. */
function keepOnSwipe(app, keys, slider) {
  let before = {};
  slider.addEventListener("pointerdown", () => { before = Object.fromEntries(keys.map((key) => [key, app.state[key]])); }, { capture: true });
  slider.addEventListener("pointercancel", () => app.set(before));
  return slider;
}

/** A number typed into a field, or undefined while it is not one. */
const typed = (input) => (input.value.trim() !== "" && input.validity.valid ? Number(input.value) : undefined);

/** Small pictures in a table, each a button; arrow keys walk, Enter picks. */
function gallery(app, label, pick) {
  const el = h("div", { className: "gallery", role: "group", "aria-label": label });
  const cells = () => [...el.querySelectorAll("button")];
  el.addEventListener("keydown", (event) => {
    const all = cells(), at = all.indexOf(event.target), columns = el.columns || all.length;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined || !all[to]) return;
    event.preventDefault();
    all.forEach((cell, i) => { cell.tabIndex = i === to ? 0 : -1; });
    all[to].focus();
  });
  const cell = (i) => h("button", { type: "button", tabIndex: i ? -1 : 0, onclick: () => pick(i) }, h("canvas", { className: "frame", "aria-hidden": "true", width: 1, height: 1 }));
  return {
    el,
    /** n cells in so many columns; each row may begin with a label. */
    shape(n, columns, labels) {
      if (el.n === n && el.columns === columns && !labels === !el.labels && (!labels || labels.length === el.labels.length)) {
        if (labels) el.querySelectorAll(".row-label").forEach((span, i) => { span.textContent = labels[i]; });
        el.labels = labels;
        return;
      }
      Object.assign(el, { n, columns, labels });
      el.style.gridTemplateColumns = `${labels ? "auto " : ""}repeat(${columns}, minmax(0, 1fr))`;
      el.replaceChildren(...range(n).flatMap((i) => [...(labels && i % columns === 0 ? [h("span", { className: "row-label" }, labels[i / columns])] : []), cell(i)]));
    },
    paint(i, frame, name, below) {
      const target = cells()[i];
      if (!target) return;
      target.title = below ? `${name}; below it ${below.name}` : name;
      target.setAttribute("aria-label", target.title);
      app.draw(target.firstChild, frame);
      while (target.childNodes.length > 1) target.lastChild.remove();
      if (below) { target.append(h("canvas", { className: "frame under", "aria-hidden": "true" })); app.draw(target.lastChild, below.frame); }
    },
    mark(at) { cells().forEach((c, i) => c.classList.toggle("here", i === at)); },
    image: () => sheetOf(cells().map((c) => [...c.querySelectorAll("canvas")]), el.columns || el.n),
  };
}

/** The canvases of a gallery as one, for saving. */
function sheetOf(cells, columns) {
  if (!cells.length) return undefined;
  const { width: w, height: ht } = cells[0][0], deep = cells[0].length, gap = Math.max(1, Math.round(w / 28)), k = Math.max(1, Math.round(64 / w));
  const out = Object.assign(document.createElement("canvas"), { width: k * columns * (w + gap), height: k * Math.ceil(cells.length / columns) * (deep * ht + gap) });
  const context = out.getContext("2d");
  context.imageSmoothingEnabled = false;
  cells.forEach((stack, i) => stack.forEach((c, j) => context.drawImage(c, k * (i % columns) * (w + gap), k * (Math.floor(i / columns) * (deep * ht + gap) + j * ht), k * w, k * ht)));
  return out;
}

function save(image, name) {
  const link = h("a", { href: image.toDataURL("image/png"), download: name });
  link.click();
}

/** The clipboard where the browser grants it, else what is selected in the field. */
async function copy(control) {
  control.select();
  try { await navigator.clipboard.writeText(control.value); } catch { document.execCommand("copy"); }
}

// ---- colours ---------------------------------------------------------------------------------------------------------------

const LIGHT = "#282286 #1fa3e4 #106c35 #c0a119 #d8617f #6c113b #098c71 #7b7e1d #a9469c #595a61".split(" ");
const DARK = "#959a9f #d7ecf8 #8deac1 #bbb959 #ec96d4 #b9498d #60b78d #679728 #d455e8 #f8e890".split(" ");

/** Whether the page around is dark: JupyterLab has its own mind about that. */
function isDark() {
  if (matchMedia("print").matches) return false; // paper is light
  const lab = document.body?.dataset.jpThemeLight;
  return lab ? lab === "false" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** What is drawn on a canvas does not wait for the style sheet of a theme, which may come after the word that it has changed. */
const inkOf = (dark) => (dark ? "#e9e6dd" : "#23241f"), paperOf = (dark) => (dark ? "#17191c" : "#fdfcf9");

const classColour = (i, n, dark) => (n <= 10 ? (dark ? DARK : LIGHT)[i % 10] : `hsl(${Math.round((360 * i) / n)} 60% ${dark ? 65 : 40}%)`);

/** A frame on a canvas: one pixel for each of the image's, or bars for a vector. */
function drawFrame(target, frame, facts, dark) {
  if (!frame) return;
  target.frame = frame;
  if (facts.shape.length === 1) { drawBars(target, frame, facts, dark); return; }
  const [ht, w, c] = facts.shape, pixels = new ImageData(w, ht);
  // Line art is ink on paper, as in the book's figures, and in the dark chalk on slate; a photograph is what it is.
  const [paper, ink] = !facts.drawing || c > 1 ? [[0, 0, 0], [255, 255, 255]] : dark ? [[20, 21, 24], [244, 242, 236]] : [[255, 255, 255], [24, 25, 28]];
  for (let i = 0; i < w * ht; i++) {
    for (let k = 0; k < 3; k++) pixels.data[4 * i + k] = paper[k] + ((ink[k] - paper[k]) * frame[c * i + (c > 1 ? k : 0)]) / 255;
    pixels.data[4 * i + 3] = 255;
  }
  if (target.width !== w || target.height !== ht) Object.assign(target, { width: w, height: ht });
  target.getContext("2d").putImageData(pixels, 0, 0);
}

/** Whether an example is shown as a table of names, bars and values. */
const tabular = (facts) => facts.shape.length === 1 && !facts.series && facts.shape[0] <= 24;

/** Numbers as bars, or a series as one line for each channel; on a large canvas with names and values. */
function drawBars(target, values, facts, dark) {
  if (facts.series) { drawLines(target, values, facts, dark); return; }
  if (target.large && tabular(facts)) { drawTable(target, values, facts, dark); return; }
  const { low, high } = facts.columns, w = Math.max(2 * values.length, 160), ht = Math.round(w / 2), context = target.getContext("2d");
  Object.assign(target, { width: w, height: ht });
  const y = (v, i) => ht * (1 - clamp((v - low[i]) / (high[i] - low[i] || 1), 0, 1)), wide = w / values.length;
  context.fillStyle = dark ? "#141518" : "#fff";
  context.fillRect(0, 0, w, ht);
  context.fillStyle = dark ? "#7cc4dc" : "#0b5c74";
  values.forEach((v, i) => { const zero = y(clamp(0, low[i], high[i]), i); context.fillRect(i * wide, Math.min(y(v, i), zero), Math.max(1, wide * 0.8), Math.max(1, Math.abs(y(v, i) - zero))); });
}

/** A row of a table: name, bar between the smallest and the largest value of the column, and value. */
function drawTable(target, values, facts, dark) {
  const { names, low, high } = facts.columns, w = 480, line = 26, context = target.getContext("2d");
  Object.assign(target, { width: w, height: line * values.length + 4 });
  context.fillStyle = paperOf(dark);
  context.fillRect(0, 0, w, target.height);
  context.font = "17px system-ui, sans-serif";
  context.textBaseline = "middle";
  values.forEach((v, i) => {
    const y = line * (i + 0.5) + 2, x = (u) => 218 + 162 * clamp((u - low[i]) / (high[i] - low[i] || 1), 0, 1), zero = x(clamp(0, low[i], high[i]));
    context.fillStyle = dark ? "#2a2e34" : "#eceae3";
    context.fillRect(218, y - 7, 162, 14);
    context.fillStyle = dark ? "#7cc4dc" : "#0b5c74";
    context.fillRect(Math.min(x(v), zero), y - 7, Math.max(2, Math.abs(x(v) - zero)), 14);
    context.fillStyle = inkOf(dark);
    context.textAlign = "right";
    let name = names ? names[i] : `x[${i}]`;
    if (context.measureText(name).width > 206) { // as much of it as fits
      while (name.length > 1 && context.measureText(`${name}\u2026`).width > 206) name = name.slice(0, -1);
      name += "\u2026";
    }
    context.fillText(name, 210, y);
    context.textAlign = "left";
    context.fillText(Number.isFinite(v) ? String(Number(v.toPrecision(4))).replace("-", "\u2212") : "missing", 388, y);
  });
}

/** A series over time: the channels of a step lie one behind another. */
function drawLines(target, values, facts, dark) {
  const c = facts.series, n = values.length / c, [low, high] = facts.range, w = target.large ? 480 : 160, ht = w / 2, context = target.getContext("2d"), edge = w / 40;
  Object.assign(target, { width: w, height: ht });
  context.fillStyle = dark ? "#141518" : "#fff";
  context.fillRect(0, 0, w, ht);
  const x = (t) => edge + ((w - 2 * edge) * t) / (n - 1 || 1), y = (v) => ht - edge - (ht - 2 * edge) * clamp((v - low) / (high - low || 1), 0, 1);
  if (low < 0 && high > 0) { context.fillStyle = dark ? "#3d4147" : "#d3cfc3"; context.fillRect(0, y(0), w, w / 320); }
  range(c).forEach((k) => {
    context.strokeStyle = c === 1 ? (dark ? "#7cc4dc" : "#0b5c74") : classColour(dark ? k + 2 : k, c, dark); // the dark palette begins with two greys
    context.lineWidth = w / 120;
    context.beginPath();
    range(n).forEach((t) => context.lineTo(x(t), y(values[t * c + k])));
    context.stroke();
  });
  if (!target.large) return;
  context.fillStyle = inkOf(dark);
  context.font = "15px system-ui, sans-serif";
  [[high, 16], [low, ht - 5]].forEach(([v, at]) => context.fillText(String(Number(v.toPrecision(3))).replace("-", "\u2212"), 4, at));
}

// ---- the parts: each returns { el, update(changed) }, and says by app.set what the hand has changed -----------------------------

function picturePart(app) {
  const { facts, state } = app;
  const shown = canvas(`The ${facts.shape.length === 3 ? "picture" : nounOf(facts)} that the code stands for`), needle = h("i", {}), word = h("b", {});
  shown.large = true;
  const norm = h("div", { className: "gauge", role: "img" }, h("span", {}, "typical"), h("span", { className: "scale" }, needle), h("span", {}, "unusual"), word);
  // How far the code lies from the middle, in standard deviations of what is usual there: 0 is the usual distance, 1 is four of them away.
  const strange = (u) => { const [mean, sd] = facts.norm; return clamp(Math.abs(u - mean) / (4 * (sd || 1)), 0, 1); };
  const decode = newest(async (z) => app.draw(shown, (await app.decode([z]))[0]), app.fail);
  const keep = (name) => () => app.set({ [name]: [...state.z] });
  return {
    el: h("div", { className: tabular(facts) ? "picture listed" : "picture" }, shown, norm, h("div", { className: "buttons" },
      button("Random", () => app.random()), button("Reset", () => app.set({ z: [...facts.mean] })),
      button("Keep as A", keep("a")), button("Keep as B", keep("b")))),
    canvas: shown,
    update(changed) {
      if (!changed.has("z")) return;
      decode(Float32Array.from(state.z));
      const u = length(app.units(state.z)), far = strange(u), [mean] = facts.norm;
      needle.style.left = `${(100 * far).toFixed(1)}%`;
      const verdict = far < 0.375 ? "typical" : far < 0.75 ? "less typical" : u < mean ? "unusual: so near to the middle lies next to nothing" : "unusual: so far out lies next to nothing";
      word.textContent = far < 0.75 ? "" : u < mean ? "too near to the middle" : "too far out";
      norm.setAttribute("aria-label", `This code is ${verdict}; ${u.toFixed(1)} standard deviations from the middle, ${facts.drawn} lie at ${mean.toFixed(1)} on average`);
      norm.title = norm.getAttribute("aria-label");
      norm.hidden = Boolean(facts.sphere); // only the direction counts, and all are equally likely
    },
  };
}

/** One selector for each column of the condition: the code stays, and what it is decoded under changes. */
function conditionPart(app) {
  const { facts, state } = app, columns = facts.condition?.columns || [];
  const selects = columns.map(({ name, choices }, i) => [name, h("select", { onchange: () => app.set({ condition: selects.map(([, one]) => Number(one.value)) }) }, ...options(choices.map((text, k) => [k, text])))]);
  return {
    el: columns.length ? h("div", { className: "row condition", role: "group", "aria-label": "The condition" }, ...selects.map(([name, one]) => field(name, one))) : null,
    update(changed) { if (changed.has("z")) selects.forEach(([, one], i) => { one.value = state.condition[i]; }); },
  };
}

/** "z[3]", or "z[3] scale" where the number has a name. */
const codeName = (facts, j) => `z[${j}]${facts.code_names?.[j] ? ` ${facts.code_names[j]}` : ""}`;

function slidersPart(app) {
  const { facts, state } = app, controls = [];
  const one = (j) => {
    const move = (u) => app.set({ z: state.z.map((v, i) => (i === j ? facts.mean[j] + u * facts.scale[j] : v)) });
    const weight = facts.unit === "nats" ? `${facts.weight[j].toFixed(2)} nats` : `variance ${facts.weight[j].toPrecision(2)}`;
    const slider = keepOnSwipe(app, ["z"], h("input", { type: "range", min: -3, max: 3, step: 0.01, "aria-label": `${codeName(facts, j)}, ${weight}`, disabled: !app.movable(j), oninput: () => move(Number(slider.value)) }));
    slider.addEventListener("keydown", (event) => {
      const sign = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
      if (!sign || slider.disabled) return;
      event.preventDefault();
      const step = event.shiftKey ? 0.01 : 0.1, now = (state.z[j] - facts.mean[j]) / facts.scale[j];
      move(clamp(Math.round((now + sign * step) / step) * step, -3, 3));
    });
    const value = h("input", { type: "number", min: -9, max: 9, step: "any", "aria-label": `${codeName(facts, j)} in standard deviations`, disabled: !app.movable(j), oninput: () => { const u = typed(value); if (u !== undefined) move(u); } });
    controls.push({ j, slider, value });
    const share = 100 * facts.weight[j] / (Math.max(...facts.weight) || 1);
    return h("div", { className: "slider" }, h("span", { className: "name", style: `--share: ${share.toFixed(1)}%` }, `z[${j}]`, h("small", { title: weight }, weight.replace("variance", "var.")), ...(facts.code_names?.[j] ? [h("small", { className: "called" }, facts.code_names[j])] : [])), slider, value);
  };
  const idle = facts.dead.every(Boolean) ? [] : facts.dead; // where all are dead, none is folded away
  const live = facts.order.filter((j) => !idle[j]), dead = facts.order.filter((j) => idle[j]);
  const fold = (title, dims) => dims.length ? h("details", {}, h("summary", {}, title), ...dims.map(one)) : null;
  return {
    el: h("div", { className: "sliders", role: "group", "aria-label": "The numbers of the code" }, h("p", { className: "quiet" }, `In standard deviations of ${facts.scale_of}; the most informative first.`),
      ...live.slice(0, 10).map(one), fold(`${live.length - 10} less informative dimensions`, live.slice(10)), fold(`${dead.length} dead ${dead.length === 1 ? "dimension" : "dimensions"}: moving ${dead.length === 1 ? "it" : "them"} changes next to nothing`, dead)),
    update(changed) {
      if (!changed.has("z")) return;
      for (const { j, slider, value } of controls) {
        const u = (state.z[j] - facts.mean[j]) / facts.scale[j];
        slider.value = u;
        if (value.getRootNode().activeElement !== value) value.value = (Math.round(100 * u) / 100 || 0).toFixed(2);
      }
    },
  };
}

const GRID = 15; // the map's background: places in a row

function mapPart(app) {
  const { facts, state } = app, d = facts.latent_dim, codes = rows(floatsOf(facts.codes), d), spreads = facts.spread && rows(floatsOf(facts.spread), d);
  const plane = () => {
    const unit = (j) => Float32Array.from({ length: d }, (_, i) => (i === j ? 1 : 0));
    return state.plane.pca && facts.axes ? facts.axes : d === 1 ? [unit(0), new Float32Array(1)] : [unit(state.plane.x), unit(state.plane.y)];
  };
  // The sphere of three numbers has a chart of equal area: longitude and height, each from -1 to 1.
  const chart = (z) => [Math.atan2(z[1], z[0]) / Math.PI, z[2] / (length(z) || 1)];
  const onChart = (x, y) => { const h = clamp(y, -1, 1), r = Math.sqrt(1 - h * h); return Float32Array.of(r * Math.cos(Math.PI * x), r * Math.sin(Math.PI * x), h); };
  const project = (z) => { if (facts.chart) return chart(z); const [a, b] = plane(); return [dot(a, z), d === 1 ? -0.8 * reach : dot(b, z)]; };
  const target = h("canvas", { className: "map", tabIndex: 0, role: "application", "aria-label": "Map of the codes: click, drag or use the arrow keys to move the code" });
  const base = () => (state.plane.rest ? state.z : facts.mean);
  const at = (x, y) => { // the code over a point of the plane; what the plane does not show stays as it is, or is the average
    if (facts.chart) return onChart(x, y);
    const [a, b] = plane(), z = base(), [zx, zy] = [dot(a, z), dot(b, z)];
    return Float32Array.from(z, (v, i) => v + (x - zx) * a[i] + (y - zy) * b[i]);
  };
  let points = [], reach = 1, back = [], backKey = "", only = null, planeKey = "", lasso = null;
  let sight = { x: 0, y: 0, zoom: 1 }; // what the map shows: its middle, and how many times enlarged
  const half = () => reach / sight.zoom;
  const locate = () => {
    const key = JSON.stringify([state.plane.pca, state.plane.x, state.plane.y]);
    if (key !== planeKey) sight = { x: 0, y: 0, zoom: 1 };
    planeKey = key;
    points = codes.map(project);
    const [a, b] = plane(), spreadOf = (axis) => Math.sqrt(axis.reduce((s, v, i) => s + (v * facts.scale[i]) ** 2, 0));
    reach = 1.06 * points.reduce((m, p) => Math.max(m, Math.abs(p[0]), d === 1 ? 0 : Math.abs(p[1])), 2.1 * Math.max(spreadOf(a), spreadOf(b)));
    if (facts.chart) reach = 1;
    if (d === 1) stack();
  };
  /** One number has no second axis: the dots are stacked, and their height is a count. */
  const stack = () => {
    const bin = ([x]) => Math.floor((30 * (x + reach)) / reach), heights = [];
    points.forEach((p) => { p[1] = heights[bin(p)] = (heights[bin(p)] || 0) + 1; });
    const most = Math.max(...heights.filter(Boolean), 12);
    points.forEach((p) => { p[1] = reach * (-0.8 + (1.6 * p[1]) / most); });
  };
  const toX = (x) => target.width * (0.5 + (x - sight.x) / (2 * half())), toY = (y) => target.height * (0.5 - (y - sight.y) / (2 * half()));
  const place = (event) => { // of a pointer, in the plane
    const box = target.getBoundingClientRect();
    return [sight.x + half() * (2 * (event.clientX - box.left) / box.width - 1), sight.y + half() * (1 - 2 * (event.clientY - box.top) / box.height)];
  };
  const fill = newest(async (key, stale) => {
    const cells = range(GRID * GRID).slice(d === 1 ? -GRID : 0); // one number is decoded along its axis only
    const grid = cells.map((i) => at(sight.x + half() * ((2 * (i % GRID) + 1) / GRID - 1), sight.y + half() * (1 - (2 * Math.floor(i / GRID) + 1) / GRID)));
    if (backKey !== key) back = [];
    await app.decodeMany(grid, (k, frame) => { const i = cells[k]; back[i] = back[i] || document.createElement("canvas"); app.draw(back[i], frame); paint(); }, stale);
    backKey = key;
  }, app.fail);
  const colour = (i, dark) => facts.classes ? classColour(facts.labels[i], facts.classes.length, dark) : facts.labels ? `hsl(${240 - 200 * (facts.labels[i] - facts.label_range[0]) / (facts.label_range[1] - facts.label_range[0] || 1)} 60% 50%)` : dark ? "#7cc4dc" : "#0b5c74";
  function paint() {
    const context = target.getContext("2d"), ratio = target.width / (target.clientWidth || 320), dark = app.dark();
    const ink = inkOf(dark), w = target.width;
    context.clearRect(0, 0, w, w);
    context.imageSmoothingEnabled = false;
    if (state.plane.background) { // pale, so that the points stay the foreground
      const cell = w / GRID, side = Math.round(0.84 * cell);
      context.globalAlpha = d === 1 ? 1 : 0.5;
      back.forEach((c, i) => context.drawImage(c, Math.round((i % GRID + 0.08) * cell), Math.round((Math.floor(i / GRID) + 0.08) * cell), side, side));
    }
    if (facts.circles && d > 1) for (const r of [1, 2]) {
      context.globalAlpha = 0.35;
      context.strokeStyle = ink;
      context.lineWidth = ratio;
      context.beginPath();
      context.arc(toX(0), toY(0), (r * w) / (2 * half()), 0, 7);
      context.stroke();
    }
    const size = clamp((60 * Math.sqrt(sight.zoom)) / Math.sqrt(points.length), 1.8, 5) * ratio, chosen = state.selection && new Set(state.selection);
    points.forEach(([x, y], i) => {
      context.globalAlpha = chosen && !chosen.has(facts.index[i]) ? 0.08 : 0.9;
      context.fillStyle = colour(i, dark);
      context.beginPath();
      context.arc(toX(x), toY(y), size, 0, 7);
      context.fill();
    });
    context.globalAlpha = 1;
    ellipse(context, ratio, ink);
    words(context, ratio, ink, paperOf(dark));
    if (lasso) loop(context, ratio, ink);
    path(context, ratio, ink, paperOf(dark));
    marker(context, project(state.z), ratio, dark);
  }
  /** One and two standard deviations of q(z|x) in the plane, for the example that was chosen last. */
  function ellipse(context, ratio, ink) {
    if (!app.posterior) return;
    const { mean, spread } = app.posterior, [a, b] = plane(), [x, y] = project(mean);
    const moment = (p, q) => spread.reduce((sum, s, i) => sum + p[i] * q[i] * s * s, 0);
    const [aa, ab, bb] = [moment(a, a), moment(a, b), moment(b, b)], l = Math.sqrt(aa) || 1e-9, m = ab / l, r = Math.sqrt(Math.max(bb - m * m, 0));
    Object.assign(context, { strokeStyle: ink, lineWidth: 1.25 * ratio });
    for (const k of [1, 2]) {
      context.globalAlpha = k === 1 ? 0.9 : 0.5;
      context.beginPath();
      if (d === 1) [-1, 1].forEach((sign) => { context.moveTo(toX(x + sign * k * l), toY(y) - 9 * ratio); context.lineTo(toX(x + sign * k * l), toY(y) + 9 * ratio); });
      else range(65).forEach((i) => { const t = (i * Math.PI) / 32, [u, v] = [k * Math.cos(t), k * Math.sin(t)]; context.lineTo(toX(x + l * u), toY(y + m * u + r * v)); });
      context.stroke();
    }
    context.globalAlpha = 1;
  }
  function loop(context, ratio, ink) {
    Object.assign(context, { strokeStyle: ink, lineWidth: 1.5 * ratio });
    context.beginPath();
    lasso.forEach(([x, y]) => context.lineTo(toX(x), toY(y)));
    context.closePath();
    context.stroke();
  }
  const axisNames = () => (facts.chart ? ["longitude", "height z[2]"] : d === 1 ? ["z[0]", "number of examples"] : state.plane.pca && facts.axes ? ["first principal axis", "second principal axis"] : [codeName(facts, state.plane.x), codeName(facts, state.plane.y)]);
  function words(context, ratio, ink, paper) {
    const [across, up] = axisNames(), w = target.width, halo = (text, x, y) => { context.strokeText(text, x, y); context.fillText(text, x, y); };
    Object.assign(context, { font: `${11.5 * ratio}px system-ui, sans-serif`, lineWidth: 3 * ratio, strokeStyle: paper, fillStyle: ink, textAlign: "right" });
    halo(across, w - 6 * ratio, w - (d === 1 && state.plane.background ? w / GRID : 0) - 6 * ratio);
    context.save();
    context.rotate(-Math.PI / 2);
    halo(up, -6 * ratio, 13 * ratio);
    context.restore();
    context.textAlign = "center";
    context.font = `700 ${14 * ratio}px system-ui, sans-serif`;
    if (facts.classes && facts.classes.length <= 30 && d > 1) centres().forEach(({ name, x, y }) => halo(name, toX(x), toY(y) + 5 * ratio));
    context.textAlign = "left";
  }
  /** The middle of each class, where it has room for its name. */
  function centres() {
    const middle = (list) => list.sort((a, b) => a - b)[list.length >> 1], placed = [];
    facts.classes.forEach((name, k) => {
      const own = points.filter((_, i) => facts.labels[i] === k);
      if (!own.length || (only !== null && only !== k) || Math.abs(middle(own.map((p) => p[0])) - sight.x) > half() || Math.abs(middle(own.map((p) => p[1])) - sight.y) > half()) return;
      const x = middle(own.map((p) => p[0])), y = middle(own.map((p) => p[1]));
      if (placed.every((other) => Math.hypot(other.x - x, other.y - y) > 0.07 * half())) placed.push({ name: String(name).slice(0, 12), x, y });
    });
    return placed;
  }
  function path(context, ratio, ink, paper) {
    const steps = range(33).map((i) => project(between(state.a, state.b, i / 32, state.spherical)));
    context.strokeStyle = ink;
    context.lineWidth = 1.5 * ratio;
    context.setLineDash([3 * ratio, 3 * ratio]);
    context.beginPath();
    const seam = (i) => facts.chart && Math.abs(steps[i][0] - steps[i - 1][0]) > reach; // the way leaves at one edge and comes in at the other
    steps.forEach(([x, y], i) => (i && !seam(i) ? context.lineTo(toX(x), toY(y)) : context.moveTo(toX(x), toY(y))));
    context.stroke();
    context.setLineDash([]);
    context.font = `600 ${13 * ratio}px system-ui, sans-serif`;
    context.lineWidth = 4 * ratio;
    context.strokeStyle = paper;
    context.fillStyle = ink;
    [["A", steps[0]], ["B", steps[32]]].filter(([, [x, y]]) => Math.max(Math.abs(x - sight.x), Math.abs(y - sight.y)) <= 1.02 * half()).forEach(([name, [x, y]]) => { const px = clamp(toX(x) + 6 * ratio, 2, target.width - 14 * ratio), py = clamp(toY(y) - 6 * ratio, 14 * ratio, target.height - 3); context.strokeText(name, px, py); context.fillText(name, px, py); });
  }
  function marker(context, [x, y], ratio, dark) {
    const edge = 9.5 * ratio, px = clamp(toX(x), edge, target.width - edge), py = clamp(toY(y), edge, target.height - edge);
    for (const [style, wide] of [[dark ? "#000" : "#fff", 5], [dark ? "#fff" : "#000", 2]]) {
      context.strokeStyle = style;
      context.lineWidth = wide * ratio;
      context.beginPath();
      context.arc(px, py, 8 * ratio, 0, 7);
      context.stroke();
    }
  }
  const under = (event, radius) => { // the dot under the pointer, or -1
    const [x, y] = place(event), chosen = state.selection && new Set(state.selection);
    let best = -1, least = (2 * half() * radius) / (target.clientWidth || 320);
    points.forEach((p, i) => { const far = Math.hypot(p[0] - x, p[1] - y); if (far < least && (!chosen || chosen.has(facts.index[i]))) [best, least] = [i, far]; });
    return best;
  };
  const hint = h("div", { className: "hint", hidden: true }, h("canvas", { width: 1, height: 1 }), h("span", {}));
  const point = async (event) => {
    const i = event.buttons || event.pointerType === "touch" ? -1 : under(event, 7), box = target.getBoundingClientRect();
    hint.hidden = i < 0;
    target.style.cursor = i < 0 ? "" : "pointer";
    if (i < 0) return;
    const label = facts.labels?.[i], [picture, words] = hint.children;
    words.textContent = `example ${facts.index[i]}${label === undefined || label === null ? "" : facts.classes ? `, class ${facts.classes[label]}` : `, label ${label}`}`;
    const right = event.clientX - box.left > box.width / 2;
    hint.style.cssText = `${right ? "right" : "left"}: ${((100 * (right ? box.right - event.clientX : event.clientX - box.left)) / box.width).toFixed(1)}%; top: ${((100 * (event.clientY - box.top)) / box.height).toFixed(1)}%`;
    const frame = (await app.thumbs)[i];
    picture.hidden = !frame;
    if (frame) app.draw(picture, frame);
  };
  target.addEventListener("pointermove", point);
  target.addEventListener("pointerleave", () => { hint.hidden = true; });
  const pick = (event) => { // a dot is its example: the code is that of the encoder, in all dimensions
    const i = under(event, event.pointerType === "touch" ? 9 : 5);
    if (i < 0) { go(event); return; }
    app.about(codes[i], spreads && spreads[i]);
    app.set({ z: app.held(codes[i]), example: facts.index[i], ...app.under(facts.condition?.given[i]) });
  };
  const go = (event) => { app.set({ z: [...at(...place(event))] }); };
  /** Enlarges the map by a factor; the point [x, y] of the plane stays where it is. */
  const zoom = (factor, [x, y] = [sight.x, sight.y]) => {
    const next = clamp(sight.zoom * factor, 1, 64), k = sight.zoom / next;
    look({ x: x + (sight.x - x) * k, y: y + (sight.y - y) * k, zoom: next });
  };
  const look = (next) => {
    const far = reach * (1 - 1 / next.zoom); // the window stays inside the whole map
    sight = { x: clamp(next.x, -far, far), y: clamp(next.y, -far, far), zoom: next.zoom };
    whole.disabled = sight.zoom === 1;
    background();
    paint();
  };
  target.addEventListener("wheel", (event) => { // the wheel alone scrolls the page
    if (!event.ctrlKey && hand.value !== "view") return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 300), place(event));
  }, { passive: false });
  /** Whether a point lies inside the closed line (even-odd rule). */
  const inside = ([x, y], line) => line.reduce((odd, [xi, yi], i) => {
    const [xj, yj] = line[(i + line.length - 1) % line.length];
    return (yi > y) !== (yj > y) && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi ? !odd : odd;
  }, false);
  const select = (chosen) => app.set({ selection: chosen && chosen.map((i) => facts.index[i]).filter((i) => i !== undefined) });
  const showOnly = (k) => {
    only = k;
    legend.querySelectorAll("button").forEach((other, i) => other.setAttribute("aria-pressed", i === only));
  };
  // A finger that moves up or down scrolls the page (the browser then cancels the pointer); one that moves across, or taps, moves the code.
  let begun = null, held = null; // where a finger came down, until it has moved across; where the map was taken
  target.addEventListener("pointerdown", (event) => {
    target.setPointerCapture(event.pointerId);
    if (hand.value === "view") held = [event.clientX, event.clientY, sight];
    else if (hand.value === "select") lasso = [place(event)];
    else if (event.pointerType === "touch") begun = event;
    else pick(event);
  });
  target.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    if (held) {
      const k = (2 * half()) / (target.clientWidth || 320);
      look({ ...held[2], x: held[2].x - k * (event.clientX - held[0]), y: held[2].y + k * (event.clientY - held[1]) });
      return;
    }
    if (lasso) { lasso.push(place(event)); paint(); return; }
    const across = begun && Math.abs(event.clientX - begun.clientX), along = begun && Math.abs(event.clientY - begun.clientY);
    if (begun && (across < 8 || across < along)) return;
    begun = null;
    go(event);
  });
  const release = (event) => {
    const line = lasso, was = held;
    [lasso, held] = [null, null];
    if (line) { showOnly(null); select(line.length > 2 ? range(points.length).filter((i) => inside(points[i], line)) : null); return; }
    if (!was && event.type === "pointerup" && event.pointerType === "touch") { if (begun) pick(event); else go(event); }
  };
  for (const end of ["pointerup", "pointercancel"]) target.addEventListener(end, release);
  target.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key], factor = { "+": 2, "=": 2, "-": 0.5, 0: 1 / 64 }[event.key];
    if (factor && !event.ctrlKey && !event.metaKey) { event.preventDefault(); zoom(factor, project(state.z)); return; }
    if (!step) return;
    event.preventDefault();
    const [x, y] = project(state.z), by = half() * (event.shiftKey ? 0.01 : 0.04);
    const along = x + by * step[0]; // past the edge of the chart lies its other edge
    app.set({ z: [...at(facts.chart ? along : clamp(along, -reach, reach), clamp(y + by * step[1], -reach, reach))] });
  });
  const turn = (patch) => app.set({ plane: { ...state.plane, ...patch } });
  const dims = options(facts.order.map((j) => [j, codeName(facts, j)]));
  const view = h("select", { onchange: () => turn({ pca: view.value === "pca" }) }, ...options([["pca", "principal axes"], ["dims", "two dimensions"]]));
  const across = h("select", { onchange: () => turn({ x: Number(across.value) }) }, ...dims), up = h("select", { onchange: () => turn({ y: Number(up.value) }) }, ...dims.map((o) => o.cloneNode(true)));
  const rest = h("input", { type: "checkbox", onchange: () => turn({ rest: rest.checked }) }), ground = h("input", { type: "checkbox", onchange: () => turn({ background: ground.checked }) });
  const pair = h("span", { className: "row" }, field("across", across), field("up", up));
  const chip = (name, i) => {
    const b = button("", () => { showOnly(only === i ? null : i); select(only === null ? null : range(points.length).filter((k) => facts.labels[k] === only)); }, { className: "chip", "aria-pressed": "false" });
    b.append(h("i", {}), name);
    return b;
  };
  const legend = h("div", { className: "legend", role: "group", "aria-label": "Classes: press one to select it" }, ...(facts.classes && facts.classes.length <= 30 ? facts.classes.map(chip) : []));
  const hand = h("select", { onchange: () => { target.style.touchAction = hand.value === "code" ? "" : "none"; target.style.cursor = hand.value === "view" ? "grab" : ""; } }, ...options([["code", "moves the code"], ["view", "moves the map"], ["select", "selects examples"]]));
  const whole = button("Whole map", () => look({ x: 0, y: 0, zoom: 1 }), { disabled: true });
  const zoomers = h("span", { className: "zoom", role: "group", "aria-label": "Size of the map" }, button("+", () => zoom(2, project(state.z)), { title: "Enlarge around the code", "aria-label": "Enlarge the map" }), button("\u2212", () => zoom(0.5), { title: "Make smaller", "aria-label": "Make the map smaller" }), whole);
  const again = button("Draw from q(z | x)", () => app.drawAgain(), { title: "Another draw from the posterior of the example that was chosen last: its one and two standard deviations are the ellipses", hidden: true });
  const chosenText = h("span", { "aria-live": "polite" }), list = h("input", { type: "text", readOnly: true, "aria-label": "Indices of the selected examples" });
  const taken = button("Copy indices", async () => { await copy(list); taken.textContent = "Copied"; setTimeout(() => { taken.textContent = "Copy indices"; }, 900); });
  const selection = h("div", { className: "row selection", hidden: true }, chosenText, list, taken, button("Select none", () => { showOnly(null); select(null); }));
  const background = () => {
    if (!state.plane.background) return;
    const [a, b] = plane(), z = base(), off = z.map((v, i) => v - dot(a, z) * a[i] - dot(b, z) * b[i]);
    const key = JSON.stringify([state.condition, state.plane.pca, state.plane.x, state.plane.y, sight, facts.chart ? [] : off.map((v) => Math.round(50 * v))]);
    if (key !== fill.asked) { fill.asked = key; fill(key); }
  };
  const fit = () => { const side = Math.round((target.clientWidth || 320) * Math.min(2, window.devicePixelRatio || 1)); if (side && target.width !== side) Object.assign(target, { width: side, height: side }); paint(); };
  new ResizeObserver(fit).observe(target);
  return {
    name: "Map", target, image: () => target, fit,
    el: h("div", {}, h("p", { className: "lead" }, "Drag anywhere: the model draws what lies there."), h("div", { className: "row" }, facts.axes ? field("view", view) : null, d > 2 && !facts.chart ? pair : null, d > 2 && !facts.chart ? check("other dimensions stay", rest) : null, check("decoded background", ground)),
      h("div", { className: "map-box" }, target, hint), h("div", { className: "row tools" }, field("dragging", hand), zoomers, again), legend, selection, h("p", { className: "quiet" }, `${facts.points} of the ${facts.split} examples. ${facts.circles && d > 1 ? "The circles hold one and two standard deviations of the prior. " : ""}${facts.chart ? "The chart holds the whole sphere, and equal areas are equally likely; its left edge meets its right edge. " : ""}A dot is an example: point at it to see it, press it to encode it. ${d === 1 ? "Dots of nearly the same number stand on one another, so that their height counts examples. " : ""}${facts.spread ? `The ${d === 1 ? "short lines" : "ellipses"} hold one and two standard deviations of q(z | x) of the example that was chosen last. ` : ""}The dashed line is the way from A to B.`)),
    update(changed) {
      view.value = state.plane.pca ? "pca" : "dims";
      pair.hidden = Boolean(state.plane.pca);
      [across.value, up.value, rest.checked, ground.checked] = [state.plane.x, state.plane.y, state.plane.rest, state.plane.background];
      legend.querySelectorAll("i").forEach((dot, i) => { dot.style.background = classColour(i, facts.classes.length, app.dark()); });
      if (changed.has("plane") || !points.length) locate();
      again.hidden = !app.posterior;
      selection.hidden = !state.selection;
      if (state.selection) {
        chosenText.textContent = `${state.selection.length} selected${facts.live ? ": explorer.selection holds their indices" : ""}`;
        list.value = `[${state.selection.join(", ")}]`;
      } else if (only !== null) showOnly(null);
      background();
      fit();
    },
  };
}

// ---- drawn and uploaded images ---------------------------------------------------------------------------------------------

const PAD = 224; // the drawing pad's own pixels

/** Ink (PAD x PAD, 0..1) as the data's images hold it: as upright and as narrow as theirs, its box scaled to the usual size, its centre of mass in the middle. */
function centred(ink, facts) {
  const [ht, w] = facts.shape, { box, slant, aspect } = facts.drawing, each = (act) => { for (let y = 0; y < PAD; y++) for (let x = 0; x < PAD; x++) if (ink[y * PAD + x]) act(ink[y * PAD + x], x, y); };
  let mass = 0, mx = 0, my = 0, across = 0, down = 0;
  each((v, x, y) => { mass += v; mx += v * (x + 0.5); my += v * (y + 0.5); });
  [mx, my] = [mx / mass, my / mass];
  each((v, x, y) => { across += v * (y + 0.5 - my) * (x + 0.5 - mx); down += v * (y + 0.5 - my) ** 2; });
  // A shear takes away the slant that the data do not have; the limits keep a dash or a dot as it is.
  const own = across / Math.max(down, 1e-9), lean = Math.abs(own) < 1 ? clamp(own - clamp(own, ...slant), -0.6, 0.6) : 0;
  const place = (x, y) => x - mx - lean * (y + 0.5 - my);
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  each((v, x, y) => { if (v > 0.2) [x0, x1, y0, y1] = [Math.min(x0, place(x, y)), Math.max(x1, place(x, y) + 1), Math.min(y0, y), Math.max(y1, y + 1)]; });
  if (x1 < x0) return undefined;
  const narrow = clamp((aspect * (y1 - y0)) / (x1 - x0), 0.6, 1); // the share of the width that stays
  [x0, x1] = [x0 * narrow, x1 * narrow];
  const k = Math.max(x1 - x0, y1 - y0) / (box * Math.max(ht, w)), out = new Float32Array(ht * w); // pad pixels in one of the image's
  const origin = (centre, lo, hi, n) => { // where the image's edge lies on the pad: mass in the middle, but nothing is cut off
    const slack = n * k - (hi - lo), edge = centre - (n * k) / 2;
    return slack > 0 ? clamp(edge, hi - n * k, lo) : (lo + hi - n * k) / 2;
  };
  const ox = origin(0, x0, x1, w), oy = origin(my, y0, y1, ht);
  each((v, x, y) => { // a pad pixel may lie across the edge of two image pixels: each gets its share
    const px = (narrow * place(x, y) - ox) / k, py = (y - oy) / k, sx = narrow / k, sy = 1 / k;
    for (let i = Math.max(0, Math.floor(py)); i < Math.min(ht, py + sy); i++) for (let j = Math.max(0, Math.floor(px)); j < Math.min(w, px + sx); j++) {
      out[i * w + j] += v * Math.max(0, Math.min(i + 1, py + sy) - Math.max(i, py)) * Math.max(0, Math.min(j + 1, px + sx) - Math.max(j, px));
    }
  });
  return out.map((v) => Math.min(1, v));
}

/** The pixels of an image file, 0..1 as the data has them; line art on a bright ground is turned over and centred. */
async function readImage(file, facts) {
  const image = await createImageBitmap(file), [ht, w, c] = facts.shape;
  const side = facts.drawing && (image.width !== w || image.height !== ht) ? [PAD, PAD] : [w, ht];
  const surface = Object.assign(document.createElement("canvas"), { width: side[0], height: side[1] }), context = surface.getContext("2d", { willReadFrequently: true });
  const k = (facts.drawing ? Math.min : Math.max)(side[0] / image.width, side[1] / image.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, (side[0] - k * image.width) / 2, (side[1] - k * image.height) / 2, k * image.width, k * image.height);
  const { data } = context.getImageData(0, 0, ...side);
  if (!facts.drawing) return Float32Array.from({ length: w * ht * c }, (_, i) => (c === 1 ? (data[4 * i] + data[4 * i + 1] + data[4 * i + 2]) / 765 : data[4 * Math.floor(i / c) + (i % c)] / 255));
  const grey = Float32Array.from({ length: side[0] * side[1] }, (_, i) => (data[4 * i] + data[4 * i + 1] + data[4 * i + 2]) / 765);
  const inside = grey.filter((_, i) => data[4 * i + 3] > 128), sorted = inside.slice().sort(), middle = sorted[sorted.length >> 1];
  const [low, high] = [sorted[Math.floor(0.02 * sorted.length)], sorted[Math.floor(0.98 * sorted.length)]];
  const bright = middle > (low + high) / 2, ground = bright ? Math.max(high, low + 0.1) : low, top = bright ? low : Math.max(high, low + 0.1);
  const ink = grey.map((v, i) => (data[4 * i + 3] > 128 ? clamp((v - ground) / (top - ground), 0, 1) : 0));
  return side[0] === PAD ? centred(ink.map((v) => (v < 0.25 ? 0 : v)), facts) : ink;
}

function padOf(app, drawn) {
  const wide = PAD * (Math.max(app.facts.shape[0], app.facts.shape[1]) <= 16 ? 0.17 : 0.1);
  const pad = h("canvas", { className: "pad", width: PAD, height: PAD, tabIndex: 0, role: "application", "aria-label": "Drawing pad: draw with mouse or finger; arrow keys move the pen, with Shift they draw" });
  const context = pad.getContext("2d", { willReadFrequently: true });
  let last = null, pen = [PAD / 2, PAD / 2];
  const stroke = (from, to) => {
    Object.assign(context, { lineWidth: wide, lineCap: "round", lineJoin: "round", strokeStyle: inkOf(app.dark()) });
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(to[0] + 0.01, to[1]);
    context.stroke();
    drawn();
  };
  const place = (event) => { const box = pad.getBoundingClientRect(); return [(PAD * (event.clientX - box.left)) / box.width, (PAD * (event.clientY - box.top)) / box.height]; };
  pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); last = place(event); stroke(last, last); });
  pad.addEventListener("pointermove", (event) => { if (last) { const to = place(event); stroke(last, to); last = to; } });
  for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => { last = null; });
  pad.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const to = [clamp(pen[0] + 12 * step[0], 8, PAD - 8), clamp(pen[1] + 12 * step[1], 8, PAD - 8)];
    if (event.shiftKey) stroke(pen, to);
    pen = to;
    hint.style.cssText = `left: ${(100 * pen[0]) / PAD}%; top: ${(100 * pen[1]) / PAD}%`;
  });
  const hint = h("i", { className: "pen" });
  return {
    el: h("div", { className: "pad-box" }, pad, hint),
    clear: () => context.clearRect(0, 0, PAD, PAD),
    theme() { // what is drawn takes the ink of the theme
      context.globalCompositeOperation = "source-in";
      context.fillStyle = inkOf(app.dark());
      context.fillRect(0, 0, PAD, PAD);
      context.globalCompositeOperation = "source-over";
    },
    ink: () => { const { data } = context.getImageData(0, 0, PAD, PAD); return Float32Array.from({ length: PAD * PAD }, (_, i) => data[4 * i + 3] / 255); },
  };
}

// ---- the other panels ------------------------------------------------------------------------------------------------------

function encodePart(app) {
  const { facts, state } = app, classes = facts.classes;
  const original = canvas("The original"), rebuilt = canvas("The reconstruction"), noun = nounOf(facts), isRow = facts.shape.length === 1, error = h("p", { className: "quiet", "aria-live": "polite" });
  original.large = rebuilt.large = isRow;
  const compare = async (frame, code, words, stay, given = state.condition) => {
    if (!stay) app.set({ z: [...code], ...app.under(given) });
    const [back] = await app.decode([code], given);
    app.draw(original, frame);
    app.draw(rebuilt, back);
    const [low, high] = facts.range, unit = facts.shape.length === 1 ? 1 : (high - low) / 255;
    const square = frame.reduce((sum, v, i) => sum + ((v - back[i]) * unit) ** 2, 0) / frame.length;
    error.textContent = `${words} Mean squared difference ${square.toPrecision(2)}.`;
  };
  const named = (label) => (label === null || label === undefined ? "" : classes ? `, class ${classes[label]}` : `, label ${label}`);
  const show = newest(async (index, stay) => {
    const { codes, frames, labels, given, spread } = await app.host.ask("example", { index });
    seen = index;
    app.about(codes[0], spread);
    own = undefined;
    if (!stay) app.set({ example: index });
    await compare(frames[0], codes[0], `Example ${index}${named(labels[0])}.`, stay, given);
  }, app.fail);
  const encode = newest(async (pixels, words) => {
    const { codes } = await app.host.ask("encode", { condition: state.condition }, pixels);
    own = [pixels, words, String(state.condition)];
    app.about();
    await compare(facts.shape.length === 1 ? pixels : Uint8ClampedArray.from(pixels, (v) => 255 * v), codes[0], words);
  }, app.fail);
  const last = facts.examples - 1, index = h("input", { type: "number", min: 0, max: last, step: 1, value: 0, oninput: () => { const i = typed(index); if (i !== undefined) show(i, false); } });
  const few = facts.thumbs.n, byClass = h("select", { onchange: () => pickClass() }, ...options([["", "any"], ...(classes || []).map((name, i) => [i, name])]));
  let turn = 0, shown = [], seen, own; // own: the image that was drawn or uploaded last, and its condition
  const choices = () => range(few).filter((i) => byClass.value === "" || facts.labels[i] === Number(byClass.value));
  const table = gallery(app, "Examples: press one to encode it", (i) => { index.value = facts.index[shown[i]]; show(facts.index[shown[i]], false); });
  const list = async () => {
    const all = choices(), n = Math.min(10, all.length);
    shown = range(n).map((i) => all[(turn + i) % all.length]);
    table.shape(n, Math.max(1, Math.min(10, n)));
    const thumbs = await app.thumbs;
    shown.forEach((k, i) => table.paint(i, thumbs[k], `Example ${facts.index[k]}${named(facts.labels?.[k])}`));
  };
  const pickClass = () => { turn = 0; list(); if (choices().length) { const i = facts.index[choices()[0]]; index.value = i; show(i, false); } };
  const more = () => { turn = (turn + 10) % Math.max(1, choices().length); list(); };
  const draw = facts.drawing && facts.encoder && padOf(app, () => { const p = centred(draw.ink(), facts); if (p) encode(p, "Your drawing, centred, scaled and set upright as the data are."); });
  const upload = facts.encoder && facts.shape.length === 3 && h("input", { type: "file", accept: "image/png,image/jpeg,image/webp,image/gif,image/bmp,image/avif", onchange: async () => {
    try { const pixels = upload.files[0] && (await readImage(upload.files[0], facts)); if (pixels) encode(pixels, "Your image."); } catch { app.complain("That file could not be read as an image."); }
  } });
  return {
    name: facts.shape.length === 3 ? "Your image" : "Examples", image: () => sheetOf([[original], [rebuilt]], 2),
    el: h("div", {}, h("div", { className: "row" }, field(`example, 0 to ${last}`, index), classes ? field("class", byClass) : null, few > 10 ? button("Others", more) : null), table.el,
      h("div", { className: isRow ? "pair wide" : "pair" }, h("div", {}, h("small", {}, "original"), original), h("div", {}, h("small", {}, "reconstruction"), rebuilt),
        draw ? h("div", {}, h("small", {}, "draw here"), draw.el, button("Clear", () => draw.clear())) : null),
      error, upload ? field(`or an ${noun} file`, upload) : null, facts.encoder ? null : h("p", { className: "quiet" }, "This page carries no encoder, so only its own examples can be encoded.")),
    update(changed) {
      if (draw && changed.has("theme")) draw.theme();
      if (own && changed.has("condition") && own[2] !== String(state.condition)) encode(own[0], own[1]);
      if (!this.begun) { this.begun = true; list(); index.value = state.example; show(state.example, true); }
      else if (state.example !== seen && changed.has("example")) { seen = state.example; index.value = state.example; show(state.example, true); }
      else if (changed.has("restored")) { index.value = state.example; }
    },
  };
}

function betweenPart(app) {
  const { facts, state } = app, N = 11;
  const strip = gallery(app, "From A to B: press one to go there", (i) => go(i / (N - 1)));
  const scrub = keepOnSwipe(app, ["z", "t"], h("input", { type: "range", min: 0, max: 1, step: 0.01, "aria-label": "Place between A and B", oninput: () => go(Number(scrub.value)) }));
  const way = h("select", { onchange: () => app.set({ spherical: way.value === "spherical" }) }, ...options([["straight", "straight"], ["spherical", "spherical"]]));
  const go = (t) => app.set({ t, z: [...between(state.a, state.b, t, state.spherical)] });
  const fill = newest((stale) => app.decodeMany(range(N).map((i) => between(state.a, state.b, i / (N - 1), state.spherical)), (i, frame) => strip.paint(i, frame, `${i} tenths of the way`), stale), app.fail);
  const words = h("p", { className: "quiet" });
  return {
    name: "From A to B", image: strip.image,
    el: h("div", {}, h("div", { className: "row" }, field("way", way), button("Swap", () => app.set({ a: state.b, b: state.a })), button("A and B at random", () => app.randomEnds())), strip.el, scrub, words),
    update(changed) {
      strip.shape(N, N);
      way.value = state.spherical ? "spherical" : "straight";
      scrub.value = state.t;
      const there = between(state.a, state.b, state.t, state.spherical);
      strip.mark(state.z.every((v, i) => Math.abs(v - there[i]) < 1e-5) ? Math.round(state.t * (N - 1)) : -1);
      if (["a", "b", "spherical", "shown"].some((key) => changed.has(key))) fill();
      const [a, m, b] = [0, 0.5, 1].map((t) => length(app.units(between(state.a, state.b, t, state.spherical))).toFixed(1));
      const turn = Math.acos(clamp(dot(state.a, state.b) / (length(state.a) * length(state.b) || 1), -1, 1));
      if (facts.sphere) words.textContent = `The directions A and B are ${Math.round((180 * turn) / Math.PI)}\u00b0 apart. The path is also on the map.`;
      else words.textContent = `Distance from the middle: A ${a}, half-way ${m}, B ${b}. The path is also on the map.`;
    },
  };
}

function traversePart(app) {
  const { facts, state } = app, N = 9, steps = range(N).map((i) => (i - (N - 1) / 2) * (6 / (N - 1)));
  const walk = (j, u) => Float32Array.from(state.z, (v, i) => (i === j ? facts.mean[j] + u * facts.scale[j] : v));
  const table = gallery(app, "One dimension changes in each row; press one to go there", (i) => app.set({ z: [...walk(state.dims[Math.floor(i / N)], steps[i % N])] }));
  const name = (i) => `${codeName(facts, state.dims[Math.floor(i / N)])} at ${signed(steps[i % N])}`;
  const fill = newest((stale) => app.decodeMany(state.dims.flatMap((j) => steps.map((u) => walk(j, u))), (i, frame) => table.paint(i, frame, name(i)), stale), app.fail);
  const boxes = facts.order.filter(app.movable).map((j) => [j, h("input", { type: "checkbox", onchange: () => app.set({ dims: boxes.filter(([, box]) => box.checked).map(([k]) => k) }) })]);
  return {
    name: "One number at a time", image: table.image,
    el: h("div", {}, h("fieldset", { className: "row boxes" }, h("legend", { className: "quiet" }, "dimensions"), ...boxes.map(([j, box]) => check(codeName(facts, j), box))), table.el,
      h("p", { className: "quiet" }, "In each row one number of the code goes from \u22123 to 3 standard deviations; the others stay as they are.")),
    update(changed) {
      boxes.forEach(([j, box]) => { box.checked = state.dims.includes(j); });
      table.shape(N * state.dims.length, N, state.dims.map((j) => codeName(facts, j)));
      if (state.dims.length && ["z", "dims", "shown"].some((key) => changed.has(key))) fill();
    },
  };
}

function samplePart(app) {
  const { facts, state } = app;
  let codes = [];
  const turn = (patch) => app.set({ sampling: { ...state.sampling, ...patch } });
  const table = gallery(app, "Samples: press one to take its code", (i) => app.set({ z: [...codes[i]] }));
  const draw = newest(async ({ nearest, ...request }, stale) => {
    const { condition } = state;
    codes = (await app.host.ask("sample", { ...request, condition })).codes;
    const found = nearest && (await app.host.ask("nearest", { condition }, flatten(codes)));
    const below = (i) => found && { frame: found.frames[i], name: `the nearest ${facts.nearest} ${nounOf(facts)}` };
    table.shape(codes.length, Math.min(codes.length, 8));
    await app.decodeMany(codes, (i, frame) => table.paint(i, frame, `Sample ${i + 1}`, below(i)), stale);
  }, app.fail);
  const n = h("input", { type: "number", min: 1, max: 64, step: 1, oninput: () => { const v = typed(n); if (v !== undefined) turn({ n: v }); } });
  const seed = h("input", { type: "number", min: 0, max: 999999999, step: 1, oninput: () => { const v = typed(seed); if (v !== undefined) turn({ seed: v }); } });
  const heat = keepOnSwipe(app, ["sampling"], h("input", { type: "range", min: 0, max: 2, step: 0.05, "aria-label": "Temperature", oninput: () => turn({ temperature: Number(heat.value) }) })), degrees = h("span", {});
  const source = h("select", { onchange: () => turn({ source: Number(source.value) }) }, ...options(facts.sources.map((s, i) => [i, s.name])));
  const nearest = h("input", { type: "checkbox", onchange: () => turn({ nearest: nearest.checked }) });
  return {
    name: "New samples", image: table.image,
    el: h("div", {}, h("div", { className: "row" }, field("number", n), field("seed", seed), button("Another seed", () => turn({ seed: state.sampling.seed + 1 })), facts.sources.length > 1 ? field("from", source) : null,
      h("label", { className: "field" }, h("span", {}, "temperature ", degrees), heat), check(`nearest ${facts.nearest} ${nounOf(facts)}`, nearest)), table.el, h("p", { className: "quiet" }, facts.sampled)),
    update(changed) {
      const s = state.sampling, focused = table.el.getRootNode().activeElement;
      for (const [control, value] of [[n, s.n], [seed, s.seed], [heat, s.temperature], [source, s.source]]) if (control !== focused || changed.has("restored")) control.value = value;
      degrees.textContent = s.temperature.toFixed(2);
      heat.disabled = !facts.sources[s.source].warm;
      nearest.checked = s.nearest;
      if (changed.has("sampling") || changed.has("shown")) draw(s);
    },
  };
}

/** What one takes along: pictures, the code as text, and the state. */
function takePart(app, picture) {
  const { facts, state } = app;
  const code = h("textarea", { readOnly: true, rows: 2, spellcheck: false, "aria-label": "The code as NumPy text" }), whole = h("textarea", { readOnly: true, rows: 2, spellcheck: false, "aria-label": "The state of this view" });
  const link = () => `${location.href.split("#")[0]}#${facts.id}=${encodeURIComponent(JSON.stringify({ ...state, selection: undefined }))}`;
  const enlarged = () => sheetOf([[picture]], 1);
  const copier = (name, control) => { const made = button(name, async () => { await copy(control); made.textContent = "Copied"; setTimeout(() => { made.textContent = name; }, 900); }); return made; };
  const one = copier("Copy", code), two = copier(facts.live ? "Copy" : "Copy link", whole);
  return {
    el: h("details", { className: "take" }, h("summary", {}, "Take it along"), h("div", { className: "row" }, button("Save picture", () => save(enlarged(), "picture.png")), button("Save panel", () => { const image = app.panel().image(); if (image) save(image, "panel.png"); })),
      h("label", {}, h("span", {}, "the code, for NumPy"), code), one, h("label", {}, h("span", {}, facts.live ? "the state: explorer.state = " : location.protocol === "file:" ? "a link that brings this view back, on this computer" : "a link that brings this view back"), whole), two),
    update() {
      code.value = `np.array([${state.z.map((v) => Number(v.toPrecision(6))).join(", ")}], dtype="float32")`;
      whole.value = facts.live ? JSON.stringify(state).replaceAll("true", "True").replaceAll("false", "False").replaceAll("null", "None") : link();
    },
  };
}

// ---- the whole -------------------------------------------------------------------------------------------------------------

const CSS = `
:host { all: initial; display: block; }
.vx { --ink: #23241f; --quiet: #5f5e57; --paper: #fdfcf9; --panel: #f4f2ec; --line: #d3cfc3; --mark: #0b5c74; container-type: inline-size; color: var(--ink); background: var(--paper);
  border: 1px solid var(--line); border-radius: 10px; font: 14px/1.45 system-ui, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif; text-align: left; }
.vx.dark { --ink: #e9e6dd; --quiet: #aaa79c; --paper: #17191c; --panel: #212429; --line: #3d4147; --mark: #7cc4dc; color-scheme: dark; }
.vx:not(.dark) { color-scheme: light; }
.vx.lab { --ink: var(--jp-ui-font-color1); --paper: var(--jp-layout-color0); --panel: var(--jp-layout-color2); --line: var(--jp-border-color1); }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
.main { display: grid; gap: 1rem 1.75rem; padding: 0.9rem; }
.left { display: grid; gap: 0.9rem; align-content: start; min-width: 0; }
.right { min-width: 0; }
@container (min-width: 42rem) { .main { grid-template-columns: minmax(15rem, 4fr) 6fr; padding: 1.2rem; } }
@container (max-width: 41.99rem) { /* the picture stays in sight while the hand is elsewhere */
  .left { display: contents; } .right { order: 1; } .sliders { order: 2; } .picture { position: sticky; top: 0; z-index: 1; display: grid; grid-template-columns: minmax(0, min(38%, 11rem)) minmax(0, 1fr); gap: 0.2rem 0.8rem; align-items: center; background: var(--paper); padding: 0.5rem 0; border-bottom: 1px solid var(--line); }
  .picture > canvas { grid-row: span 2; } .picture .gauge { align-self: end; } .picture .buttons { display: grid; grid-template-columns: 1fr 1fr; align-self: start; margin: 0; }
  .picture.listed { position: static; grid-template-columns: minmax(0, 1fr); } .picture.listed > canvas { max-width: 22rem; }
}
@media (max-height: 26rem) { .picture { position: static !important; } } /* zoomed in, nothing may cover the rest */
p { margin: 0.35rem 0; } .quiet, small { color: var(--quiet); font-size: 12.5px; }
canvas { display: block; width: 100%; } .frame { image-rendering: pixelated; border-radius: 3px; }
.gauge { display: grid; grid-template-columns: auto minmax(3rem, 1fr) auto; gap: 0.1rem 0.5rem; align-items: center; color: var(--quiet); font-size: 12.5px; margin: 0.35rem 0; min-height: 2.6em; align-content: start; }
.gauge b { grid-column: 1 / -1; font-weight: 400; color: var(--ink); text-align: right; }
.scale { position: relative; height: 8px; border-radius: 4px; background: linear-gradient(90deg, var(--mark), var(--line) 60%, #c0622b); } .scale i { position: absolute; top: -4px; width: 4px; height: 16px; margin-left: -2px; border-radius: 2px; background: var(--ink); box-shadow: 0 0 0 1.5px var(--paper); }
.lead { font-weight: 600; margin: 0 0 0.5rem; }
.picture > canvas { max-width: 17rem; border: 1px solid var(--line); border-radius: 6px; margin: 0 auto; }
.buttons, .row { display: flex; flex-wrap: wrap; gap: 0.4rem 0.6rem; align-items: end; } .buttons { margin-top: 0.5rem; column-gap: 0.3rem; } .row { margin: 0 0 0.6rem; } .condition { margin: 0.6rem 0 0; }
button, select, input[type=number], textarea { font: inherit; color: inherit; background: var(--panel); border: 1px solid var(--line); border-radius: 6px; min-height: 30px; padding: 0.15rem 0.6rem; }
input[type=file] { font: inherit; color: var(--quiet); max-width: 100%; } ::file-selector-button { font: inherit; color: var(--ink); background: var(--panel); border: 1px solid var(--line); border-radius: 6px; min-height: 30px; padding: 0.15rem 0.6rem; margin-right: 0.6rem; cursor: pointer; }
button { cursor: pointer; } button:hover { border-color: var(--mark); }
input[type=number] { width: 5.2rem; padding-right: 0.2rem; } input[type=range] { touch-action: pan-y; width: 100%; min-width: 0; min-height: 24px; margin: 0; accent-color: var(--mark); } input[type=checkbox] { accent-color: var(--mark); width: 16px; height: 16px; margin: 0; }
:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; }
.field { display: grid; gap: 0.1rem; } .field > span, .take label > span { color: var(--quiet); font-size: 12.5px; }
.check { display: flex; gap: 0.35rem; align-items: center; min-height: 30px; }
.slider { display: grid; grid-template-columns: 5rem minmax(3rem, 1fr) 3.9rem; gap: 0.55rem; align-items: center; padding: 0.12rem 0; }
.slider input[type=number] { width: 100%; text-align: right; padding: 0 0.3rem; min-height: 26px; appearance: textfield; font-variant-numeric: tabular-nums; }
.name { display: grid; line-height: 1.25; padding-bottom: 3px; background: linear-gradient(var(--mark), var(--mark)) left bottom / var(--share) 2px no-repeat; white-space: nowrap; }
.name small { font-size: 11.5px; } .called { color: var(--mark); overflow: hidden; text-overflow: ellipsis; }
summary { cursor: pointer; color: var(--quiet); padding: 0.3rem 0; font-size: 12.5px; }
.tabs { display: flex; flex-wrap: wrap; gap: 0.05rem; border-bottom: 1px solid var(--line); margin-bottom: 0.8rem; }
.tabs button { background: none; border: 0; border-bottom: 3px solid transparent; border-radius: 0; padding: 0.25rem 0.3rem; color: var(--quiet); }
.tabs button[aria-selected=true] { border-bottom-color: var(--mark); color: var(--ink); font-weight: 600; }
.map { max-width: 32rem; aspect-ratio: 1; touch-action: pan-y; cursor: crosshair; color: var(--ink); background: var(--paper); border: 1px solid var(--line); border-radius: 6px; margin: 0 auto; }
.map-box { position: relative; max-width: 32rem; margin: 0 auto; } .hint { position: absolute; z-index: 2; pointer-events: none; margin: 12px; padding: 0.3rem 0.5rem; display: grid; gap: 0.2rem; justify-items: center; font-size: 12.5px; background: var(--paper); border: 1px solid var(--line); border-radius: 6px; } .hint canvas { width: 72px; image-rendering: pixelated; }
.tools { justify-content: center; margin: 0.5rem 0 0; } .zoom { display: flex; gap: 0.3rem; } .zoom button { min-width: 34px; } .selection { justify-content: center; align-items: center; } .selection input { width: 8rem; font: inherit; color: inherit; background: var(--panel); border: 1px solid var(--line); border-radius: 6px; min-height: 30px; padding: 0.15rem 0.5rem; } button:disabled { opacity: 0.5; cursor: default; }
.legend { display: flex; flex-wrap: wrap; gap: 0.25rem; margin: 0.5rem 0; justify-content: center; }
.chip { display: inline-flex; gap: 0.35rem; align-items: center; min-height: 26px; padding: 0 0.5rem; font-size: 12.5px; } .chip i { width: 10px; height: 10px; border-radius: 50%; } .chip[aria-pressed=true] { border-color: var(--ink); font-weight: 600; }
.gallery { display: grid; gap: 3px; margin: 0.3rem 0; align-items: center; } .gallery button { padding: 0; min-height: 0; border-radius: 4px; border: 1px solid var(--line); background: none; overflow: hidden; }
.gallery button:hover, .gallery .here { border-color: var(--mark); box-shadow: 0 0 0 1px var(--mark); } .under { border-top: 3px solid var(--mark); border-radius: 0; } .row-label { font-size: 11.5px; color: var(--quiet); padding-right: 0.35rem; }
.pair { display: flex; flex-wrap: wrap; gap: 0.9rem; margin: 0.7rem 0; } .pair > div { width: min(9.5rem, 44%); display: grid; gap: 0.25rem; align-content: start; } .wide > div { width: min(19rem, 100%); } .wide .frame { image-rendering: auto; } .pair canvas { border: 1px solid var(--line); }
.pad-box { position: relative; } .pad { touch-action: none; cursor: crosshair; background: var(--panel); color: var(--ink); border-radius: 3px; }
.pen { display: none; position: absolute; left: 50%; top: 50%; width: 9px; height: 9px; margin: -4.5px; border: 2px solid var(--mark); border-radius: 50%; pointer-events: none; } .pad:focus-visible + .pen { display: block; }
fieldset { border: 0; padding: 0; margin: 0; min-width: 0; } .boxes .check { min-height: 24px; } legend { padding: 0; }
.foot { border-top: 1px solid var(--line); padding: 0.4rem 0.9rem; } .take label { display: grid; gap: 0.15rem; margin-top: 0.4rem; } textarea { width: 100%; font: 12px/1.4 ui-monospace, Menlo, Consolas, monospace; resize: vertical; word-break: break-all; }
@media (forced-colors: active) { .scale, .chip i, .name { forced-color-adjust: none; } .tabs button[aria-selected=true], .chip[aria-pressed=true] { outline: 2px solid Highlight; } }
.status:not(:empty) { margin: 0; padding: 0.5rem 0.9rem; background: #8a3a10; color: #fff; border-radius: 9px 9px 0 0; }
`;

/** What the view remembers: plain JSON, the same in Python and in a link. */
function defaults(facts) {
  const codes = rows(floatsOf(facts.codes), facts.latent_dim), other = facts.labels ? facts.labels.findIndex((label) => label !== facts.labels[0]) : 1;
  const moves = (j) => !facts.atlas || facts.atlas.dims.includes(j), known = (z) => [...z].map((v, j) => (moves(j) ? v : facts.mean[j]));
  const [x, y] = facts.order.length > 1 ? facts.plane : [0, 0], a = known(codes[0]), b = known(codes[Math.max(other, 0)]);
  return { ...(facts.condition ? { condition: facts.condition.given[0] } : {}), z: a, a, b, t: 0, spherical: Boolean(facts.sphere), example: facts.index[0], tab: 0, dims: facts.order.filter((j) => moves(j) && (!facts.dead[j] || facts.dead.every(Boolean))).slice(0, 5),
    plane: { pca: Boolean(facts.axes), x, y, rest: !facts.axes, background: facts.latent_dim < 3 || Boolean(facts.chart) }, sampling: { n: 16, seed: 0, temperature: 1, source: 0, nearest: false } };
}

/** What in a remembered state fits this model; the rest is left out. */
function fitting(state, facts) {
  const d = facts.latent_dim, code = (z) => Array.isArray(z) && z.length === d && z.every(Number.isFinite), number = Number.isFinite;
  const chosen = (v) => Array.isArray(v) && Boolean(facts.condition) && v.length === facts.condition.columns.length && v.every((k, i) => Boolean(facts.condition.columns[i].vectors[k]));
  const fits = { condition: chosen, z: code, a: code, b: code, t: number, spherical: (v) => typeof v === "boolean", example: (v) => facts.live ? Number.isInteger(v) && v >= 0 && v < facts.examples : facts.index.includes(v), tab: Number.isInteger,
    selection: (v) => v === null || (Array.isArray(v) && v.every(Number.isInteger)), dims: (v) => Array.isArray(v) && v.every((j) => Number.isInteger(j) && j >= 0 && j < d), plane: (v) => v && v.x >= 0 && v.x < d && v.y >= 0 && v.y < d, sampling: (v) => v && v.n >= 1 && v.n <= 64 && number(v.seed) && number(v.temperature) && Boolean(facts.sources[v.source]) };
  return Object.fromEntries(Object.entries(state || {}).filter(([key, value]) => fits[key]?.(value)));
}

/** What all parts share: facts, state, the decoder, and who hears of a change. */
function makeApp(model, tell, complain) {
  const facts = model.get("facts"), host = new Host(model, facts, tell), state = { ...defaults(facts), ...fitting(facts.start, facts), ...fitting(model.get("state"), facts) };
  const sent = () => JSON.stringify(state);
  const moved = (keys) => new Set(keys.includes("condition") ? [...keys, "z", "shown"] : keys); // a condition changes every picture
  let parts = [], waiting = false, last = "";
  const app = {
    facts, state, host, dark: isDark, complain,
    fail: (error) => complain(error.message),
    thumbs: framesOf(facts.thumbs, facts),
    units: (z) => Float32Array.from(z, (v, j) => (v - facts.mean[j]) / facts.scale[j]),
    movable: (j) => !facts.atlas || facts.atlas.dims.includes(j),
    held: (z) => [...z].map((v, j) => (app.movable(j) ? v : facts.mean[j])), // a table of frames has only two dimensions
    under: (condition) => (condition ? { condition } : {}),
    draw: (target, frame) => drawFrame(target, frame, facts, isDark()),
    decode: async (codes, condition = state.condition) => (await host.ask("decode", { condition }, flatten(codes.map((z) => Float32Array.from(z))))).frames,
    // In pieces, so that a page without a kernel stays awake and a newer wish need not wait for an old one.
    async decodeMany(codes, done, stale) {
      const step = facts.live ? 256 : 6;
      for (let i = 0; i < codes.length && !stale(); i += step) {
        (await app.decode(codes.slice(i, i + step))).forEach((frame, k) => done(i + k, frame));
        if (!facts.live) await new Promise((resume) => setTimeout(resume));
      }
    },
    set(patch) {
      complain("");
      Object.assign(state, patch);
      app.changed(moved(Object.keys(patch)));
      if (!waiting) { waiting = true; setTimeout(() => { waiting = false; app.remember(); }, 150); }
    },
    remember() {
      if (sent() === last) return;
      last = sent();
      model.set("state", JSON.parse(last));
      model.save_changes();
    },
    recall(given) {
      if (JSON.stringify(given) === last) return; // our own words coming back
      const fit = fitting(given, facts);
      Object.assign(state, fit);
      app.changed(moved([...Object.keys(fit), "restored"]));
    },
    posterior: null, // mean and standard deviations of q(z|x) of the example that was chosen last
    about(mean, spread) {
      app.posterior = mean && spread ? { mean: [...mean], spread: [...spread] } : null;
      app.changed(new Set(["posterior"]));
    },
    drawAgain() {
      const { mean, spread } = app.posterior;
      app.set({ z: app.held(mean.map((m, j) => m + spread[j] * normal(Math.random))) });
    },
    changed(keys) { for (const part of parts) part.update(keys); },
    use(list) { parts = list; },
    async random() {
      const { codes } = await host.ask("sample", { n: 1, seed: Math.floor(Math.random() * 1e9), temperature: 1, source: 0, condition: state.condition });
      app.set({ z: app.held(codes[0]) });
    },
    async randomEnds() {
      const { codes } = await host.ask("sample", { n: 2, seed: Math.floor(Math.random() * 1e9), temperature: 1, source: 0, condition: state.condition });
      app.set({ a: app.held(codes[0]), b: app.held(codes[1]) });
    },
  };
  return app;
}

/** The tabs: one panel is seen, and only that one works. */
function tabsPart(app, panels) {
  const { state } = app, everything = ["z", "a", "b", "plane", "sampling", "dims", "shown", "theme", "example"];
  const name = Math.random().toString(36).slice(2);
  const tab = (panel, i) => h("button", { type: "button", role: "tab", id: `${name}-tab-${i}`, "aria-controls": `${name}-panel-${i}`, onclick: () => app.set({ tab: i }) }, panel.name);
  const tabs = panels.map(tab), boxes = panels.map((panel, i) => h("div", { role: "tabpanel", id: `${name}-panel-${i}`, "aria-labelledby": `${name}-tab-${i}` }, panel.el));
  const list = h("div", { className: "tabs", role: "tablist", "aria-label": "What to do" }, ...tabs);
  list.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    app.set({ tab: (state.tab + by + tabs.length) % tabs.length });
    tabs[state.tab].focus();
  });
  const stale = new Set(panels.map((_, i) => i)); // panels that have missed a change
  app.panel = () => panels[state.tab];
  return {
    el: h("div", { className: "right" }, list, ...boxes),
    update(changed) {
      state.tab = clamp(state.tab, 0, panels.length - 1);
      tabs.forEach((t, i) => { t.setAttribute("aria-selected", i === state.tab); t.tabIndex = i === state.tab ? 0 : -1; boxes[i].hidden = i !== state.tab; });
      panels.forEach((panel, i) => { if (i !== state.tab && (changed.size > 1 || !changed.has("tab"))) stale.add(i); });
      panels[state.tab].update(stale.delete(state.tab) ? new Set([...everything, ...changed]) : changed);
    },
  };
}

/**
 * Keys pressed inside stay inside. JupyterLab looks for this attribute from the event's target upwards, and to a listener
 * outside of a shadow tree the target is the tree's host: on any element above it the attribute comes too late.
 * A click beside a control gives the host the focus; Escape gives it back to the cell.
 */
function keepKeys(host) {
  host.setAttribute("data-lm-suppress-shortcuts", "true");
  if (!document.body?.dataset.jpThemeLight) return; // not in JupyterLab
  host.tabIndex = -1;
  host.style.outline = "none";
  host.addEventListener("keydown", (event) => { if (event.key === "Escape" && !event.defaultPrevented) host.closest(".jp-Cell")?.focus(); });
}

/** The explorer in `el`; returns what ends it. */
function render({ model, el }) {
  const place = h("div", { className: "vaenb-explorer-view" }), root = place.attachShadow({ mode: "open" });
  keepKeys(place);
  if (model.get("facts").live) place.dataset.vaenbLive = model.get("facts").id;
  const status = h("div", { className: "status", role: "status" }), frame = h("div", { className: "vx", role: "region", "aria-label": `Explorer of a code of ${model.get("facts").latent_dim} numbers` }, status);
  root.append(h("style", {}, CSS), frame);
  el.append(place);
  const said = { host: "", error: "" }; // the host's sentence leaves with its cause, an error's with the next thing the hand does
  const say = (kind) => (sentence) => { said[kind] = sentence; status.textContent = said.error || said.host; };
  const app = makeApp(model, say("host"), say("error")), { facts } = app;
  const picture = picturePart(app), condition = conditionPart(app), sliders = slidersPart(app), take = takePart(app, picture.canvas);
  const panels = [mapPart, ...(facts.atlas ? [] : [encodePart]), betweenPart, traversePart, ...(facts.atlas ? [] : [samplePart])].map((part) => part(app)), tabs = tabsPart(app, panels);
  app.use([picture, condition, sliders, tabs, take]);
  if (facts.spread) app.about(floatsOf(facts.codes).slice(0, facts.latent_dim), floatsOf(facts.spread).slice(0, facts.latent_dim));
  if (condition.el) picture.el.append(condition.el);
  frame.append(h("div", { className: "main" }, h("div", { className: "left" }, picture.el, sliders.el), tabs.el),
    h("div", { className: "foot" }, take.el, ...facts.notes.map((note) => h("p", { className: "quiet" }, note))));
  const theme = () => {
    frame.classList.toggle("dark", isDark());
    frame.classList.toggle("lab", Boolean(document.body.dataset.jpThemeLight) && !matchMedia("print").matches);
    root.querySelectorAll("canvas").forEach((c) => { if (c.frame) app.draw(c, c.frame); });
    app.changed(new Set(["theme", "plane"]));
  };
  const media = ["(prefers-color-scheme: dark)", "print"].map((query) => matchMedia(query)), watcher = new MutationObserver(theme), heard = () => app.recall(model.get("state"));
  media.forEach((query) => query.addEventListener("change", theme));
  watcher.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  model.on("change:state", heard);
  theme();
  app.changed(new Set(["z", "a", "b", "plane", "sampling", "dims", "tab"]));
  return () => { app.host.close(); watcher.disconnect(); media.forEach((query) => query.removeEventListener("change", theme)); model.off("change:state", heard); };
}

/**
 * The copy that a notebook saves behind the widget. It shows itself where the widget does not: in a notebook that was opened
 * again without its kernel, or in a page made of one.
 */
function standIn(el, facts) {
  const child = el.closest(".jp-OutputArea-child"), area = child?.parentElement || document.body, before = child?.previousElementSibling;
  const expected = before?.querySelector('.jp-OutputArea-output:not([data-mime-type]), [data-mime-type="application/vnd.jupyter.widget-view+json"]');
  let begun = false, late = !expected;
  const look = () => {
    const alive = Boolean(area.querySelector(`[data-vaenb-live="${facts.id}"]`)), missing = /model not found|Error displaying widget/.test(before?.textContent || "");
    const shown = !alive && (late || missing);
    el.hidden = !shown;
    if (shown && !begun) { begun = true; start(el, facts); }
    if (before && expected) before.style.display = shown ? "none" : "";
  };
  new MutationObserver(look).observe(area, { childList: true, subtree: true, characterData: true });
  setTimeout(() => { late = true; look(); }, 5000);
  look();
}

/** Starts every explorer of this name in the page that has not begun. */
function startAll(name) {
  const facts = JSON.parse(document.getElementById(`${name}-facts`).textContent);
  for (const el of document.querySelectorAll(`[id="${name}"]:not([data-begun])`)) {
    el.dataset.begun = "";
    (facts.widget ? standIn : start)(el, facts);
  }
}

/** Starts the explorer of a page without a kernel; the page's address may hold a state. */
function start(el, facts) {
  const match = location.hash.match(new RegExp(`${facts.id}=([^&]*)`));
  let state = {};
  try { state = match ? JSON.parse(decodeURIComponent(match[1])) : {}; } catch { /* a mangled link opens the explorer as it is */ }
  el.replaceChildren();
  render({ model: hostless(facts, state), el });
}

export default { render };
