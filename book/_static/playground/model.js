/* What trains: a source of numbers (trained circuit or a control), its start, Adam with a one-cycle
   learning rate, and scikit-learn's digits as `qtlite train` shows them. */
"use strict";

function qtlitePlaygroundModel({ PortableRandom }, engine, { Network }) {
  const { Circuit, MappingNet, FEATURES, TENSORS, N_WEIGHTS, mlpWidths, normalise } = engine;
  const { mappingSize, normaliseBackward, sample } = engine;
  const N_QUBITS = 13;
  const HIDDEN = [4, 20, 4];
  const BITS = { minus_plus: [-1, 1], zero_one: [0, 1] };
  const EPOCHS = 20;
  const BATCH_SIZE = 128;
  const [PIXEL_MEAN, PIXEL_STD] = [0.3051, 0.3233];

  /* The default state of the page; what a URL does not name has these values. */
  const DEFAULTS = {
    source: "circuit", blocks: 16, entanglement: "linear", feature: "scaled", bits: "minus_plus",
    normalisation: "row", rate: null, shots: 0, seed: 0,
  };

  /* What is trained in a state: angles, mapping net (or coordinates), and how wide the net is. */
  function counts({ source, blocks }) {
    const nAngles = N_QUBITS * blocks;
    const total = nAngles + mappingSize([N_QUBITS + 1, ...HIDDEN, 1]);
    if (source === "random_subspace") return { angles: 0, mapping: total, total, widths: null };
    const nInputs = source === "hypernetwork" ? N_QUBITS : N_QUBITS + 1;
    const hidden =
      source === "circuit" ? HIDDEN
      : mlpWidths(nInputs, total, source === "hypernetwork" ? [1, 1, 1] : HIDDEN);
    const widths = [nInputs, ...hidden, 1];
    const mapping = mappingSize(widths);
    return { angles: total - mapping, mapping, total, widths };
  }

  /* The recipe's peak learning rate: chosen on held-out images of MNIST, see qtlite's recipes. */
  function recipeRate({ source, blocks }) {
    if (source === "circuit") return Math.round((1e4 * 0.015 * 4) / Math.sqrt(blocks)) / 1e4;
    return { frozen_circuit: 0.03, hypernetwork: 0.08, random_subspace: 0.2 }[source];
  }

  /* Numbers from trained parameters, normalised to weights; backward gives the gradient. */
  class Model {
    constructor(state) {
      this.state = state = { ...DEFAULTS, ...state };
      const random = new PortableRandom(state.seed);
      this.shotRandom = new PortableRandom(state.seed + 2 ** 32);
      this.counts = counts(state);
      this.nTrained = this.counts.total;
      this.parameters = new Float64Array(this.nTrained);
      this.gradient = new Float64Array(this.nTrained);
      this.weights = new Float64Array(N_WEIGHTS);
      this.byNumber = new Float64Array(N_WEIGHTS);
      this.hasCircuit = ["circuit", "frozen_circuit"].includes(state.source);
      if (state.source === "random_subspace") {
        this.start = Float64Array.from({ length: N_WEIGHTS }, () => random.normal());
        const scale = 1 / Math.sqrt(this.nTrained);
        this.directions = new Float32Array(N_WEIGHTS * this.nTrained);
        for (let i = 0; i < this.directions.length; i++) this.directions[i] = random.normal() * scale;
        this.numbers = new Float64Array(N_WEIGHTS);
        return;
      }
      if (this.hasCircuit) {
        this.circuit = new Circuit(N_QUBITS, state.blocks, state.entanglement);
        const angles = Float64Array.from(
          { length: this.circuit.nAngles }, () => Math.PI * (2 * random.uniform() - 1));
        const isTrained = state.source === "circuit";
        this.angles = isTrained ? this.parameters.subarray(0, angles.length) : angles;
        this.angles.set(angles);
        this.frequencies = new Float64Array(2 ** N_QUBITS);
        this.feature = new Float64Array(N_WEIGHTS);
        this.byFeature = new Float64Array(N_WEIGHTS);
        this.byProbability = new Float64Array(2 ** N_QUBITS);
      }
      const { widths, angles } = this.counts;
      const bits = BITS[this.hasCircuit ? state.bits : "minus_plus"];
      this.mapping = new MappingNet(widths, N_QUBITS, N_WEIGHTS, bits, this.hasCircuit);
      this.net = this.parameters.subarray(angles); // shares memory with the parameters
      let place = 0;
      for (let layer = 0; layer + 1 < widths.length; layer++) {
        const reach = 1 / Math.sqrt(widths[layer]);
        for (let i = 0; i < (widths[layer] + 1) * widths[layer + 1]; i++) {
          this.net[place++] = reach * (2 * random.uniform() - 1);
        }
      }
      if (state.normalisation !== "none") this.standardiseStart();
    }

    /* Scale the last layer so that the numbers start with mean 0 and standard deviation 1. */
    standardiseStart() {
      this.runCircuit();
      const numbers = this.mapping.forward(this.net, this.feature);
      const mean = numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
      const squares = numbers.reduce((sum, value) => sum + (value - mean) ** 2, 0);
      const deviation = Math.sqrt(squares / (numbers.length - 1));
      const last = this.net.length - 1; // the bias
      for (let i = last - this.counts.widths.at(-2); i < last; i++) this.net[i] /= deviation;
      this.net[last] = (this.net[last] - mean) / deviation;
    }

    /* Probabilities (or frequencies of shots) and their feature, for the rows that are used. */
    runCircuit() {
      if (!this.hasCircuit) return;
      const { state, circuit, feature, frequencies } = this;
      const exact = circuit.forward(this.angles);
      const hasShots = state.shots > 0 && state.source === "circuit";
      this.seen = hasShots ? sample(exact, state.shots, this.shotRandom, frequencies) : exact;
      const { value } = FEATURES[state.feature];
      for (let i = 0; i < N_WEIGHTS; i++) feature[i] = value(this.seen[i], this.seen.length);
    }

    generate() {
      if (this.directions) {
        const { directions, numbers, parameters: z } = this;
        for (let i = 0, k = 0; i < N_WEIGHTS; i++) {
          let sum = this.start[i];
          for (let j = 0; j < z.length; j++) sum += directions[k++] * z[j];
          numbers[i] = sum;
        }
      } else {
        // a frozen circuit gives the same feature each time
        if (this.state.source === "circuit" || !this.seen) this.runCircuit();
        this.numbers = this.mapping.forward(this.net, this.feature);
      }
      return normalise(this.numbers, this.state.normalisation, this.weights);
    }

    /* d loss / d parameters, for the weights that generate made. With shots, the exact circuit's
       gradient at the sampled frequencies (straight-through). */
    backward(byWeight) {
      const { state, gradient, byNumber, byFeature, byProbability, counts: count } = this;
      normaliseBackward(this.numbers, state.normalisation, byWeight, byNumber);
      if (this.directions) {
        gradient.fill(0);
        for (let i = 0, k = 0; i < N_WEIGHTS; i++) {
          for (let j = 0; j < gradient.length; j++) gradient[j] += this.directions[k++] * byNumber[i];
        }
        return gradient;
      }
      const isTrained = state.source === "circuit";
      const byNet = gradient.subarray(count.angles);
      this.mapping.backward(this.net, byNumber, byNet, isTrained ? byFeature : null);
      if (isTrained) {
        const { slope } = FEATURES[state.feature];
        byProbability.fill(0);
        for (let i = 0; i < N_WEIGHTS; i++) {
          byProbability[i] = byFeature[i] * slope(this.seen[i], this.seen.length);
        }
        this.circuit.backward(this.angles, byProbability, gradient);
      }
      return gradient;
    }
  }

  /* PyTorch's OneCycleLR: learning rate and Adam's first beta at a step, counted from 0. */
  function oneCycle(step, nSteps, peak) {
    const turn = 0.3 * nSteps - 1;
    const anneal = (from, to, share) => to + ((from - to) / 2) * (1 + Math.cos(Math.PI * share));
    if (step <= turn) {
      const share = step / turn;
      return { rate: anneal(peak / 25, peak, share), beta: anneal(0.95, 0.85, share) };
    }
    const share = (step - turn) / (nSteps - 1 - turn);
    return { rate: anneal(peak, peak / 25e4, share), beta: anneal(0.85, 0.95, share) };
  }

  class Adam {
    constructor(n) {
      this.first = new Float64Array(n);
      this.second = new Float64Array(n);
      this.nSteps = 0;
    }

    step(parameters, gradient, rate, beta) {
      const [beta2, epsilon] = [0.999, 1e-8];
      this.nSteps += 1;
      const correction = 1 - beta ** this.nSteps;
      const correction2 = Math.sqrt(1 - beta2 ** this.nSteps);
      for (let i = 0; i < parameters.length; i++) {
        const g = gradient[i];
        this.first[i] = beta * this.first[i] + (1 - beta) * g;
        this.second[i] = beta2 * this.second[i] + (1 - beta2) * g * g;
        const size = Math.sqrt(this.second[i]) / correction2 + epsilon;
        parameters[i] -= ((rate / correction) * this.first[i]) / size;
      }
    }
  }

  /* A run of 20 epochs, step by step. data: what unpackDigits returned. */
  class Training {
    constructor(state, data) {
      this.model = new Model(state);
      this.data = data;
      this.network = new Network();
      this.adam = new Adam(this.model.nTrained);
      this.byWeight = new Float64Array(N_WEIGHTS);
      this.stepsPerEpoch = Math.ceil(data.nTrain / BATCH_SIZE);
      this.nSteps = EPOCHS * this.stepsPerEpoch;
      this.peak = this.model.state.rate ?? recipeRate(this.model.state);
      this.step = 0;
    }

    get isDone() {
      return this.step >= this.nSteps;
    }

    /* The images of this step: each epoch has an order of its own. */
    batch() {
      const [epoch, place] = [Math.floor(this.step / this.stepsPerEpoch), this.step % this.stepsPerEpoch];
      if (place === 0) {
        const random = new PortableRandom(1000003 * (this.model.state.seed + 1) + epoch);
        this.order = random.permutation(this.data.nTrain);
      }
      return this.order.subarray(place * BATCH_SIZE, (place + 1) * BATCH_SIZE);
    }

    /* One step; returns the loss before it, in nats. */
    next() {
      const { model, data } = this;
      const weights = model.generate();
      const loss = this.network.loss(weights, data.trainImages, data.trainLabels, this.batch(), this.byWeight);
      const { rate, beta } = oneCycle(this.step, this.nSteps, this.peak);
      this.adam.step(model.parameters, model.backward(this.byWeight), rate, beta);
      this.step += 1;
      return loss;
    }

    /* Accuracy on the 297 test digits, in [0, 1], and the class given to each. */
    evaluate() {
      const { testImages, testLabels } = this.data;
      const weights = this.model.generate();
      const answers = this.network.classify(weights, testImages, testLabels.length);
      const nRight = answers.reduce((sum, answer, i) => sum + (answer === testLabels[i]), 0);
      return { accuracy: nRight / testLabels.length, answers };
    }
  }

  /* a * b + c with one rounding at the end, for an a of few bits. PyTorch enlarges images with such
     sums, and some pixels lie exactly between two integers. */
  function fusedMultiplyAdd(a, b, c) {
    const high = Math.fround(b);
    const product = a * high; // exact, as is the rest's
    const sum = c + product;
    const part = sum - c;
    return sum + (c - (sum - part) + (product - part) + a * (b - high));
  }

  /* Pixels "a" to "q" (0 to 16), 64 an image, to 28 x 28 pixels of 0 to 255, bilinear. */
  function enlarge(packed, n) {
    const near = Array.from({ length: 28 }, (_, i) => {
      const place = Math.max(0, fusedMultiplyAdd(i + 0.5, 8 / 28, -0.5));
      const low = Math.floor(place);
      return { low, high: Math.min(low + 1, 7), share: place - low };
    });
    const pixels = new Uint8Array(n * 784);
    for (let image = 0, out = 0; image < n; image++) {
      const at = (y, x) => packed.charCodeAt(image * 64 + y * 8 + x) - 97;
      for (const y of near) {
        for (const x of near) {
          let sum = at(y.low, x.high) * ((1 - y.share) * x.share);
          sum = fusedMultiplyAdd(at(y.low, x.low), (1 - y.share) * (1 - x.share), sum);
          sum = fusedMultiplyAdd(at(y.high, x.low), y.share * (1 - x.share), sum);
          sum = fusedMultiplyAdd(at(y.high, x.high), y.share * x.share, sum);
          pixels[out++] = Math.round(sum * (255 / 16));
        }
      }
    }
    return pixels;
  }

  /* The digits that digits.js packs: the first 1,500 to train on, the last 297 to test. */
  function unpackDigits({ pixels, labels }, nTrain = 1500) {
    const images = enlarge(pixels, labels.length);
    const inputs = Float64Array.from(images, (pixel) => (pixel / 255 - PIXEL_MEAN) / PIXEL_STD);
    const classes = Uint8Array.from(labels, Number);
    return {
      nTrain, images,
      trainImages: inputs.subarray(0, nTrain * 784), trainLabels: classes.subarray(0, nTrain),
      testImages: inputs.subarray(nTrain * 784), testLabels: classes.subarray(nTrain),
    };
  }

  return {
    Adam, DEFAULTS, EPOCHS, HIDDEN, Model, N_QUBITS, PIXEL_MEAN, PIXEL_STD, TENSORS, Training,
    counts, oneCycle, recipeRate, unpackDigits,
  };
}

if (typeof module !== "undefined") {
  module.exports = qtlitePlaygroundModel(
    require("./random.js"), require("./engine.js"), require("./network.js"));
}
