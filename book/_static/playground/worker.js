/* Training away from the page, so that the page never waits for it. Messages in:
     digits {digits}, reset {state, run}, play, pause, step
   and out:
     snapshot {run, step, losses, ...}, about six times a second and after every epoch. */
"use strict";

function qtlitePlaygroundWorker(self, { Training, unpackDigits }) {
  const BETWEEN_SNAPSHOTS = 150; // milliseconds
  const N_RANKS = 256; // points of the sorted probabilities
  let data = null;
  let training = null;
  let run = 0;
  let isPlaying = false;
  let losses = [];
  let lastSnapshot = 0;

  // a message to ourselves: the next step begins after the messages that wait, without a delay
  const turn = new MessageChannel();
  turn.port1.onmessage = () => {
    if (!isPlaying) return;
    step();
    if (isPlaying) turn.port2.postMessage(null);
  };

  function step() {
    losses.push({ step: training.step, loss: training.next() });
    const isEpoch = training.step % training.stepsPerEpoch === 0;
    if (training.isDone) isPlaying = false;
    const isLate = performance.now() - lastSnapshot > BETWEEN_SNAPSHOTS;
    if (isEpoch || isLate || !isPlaying) snapshot(isEpoch || !isPlaying);
  }

  /* Probabilities times 2^N, largest first, at evenly spaced ranks. */
  function sorted(probabilities) {
    const order = Float64Array.from(probabilities).sort().reverse();
    const place = (i) => Math.round((i * (order.length - 1)) / (N_RANKS - 1));
    return Float32Array.from({ length: N_RANKS }, (_, i) => order.length * order[place(i)]);
  }

  function snapshot(withTest) {
    const { model, step, nSteps, stepsPerEpoch } = training;
    const test = withTest ? training.evaluate() : null; // makes the weights of this moment
    self.postMessage({
      type: "snapshot", run, step, nSteps, stepsPerEpoch, losses, isPlaying, test,
      peak: training.peak,
      weights: Float32Array.from(model.weights),
      angles: model.angles ? Float32Array.from(model.angles) : null,
      probabilities: model.seen ? sorted(model.seen) : null,
    });
    losses = [];
    lastSnapshot = performance.now();
  }

  const answer = {
    digits({ digits }) {
      data = unpackDigits(digits);
      const images = data.images.slice(data.nTrain * 784);
      self.postMessage({ type: "images", images, labels: data.testLabels });
    },
    reset(message) {
      isPlaying = false;
      run = message.run;
      losses = [];
      training = new Training(message.state, data);
      snapshot(true);
    },
    play() {
      if (isPlaying || training.isDone) return;
      isPlaying = true;
      turn.port2.postMessage(null);
    },
    pause() {
      if (!isPlaying) return;
      isPlaying = false;
      snapshot(true);
    },
    step() {
      isPlaying = false;
      if (!training.isDone) step();
    },
  };
  self.onmessage = ({ data: message }) => answer[message.type](message);
}
