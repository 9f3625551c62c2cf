// A trained network in a web page: what `vaenb.browser` packs is evaluated here, in plain JavaScript.
//
//     const model = makeModel(packed);            // packed: the object that pack_model returned, read from JSON
//     const pixels = model.decode(new Float32Array(model.latentDim));
//
// All arrays are flat Float32Arrays; an image (h, w, c) lies row by row, its channels side by side, as in NumPy.
// Each layer becomes a function without arguments that fills a buffer allocated once, so that a run creates one array: the result.

const product = (shape) => shape.reduce((a, b) => a * b, 1);

// ---- Weights ---------------------------------------------------------------------------------------------------

function decodeBase64(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

let meanings; // the 65,536 numbers that two bytes can mean: a table is faster than taking each half apart

function halfTable() {
  if (meanings) return meanings;
  meanings = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent === 0 ? fraction * 2 ** -24 : exponent === 31 ? (fraction ? NaN : Infinity) : (1024 + fraction) * 2 ** (exponent - 25);
    meanings[bits] = bits & 0x8000 ? -size : size;
  }
  return meanings;
}

// The array that `at` points to, as float32. The bytes are copied first, because a view must begin at a multiple of its width.
function readArray(bytes, at) {
  const n = product(at.shape), view = (Type, start, count) => new Type(bytes.slice(start, start + count * Type.BYTES_PER_ELEMENT).buffer);
  if (at.dtype === "float32") return view(Float32Array, at.start, n);
  const halves = (start, count) => {
    const table = halfTable(), codes = view(Uint16Array, start, count), found = new Float32Array(count);
    for (let i = 0; i < count; i++) found[i] = table[codes[i]];
    return found;
  };
  if (at.dtype === "float16") return halves(at.start, n);
  const values = new Float32Array(n);
  if (at.dtype === "int8") { // behind the numbers stands a scale for each `block` rows of each output channel, which is the last axis
    const channels = at.shape[at.shape.length - 1], codes = view(Int8Array, at.start, n);
    const scales = halves(at.start + n, Math.ceil(n / channels / at.block) * channels);
    for (let row = 0, i = 0; i < n; row++) for (let k = Math.floor(row / at.block) * channels, end = i + channels; i < end; i++, k++) values[i] = codes[i] * scales[k];
  } else throw new Error(`network.js cannot read weights of the type ${at.dtype}`);
  return values;
}

// ---- Activations: each is applied in place ----------------------------------------------------------------------

const sigmoid = (v) => 1 / (1 + Math.exp(-v));
const softplus = (v) => Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)));

function erf(v) { // Abramowitz and Stegun 7.1.26: wrong by at most 1.5e-7
  const t = 1 / (1 + 0.3275911 * Math.abs(v));
  const poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(v) * (1 - poly * Math.exp(-v * v));
}

const ELEMENTWISE = {
  relu: ({ slope = 0, max = Infinity, threshold = 0 }) => (v) => (v >= threshold ? Math.min(v, max) : slope * (v - threshold)),
  elu: ({ alpha = 1 }) => (v) => (v > 0 ? v : alpha * Math.expm1(v)),
  selu: () => (v) => 1.0507009873554805 * (v > 0 ? v : 1.6732632423543772 * Math.expm1(v)),
  gelu: () => (v) => 0.5 * v * (1 + erf(v * Math.SQRT1_2)),
  silu: () => (v) => v * sigmoid(v),
  mish: () => (v) => v * Math.tanh(softplus(v)),
  tanh: () => Math.tanh,
  sigmoid: () => sigmoid,
  hard_sigmoid: () => (v) => Math.min(Math.max(v / 6 + 0.5, 0), 1),
  softplus: () => softplus,
  softsign: () => (v) => v / (1 + Math.abs(v)),
  exponential: () => Math.exp,
};

function softmax(y, n) {
  for (let start = 0; start < y.length; start += n) {
    let high = -Infinity, sum = 0;
    for (let i = start; i < start + n; i++) high = Math.max(high, y[i]);
    for (let i = start; i < start + n; i++) sum += y[i] = Math.exp(y[i] - high);
    for (let i = start; i < start + n; i++) y[i] /= sum;
  }
}

function activation(named, y, shape) {
  if (!named) return () => {};
  if (named.name === "softmax") return () => softmax(y, shape[shape.length - 1]);
  if (named.name === "relu" && Object.keys(named).length === 1) return () => { for (let i = 0; i < y.length; i++) if (y[i] < 0) y[i] = 0; };
  if (!(named.name in ELEMENTWISE)) throw new Error(`network.js does not know the activation ${named.name}`);
  const f = ELEMENTWISE[named.name](named);
  return () => { for (let i = 0; i < y.length; i++) y[i] = f(y[i]); };
}

// ---- The one loop where the time goes ---------------------------------------------------------------------------

// y[at + j] += sum over i of x[from + i] w[i, j], with w of shape (n, m). Inputs that are zero, about half of them behind a relu,
// cost nothing; four rows of w at once spare three of four visits to y; and the inner loop runs along memory.
function addProduct(x, from, n, w, m, y, at, live) {
  let count = 0;
  for (let i = 0; i < n; i++) if (x[from + i] !== 0) live[count++] = i;
  let k = 0;
  for (; k + 3 < count; k += 4) {
    let a = live[k] * m, b = live[k + 1] * m, c = live[k + 2] * m, d = live[k + 3] * m;
    const xa = x[from + live[k]], xb = x[from + live[k + 1]];
    const xc = x[from + live[k + 2]], xd = x[from + live[k + 3]];
    for (let j = at; j < at + m; j++)
      y[j] += xa * w[a++] + xb * w[b++] + xc * w[c++] + xd * w[d++];
  }
  for (; k < count; k++) {
    const xk = x[from + live[k]];
    for (let j = at, a = live[k] * m; j < at + m; j++) y[j] += xk * w[a++];
  }
}

function fillWith(y, bias) { // bias: one number per channel, or nothing
  if (!bias) return y.fill(0);
  for (let i = 0; i < y.length; i += bias.length) y.set(bias, i);
}

// ---- Layers: (step, inputs, y, read) => function that fills y.data ------------------------------------------------

// y[i] = x[from[i]], and 0 where `from` is negative: permuting, cropping, padding and repeating differ in nothing else.
function gather(x, y, from) {
  return () => { for (let i = 0; i < from.length; i++) y[i] = from[i] < 0 ? 0 : x[from[i]]; };
}

// `place` says for row r and column c of the result which row and column of the input it shows.
function gatherPixels(x, y, place) {
  const [height, width, channels] = x.shape, from = new Int32Array(y.data.length);
  let i = 0;
  for (let r = 0; r < y.shape[0]; r++) for (let c = 0; c < y.shape[1]; c++) {
    const [row, column] = place(r, c);
    const inside = row >= 0 && row < height && column >= 0 && column < width;
    for (let k = 0; k < channels; k++) from[i++] = inside ? (row * width + column) * channels + k : -1;
  }
  return gather(x.data, y.data, from);
}

const MERGES = {
  add: (a, b) => a + b, subtract: (a, b) => a - b, multiply: (a, b) => a * b,
  maximum: (a, b) => Math.max(a, b), minimum: (a, b) => Math.min(a, b),
};

const LAYERS = {
  reshape: (step, [x], y) => { y.data = x.data; return null; },

  unit: (step, [x], y) => () => { // the direction of x, as `vaenb.sphere.unit`
    const size = Math.sqrt(x.data.reduce((sum, v) => sum + v * v, 0));
    y.data.forEach((_, i) => { y.data[i] = size > 1e-6 ? x.data[i] / size : Number(i === 0); });
  },

  tile: (step, [x], y) => gather(x.data, y.data, Int32Array.from(y.data, (_, i) => i % x.data.length)),

  dense(step, [x], y, read) { // along the last axis
    const w = read("kernel"), bias = read("bias"), [n, m] = step.kernel.shape;
    const live = new Int32Array(n), act = activation(step.activation, y.data, y.shape);
    return () => {
      fillWith(y.data, bias);
      for (let row = 0; row * m < y.data.length; row++) addProduct(x.data, row * n, n, w, m, y.data, row * m, live);
      act();
    };
  },

  conv(step, [x], y, read) { // the patch under each output pixel, copied together, times the kernel
    const w = read("kernel"), bias = read("bias"), [kh, kw, n, m] = step.kernel.shape;
    const [height, width] = x.shape, [rows, columns] = y.shape;
    const [sy, sx] = step.strides, [dy, dx] = step.dilation, [top, left] = step.pad;
    const patch = new Float32Array(kh * kw * n), live = new Int32Array(patch.length), act = activation(step.activation, y.data, y.shape);
    return () => {
      fillWith(y.data, bias);
      for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) {
        let p = 0;
        for (let i = 0; i < kh; i++) for (let j = 0; j < kw; j++) {
          const row = r * sy + i * dy - top, column = c * sx + j * dx - left;
          const inside = row >= 0 && row < height && column >= 0 && column < width;
          for (let k = 0, q = (row * width + column) * n; k < n; k++) patch[p++] = inside ? x.data[q++] : 0;
        }
        addProduct(patch, 0, patch.length, w, m, y.data, (r * columns + c) * m, live);
      }
      act();
    };
  },

  conv_transpose(step, [x], y, read) { // each input pixel times the kernel gives a patch, which is added to the output
    const w = read("kernel"), bias = read("bias"), [n, kh, kw, m] = step.kernel.shape;
    const [height, width] = x.shape, [rows, columns] = y.shape, [sy, sx] = step.strides, [top, left] = step.pad;
    const patch = new Float32Array(kh * kw * m), live = new Int32Array(n), act = activation(step.activation, y.data, y.shape);
    return () => {
      fillWith(y.data, bias);
      for (let r = 0; r < height; r++) for (let c = 0; c < width; c++) {
        addProduct(x.data, (r * width + c) * n, n, w, patch.length, patch.fill(0), 0, live);
        for (let i = 0; i < kh; i++) for (let j = 0; j < kw; j++) {
          const row = r * sy + i - top, column = c * sx + j - left;
          if (row < 0 || row >= rows || column < 0 || column >= columns) continue;
          for (let k = 0, p = (i * kw + j) * m, q = (row * columns + column) * m; k < m; k++) y.data[q++] += patch[p++];
        }
      }
      act();
    };
  },

  pool(step, [x], y) { // the average is over what lies inside the image
    const [height, width, n] = x.shape, [rows, columns] = step.grid, [kh, kw] = step.size, [sy, sx] = step.strides, [top, left] = step.pad;
    const largest = step.kind === "max";
    return () => {
      y.data.fill(largest ? -Infinity : 0);
      for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) {
        const at = (r * columns + c) * n;
        let count = 0;
        for (let row = Math.max(r * sy - top, 0); row < Math.min(r * sy - top + kh, height); row++)
          for (let column = Math.max(c * sx - left, 0); column < Math.min(c * sx - left + kw, width); column++, count++)
            for (let k = 0, q = (row * width + column) * n; k < n; k++, q++) y.data[at + k] = largest ? Math.max(y.data[at + k], x.data[q]) : y.data[at + k] + x.data[q];
        if (!largest) for (let k = 0; k < n; k++) y.data[at + k] /= count;
      }
    };
  },

  window: (step, [x], y) => gatherPixels(x, y, (r, c) => [r + step.start[0], c + step.start[1]]), // cropping, or padding where start is negative

  repeat: (step, [x], y) => gatherPixels(x, y, (r, c) => [Math.floor(r / step.size[0]), Math.floor(c / step.size[1])]),

  bilinear(step, [x], y) { // pixels are little squares: their centres are at one half
    const [height, width, n] = x.shape, [rows, columns] = y.shape;
    const taps = (count, size, factor) => Array.from({ length: count }, (_, i) => {
      const place = (i + 0.5) / factor - 0.5, low = Math.floor(place), clip = (v) => Math.min(Math.max(v, 0), size - 1);
      return [clip(low), clip(low + 1), place - low];
    });
    const down = taps(rows, height, step.size[0]), across = taps(columns, width, step.size[1]);
    return () => {
      let i = 0;
      for (const [r0, r1, v] of down) for (const [c0, c1, u] of across) for (let k = 0; k < n; k++) {
        const at = (row, column) => x.data[(row * width + column) * n + k];
        y.data[i++] = (1 - v) * ((1 - u) * at(r0, c0) + u * at(r0, c1)) + v * ((1 - u) * at(r1, c0) + u * at(r1, c1));
      }
    };
  },

  permute(step, [x], y) { // axis i of the result is axis step.axes[i] of the input
    const strides = x.shape.map((_, axis) => product(x.shape.slice(axis + 1)));
    const from = new Int32Array(y.data.length);
    for (let i = 0; i < from.length; i++) {
      let rest = i;
      for (let axis = y.shape.length - 1; axis >= 0; axis--) {
        from[i] += (rest % y.shape[axis]) * strides[step.axes[axis]];
        rest = Math.floor(rest / y.shape[axis]);
      }
    }
    return gather(x.data, y.data, from);
  },

  concatenate(step, inputs, y) {
    const chunks = inputs.map((x) => product(x.shape.slice(step.axis))), whole = chunks.reduce((a, b) => a + b, 0);
    return () => {
      let start = 0;
      inputs.forEach((x, k) => {
        for (let i = 0; i * whole < y.data.length; i++) y.data.set(x.data.subarray(i * chunks[k], (i + 1) * chunks[k]), i * whole + start);
        start += chunks[k];
      });
    };
  },

  merge(step, inputs, y) {
    const [first, ...others] = inputs, f = MERGES[step.kind === "average" ? "add" : step.kind];
    return () => {
      y.data.set(first.data);
      for (const x of others) for (let i = 0; i < y.data.length; i++) y.data[i] = f(y.data[i], x.data[i]);
      if (step.kind === "average") for (let i = 0; i < y.data.length; i++) y.data[i] /= inputs.length;
    };
  },

  activation(step, [x], y) {
    const act = activation(step.activation, y.data, y.shape);
    return () => { y.data.set(x.data); act(); };
  },

  affine(step, [x], y, read) { // per channel: batch normalisation after training, and rescaling
    const scale = read("scale"), shift = read("shift"), n = scale.length;
    return () => { for (let i = 0, k = 0; i < y.data.length; i++, k = k + 1 === n ? 0 : k + 1) y.data[i] = x.data[i] * scale[k] + shift[k]; };
  },

  // Mean 0 and variance 1 within each of `groups` groups of channels in each run of `size` numbers:
  // one pixel and one group is layer normalisation, a whole map and several groups is group normalisation.
  normalize(step, [x], y, read) {
    const gain = read("gain"), shift = read("shift"), { size, groups, epsilon } = step;
    const channels = x.shape[x.shape.length - 1], width = channels / groups;
    const row = groups === 1 ? size : width; // numbers that lie side by side and belong to one group
    const stride = groups === 1 ? size : channels;
    return () => {
      for (let start = 0; start < y.data.length; start += size) for (let g = 0; g < groups; g++) {
        let sum = 0, squares = 0;
        for (let a = start + g * row; a < start + size; a += stride) for (let i = a; i < a + row; i++) sum += x.data[i];
        const mean = sum / (size / groups);
        for (let a = start + g * row; a < start + size; a += stride) for (let i = a; i < a + row; i++) squares += (x.data[i] - mean) ** 2;
        const rate = 1 / Math.sqrt(squares / (size / groups) + epsilon);
        for (let a = start + g * row; a < start + size; a += stride) for (let i = a; i < a + row; i++) y.data[i] = (x.data[i] - mean) * rate;
      }
      if (gain) for (let i = 0; i < y.data.length; i++) y.data[i] *= gain[i % gain.length];
      if (shift) for (let i = 0; i < y.data.length; i++) y.data[i] += shift[i % shift.length];
    };
  },
};

// ---- A network ----------------------------------------------------------------------------------------------------

export function makeNetwork(packed) {
  const bytes = decodeBase64(packed.weights), given = [packed.input_shape, ...(packed.others || [])], run = [];
  const values = given.map((shape) => ({ shape, data: new Float32Array(product(shape)) })), inputs = values.map((value) => value.data);
  for (const step of packed.steps) {
    if (!(step.op in LAYERS)) throw new Error(`network.js does not know the step ${step.op}`);
    const y = { shape: step.shape, data: step.op === "reshape" ? null : new Float32Array(product(step.shape)) };
    const read = (name) => step[name] && readArray(bytes, step[name]);
    const fill = LAYERS[step.op](step, step.inputs.map((i) => values[i]), y, read);
    if (fill) run.push(fill);
    values.push(y);
  }
  const output = values[packed.output].data;
  return {
    inputShape: packed.input_shape,
    outputShape: packed.output_shape,
    run(...arrays) { // x or z, and where there is one the vector of the condition
      if (arrays.length !== inputs.length) throw new Error(`the network takes ${inputs.length} arrays, but was given ${arrays.length}`);
      inputs.forEach((input, i) => {
        if (arrays[i].length !== input.length) throw new Error(`the network takes ${input.length} numbers, but was given ${arrays[i].length}`);
        input.set(arrays[i]);
      });
      for (const fill of run) fill();
      return output.slice(); // a copy: the next run overwrites the buffer
    },
  };
}

// ---- From a decoder's features to the likelihood's mean -------------------------------------------------------------

function continuousBernoulli(v) {
  const a = Math.abs(v);
  if (a < 0.5) return 0.5 + v * (1 / 12 - v * v * (1 / 720 - (v * v) / 30240));
  const mean = -1 / Math.expm1(-a) - 1 / a;
  return v > 0 ? mean : 1 - mean;
}

const bounded = (v, low, high) => { // `bound_logvar` of Python: v itself, bent smoothly in the outer tenths
  const margin = 0.1 * (high - low), middle = Math.min(Math.max(v, low + margin), high - margin), over = (v - middle) / margin;
  return middle + (margin * over) / (1 + Math.abs(over));
};

// The mean of a discretised logistic is a sum of sigmoids over the edges between the levels. Where the scale is much wider than a
// level the sum is an integral, which has a closed form and is off by at most rate / (48 levels^2), below 1e-4.
function logisticLevels(v, rate, levels) {
  const width = 1 / (levels - 1);
  if (rate * width * width < 4e-3) return (softplus(v * rate) - softplus((v - 1) * rate)) / rate;
  let sum = 0;
  for (let j = 1; j < levels; j++) sum += sigmoid((v - (j - 0.5) * width) * rate);
  return sum * width;
}

function categorical(features, levels) {
  const chances = Float32Array.from(features), mean = new Float32Array(features.length / levels);
  softmax(chances, levels);
  for (let i = 0; i < chances.length; i++) mean[Math.floor(i / levels)] += (chances[i] * (i % levels)) / (levels - 1);
  return mean;
}

const MEANS = {
  identity: (v) => v,
  sigmoid,
  continuous_bernoulli: continuousBernoulli,
  poisson: (v) => Math.exp(bounded(v, -14, 14)),
  discretized_logistic: (v, i, { rate, levels }) => logisticLevels(v, rate[i % rate.length], levels),
};

function makeMean(mean) {
  const every = mean.every || 1; // only the first of so many features counts
  if (mean.name === "categorical") return (features) => categorical(features, mean.levels);
  if (!(mean.name in MEANS)) throw new Error(`network.js does not know the mean ${mean.name}`);
  const f = MEANS[mean.name];
  return (features) => {
    const pixels = new Float32Array(features.length / every);
    for (let i = 0; i < pixels.length; i++) pixels[i] = f(features[i * every], i, mean);
    return pixels;
  };
}

// ---- A model --------------------------------------------------------------------------------------------------------

export function makeModel(packed) {
  const decoder = makeNetwork(packed.decoder), encoder = packed.encoder && makeNetwork(packed.encoder), mean = makeMean(packed.mean);
  return {
    latentDim: packed.latent_dim,
    imageShape: packed.image_shape,
    decode: (...inputs) => mean(decoder.run(...inputs)), // z, condition -> the likelihood's mean, h * w * c numbers
    encode: encoder ? (...inputs) => encoder.run(...inputs) : undefined,
  };
}
