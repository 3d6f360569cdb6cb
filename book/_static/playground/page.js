/* The playground's page: choices, buttons, pictures and what leaves it. The training is in a worker made
   of the other scripts, so that the page works from a folder, too, without a server. */
"use strict";

(() => {
  const place = document.getElementById("qtlite-playground");
  if (!place) return;
  const parts = [qtlitePlaygroundRandom, qtlitePlaygroundEngine, qtlitePlaygroundNetwork];
  const library = qtlitePlaygroundModel(...parts.map((part) => part()));
  const { CHOICES, RANGES, USED, fromQuery, nameOf, read, toPython, toQuery } = qtlitePlaygroundState(library);
  const { counts, recipeRate, EPOCHS } = library;
  const charts = qtlitePlaygroundCharts;
  const number = (value) => value.toLocaleString("en");
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const MOST_KEPT = 3;

  let { state, refused } = fromQuery(location.search);
  let run = { id: 0, points: [], losses: [] };
  let kept = [];
  let shown = null; // the newest snapshot
  let images = null;
  let isPlaying = false;

  // ---- elements -------------------------------------------------------------------------------

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  const button = (text, onclick, attributes = {}) =>
    make("button", { type: "button", onclick, ...attributes }, text);

  function labelled(key, text, control, ...more) {
    control.id = `play-${key}`;
    control.dataset.key = key;
    return make("div", { class: "play-field" }, make("label", { for: control.id }, text), control, ...more);
  }

  function choice(key, text) {
    const options = Object.entries(CHOICES[key]).map(([value, words]) => make("option", { value }, words));
    const select = make("select", { onchange: () => set({ [key]: read(key, select.value) }) }, ...options);
    return labelled(key, text, select);
  }

  const says = make("p", { class: "play-says", role: "status" });
  const train = button("Train", toggle, { class: "play-train" });
  const stepButton = button("Step", () => send("step"));
  const reset = button("Reset", () => restart());
  const meter = make("progress", { max: "1", value: "0", "aria-label": "training" });
  const epoch = make("span", { class: "play-epoch" });
  const accuracy = make("strong", { class: "play-accuracy" });
  const loss = make("strong", { class: "play-loss" });

  const sources = make("fieldset", { class: "play-sources" },
    make("legend", {}, "What makes the 6,690 weights"),
    ...Object.entries(CHOICES.source).map(([value, words]) => {
      const radio = make("input", {
        type: "radio", name: "play-source", value, onchange: () => set({ source: value }),
      });
      return make("label", {}, radio, make("span", {}, words));
    }));

  const blocks = make("input", {
    type: "range", min: RANGES.blocks[0], max: RANGES.blocks[1], step: 1,
    oninput: () => set({ blocks: Number(blocks.value) }),
  });
  const blocksSay = make("output", { for: "play-blocks" });
  const rate = make("input", {
    type: "range", min: -4, max: 0, step: 0.05, // powers of ten
    oninput: () => set({ rate: Number((10 ** Number(rate.value)).toPrecision(2)) }),
  });
  const rateSay = make("output", { for: "play-rate" });
  const recipe = button("recipe's", () => set({ rate: null }), { class: "play-small", title: "the recipe's learning rate" });
  const seed = make("input", {
    type: "number", min: RANGES.seed[0], max: RANGES.seed[1], step: 1, inputmode: "numeric",
    onchange: () => {
      const value = read("seed", seed.value);
      if (value === undefined) seed.value = state.seed;
      else set({ seed: value });
    },
  });

  const budget = make("p", { class: "play-budget" });

  function panel(name, title, height, note) {
    const canvas = make("canvas", { role: "img", class: "play-canvas" });
    const figure = make("figure", { class: `play-panel play-${name}` },
      make("h3", {}, title), canvas, make("figcaption", {}, note));
    return { canvas, figure, height, name };
  }

  const panels = {
    angles: panel("angles", "1 Angles", 236, "Each dial is one Ry angle. The sector shows how far training turned it."),
    probabilities: panel("probabilities", "2 Probabilities", 236, "2ᴺ p of all 8,192 basis states, sorted. Dashed: a random state (Porter–Thomas)."),
    weights: panel("weights", "3 Weights", 236, "All 6,690 generated weights. Blue is negative, orange positive."),
    digits: panel("digits", "4 Answers", 236, "Test digits that training never saw. Orange: wrong."),
    loss: panel("loss", "Training loss / nat", 290, "Cross-entropy of each batch, and its running mean."),
    accuracy: panel("test", "Test accuracy / %", 290, "After each epoch, on 297 test digits."),
    confusion: panel("confusion", "Confusion", 290, "Test digits by their class and by the network's answer."),
  };
  const legend = make("ul", { class: "play-legend" });

  const draw = make("a", { class: "play-button", href: "draw.html?model=playground", target: "_blank", rel: "noopener" },
    "Draw a digit with this network");
  const python = make("dialog", { class: "play-python", "aria-labelledby": "play-python-title" });
  const code = make("pre", { tabindex: 0 });
  python.append(
    make("h3", { id: "play-python-title" }, "The same in Python"),
    make("p", {}, "PyTorch draws another random start, so the accuracy differs as between two seeds."), code,
    make("div", { class: "play-row" },
      button("Copy", () => copy(code.textContent, "The Python lines are copied.")),
      button("Close", () => python.close())));

  place.append(
    make("div", { class: "play-bar" },
      make("div", { class: "play-row" }, train, stepButton, reset),
      make("div", { class: "play-progress" }, meter, epoch),
      make("div", { class: "play-scores" },
        make("span", {}, accuracy, " of 297 test digits right"), make("span", {}, "loss ", loss))),
    says,
    make("div", { class: "play-settings" }, sources,
      make("div", { class: "play-fields" },
        labelled("blocks", "Blocks L", blocks, blocksSay), choice("entanglement", "Entanglement"),
        choice("shots", "Shots"), choice("feature", "The net sees"), choice("bits", "Bits as"),
        choice("normalisation", "Normalisation"), labelled("rate", "Learning rate", rate, rateSay, recipe),
        labelled("seed", "Seed", seed), budget)),
    make("div", { class: "play-pipeline" },
      ...["angles", "probabilities", "weights", "digits"].map((name) => panels[name].figure)),
    make("div", { class: "play-results" },
      ...["loss", "accuracy", "confusion"].map((name) => panels[name].figure)),
    legend,
    make("div", { class: "play-row play-actions" }, draw,
      button("Save as .json", save), button("Copy as Python", () => {
        code.textContent = toPython(state);
        python.showModal();
      }),
      button("Copy link", () => copy(location.href, "The link to this experiment is copied."))),
    python);

  // ---- the worker -----------------------------------------------------------------------------

  const scripts = [...parts, qtlitePlaygroundModel, qtlitePlaygroundWorker].map(String).join("\n");
  const start = "qtlitePlaygroundWorker(self, qtlitePlaygroundModel(qtlitePlaygroundRandom(), " +
    "qtlitePlaygroundEngine(), qtlitePlaygroundNetwork()));";
  const worker = new Worker(URL.createObjectURL(new Blob([scripts, start], { type: "text/javascript" })));
  const send = (type, more = {}) => worker.postMessage({ type, ...more });
  worker.onmessage = ({ data }) => {
    if (data.type === "images") images = data;
    else if (data.run === run.id) take(data);
  };
  worker.onerror = (event) => (says.textContent = `Training failed: ${event.message}`);
  send("digits", { digits: qtliteDigits });

  /* A new, untrained model for the state; a run of at least an epoch stays in the charts. */
  function restart() {
    if (run.points.length > 1) kept = [run, ...kept].slice(0, MOST_KEPT);
    run = { id: run.id + 1, name: nameOf(state), points: [], losses: [], start: null };
    isPlaying = false;
    send("reset", { state, run: run.id });
    showState();
  }

  function toggle() {
    if (!isPlaying && shown?.run === run.id && shown.step === shown.nSteps) restart();
    isPlaying = !isPlaying;
    send(isPlaying ? "play" : "pause");
    says.textContent = isPlaying ? `Training: ${run.name}.` : "Paused.";
    showButtons();
  }

  let waiting = 0;
  function set(changes) {
    state = { ...state, ...changes };
    history.replaceState(null, "", location.pathname + toQuery(state) + location.hash);
    showState();
    send("pause");
    clearTimeout(waiting); // while a slider moves, only its last place counts
    waiting = setTimeout(restart, 100);
  }

  function take(snapshot) {
    shown = { ...shown, ...snapshot, test: snapshot.test ?? shown?.test };
    run.start ??= snapshot.angles;
    const epochOf = (step) => step / snapshot.stepsPerEpoch;
    for (const item of snapshot.losses) run.losses.push([epochOf(item.step + 1), item.loss]);
    if (snapshot.test) {
      const last = run.points.at(-1);
      if (last && last[0] === epochOf(snapshot.step)) run.points.pop();
      run.points.push([epochOf(snapshot.step), 100 * snapshot.test.accuracy]);
    }
    if (snapshot.step === snapshot.nSteps && isPlaying) {
      says.textContent =
        `Done: ${number(counts(state).total)} trained numbers made a network that reads ` +
        `${percent(snapshot.test.accuracy)} of the test digits.`;
      isPlaying = false;
    }
    if (run.losses.length && !performance.getEntriesByName("playground-loss").length) {
      performance.mark("playground-loss");
    }
    place.dataset.step = snapshot.step;
    place.dataset.accuracy = shown.test.accuracy;
    showButtons();
    showScores();
    // what tests show changes once an epoch; with reduced motion, everything does
    if (snapshot.test) drawAll();
    else if (!isReduced.matches) requestDrawing(["angles", "probabilities", "weights", "loss"]);
  }

  // ---- showing --------------------------------------------------------------------------------

  function showButtons() {
    train.textContent = isPlaying ? "Pause" : shown?.step === shown?.nSteps && shown?.step ? "Train again" : "Train";
    train.classList.toggle("play-on", isPlaying);
    stepButton.disabled = isPlaying || (shown && shown.step === shown.nSteps);
  }

  function showState() {
    sources.querySelector(`[value="${state.source}"]`).checked = true;
    for (const control of place.querySelectorAll("[data-key]")) {
      control.disabled = !USED[state.source].includes(control.dataset.key);
      if (control.tagName === "SELECT") control.value = state[control.dataset.key];
    }
    blocks.value = state.blocks;
    blocksSay.value = state.blocks;
    seed.value = state.seed;
    const used = state.rate ?? recipeRate(state);
    rate.value = Math.log10(used);
    rateSay.value = String(used);
    rate.setAttribute("aria-valuetext", rateSay.value);
    recipe.disabled = state.rate === null;
    const { angles, mapping, total } = counts(state);
    const what = state.source === "random_subspace" ? "coordinates" : "in the mapping net";
    budget.replaceChildren(
      make("strong", {}, `${number(total)} numbers are trained`),
      `: ${angles ? `${number(angles)} angles and ` : ""}${number(mapping)} ${what}. They make 6,690.`);
    const { figure } = panels.angles;
    figure.querySelector("h3").textContent =
      state.source === "frozen_circuit" ? "1 Angles (frozen)" : "1 Angles";
    showButtons();
  }

  const isReduced = matchMedia("(prefers-reduced-motion: reduce)");
  const waitingPanels = new Set();

  /* Draw panels one a frame, so that the page answers at any moment. */
  function requestDrawing(names) {
    const isIdle = waitingPanels.size === 0;
    for (const name of names) waitingPanels.add(name);
    if (isIdle && waitingPanels.size) requestAnimationFrame(drawNext);
  }

  function drawNext() {
    const [name] = waitingPanels;
    waitingPanels.delete(name);
    if (shown?.run === run.id) {
      describe(name, DRAW[name](panels[name].canvas, panels[name].height));
    }
    if (waitingPanels.size) requestAnimationFrame(drawNext);
  }

  const drawAll = () => requestDrawing(Object.keys(panels));

  function showScores() {
    const { step, nSteps, stepsPerEpoch, test } = shown;
    meter.value = step / nSteps;
    epoch.textContent = `epoch ${Math.floor(step / stepsPerEpoch)} of ${EPOCHS}`;
    accuracy.textContent = percent(test.accuracy);
    loss.textContent = run.losses.length ? mean(run.losses).at(-1)[1].toFixed(3) : "–";
  }

  /* A running mean over some six steps. */
  function mean(points) {
    let value = points[0]?.[1];
    return points.map(([x, y], i) => {
      value += (y - value) / Math.min(i + 1, 6);
      return [x, value];
    });
  }

  function describe(name, words) {
    panels[name].canvas.setAttribute("aria-label", words);
  }

  function without(canvas, height, words) {
    charts.nothing(canvas, height, words);
    return words.join(" ");
  }

  /* Draw each panel and return what is on it in words. */
  const DRAW = {
    angles(canvas, height) {
      const { angles } = shown;
      if (state.source === "hypernetwork") {
        return without(canvas, height, ["No circuit: the net sees", "only the bits of each index."]);
      }
      if (!angles) return without(canvas, height, ["No circuit: a random matrix", "makes the weights."]);
      charts.dials(canvas, height, { angles, start: run.start, nBlocks: state.blocks });
      return `${angles.length} angles of 13 qubits and ${state.blocks} blocks, as dials`;
    },
    probabilities(canvas, height) {
      const sorted = shown.probabilities;
      if (!sorted) return without(canvas, height, ["No probabilities."]);
      charts.probabilities(canvas, height, sorted);
      return `Sorted probabilities times 8,192: the largest ${sorted[0].toFixed(1)}, the median ` +
        `${sorted[128].toFixed(2)}; of a random state about 15 and 0.45`;
    },
    weights(canvas, height) {
      charts.weights(canvas, height, shown.weights);
      return "6,690 weights of four layers as coloured pixels";
    },
    digits(canvas, height) {
      const { answers } = shown.test;
      charts.digits(canvas, height, { ...images, answers });
      const nWrong = answers.reduce((sum, a, i) => sum + (i < 25 && a !== images.labels[i]), 0);
      return `25 test digits, ${nWrong} of them read wrongly`;
    },
    confusion(canvas, height) {
      charts.confusion(canvas, height, { ...images, answers: shown.test.answers });
      return `Confusion matrix: ${percent(shown.test.accuracy)} on its diagonal`;
    },
    loss(canvas, height) {
      charts.curves(canvas, height, {
        runs: [run, ...kept].map(({ losses }) => mean(losses)), faint: run.losses, nEpochs: EPOCHS,
        ticks: [0, 0.5, 1, 1.5, 2, 2.5, 3], format: String,
      });
      return run.losses.length ? `Loss now ${loss.textContent} nat` : "No loss yet";
    },
    accuracy(canvas, height) {
      const runs = [run, ...kept];
      charts.curves(canvas, height, {
        runs: runs.map(({ points }) => points), nEpochs: EPOCHS, ticks: [0, 20, 40, 60, 80, 100], format: String,
      });
      showLegend(runs);
      return runs.map(({ name, points }) => `${name}: ${points.at(-1)[1].toFixed(1)} %`).join("; ");
    },
  };

  function showLegend(runs) {
    const items = runs.map(({ name, points }, i) =>
      make("li", { class: `play-line-${i}` }, make("span", { class: "play-mark", "aria-hidden": "true" }),
        `${name}: ${points.at(-1)[1].toFixed(1)} %`));
    if (kept.length) {
      items.push(make("li", {}, button("Remove earlier runs", () => {
        kept = [];
        drawAll();
      }, { class: "play-small" })));
    }
    if (legend.textContent !== items.map((item) => item.textContent).join("")) legend.replaceChildren(...items);
  }

  // ---- what leaves the page -------------------------------------------------------------------

  async function copy(text, done) {
    try {
      await navigator.clipboard.writeText(text);
      says.textContent = done;
    } catch {
      says.textContent = `Copy it by hand: ${text}`;
    }
  }

  const model = () => qtlitePlaygroundFile.write({
    weights: shown.weights, name: run.name, nTrained: counts(state).total, accuracy: shown.test.accuracy,
    nEpochs: Math.floor(shown.step / shown.stepsPerEpoch), tensors: library.TENSORS,
    mean: library.PIXEL_MEAN, std: library.PIXEL_STD,
  });

  async function save() {
    const content = await qtlitePlaygroundFile.seal(model());
    const address = URL.createObjectURL(new Blob([content], { type: "application/json" }));
    make("a", { href: address, download: "playground.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  draw.addEventListener("click", () => {
    try {
      localStorage.setItem(qtlitePlaygroundFile.KEY, model());
    } catch {
      says.textContent = "The browser keeps no data for this page. Save the network as .json and load it there.";
    }
  });

  // links to prepared experiments change the state here; elsewhere they open this page
  document.querySelectorAll("a[href*='playground.html?']").forEach((link) => {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      set(fromQuery(new URL(link.href).search).state);
      place.scrollIntoView();
      train.focus({ preventScroll: true });
    });
  });
  window.addEventListener("popstate", () => set(fromQuery(location.search).state));

  charts.readColours(place);
  new MutationObserver(() => {
    charts.readColours(place);
    drawAll();
  }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme", "data-mode"] });
  let width = 0;
  new ResizeObserver(() => {
    if (place.clientWidth !== width) drawAll();
    width = place.clientWidth;
  }).observe(place);
  if (refused.length) {
    says.textContent = `This address asks for what the page does not have: ${refused.join(", ")}. The default is used.`;
  }
  restart();
  performance.mark("playground-interactive");
})();
