/* The trained network as the file that qtlite/export writes, for "Draw a digit" and for Python. */
"use strict";

const qtlitePlaygroundFile = (() => {
  const KEY = "qtlite-playground-network"; // in localStorage
  const OPEN_SEAL = `qtlite-sha256:${"0".repeat(64)}`;

  function tensor(shape, values) {
    const bytes = new Uint8Array(Float32Array.from(values).buffer); // little-endian, as browsers are
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    return { shape, data: btoa(text) };
  }

  /* JSON whose seal is still open. */
  function write({ weights, name, nTrained, accuracy, nEpochs, tensors, mean, std }) {
    const shapes = { conv1: [8, 1, 5, 5], conv2: [12, 8, 5, 5], linear1: [20, 192], linear2: [10, 20] };
    const of = (layer) => {
      const [weight, bias] = tensors.filter((item) => item.name.startsWith(layer));
      const cut = ({ start, rows, columns }) => weights.subarray(start, start + rows * columns);
      return { weight: tensor(shapes[layer], cut(weight)), bias: tensor([bias.columns], cut(bias)) };
    };
    return JSON.stringify({
      format: "qtlite-network",
      version: 1,
      seal: OPEN_SEAL,
      metadata: {
        model: `Playground: ${name}`,
        dataset: "digits",
        classes: JSON.stringify([..."0123456789"]),
        input: "uint8 pixels, 0 to 255, shape (batch, 1, 28, 28)",
        output: "logits, shape (batch, 10)",
        pixel_mean: String(mean),
        pixel_std: String(std),
        relu: "true",
        n_trainable: String(nTrained),
        n_weights: String(weights.length),
        epochs: String(nEpochs),
        accuracy: accuracy.toFixed(4),
        evaluated_on: "297 test images of digits",
      },
      mean,
      std,
      layers: [
        { type: "conv2d", padding: 0, ...of("conv1") },
        { type: "max_pool2d", size: 2 },
        { type: "relu" },
        { type: "conv2d", padding: 0, ...of("conv2") },
        { type: "max_pool2d", size: 2 },
        { type: "relu" },
        { type: "flatten" },
        { type: "linear", ...of("linear1") },
        { type: "relu" },
        { type: "linear", ...of("linear2") },
      ],
    });
  }

  /* Put the checksum in its place, as qtlite/export does; load_json asks for it. */
  async function seal(content) {
    if (!globalThis.crypto?.subtle) return content; // pages without https have none
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(content));
    const hex = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
    return content.replace(OPEN_SEAL, OPEN_SEAL.replace(/0{64}/, hex));
  }

  return { KEY, seal, write };
})();

if (typeof module !== "undefined") module.exports = qtlitePlaygroundFile;
