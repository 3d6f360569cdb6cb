/* The seven pictures with their captions, and the order in which they are drawn: one a frame, so that the
   page answers at any moment. */
"use strict";

function qtlitePlaygroundPanels(make, charts, nEpochs) {
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const PANELS = {
    angles: ["1 Angles", 236, "Each dial is one Ry angle. The sector shows how far training turned it."],
    probabilities: ["2 Probabilities", 236,
      "2ᴺ p of all 8,192 basis states, sorted. Dashed: a random state (Porter–Thomas)."],
    weights: ["3 Weights", 236, "All 6,690 generated weights. Blue is negative, orange positive."],
    digits: ["4 Answers", 236, "Test digits that training never saw. Orange: wrong."],
    loss: ["Training loss / nat", 290, "Cross-entropy of each batch, and its running mean."],
    accuracy: ["Test accuracy / %", 290, "After each epoch, on 297 test digits."],
    confusion: ["Confusion", 290, "Test digits by their class and by the network's answer."],
  };
  const panels = Object.fromEntries(Object.entries(PANELS).map(([name, [title, height, note]]) => {
    const heading = make("h2", {}, title);
    const canvas = make("canvas", { role: "img", "aria-label": title });
    const figure = make("figure", { class: `play-panel play-${name}` },
      heading, canvas, make("figcaption", {}, note));
    return [name, { canvas, figure, heading, height }];
  }));
  const figures = (...names) => names.map((name) => panels[name].figure);
  const pipeline = make("div", { class: "play-pipeline" },
    ...figures("angles", "probabilities", "weights", "digits"));
  const results = make("div", { class: "play-results" }, ...figures("loss", "accuracy", "confusion"));

  function without(canvas, height, words) {
    charts.nothing(canvas, height, words);
    return words.join(" ");
  }

  /* Draw one panel and return in words what is on it. A view has the newest snapshot (shown), the run, those
     kept, the state and the test images. */
  const DRAW = {
    angles(canvas, height, { shown, run, state }) {
      if (state.source === "hypernetwork") {
        return without(canvas, height, ["No circuit: the net sees", "only the bits of each index."]);
      }
      if (!shown.angles) return without(canvas, height, ["No circuit: a random matrix", "makes the weights."]);
      panels.angles.heading.textContent = state.source === "frozen_circuit" ? "1 Angles (frozen)" : "1 Angles";
      charts.dials(canvas, height, { angles: shown.angles, start: run.start, nBlocks: state.blocks });
      return `${shown.angles.length} angles of 13 qubits and ${state.blocks} blocks, as dials`;
    },
    probabilities(canvas, height, { shown }) {
      const sorted = shown.probabilities;
      if (!sorted) return without(canvas, height, ["No probabilities."]);
      charts.probabilities(canvas, height, sorted);
      return `Sorted probabilities times 8,192: the largest ${sorted[0].toFixed(1)}, the median ` +
        `${sorted[128].toFixed(2)}; of a random state about 15 and 0.45`;
    },
    weights(canvas, height, { shown }) {
      charts.weights(canvas, height, shown.weights);
      return "6,690 weights of four layers as coloured pixels";
    },
    digits(canvas, height, { shown, images }) {
      const { answers } = shown.test;
      const nShown = charts.digits(canvas, height, { ...images, answers });
      const nWrong = answers.reduce((sum, a, i) => sum + (i < nShown && a !== images.labels[i]), 0);
      return `${nShown} test digits, ${nWrong} of them read wrongly`;
    },
    loss(canvas, height, { run, kept }) {
      charts.curves(canvas, height, {
        runs: [run, ...kept].map(({ losses }) => runningMean(losses)), faint: run.losses, nEpochs,
        ticks: [0, 0.5, 1, 1.5, 2, 2.5, 3], format: String,
      });
      return run.losses.length ? `Loss now ${runningMean(run.losses).at(-1)[1].toFixed(3)} nat` : "No loss yet";
    },
    accuracy(canvas, height, { run, kept }) {
      const runs = [run, ...kept];
      charts.curves(canvas, height, {
        runs: runs.map(({ points }) => points), nEpochs, ticks: [0, 20, 40, 60, 80, 100], format: String,
      });
      return runs.map(({ name, points }) => `${name}: ${points.at(-1)[1].toFixed(1)} %`).join("; ");
    },
    confusion(canvas, height, { shown, images }) {
      charts.confusion(canvas, height, { ...images, answers: shown.test.answers });
      return `Confusion matrix: ${percent(shown.test.accuracy)} on its diagonal`;
    },
  };

  const waiting = new Set();
  let view = null;

  function drawNext() {
    const [name] = waiting;
    waiting.delete(name);
    const { canvas, height } = panels[name];
    if (view?.shown?.run === view.run.id) {
      canvas.setAttribute("aria-label", DRAW[name](canvas, height, view));
    }
    if (waiting.size) requestAnimationFrame(drawNext);
  }

  /* Draw panels, all if none are named, in the frames to come. */
  function draw(newView, names = Object.keys(panels)) {
    view = newView;
    const isIdle = waiting.size === 0;
    for (const name of names) waiting.add(name);
    if (isIdle && waiting.size) requestAnimationFrame(drawNext);
  }

  /* Over some six steps. */
  function runningMean(points) {
    let value = points[0]?.[1];
    return points.map(([x, y], i) => {
      value += (y - value) / Math.min(i + 1, 6);
      return [x, value];
    });
  }

  return { draw, percent, pipeline, results, runningMean };
}
