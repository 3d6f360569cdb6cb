/* The method on a few qubits, for the figures of live.js. tests/test_live_figures.py runs these
   functions beside qtlite's own. Conventions are the book's: qubit 0 is the most significant bit,
   angles in radians, rows of angles are blocks. */
"use strict";

const method = {
  /* Ry on every qubit, then the chain of CNOTs, once for each row of angles: 2^N probabilities. */
  probabilities(nQubits, angles, entangled = true) {
    let state = new Array(2 ** nQubits).fill(0);
    state[0] = 1;
    for (const row of angles) {
      for (let qubit = 0; qubit < nQubits; qubit++) {
        const bit = 2 ** (nQubits - 1 - qubit);
        const cos = Math.cos(row[qubit] / 2);
        const sin = Math.sin(row[qubit] / 2);
        for (let i = 0; i < state.length; i++) {
          if (i & bit) continue;
          const [a, b] = [state[i], state[i | bit]];
          state[i] = cos * a - sin * b;
          state[i | bit] = sin * a + cos * b;
        }
      }
      if (entangled) state = state.map((_, i) => state[i ^ (i >> 1)]);
    }
    return state.map((amplitude) => amplitude ** 2);
  },

  /* The mapping net on every basis state: bits -1 and +1, then 2^N p. Layers are {weight, bias}. */
  weights(probabilities, layers) {
    const nQubits = Math.log2(probabilities.length);
    return probabilities.map((p, i) => {
      let values = [probabilities.length * p];
      for (let place = 0; place < nQubits; place++) values.unshift((i >> place) & 1 ? 1 : -1);
      layers.forEach(({ weight, bias }, depth) => {
        values = weight.map((row, unit) =>
          row.reduce((sum, w, k) => sum + w * values[k], bias[unit]));
        if (depth < layers.length - 1) values = values.map(Math.tanh);
      });
      return values[0];
    });
  },

  /* How often each state comes up in so many measurements, as a share. */
  sample(probabilities, nShots, random = Math.random) {
    const counts = new Array(probabilities.length).fill(0);
    for (let shot = 0; shot < nShots; shot++) {
      let rest = random();
      let i = 0;
      while (i < counts.length - 1 && rest >= probabilities[i]) rest -= probabilities[i++];
      counts[i] += 1;
    }
    return counts.map((count) => count / nShots);
  },

  /* What is trained for a network of M weights: qubits, angles, mapping net, all. */
  counts(nWeights, nBlocks, hidden) {
    let nQubits = 1;
    while (2 ** nQubits < nWeights) nQubits++;
    const widths = [nQubits + 1, ...hidden, 1];
    const mapping = hidden
      .concat(1)
      .reduce((sum, width, place) => sum + (widths[place] + 1) * width, 0);
    const angles = nQubits * nBlocks;
    return { nQubits, angles, mapping, total: angles + mapping };
  },
};

if (typeof module !== "undefined") module.exports = method;
