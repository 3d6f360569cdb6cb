/* Quantum-Train in plain JavaScript: circuit, feature, mapping net, normalisation, and the 6,690
   weights' network, each with its gradient. Conventions are the book's: qubit 0 is the most
   significant bit, angles in radians, rows of angles are blocks. No page: a worker and Node run it.
   tests/book/test_playground.py compares everything with PyTorch. */
"use strict";

function qtlitePlaygroundEngine() {
  /* ---- circuit: angles to probabilities --------------------------------------------------- */

  /* Where each amplitude comes from when a block's CNOTs act: new[i] = old[source[i]]. */
  function cnotSource(nQubits, entanglement) {
    const bit = (qubit) => 1 << (nQubits - 1 - qubit);
    const pairs = [];
    if (entanglement !== "none") {
      for (let qubit = 0; qubit + 1 < nQubits; qubit++) pairs.push([qubit, qubit + 1]);
    }
    if (entanglement === "ring" && nQubits > 1) pairs.push([nQubits - 1, 0]);
    pairs.reverse(); // the last CNOT is undone first
    return Int32Array.from({ length: 2 ** nQubits }, (_, i) =>
      pairs.reduce((from, [control, target]) => (from & bit(control) ? from ^ bit(target) : from), i)
    );
  }

  class Circuit {
    constructor(nQubits, nBlocks, entanglement) {
      Object.assign(this, { nQubits, nBlocks, nAngles: nQubits * nBlocks });
      this.source = cnotSource(nQubits, entanglement);
      const size = 2 ** nQubits;
      this.state = new Float64Array(size);
      this.other = new Float64Array(size);
      this.gradient = new Float64Array(size);
      this.probabilities = new Float64Array(size);
    }

    forward(angles) {
      const { nQubits, source, probabilities } = this;
      let { state, other } = this;
      state.fill(0);
      state[0] = 1;
      for (let place = 0; place < this.nAngles; ) {
        for (let qubit = 0; qubit < nQubits; qubit++, place++) {
          rotate(state, 1 << (nQubits - 1 - qubit), angles[place] / 2);
        }
        for (let i = 0; i < other.length; i++) other[i] = state[source[i]];
        [state, other] = [other, state];
      }
      Object.assign(this, { state, other });
      for (let i = 0; i < state.length; i++) probabilities[i] = state[i] * state[i];
      return probabilities;
    }

    /* d loss / d angles from d loss / d probabilities: every block undone on state and gradient. */
    backward(angles, byProbability, byAngle) {
      const { nQubits, source } = this;
      let { state, other, gradient } = this;
      for (let i = 0; i < state.length; i++) gradient[i] = 2 * state[i] * byProbability[i];
      for (let block = this.nBlocks - 1; block >= 0; block--) {
        for (let i = 0; i < state.length; i++) other[source[i]] = state[i];
        [state, other] = [other, state];
        for (let i = 0; i < state.length; i++) other[source[i]] = gradient[i];
        [gradient, other] = [other, gradient];
        for (let qubit = 0; qubit < nQubits; qubit++) {
          const place = block * nQubits + qubit;
          byAngle[place] = unrotate(state, gradient, 1 << (nQubits - 1 - qubit), angles[place] / 2);
        }
      }
      Object.assign(this, { state, other, gradient });
    }
  }

  function rotate(state, bit, half) {
    const [cos, sin] = [Math.cos(half), Math.sin(half)];
    for (let start = 0; start < state.length; start += 2 * bit) {
      for (let i = start; i < start + bit; i++) {
        const a = state[i];
        const b = state[i + bit];
        state[i] = cos * a - sin * b;
        state[i + bit] = sin * a + cos * b;
      }
    }
  }

  /* Undo a rotation on state and gradient; return d loss / d angle. */
  function unrotate(state, gradient, bit, half) {
    const [cos, sin] = [Math.cos(half), Math.sin(half)];
    let sum = 0;
    for (let start = 0; start < state.length; start += 2 * bit) {
      for (let i = start; i < start + bit; i++) {
        const a = state[i];
        const b = state[i + bit];
        const ga = gradient[i];
        const gb = gradient[i + bit];
        sum += a * gb - b * ga;
        state[i] = cos * a + sin * b;
        state[i + bit] = cos * b - sin * a;
        gradient[i] = cos * ga + sin * gb;
        gradient[i + bit] = cos * gb - sin * ga;
      }
    }
    return sum / 2;
  }

  /* Frequencies of nShots measurements, by Walker's alias table: each shot costs the same. */
  function sample(probabilities, nShots, random, frequencies) {
    const n = probabilities.length;
    const share = Float64Array.from(probabilities, (p) => p * n);
    const alias = new Int32Array(n);
    const [small, large] = [[], []];
    share.forEach((value, i) => (value < 1 ? small : large).push(i));
    while (small.length && large.length) {
      const [poor, rich] = [small.pop(), large.pop()];
      alias[poor] = rich;
      share[rich] -= 1 - share[poor];
      (share[rich] < 1 ? small : large).push(rich);
    }
    for (const i of [...small, ...large]) share[i] = 1; // what rounding left over
    frequencies.fill(0);
    for (let shot = 0; shot < nShots; shot++) {
      const place = random.uniform() * n;
      const i = Math.floor(place);
      frequencies[place - i < share[i] ? i : alias[i]] += 1;
    }
    for (let i = 0; i < n; i++) frequencies[i] /= nShots;
    return frequencies;
  }

  /* ---- feature: what the mapping net sees of a probability -------------------------------- */

  const ROOT_FLOOR = 1e-6; // as in qtlite/mapping.py
  const FEATURES = {
    raw: { value: (p) => p, slope: () => 1 },
    scaled: { value: (p, n) => n * p, slope: (p, n) => n },
    root: {
      value: (p, n) => Math.sqrt(n * p + ROOT_FLOOR),
      slope: (p, n) => n / (2 * Math.sqrt(n * p + ROOT_FLOOR)),
    },
  };

  /* ---- mapping net: rows of bits and a feature to numbers --------------------------------- */

  class MappingNet {
    /* widths: [inputs, hidden..., 1]. inputs: bits of each row, and room for the feature if
       hasFeature. Parameters: per layer the weight matrix by rows, then the bias. */
    constructor(widths, nQubits, nRows, bitValues, hasFeature) {
      Object.assign(this, { widths, nRows, hasFeature });
      this.nParameters = mappingSize(widths);
      this.values = widths.map((width) => new Float64Array(nRows * width));
      this.gradients = widths.map((width) => new Float64Array(nRows * width));
      for (let row = 0; row < nRows; row++) {
        for (let qubit = 0; qubit < nQubits; qubit++) {
          const bit = (row >> (nQubits - 1 - qubit)) & 1;
          this.values[0][row * widths[0] + qubit] = bitValues[bit];
        }
      }
    }

    /* feature: one number a row; ignored without one. Returns the numbers. */
    forward(parameters, feature) {
      const { widths, nRows, values } = this;
      if (this.hasFeature) {
        const [inputs, width] = [values[0], widths[0]];
        for (let row = 0; row < nRows; row++) inputs[row * width + width - 1] = feature[row];
      }
      let start = 0;
      for (let layer = 0; layer + 1 < widths.length; layer++) {
        const [nIn, nOut] = [widths[layer], widths[layer + 1]];
        const [input, output] = [values[layer], values[layer + 1]];
        const isHidden = layer + 2 < widths.length;
        const bias = start + nIn * nOut;
        for (let row = 0; row < nRows; row++) {
          let k = start;
          for (let o = 0; o < nOut; o++) {
            let sum = parameters[bias + o];
            for (let i = row * nIn; i < (row + 1) * nIn; i++) sum += parameters[k++] * input[i];
            output[row * nOut + o] = isHidden ? Math.tanh(sum) : sum;
          }
        }
        start = bias + nOut;
      }
      return values[widths.length - 1];
    }

    /* d loss / d parameters from d loss / d numbers; d loss / d feature into byFeature, if there. */
    backward(parameters, byNumber, byParameter, byFeature) {
      const { widths, nRows, values, gradients } = this;
      byParameter.fill(0);
      gradients[widths.length - 1].set(byNumber);
      let start = this.nParameters;
      for (let layer = widths.length - 2; layer >= 0; layer--) {
        const [nIn, nOut] = [widths[layer], widths[layer + 1]];
        start -= (nIn + 1) * nOut;
        const bias = start + nIn * nOut;
        const [input, byInput, byOutput] = [values[layer], gradients[layer], gradients[layer + 1]];
        for (let row = 0; row < nRows; row++) {
          const first = row * nIn;
          for (let o = 0; o < nOut; o++) {
            const g = byOutput[row * nOut + o];
            const k = start + o * nIn;
            byParameter[bias + o] += g;
            for (let i = 0; i < nIn; i++) byParameter[k + i] += g * input[first + i];
          }
          if (layer > 0) {
            for (let i = 0; i < nIn; i++) {
              let sum = 0;
              for (let o = 0; o < nOut; o++) {
                sum += byOutput[row * nOut + o] * parameters[start + o * nIn + i];
              }
              const value = input[first + i];
              byInput[first + i] = sum * (1 - value * value); // of tanh
            }
          } else if (byFeature) {
            let sum = 0;
            for (let o = 0; o < nOut; o++) {
              sum += byOutput[row * nOut + o] * parameters[start + o * nIn + nIn - 1];
            }
            byFeature[row] = sum;
          }
        }
      }
    }
  }

  function mappingSize(widths) {
    return widths.slice(1).reduce((sum, width, i) => sum + (widths[i] + 1) * width, 0);
  }

  /* Three hidden widths of a net with one output and exactly so many parameters; of all that fit,
     those with proportions nearest to shape's. */
  function mlpWidths(nInputs, nParameters, shape) {
    let [best, least] = [null, Infinity];
    for (let first = 1; first * (nInputs + 1) <= nParameters; first++) {
      const rest = nParameters - first * (nInputs + 1);
      for (let second = 1; second * (first + 1) <= rest; second++) {
        const third = (rest - second * (first + 1) - 1) / (second + 2);
        if (third < 1 || !Number.isInteger(third)) continue;
        const ratios = [first, second, third].map((width, i) => Math.log(width / shape[i]));
        const spread = Math.max(...ratios) - Math.min(...ratios);
        if (spread < least - 1e-6) [best, least] = [[first, second, third], spread];
      }
    }
    return best;
  }

  /* ---- normalisation: numbers to weights -------------------------------------------------- */

  const VARIANCE_FLOOR = 1e-8; // as in qtlite/normalisation.py
  const GAIN = Math.SQRT2;
  const TENSORS = [
    { name: "conv1", rows: 8, columns: 25 },
    { name: "conv2", rows: 12, columns: 200 },
    { name: "linear1", rows: 20, columns: 192 },
    { name: "linear2", rows: 10, columns: 20 },
  ].flatMap(({ name, rows, columns }) => [
    { name: `${name}.weight`, rows, columns, scale: GAIN / Math.sqrt(columns), hasRows: true },
    { name: `${name}.bias`, rows: 1, columns: rows, scale: GAIN / 2 / Math.sqrt(columns), hasRows: false },
  ]);
  let end = 0;
  for (const tensor of TENSORS) {
    tensor.start = end;
    end += tensor.rows * tensor.columns;
  }
  const N_WEIGHTS = end; // 6,690

  function normalise(numbers, scheme, weights) {
    for (const { start, rows, columns, scale, hasRows } of TENSORS) {
      for (let from = start; from < start + rows * columns; from += columns) {
        let [mean, factor] = [0, scheme === "none" ? 1 : scale];
        if (scheme === "row" && hasRows) {
          for (let i = from; i < from + columns; i++) mean += numbers[i];
          mean /= columns;
          let variance = 0;
          for (let i = from; i < from + columns; i++) variance += (numbers[i] - mean) ** 2;
          factor = scale / Math.sqrt(variance / columns + VARIANCE_FLOOR);
        }
        for (let i = from; i < from + columns; i++) weights[i] = (numbers[i] - mean) * factor;
      }
    }
    return weights;
  }

  /* d loss / d numbers from d loss / d weights. */
  function normaliseBackward(numbers, scheme, byWeight, byNumber) {
    for (const { start, rows, columns, scale, hasRows } of TENSORS) {
      for (let from = start; from < start + rows * columns; from += columns) {
        if (scheme !== "row" || !hasRows) {
          const factor = scheme === "none" ? 1 : scale;
          for (let i = from; i < from + columns; i++) byNumber[i] = factor * byWeight[i];
          continue;
        }
        let [mean, variance, meanGradient, along] = [0, 0, 0, 0];
        for (let i = from; i < from + columns; i++) {
          mean += numbers[i] / columns;
          meanGradient += byWeight[i] / columns;
        }
        for (let i = from; i < from + columns; i++) variance += (numbers[i] - mean) ** 2 / columns;
        variance += VARIANCE_FLOOR;
        for (let i = from; i < from + columns; i++) {
          along += (byWeight[i] * (numbers[i] - mean)) / columns / variance;
        }
        const factor = scale / Math.sqrt(variance);
        for (let i = from; i < from + columns; i++) {
          byNumber[i] = factor * (byWeight[i] - meanGradient - along * (numbers[i] - mean));
        }
      }
    }
  }

  return {
    Circuit, MappingNet, FEATURES, TENSORS, N_WEIGHTS, VARIANCE_FLOOR,
    cnotSource, mappingSize, mlpWidths, normalise, normaliseBackward, sample,
  };
}

if (typeof module !== "undefined") module.exports = qtlitePlaygroundEngine();
