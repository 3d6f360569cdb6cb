/* The whole classifier in the reader's browser: read a model that `qtlite export --to json` wrote,
   bring a drawing into MNIST's form, and run the network. No libraries, no page: Node runs it, too. */
"use strict";

const qtliteNetwork = (() => {
  /* Base64 of little-endian float32 to numbers. */
  function readTensor({ shape, data }) {
    const text = atob(data);
    const bytes = new DataView(new ArrayBuffer(text.length));
    for (let i = 0; i < text.length; i++) bytes.setUint8(i, text.charCodeAt(i));
    const length = shape.reduce((product, n) => product * n, 1);
    if (text.length !== 4 * length) throw new Error(`${text.length} bytes for shape ${shape}`);
    const values = Float32Array.from({ length }, (_, i) => bytes.getFloat32(4 * i, true));
    return { shape, values };
  }

  /* A model file's content to a network; the numbers about it are in `metadata`. */
  function readModel(content) {
    if (content.format !== "qtlite-network" || content.version !== 1) {
      throw new Error(`a model must be qtlite-network 1, got ${content.format} ${content.version}`);
    }
    const layers = content.layers.map((layer) =>
      layer.weight
        ? { ...layer, weight: readTensor(layer.weight), bias: readTensor(layer.bias) }
        : layer
    );
    return { ...content, layers };
  }

  /* Zeros around each channel. */
  function pad(input, padding) {
    if (padding === 0) return input;
    const [channels, height, width] = input.shape;
    const [outHeight, outWidth] = [height + 2 * padding, width + 2 * padding];
    const values = new Float32Array(channels * outHeight * outWidth);
    for (let row = 0; row < channels * height; row++) {
      const start = (row + (2 * Math.floor(row / height) + 1) * padding) * outWidth + padding;
      values.set(input.values.subarray(row * width, (row + 1) * width), start);
    }
    return { shape: [channels, outHeight, outWidth], values };
  }

  function conv2d(unpadded, { weight, bias, padding }) {
    const input = pad(unpadded, padding);
    const [nOut, nIn, kernelHeight, kernelWidth] = weight.shape;
    const [, height, width] = input.shape;
    const [outHeight, outWidth] = [height - kernelHeight + 1, width - kernelWidth + 1];
    const [pixels, kernels] = [input.values, weight.values]; // looked up once, not in the loops
    const values = new Float32Array(nOut * outHeight * outWidth);
    let place = 0;
    for (let o = 0; o < nOut; o++) {
      for (let y = 0; y < outHeight; y++) {
        for (let x = 0; x < outWidth; x++) {
          let sum = bias.values[o];
          let k = o * nIn * kernelHeight * kernelWidth;
          for (let c = 0; c < nIn; c++) {
            for (let i = 0; i < kernelHeight; i++) {
              const start = (c * height + y + i) * width + x;
              for (let j = 0; j < kernelWidth; j++) sum += kernels[k++] * pixels[start + j];
            }
          }
          values[place++] = sum;
        }
      }
    }
    return { shape: [nOut, outHeight, outWidth], values };
  }

  function maxPool2d(input, { size }) {
    const [channels, height, width] = input.shape;
    const [outHeight, outWidth] = [Math.floor(height / size), Math.floor(width / size)];
    const values = new Float32Array(channels * outHeight * outWidth).fill(-Infinity);
    for (let c = 0; c < channels; c++) {
      for (let y = 0; y < outHeight * size; y++) {
        for (let x = 0; x < outWidth * size; x++) {
          const place = (c * outHeight + Math.floor(y / size)) * outWidth + Math.floor(x / size);
          values[place] = Math.max(values[place], input.values[(c * height + y) * width + x]);
        }
      }
    }
    return { shape: [channels, outHeight, outWidth], values };
  }

  function linear(input, { weight, bias }) {
    const [nOut, nIn] = weight.shape;
    const values = Float32Array.from(bias.values);
    for (let o = 0; o < nOut; o++) {
      let sum = bias.values[o];
      for (let i = 0; i < nIn; i++) sum += weight.values[o * nIn + i] * input.values[i];
      values[o] = sum;
    }
    return { shape: [nOut], values };
  }

  const LAYERS = {
    conv2d,
    linear,
    max_pool2d: maxPool2d,
    relu: (input) => ({ ...input, values: input.values.map((value) => Math.max(value, 0)) }),
    flatten: (input) => ({ ...input, shape: [input.values.length] }),
  };

  /* Pixels, 0 to 255, row by row, to the output of every layer; the last one's are the logits. */
  function forward(model, pixels, shape = [1, 28, 28]) {
    const { mean = 0, std = 1 } = model;
    let output = { shape, values: Float32Array.from(pixels, (pixel) => (pixel / 255 - mean) / std) };
    return model.layers.map((layer) => (output = LAYERS[layer.type](output, layer)));
  }

  function logits(model, pixels, shape) {
    return forward(model, pixels, shape).at(-1).values;
  }

  function softmax(scores) {
    const highest = Math.max(...scores);
    const powers = Array.from(scores, (score) => Math.exp(score - highest));
    const sum = powers.reduce((total, power) => total + power, 0);
    return powers.map((power) => power / sum);
  }

  /* What each convolution hands on: the last output before the next convolution or flattening. */
  function featureMaps(model, outputs) {
    const maps = [];
    model.layers.forEach((layer, i) => {
      const next = model.layers[i + 1]?.type;
      if (outputs[i].shape.length === 3 && (next === "conv2d" || next === "flatten")) {
        maps.push(outputs[i]);
      }
    });
    return maps;
  }

  const SIDE = 28; // pixels of an MNIST image
  const BOX = 20; // its digit's longer side
  const PEN = 1.3; // radius of a stroke in these pixels
  const LARGEST = 3; // a dot is not blown up to a whole digit; drawing areas are 100 wide

  /* How far a point is from the line between two others. */
  function distance(x, y, [ax, ay], [bx, by]) {
    const [dx, dy, px, py] = [bx - ax, by - ay, x - ax, y - ay];
    const squared = dx * dx + dy * dy;
    const along = squared ? Math.min(1, Math.max(0, (px * dx + py * dy) / squared)) : 0;
    return Math.hypot(px - along * dx, py - along * dy);
  }

  /* How dark a pixel is, 0 to 1: 1 inside a stroke, a soft edge one pixel wide. */
  function paint(strokes) {
    const pixels = new Float64Array(SIDE * SIDE);
    for (const stroke of strokes) {
      stroke.forEach(([bx, by], place) => {
        const [ax, ay] = stroke[Math.max(place - 1, 0)];
        const reach = PEN + 1;
        for (
          let y = Math.max(0, Math.floor(Math.min(ay, by) - reach));
          y < Math.min(SIDE, Math.max(ay, by) + reach);
          y++
        ) {
          for (
            let x = Math.max(0, Math.floor(Math.min(ax, bx) - reach));
            x < Math.min(SIDE, Math.max(ax, bx) + reach);
            x++
          ) {
            const away = distance(x + 0.5, y + 0.5, [ax, ay], [bx, by]);
            const ink = Math.min(1, Math.max(0, PEN + 0.5 - away));
            pixels[y * SIDE + x] = Math.max(pixels[y * SIDE + x], ink);
          }
        }
      });
    }
    return pixels;
  }

  /* Strokes (lists of points [x, y] in a square 100 wide) to 28 x 28 pixels as MNIST's were made:
     scaled into a box of 20 x 20, then moved so that the centre of mass is in the middle. */
  function toMnist(strokes) {
    const points = strokes.flat();
    if (points.length === 0) return new Uint8Array(SIDE * SIDE);
    const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
    const [left, top] = [Math.min(...xs), Math.min(...ys)];
    const longer = Math.max(Math.max(...xs) - left, Math.max(...ys) - top);
    const scale = Math.min((BOX - 2 * PEN) / Math.max(longer, 1e-9), LARGEST * (BOX / 100));
    const move = (dx, dy) =>
      strokes.map((stroke) => stroke.map(([x, y]) => [(x - left) * scale + dx, (y - top) * scale + dy]));
    const corner = [(SIDE - BOX) / 2 + PEN, (SIDE - BOX) / 2 + PEN];
    const first = paint(move(...corner));
    let [mass, x, y] = [0, 0, 0];
    first.forEach((ink, i) => {
      mass += ink;
      x += ink * ((i % SIDE) + 0.5);
      y += ink * (Math.floor(i / SIDE) + 0.5);
    });
    const centred = paint(move(corner[0] + SIDE / 2 - x / mass, corner[1] + SIDE / 2 - y / mass));
    return Uint8Array.from(centred, (ink) => Math.round(255 * ink));
  }

  const DIGITS_PEN = 0.62; // of 8 cells; strokes then cover as much as scikit-learn's do

  /* Strokes to 28 x 28 pixels as scikit-learn's digits were made: the digit fills a square of 8 x 8 cells,
     a cell counts how many of its 4 x 4 points are inked, and the square is enlarged bilinearly. */
  function toDigits(strokes) {
    const points = strokes.flat();
    if (points.length === 0) return new Uint8Array(SIDE * SIDE);
    const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const longer = Math.max(right - left, bottom - top, 1e-9);
    const scale = Math.min((8 - 2 * DIGITS_PEN) / longer, LARGEST * (8 / 100));
    const moved = strokes.map((stroke) => stroke.map(([x, y]) => [
      4 + (x - (left + right) / 2) * scale, 4 + (y - (top + bottom) / 2) * scale,
    ]));
    const isInked = (x, y) => moved.some((stroke) => stroke.some((point, i) =>
      distance(x, y, stroke[Math.max(i - 1, 0)], point) <= DIGITS_PEN));
    const cells = new Float64Array(64);
    for (let i = 0; i < 1024; i++) {
      const [row, column] = [Math.floor(i / 32), i % 32];
      if (isInked((column + 0.5) / 4, (row + 0.5) / 4)) cells[Math.floor(row / 4) * 8 + Math.floor(column / 4)]++;
    }
    return Uint8Array.from({ length: SIDE * SIDE }, (_, i) => {
      const [y, x] = [Math.floor(i / SIDE), i % SIDE].map((place) => Math.max(0, ((place + 0.5) * 8) / SIDE - 0.5));
      const [y0, x0] = [Math.floor(y), Math.floor(x)];
      const [y1, x1] = [Math.min(y0 + 1, 7), Math.min(x0 + 1, 7)];
      const row = (at) => cells[at * 8 + x0] * (1 - x + x0) + cells[at * 8 + x1] * (x - x0);
      return Math.round((row(y0) * (1 - y + y0) + row(y1) * (y - y0)) * (255 / 16));
    });
  }

  /* A drawing as the network's training images were. */
  function toPixels(model, strokes) {
    return model.metadata.dataset === "digits" ? toDigits(strokes) : toMnist(strokes);
  }

  return { readModel, forward, logits, softmax, featureMaps, toMnist, toDigits, toPixels, SIDE };
})();

if (typeof module !== "undefined") module.exports = qtliteNetwork;
