/* The page where a reader draws a digit. The network is in draw-network.js; the models are in the
   page, in <script type="application/json" class="qtlite-model">. Others come from the playground, by
   this browser's storage, or from a file: .json, or .qt (tiny.js). */
"use strict";

(() => {
  const place = document.getElementById("qtlite-draw");
  if (!place) return;
  const { readTiny } = qtliteTiny(qtlitePlaygroundRandom(), qtlitePlaygroundEngine());
  const { readModel, forward, softmax, featureMaps, toPixels, SIDE } = qtliteNetwork;
  const KEY = "qtlite-playground-network"; // as in playground/file.js
  const models = Array.from(document.querySelectorAll("script.qtlite-model"), (script) => ({
    ...readModel(JSON.parse(script.textContent)),
    download: script.dataset.download,
  }));

  // strokes in a square 100 wide, as a pen would go
  const arc = (cx, cy, rx, ry, from, to) =>
    Array.from({ length: 25 }, (_, i) => {
      const angle = ((from + ((to - from) * i) / 24) * Math.PI) / 180;
      return [cx + rx * Math.cos(angle), cy + ry * Math.sin(angle)];
    });
  const EXAMPLES = [
    [arc(50, 50, 20, 32, -90, 270)],
    [[[40, 30], [52, 18], [52, 82]]],
    [[...arc(50, 36, 20, 18, 190, 380), [32, 80], [70, 80]]],
    [[...arc(48, 34, 18, 15, 200, 440), ...arc(48, 65, 21, 17, -80, 160)]],
    [[[38, 18], [30, 52], [70, 52]], [[62, 26], [60, 84]]],
    [[[68, 18], [38, 18], [35, 45], ...arc(48, 62, 20, 20, -120, 140)]],
    [[[58, 16], [42, 36], [32, 60], ...arc(50, 64, 18, 18, 180, 540)]],
    [[[30, 20], [70, 20], [48, 82]]],
    [[...arc(50, 34, 15, 15, 90, 450), ...arc(50, 66, 19, 17, -90, 270)]],
    [[...arc(50, 36, 17, 18, 0, 360), [66, 50], [60, 84]]],
  ];

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  // --- what is on the page ---------------------------------------------------------------------

  const pad = element("canvas", {
    class: "qtlite-pad",
    tabindex: "0",
    role: "application",
    "aria-label":
      "Drawing area for a digit. Mouse or finger: draw. Keyboard: arrow keys move the pen, " +
      "space puts it down or lifts it, Delete clears.",
  });
  const say = element("p", { class: "qtlite-answer", role: "status", "aria-live": "polite" });
  const clear = element("button", { type: "button" }, "Clear");
  const undo = element("button", { type: "button" }, "Undo");
  const example = element("button", { type: "button" }, "Example");
  const seen = element("canvas", {
    class: "qtlite-seen",
    role: "img",
    "aria-label": "The drawing as the network sees it, 28 by 28 pixels",
  });
  const bars = JSON.parse(models[0].metadata.classes).map((name) => {
    const fill = element("span", { class: "qtlite-fill" });
    const number = element("span", { class: "qtlite-number" });
    const row = element(
      "div",
      { class: "qtlite-bar" },
      element("span", { class: "qtlite-class" }, name),
      element("span", { class: "qtlite-track" }, fill),
      number
    );
    return { name, row, fill, number };
  });
  const about = element("p", { class: "qtlite-about" });
  const maps = element("div", { class: "qtlite-maps" });

  const choice = element("fieldset", { class: "qtlite-choice" }, element("legend", {}, "Model"));

  function offer(model, i) {
    const { model: name, n_trainable: count } = model.metadata;
    const radio = element("input", { type: "radio", name: "qtlite-model", value: String(i) });
    radio.checked = i === 0;
    radio.addEventListener("change", show);
    const small = element("small", {}, `${Number(count).toLocaleString("en")} trained`);
    const label = element("label", {}, radio, element("span", {}, name), small);
    choice.append(label);
    return radio;
  }

  /* One more model, from a file's text or, of a tiny file, bytes; an error says what is wrong with it. */
  function add(content) {
    const model = typeof content === "string" ? readModel(JSON.parse(content)) : readTiny(content);
    const { classes, ...metadata } = model.metadata;
    const needed = typeof content === "string" ? ["accuracy", "evaluated_on"] : [];
    for (const name of ["model", "n_trainable", "n_weights", ...needed]) {
      if (typeof metadata[name] !== "string") throw new Error(`its metadata has no ${name}`);
    }
    if (String(JSON.parse(classes)) !== String(bars.map(({ name }) => name))) throw new Error("its classes are not the ten digits");
    if (forward(model, new Uint8Array(SIDE * SIDE)).at(-1).values.length !== bars.length) {
      throw new Error("it does not give ten scores");
    }
    models.push(model);
    return offer(model, models.length - 1);
  }

  const chosenFile = element("input", { type: "file", accept: ".json,.qt,application/json" });
  const file = element("label", { class: "qtlite-file" }, element("span", {}, "Open a .json or .qt file"), chosenFile);
  chosenFile.addEventListener("change", async () => {
    try {
      const opened = chosenFile.files[0];
      const isTiny = opened.name.endsWith(".qt");
      add(isTiny ? new Uint8Array(await opened.arrayBuffer()) : await opened.text()).checked = true;
      show();
    } catch (error) {
      say.textContent = `This file is no network that this page can run: ${error.message}.`;
    }
    chosenFile.value = ""; // the same file can be chosen again
  });
  models.forEach(offer);
  const isHandedOver = new URLSearchParams(location.search).get("model") === "playground";
  try {
    const own = localStorage.getItem(KEY);
    if (own) add(own).checked = isHandedOver;
  } catch {
    // storage is off, or holds something of an earlier version: the page's own models are there
  }

  // what is there for readers without JavaScript leaves an empty box
  document.querySelectorAll("article noscript").forEach((still) => {
    still.closest(".cell")?.setAttribute("hidden", "");
  });

  place.append(
    choice,
    file,
    about,
    element(
      "div",
      { class: "qtlite-columns" },
      element(
        "div",
        {},
        element("h3", {}, "Draw a digit"),
        pad,
        element("div", { class: "qtlite-buttons" }, clear, undo, example),
        say
      ),
      element("div", { class: "qtlite-input" }, element("h3", {}, "Network input"), seen),
      element("div", {}, element("h3", {}, "Probabilities"), ...bars.map(({ row }) => row))
    ),
    maps
  );

  // --- computing and showing -------------------------------------------------------------------

  let strokes = [];
  let pen = { x: 50, y: 50, isDown: false, isShown: false };
  let nextExample = 3;

  function chosen() {
    return models[Number(choice.querySelector("input:checked").value)];
  }

  /* Values as grey pixels: 0 is black, the largest white. */
  function drawPixels(canvas, values, width, height, largest) {
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    values.forEach((value, i) => {
      const grey = largest > 0 ? Math.max(0, (255 * value) / largest) : 0;
      image.data.set([grey, grey, grey, 255], 4 * i);
    });
    context.putImageData(image, 0, 0);
  }

  function drawPad() {
    const side = Math.max(100, Math.round(pad.clientWidth * (window.devicePixelRatio || 1)));
    pad.width = pad.height = side;
    const context = pad.getContext("2d");
    context.scale(side / 100, side / 100);
    context.fillStyle = "#000";
    context.fillRect(0, 0, 100, 100);
    context.lineWidth = 8;
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = "#fff";
    for (const stroke of strokes) {
      context.beginPath();
      context.moveTo(...stroke[0]);
      for (const point of stroke) context.lineTo(...point);
      context.stroke();
    }
    if (pen.isShown) {
      context.lineWidth = 1.5;
      context.strokeStyle = pen.isDown ? "#f0b060" : "#7fb8e8";
      context.beginPath();
      context.arc(pen.x, pen.y, 5, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  function show() {
    drawPad();
    const model = chosen();
    const pixels = toPixels(model, strokes);
    drawPixels(seen, pixels, SIDE, SIDE, 255);
    const outputs = forward(model, pixels);
    const isEmpty = strokes.length === 0;
    const probabilities = softmax(outputs.at(-1).values);
    const best = probabilities.indexOf(Math.max(...probabilities));
    bars.forEach(({ row, fill, number }, i) => {
      const percent = isEmpty ? 0 : 100 * probabilities[i];
      row.classList.toggle("qtlite-best", !isEmpty && i === best);
      fill.style.width = `${percent}%`;
      number.textContent = isEmpty ? "–" : `${percent.toFixed(1)} %`;
    });
    say.textContent = isEmpty
      ? "Nothing drawn yet."
      : `${model.metadata.model} says ${bars[best].name}, with ${(100 * probabilities[best]).toFixed(0)} %.`;
    place.dataset.answer = isEmpty ? "" : bars[best].name;
    showAbout(model.metadata, model.download);
    showMaps(featureMaps(model, outputs), isEmpty);
  }

  function showAbout(metadata, download) {
    const [trained, weights] = [metadata.n_trainable, metadata.n_weights].map((n) =>
      Number(n).toLocaleString("en")
    );
    about.replaceChildren(
      element("strong", {}, `${trained} trained parameters`),
      trained === weights ? "" : ` made its ${weights} weights`,
      metadata.accuracy
        ? `. ${(100 * Number(metadata.accuracy)).toFixed(2)} % right on ${metadata.evaluated_on}. `
        : ", all of them from the file that you opened. ",
      download ? element("a", { href: download, download: "" }, "Download .onnx") : ""
    );
  }

  function showMaps(layers, isEmpty) {
    maps.replaceChildren(
      ...layers.map(({ shape: [channels, height, width], values }, i) => {
        const size = height * width;
        const largest = isEmpty ? 0 : values.reduce((a, b) => Math.max(a, b), 0);
        const row = element("div", { class: "qtlite-map-row", role: "img" });
        row.setAttribute(
          "aria-label",
          `Outputs of the ${channels} filters of convolution ${i + 1}, ${height} by ${width} pixels each`
        );
        for (let c = 0; c < channels; c++) {
          const canvas = element("canvas");
          drawPixels(canvas, values.subarray(c * size, (c + 1) * size), width, height, largest);
          row.append(canvas);
        }
        const title = `After convolution ${i + 1}: ${channels} feature maps of ${height} × ${width}`;
        return element("div", {}, element("h3", {}, title), row);
      })
    );
  }

  // --- drawing ---------------------------------------------------------------------------------

  const clamp = (value) => Math.min(100, Math.max(0, value));

  function pointOf(event) {
    const box = pad.getBoundingClientRect();
    return [
      clamp((100 * (event.clientX - box.left)) / box.width),
      clamp((100 * (event.clientY - box.top)) / box.height),
    ];
  }

  let isDrawing = false;
  let isExample = true; // an example goes as soon as the reader draws

  function begin(point) {
    if (isExample) strokes = [];
    isExample = false;
    strokes.push([point]);
  }

  pad.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    event.preventDefault();
    pad.setPointerCapture(event.pointerId);
    pad.focus({ preventScroll: true });
    isDrawing = true;
    pen = { ...pen, isDown: false, isShown: false };
    begin(pointOf(event));
    show();
  });
  pad.addEventListener("pointermove", (event) => {
    if (!isDrawing || !event.isPrimary) return;
    const events = event.getCoalescedEvents?.() ?? [];
    strokes.at(-1).push(...(events.length ? events : [event]).map(pointOf));
    show();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    pad.addEventListener(name, () => (isDrawing = false));
  }

  const STEPS = { ArrowLeft: [-3, 0], ArrowRight: [3, 0], ArrowUp: [0, -3], ArrowDown: [0, 3] };
  pad.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in STEPS) {
      const [dx, dy] = STEPS[event.key];
      pen = { ...pen, x: clamp(pen.x + dx), y: clamp(pen.y + dy), isShown: true };
      if (pen.isDown) strokes.at(-1).push([pen.x, pen.y]);
    } else if (event.key === " ") {
      pen = { ...pen, isDown: !pen.isDown, isShown: true };
      if (pen.isDown) begin([pen.x, pen.y]);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      wipe();
    } else {
      return;
    }
    event.preventDefault(); // arrow keys and space would scroll the page
    event.stopPropagation(); // and turn it: the theme takes the arrow keys for previous and next
    show();
  });
  pad.addEventListener("blur", () => {
    pen = { ...pen, isDown: false, isShown: false };
    drawPad();
  });

  function wipe() {
    strokes = [];
    isExample = false;
    pen = { ...pen, isDown: false };
  }

  clear.addEventListener("click", () => {
    wipe();
    show();
  });
  undo.addEventListener("click", () => {
    strokes.pop();
    pen = { ...pen, isDown: false };
    show();
  });
  example.addEventListener("click", () => {
    strokes = EXAMPLES[nextExample].map((stroke) => stroke.map(([x, y]) => [x, y]));
    nextExample = (nextExample + 1) % EXAMPLES.length;
    isExample = true;
    pen = { ...pen, isDown: false };
    show();
  });
  new ResizeObserver(drawPad).observe(pad);
  example.click();
})();
