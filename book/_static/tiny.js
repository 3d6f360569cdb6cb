/* Read a tiny file: seed and integers to a network that draw-network.js runs. The circuit, the mapping
   net and the normalisation are the playground's. No page: Node runs it, too.
   qtlite/experiments/bits/tiny_file.py describes the file. */
"use strict";

function qtliteTiny({ PortableRandom }, { Circuit, MappingNet, normalise, mappingSize, TENSORS, N_WEIGHTS }) {
  const N_QUBITS = 13;
  const LARGEST = 255;
  const GAIN = 2.5; // of the mapping net's start
  const DATASETS = [
    { dataset: "mnist", mean: 0.1307, std: 0.3081, classes: "0 1 2 3 4 5 6 7 8 9" },
    {
      dataset: "fashion_mnist", mean: 0.286, std: 0.353,
      classes: "T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle-boot",
    },
  ];
  const ONE = 1n << 32n;
  const FLOOR = 1n << 16n;
  const ROOTS = [
    0x100000000n, 0xeac0c6e8n, 0xd744fccbn, 0xc5672a11n, 0xb504f334n, 0xa5fed6aan, 0x9837f052n, 0x8b95c1e4n,
  ];

  function crc32(bytes) {
    let crc = -1;
    for (const byte of bytes) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc >>> 0;
  }

  /* The sums of the frequencies of all integers below -255, -254, ... and the sum of all. */
  function starts(width) {
    let ratio = ONE - (ROOTS[width % 8] >> BigInt(Math.floor(width / 8)));
    const square = (ratio * ratio) >> 32n;
    const tail = [ONE];
    for (let k = 0; k < LARGEST; k++) {
      const next = (tail.at(-1) * ratio) >> 32n;
      tail.push(next > FLOOR ? next : FLOOR);
      ratio = (ratio * square) >> 32n;
    }
    const sums = [0n];
    for (let k = -LARGEST; k <= LARGEST; k++) sums.push(sums.at(-1) + tail[Math.abs(k)]);
    return sums;
  }

  function decode(bytes, sizes, widths) {
    let number = bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
    const integers = sizes.flatMap((size, group) => {
      const sums = starts(widths[group]);
      const total = sums.at(-1);
      return Array.from({ length: size }, () => {
        const low = number % total;
        const place = sums.findLastIndex((sum) => sum <= low);
        number = (sums[place + 1] - sums[place]) * (number / total) + low - sums[place];
        return place - LARGEST;
      });
    });
    if (number !== 1n) throw new Error("its integers are not those of a tiny file");
    return integers;
  }

  /* bytes: Uint8Array. Returns a model as draw-network.js has it; an error says what is wrong. */
  function readTiny(bytes) {
    const little = (start, n) => bytes.subarray(start, start + n).reduceRight((sum, byte) => sum * 256 + byte, 0);
    if (bytes.length < 10 || bytes[0] !== 81 || bytes[1] !== 84) throw new Error("it is not a tiny file");
    if (bytes[2] !== 2) throw new Error("its version is not 2");
    if (crc32(bytes.subarray(5)) % 65536 !== little(3, 2)) throw new Error("its checksum is wrong");
    const kind = DATASETS[bytes[5] >> 4];
    if (!kind || bytes[5] & 15) throw new Error("its dataset or its circuit's block is not known here");
    const [nBlocks, seed, nHidden] = [bytes[6], little(7, 2), bytes[9]];
    const hidden = Array.from(bytes.subarray(10, 10 + nHidden));
    const netWidths = [N_QUBITS + 1, ...hidden, 1];
    const layerSizes = netWidths.slice(1).map((width, i) => (netWidths[i] + 1) * width);
    const sizes = [...Array(nBlocks).fill(N_QUBITS), ...layerSizes];
    /* The first and the last block's value, then each layer's, to one for each block and layer. */
    const spread = ([first, last, ...layers]) => [
      ...Array.from({ length: nBlocks }, (_, i) => first + Math.floor((last - first) * i / Math.max(nBlocks - 1, 1))),
      ...layers,
    ];
    const [start, nSteps] = [10 + nHidden, nHidden + 3];
    const steps = spread(Array.from(bytes.subarray(start, start + nSteps), (step) => 4 * step)); // in 1/1024
    const widths = spread(bytes.subarray(start + nSteps, start + 2 * nSteps));
    const integers = decode(bytes.subarray(start + 2 * nSteps), sizes, widths);

    const random = new PortableRandom(seed);
    let place = 0;
    const parameters = sizes.map((size, group) => {
      const range = group < nBlocks ? Math.PI : GAIN / Math.sqrt(netWidths[group - nBlocks]);
      const step = steps[group] / 1024;
      return Array.from({ length: size }, () => (2 * random.uniform() - 1) * range + step * integers[place++]);
    });
    const numbersOf = (groups) => Float64Array.from(groups.flat());
    const circuit = new Circuit(N_QUBITS, nBlocks, "linear");
    const net = new MappingNet(netWidths, N_QUBITS, N_WEIGHTS, [-1, 1], true);
    const feature = circuit.forward(numbersOf(parameters.slice(0, nBlocks))).map((p) => 2 ** N_QUBITS * p);
    const numbers = net.forward(numbersOf(parameters.slice(nBlocks)), feature);
    const weights = normalise(numbers, "row", new Float64Array(N_WEIGHTS));

    const tensor = (name, shape) => {
      const { start, rows, columns } = TENSORS.find((other) => other.name === name);
      return { shape, values: Float32Array.from(weights.subarray(start, start + rows * columns)) };
    };
    const layer = (type, name, shape, options = {}) => ({
      type, ...options, weight: tensor(`${name}.weight`, shape), bias: tensor(`${name}.bias`, [shape[0]]),
    });
    const [pool, relu] = [{ type: "max_pool2d", size: 2 }, { type: "relu" }];
    const layers = [
      layer("conv2d", "conv1", [8, 1, 5, 5], { padding: 0 }), pool, relu,
      layer("conv2d", "conv2", [12, 8, 5, 5], { padding: 0 }), pool, relu,
      { type: "flatten" },
      layer("linear", "linear1", [20, 192]), relu,
      layer("linear", "linear2", [10, 20]),
    ];
    const metadata = {
      model: `QT-${nBlocks}, ${bytes.length} bytes`, dataset: kind.dataset,
      classes: JSON.stringify(kind.classes.split(" ")), n_weights: String(N_WEIGHTS),
      n_trainable: String(N_QUBITS * nBlocks + mappingSize(netWidths)),
    };
    return { mean: kind.mean, std: kind.std, layers, metadata };
  }

  return { readTiny };
}

if (typeof module !== "undefined") module.exports = qtliteTiny(require("./playground/random.js"), require("./playground/engine.js"));
