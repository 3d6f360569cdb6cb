/* The playground's page: the run, its buttons, and what leaves it. The training is in a worker made of the
   other scripts, so that the page works from a folder, too, without a server. */
"use strict";

(() => {
  const place = document.getElementById("qtlite-playground");
  if (!place) return;
  const parts = [qtlitePlaygroundRandom, qtlitePlaygroundEngine, qtlitePlaygroundNetwork];
  const library = qtlitePlaygroundModel(...parts.map((part) => part()));
  const states = qtlitePlaygroundState(library);
  const { fromQuery, nameOf, toPython, toQuery } = states;
  const { counts, EPOCHS } = library;
  const charts = qtlitePlaygroundCharts;
  const MOST_KEPT = 3;

  let { state, refused } = fromQuery(location.search);
  let run = { id: 0, points: [], losses: [] };
  let kept = [];
  let shown = null; // the newest snapshot
  let tested = null; // the newest with a test: weights and accuracy belong together
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

  const says = make("p", { class: "play-says", role: "status" });
  const train = button("Train", toggle, { class: "play-train" });
  const stepButton = button("Step", () => {
    settle();
    send("step");
  });
  const reset = button("Reset", () => restart());
  const meter = make("progress", { max: "1", value: "0", "aria-label": "training" });
  const epoch = make("span", { class: "play-epoch" });
  const accuracy = make("strong", { class: "play-right" });
  const loss = make("strong", { class: "play-nat" });
  const settings = qtlitePlaygroundSettings(make, button, library, states, set);
  const panels = qtlitePlaygroundPanels(make, charts, EPOCHS);
  const { percent } = panels;
  const legend = make("ul", { class: "play-legend" });

  const draw = make("a",
    { class: "play-button", href: "draw.html?model=playground", target: "_blank", rel: "noopener", onclick: handOver },
    "Draw a digit with this network");
  const code = make("pre", { tabindex: 0 });
  const python = make("dialog", { class: "play-python", "aria-labelledby": "play-python-title" },
    make("h2", { id: "play-python-title" }, "The same in Python"),
    make("p", {}, "PyTorch draws another random start, so the accuracy differs as between two seeds."), code,
    make("div", { class: "play-row" },
      button("Copy", () => copy(code.textContent, "The Python lines are copied.")),
      button("Close", () => python.close())));

  python.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation(); // the theme takes the key, and the dialog would stay
    python.close();
  });

  place.append(
    make("div", { class: "play-bar" },
      make("div", { class: "play-row" }, train, stepButton, reset),
      make("div", { class: "play-progress" }, meter, epoch),
      make("div", { class: "play-scores" },
        make("span", {}, accuracy, " of 297 test digits right"), make("span", {}, "loss ", loss))),
    says, settings.element, panels.pipeline, panels.results, legend,
    make("div", { class: "play-row play-actions" }, draw,
      button("Save as .json", save), button("Copy as Python", () => {
        code.textContent = toPython(state);
        python.showModal();
      }),
      button("Copy link", () => copy(location.href, "The link to this experiment is copied."))),
    python);

  // ---- the run --------------------------------------------------------------------------------

  const scripts = [...parts, qtlitePlaygroundModel, qtlitePlaygroundWorker].map(String).join("\n");
  const start = "qtlitePlaygroundWorker(self, qtlitePlaygroundModel(qtlitePlaygroundRandom(), " +
    "qtlitePlaygroundEngine(), qtlitePlaygroundNetwork()));";
  const worker = new Worker(URL.createObjectURL(new Blob([scripts, start], { type: "text/javascript" })));
  worker.onmessage = ({ data }) => {
    if (data.type === "images") images = data;
    else if (data.run === run.id) take(data);
  };
  worker.onerror = (event) => (says.textContent = `Training failed: ${event.message}`);

  function send(type, more = {}) {
    worker.postMessage({ type, ...more });
  }

  /* A new, untrained model for the state; a run of at least an epoch stays in the charts. */
  function restart() {
    if (run.points.length > 1) kept = [run, ...kept].slice(0, MOST_KEPT);
    run = { id: run.id + 1, state, name: nameOf(state), points: [], losses: [], start: null };
    isPlaying = false;
    send("reset", { state, run: run.id });
    says.textContent = "Untrained: the network guesses. Press Train.";
    settings.show(state);
    showButtons();
  }

  function toggle() {
    settle();
    if (!isPlaying && isDone()) restart();
    isPlaying = !isPlaying;
    send(isPlaying ? "play" : "pause");
    says.textContent = isPlaying ? `Training: ${run.name}.` : "Paused.";
    showButtons();
  }

  let waiting = 0;
  function set(changes) {
    state = { ...state, ...changes };
    history.replaceState(null, "", location.pathname + toQuery(state) + location.hash);
    settings.show(state);
    send("pause");
    clearTimeout(waiting); // while a slider moves, only its last place counts
    waiting = setTimeout(settle, 100);
  }

  /* Begin the run of the newest choices, if that is still to be done. */
  function settle() {
    if (!waiting) return;
    clearTimeout(waiting);
    waiting = 0;
    restart();
  }

  function take(snapshot) {
    shown = { ...snapshot, test: snapshot.test ?? shown.test };
    run.start ??= snapshot.angles;
    const epochOf = (step) => step / snapshot.stepsPerEpoch;
    for (const item of snapshot.losses) run.losses.push([epochOf(item.step + 1), item.loss]);
    if (snapshot.test) {
      tested = snapshot;
      if (run.points.at(-1)?.[0] === epochOf(snapshot.step)) run.points.pop();
      run.points.push([epochOf(snapshot.step), 100 * snapshot.test.accuracy]);
    }
    if (isDone() && isPlaying) {
      says.textContent = `Done: ${counts(run.state).total.toLocaleString("en")} trained numbers made a network ` +
        `that reads ${percent(snapshot.test.accuracy)} of the test digits.`;
      isPlaying = false;
    }
    if (run.losses.length && !performance.getEntriesByName("playground-loss").length) {
      performance.mark("playground-loss"); // for the tests of speed
    }
    place.dataset.step = snapshot.step;
    place.dataset.running = snapshot.isPlaying;
    place.dataset.accuracy = shown.test.accuracy;
    showScores();
    showButtons();
    // what tests show changes once an epoch; with reduced motion, everything does
    if (snapshot.test) drawAll();
    else if (!isReduced.matches) panels.draw(view(), ["angles", "probabilities", "weights", "loss"]);
  }

  // ---- showing --------------------------------------------------------------------------------

  const isReduced = matchMedia("(prefers-reduced-motion: reduce)");
  const view = () => ({ shown, run, kept, state: run.state, images });
  const isDone = () => shown?.run === run.id && shown.step === shown.nSteps;

  function drawAll() {
    if (shown?.run !== run.id) return;
    panels.draw(view());
    showLegend();
  }

  function showButtons() {
    train.textContent = isPlaying ? "Pause" : isDone() ? "Train again" : "Train";
    train.classList.toggle("play-on", isPlaying);
    stepButton.disabled = isPlaying || isDone();
  }

  function showScores() {
    const { step, nSteps, stepsPerEpoch, test } = shown;
    meter.value = step / nSteps;
    epoch.textContent = `epoch ${Math.floor(step / stepsPerEpoch)} of ${EPOCHS}`;
    accuracy.textContent = percent(test.accuracy);
    loss.textContent = run.losses.length ? panels.runningMean(run.losses).at(-1)[1].toFixed(3) : "–";
  }

  function showLegend() {
    const items = [run, ...kept].map(({ name, points }, i) =>
      make("li", { class: `play-line-${i}` }, make("span", { class: "play-mark", "aria-hidden": "true" }),
        `${name}: ${points.at(-1)[1].toFixed(1)} %`));
    if (kept.length) {
      const remove = button("Remove earlier runs", () => {
        kept = [];
        drawAll();
        train.focus();
      }, { class: "play-small" });
      items.push(make("li", {}, remove));
    }
    const words = items.map((item) => item.textContent).join("");
    if (legend.textContent !== words) legend.replaceChildren(...items);
  }

  // ---- what leaves the page -------------------------------------------------------------------

  async function copy(text, done) {
    try {
      await navigator.clipboard.writeText(text);
      says.textContent = done;
    } catch {
      says.textContent = `The browser does not let the page copy. By hand: ${text}`;
    }
  }

  const file = () => qtlitePlaygroundFile.write({
    weights: tested.weights, name: run.name, nTrained: counts(run.state).total, accuracy: tested.test.accuracy,
    nEpochs: Math.floor(tested.step / tested.stepsPerEpoch), tensors: library.TENSORS,
    mean: library.PIXEL_MEAN, std: library.PIXEL_STD,
  });

  async function save() {
    const content = await qtlitePlaygroundFile.seal(file());
    const address = URL.createObjectURL(new Blob([content], { type: "application/json" }));
    make("a", { href: address, download: "playground.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  function handOver(event) {
    try {
      localStorage.setItem(qtlitePlaygroundFile.KEY, file());
    } catch {
      event.preventDefault();
      says.textContent = "The browser stores nothing for this page. Save the network as .json; " +
        "“Draw a digit” opens such a file.";
    }
  }

  // links to prepared experiments: here they change the state, elsewhere they open this page
  document.querySelectorAll("article a[href*='playground.html?']").forEach((link) => {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      set(fromQuery(new URL(link.href).search).state);
      place.scrollIntoView();
      train.focus({ preventScroll: true });
    });
  });

  charts.readColours(place);
  new MutationObserver(() => {
    charts.readColours(place);
    drawAll();
  }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  let width = place.clientWidth;
  new ResizeObserver(() => {
    if (place.clientWidth !== width) drawAll();
    width = place.clientWidth;
  }).observe(place);
  send("digits", { digits: qtliteDigits });
  restart();
  if (refused.length) {
    says.textContent = `The page has no such choice: ${refused.join(", ")}. It uses the default.`;
  }
  performance.mark("playground-interactive"); // for the tests of speed
})();
