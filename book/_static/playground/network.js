/* The network whose weights are generated: two convolutions with pooling and ReLU, two linear layers,
   cross-entropy; forward and backward, one image after another, so that all stays in the cache. */
"use strict";

function qtlitePlaygroundNetwork() {
  const DEAD = 255; // no gradient: ReLU gave 0

  /* Convolution 5 x 5, the largest of each 2 x 2, ReLU. A window's four sums are made together: each
     weight is read once for all four. which: 0 to 3, where the largest was, or DEAD. */
  function convolve(input, nIn, side, weights, start, nOut, output, which) {
    const out = (side - 4) / 2;
    const bias = start + nOut * nIn * 25;
    let place = 0;
    for (let o = 0; o < nOut; o++) {
      for (let y = 0; y < out; y++) {
        for (let x = 0; x < out; x++) {
          let [s0, s1, s2, s3] = [0, 0, 0, 0];
          let k = start + o * nIn * 25;
          for (let c = 0; c < nIn; c++) {
            let at = (c * side + 2 * y) * side + 2 * x;
            let a0 = input[at], a1 = input[at + 1], a2 = input[at + 2];
            let a3 = input[at + 3], a4 = input[at + 4], a5 = input[at + 5];
            for (let i = 0; i < 5; i++, k += 5) {
              at += side;
              const b0 = input[at], b1 = input[at + 1], b2 = input[at + 2];
              const b3 = input[at + 3], b4 = input[at + 4], b5 = input[at + 5];
              const w0 = weights[k], w1 = weights[k + 1], w2 = weights[k + 2];
              const w3 = weights[k + 3], w4 = weights[k + 4];
              s0 += w0 * a0 + w1 * a1 + w2 * a2 + w3 * a3 + w4 * a4;
              s1 += w0 * a1 + w1 * a2 + w2 * a3 + w3 * a4 + w4 * a5;
              s2 += w0 * b0 + w1 * b1 + w2 * b2 + w3 * b3 + w4 * b4;
              s3 += w0 * b1 + w1 * b2 + w2 * b3 + w3 * b4 + w4 * b5;
              a0 = b0; a1 = b1; a2 = b2; a3 = b3; a4 = b4; a5 = b5;
            }
          }
          let [largest, at] = [s0, 0];
          if (s1 > largest) { largest = s1; at = 1; }
          if (s2 > largest) { largest = s2; at = 2; }
          if (s3 > largest) { largest = s3; at = 3; }
          largest += weights[bias + o];
          output[place] = largest > 0 ? largest : 0;
          which[place++] = largest > 0 ? at : DEAD;
        }
      }
    }
  }

  /* Adds to byWeights and, unless it is null, to byInput. */
  function convolveBackward(input, nIn, side, weights, start, nOut, which, byOutput, byWeights, byInput) {
    const out = (side - 4) / 2;
    const bias = start + nOut * nIn * 25;
    let place = 0;
    for (let o = 0; o < nOut; o++) {
      for (let y = 0; y < out; y++) {
        for (let x = 0; x < out; x++, place++) {
          const at = which[place];
          const g = byOutput[place];
          if (at === DEAD || g === 0) continue;
          byWeights[bias + o] += g;
          let k = start + o * nIn * 25;
          const corner = (2 * y + (at >> 1)) * side + 2 * x + (at & 1);
          for (let c = 0; c < nIn; c++) {
            let p = c * side * side + corner;
            for (let i = 0; i < 5; i++, k += 5, p += side) {
              byWeights[k] += g * input[p];
              byWeights[k + 1] += g * input[p + 1];
              byWeights[k + 2] += g * input[p + 2];
              byWeights[k + 3] += g * input[p + 3];
              byWeights[k + 4] += g * input[p + 4];
              if (byInput !== null) {
                byInput[p] += g * weights[k];
                byInput[p + 1] += g * weights[k + 1];
                byInput[p + 2] += g * weights[k + 2];
                byInput[p + 3] += g * weights[k + 3];
                byInput[p + 4] += g * weights[k + 4];
              }
            }
          }
        }
      }
    }
  }

  // where each tensor starts among the 6,690 weights
  const [CONV1, CONV2, LINEAR1, LINEAR2] = [0, 208, 2620, 6480];
  const SIZE = 28 * 28;

  class Network {
    constructor() {
      this.one = { values: new Float64Array(1152), which: new Uint8Array(1152), by: new Float64Array(1152) };
      this.two = { values: new Float64Array(192), which: new Uint8Array(192), by: new Float64Array(192) };
      this.hidden = new Float64Array(20);
      this.byHidden = new Float64Array(20);
      this.scores = new Float64Array(10);
    }

    /* One image to ten scores. */
    forward(weights, image) {
      const { one, two, hidden, scores } = this;
      convolve(image, 1, 28, weights, CONV1, 8, one.values, one.which);
      convolve(one.values, 8, 12, weights, CONV2, 12, two.values, two.which);
      for (let o = 0; o < 20; o++) {
        let sum = weights[LINEAR1 + 3840 + o];
        for (let i = 0; i < 192; i++) sum += weights[LINEAR1 + o * 192 + i] * two.values[i];
        hidden[o] = sum > 0 ? sum : 0;
      }
      for (let o = 0; o < 10; o++) {
        let sum = weights[LINEAR2 + 200 + o];
        for (let i = 0; i < 20; i++) sum += weights[LINEAR2 + o * 20 + i] * hidden[i];
        scores[o] = sum;
      }
      return scores;
    }

    /* Adds d loss / d weights of the image that forward has just seen, times factor. */
    backward(weights, image, byScore, byWeights) {
      const { one, two, hidden, byHidden } = this;
      byHidden.fill(0);
      for (let o = 0; o < 10; o++) {
        byWeights[LINEAR2 + 200 + o] += byScore[o];
        for (let i = 0; i < 20; i++) {
          byWeights[LINEAR2 + o * 20 + i] += byScore[o] * hidden[i];
          byHidden[i] += byScore[o] * weights[LINEAR2 + o * 20 + i];
        }
      }
      two.by.fill(0);
      for (let o = 0; o < 20; o++) {
        if (hidden[o] === 0) continue;
        const g = byHidden[o];
        byWeights[LINEAR1 + 3840 + o] += g;
        for (let i = 0; i < 192; i++) {
          byWeights[LINEAR1 + o * 192 + i] += g * two.values[i];
          two.by[i] += g * weights[LINEAR1 + o * 192 + i];
        }
      }
      one.by.fill(0);
      convolveBackward(one.values, 8, 12, weights, CONV2, 12, two.which, two.by, byWeights, one.by);
      convolveBackward(image, 1, 28, weights, CONV1, 8, one.which, one.by, byWeights, null);
    }

    /* Mean cross-entropy of a batch, in nats; its gradient, if asked for, replaces byWeights. */
    loss(weights, images, labels, batch, byWeights = null) {
      if (byWeights) byWeights.fill(0);
      let total = 0;
      for (const index of batch) {
        const image = images.subarray(index * SIZE, (index + 1) * SIZE);
        const scores = this.forward(weights, image);
        const highest = Math.max(...scores);
        let sum = 0;
        for (let o = 0; o < 10; o++) sum += Math.exp(scores[o] - highest);
        const label = labels[index];
        total += Math.log(sum) + highest - scores[label];
        if (!byWeights) continue;
        for (let o = 0; o < 10; o++) {
          const probability = Math.exp(scores[o] - highest) / sum;
          scores[o] = (probability - (o === label ? 1 : 0)) / batch.length;
        }
        this.backward(weights, image, scores, byWeights);
      }
      return total / batch.length;
    }

    /* The class with the highest score for each of the first n images. */
    classify(weights, images, n) {
      return Uint8Array.from({ length: n }, (_, index) => {
        const scores = this.forward(weights, images.subarray(index * SIZE, (index + 1) * SIZE));
        return scores.indexOf(Math.max(...scores));
      });
    }
  }

  return { Network };
}

if (typeof module !== "undefined") module.exports = qtlitePlaygroundNetwork();
