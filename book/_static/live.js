/* Figures that recompute in the reader's browser. A page holds
     <div class="live" data-figure="NAME"><script type="application/json">…</script><img …></div>
   and the image, which is what is seen without JavaScript, gives way to what is drawn here.
   No library; every control is one of the browser's own, so the keyboard works. */
"use strict";

(() => {
  const SVG = "http://www.w3.org/2000/svg";
  let nIds = 0;

  /* An element with attributes and children; names of SVG elements start with "svg:". */
  function make(name, attributes = {}, ...children) {
    const element = name.startsWith("svg:")
      ? document.createElementNS(SVG, name.slice(4))
      : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  }

  const svg = (name, attributes, ...children) => make(`svg:${name}`, attributes, ...children);
  const number = (value) => value.toLocaleString("en");
  const fixed = (value, digits) => value.toFixed(digits).replace("-", "\u2212");

  function labelled(text, control) {
    control.id = `live-${nIds++}`;
    return make("span", { class: "live-control" }, make("label", { for: control.id }, text), control);
  }

  function choice(values, chosen, onchange) {
    const options = values.map(([value, text]) => make("option", { value }, text));
    const select = make("select", { onchange }, ...options);
    select.value = chosen;
    return select;
  }

  const upTo = (n) => Array.from({ length: n }, (_, i) => [i + 1, i + 1]);

  /* Draw now and whenever the width changes. */
  function onWidth(element, draw) {
    let width = 0;
    new ResizeObserver(() => {
      if (element.clientWidth === width) return;
      width = element.clientWidth;
      draw();
    }).observe(element);
  }

  function text(x, y, content, attributes = {}) {
    return svg("text", { x, y, ...attributes }, content);
  }

  /* ---- bars over basis states ------------------------------------------------------------- */

  function drawBars(box, { values, sampled, colour, yLabel, ceilings, signed }) {
    const [width, height, left, bottom, top] = [box.clientWidth, 210, 46, 44, 12];
    const nBits = Math.log2(values.length);
    const names = values.map((_, i) => i.toString(2).padStart(nBits, "0"));
    const largest = Math.max(...values.map(Math.abs), ...(sampled || []));
    const ceiling = ceilings.find((c) => c >= largest) || Math.ceil(largest);
    const floor = signed ? -ceiling : 0;
    const y = (v) => top + ((ceiling - v) / (ceiling - floor)) * (height - top - bottom);
    const step = (width - left) / values.length;
    const chart = svg("svg", {
      width, height, role: "img",
      "aria-label": `${yLabel}: ${names.map((n, i) => `${n} ${fixed(values[i], 3)}`).join(", ")}`,
    });
    for (const tick of signed ? [-ceiling, 0, ceiling] : [0, ceiling / 2, ceiling]) {
      chart.append(svg("line", { class: "live-grid", x1: left, x2: width, y1: y(tick), y2: y(tick) }));
      chart.append(text(left - 6, y(tick) + 4, String(tick).replace("-", "\u2212"), { "text-anchor": "end" }));
    }
    values.forEach((value, i) => {
      const bar = svg("rect", {
        class: colour, x: left + (i + 0.14) * step, width: 0.72 * step,
        y: Math.min(y(value), y(0)), height: Math.abs(y(value) - y(0)) + 0.5,
      });
      bar.append(svg("title", {}, `${names[i]}: ${fixed(value, 4)}`));
      chart.append(bar);
      if (sampled) {
        const at = y(sampled[i]);
        const ends = { x1: left + (i + 0.04) * step, x2: left + (i + 0.96) * step };
        chart.append(svg("line", { class: "live-sampled", ...ends, y1: at, y2: at }));
      }
      const x = left + (i + 0.5) * step;
      const turned = 8.5 * nBits > step;
      chart.append(text(x, height - bottom + (turned ? 8 : 18), names[i], turned
        ? { transform: `rotate(-90 ${x} ${height - bottom + 8})`, "text-anchor": "end", dy: "0.35em" }
        : { "text-anchor": "middle" }));
    });
    chart.append(text(12, (height - bottom) / 2 + top, yLabel, {
      transform: `rotate(-90 12 ${(height - bottom) / 2 + top})`, "text-anchor": "middle",
    }));
    box.replaceChildren(chart);
  }

  /* ---- the circuit ------------------------------------------------------------------------ */

  function drawCircuit(box, angles, entangled) {
    const nQubits = angles[0].length;
    const [wire, boxWidth] = [34, 46];
    const chain = entangled ? nQubits - 1 : 0;
    const need = 40 + angles.length * (boxWidth + 14 + 20 * chain);
    const scale = Math.min(1, box.clientWidth / need);
    const y = (qubit) => 20 + wire * qubit;
    const height = y(nQubits - 1) + 20;
    const drawing = svg("svg", {
      width: need * scale, height: height * scale, viewBox: `0 0 ${need} ${height}`, role: "img",
      "aria-label": `Circuit of ${nQubits} qubits and ${angles.length} blocks`,
    });
    for (let qubit = 0; qubit < nQubits; qubit++) {
      drawing.append(text(4, y(qubit) + 4, `q${qubit}`));
      const ends = { x1: 26, x2: need, y1: y(qubit), y2: y(qubit) };
      drawing.append(svg("line", { class: "live-wire", ...ends }));
    }
    let x = 34;
    angles.forEach((row, block) => {
      row.forEach((angle, qubit) => {
        const at = { x, y: y(qubit) - 13, width: boxWidth, height: 26, rx: 4 };
        const gate = svg("g", { class: "live-gate", "data-angle": `${block}-${qubit}` },
          svg("rect", at),
          text(x + boxWidth / 2, y(qubit) + 4, fixed(angle, 2), { "text-anchor": "middle" }));
        drawing.append(gate);
      });
      x += boxWidth + 12;
      for (let qubit = 0; qubit < chain; qubit++, x += 20) {
        const below = y(qubit + 1);
        drawing.append(
          svg("line", { class: "live-cnot", x1: x, x2: x, y1: y(qubit), y2: below + 8 }),
          svg("circle", { class: "live-dot", cx: x, cy: y(qubit), r: 4 }),
          svg("circle", { class: "live-cnot", cx: x, cy: below, r: 8 }),
          svg("line", { class: "live-cnot", x1: x - 8, x2: x + 8, y1: below, y2: below }));
      }
      x += 2;
    });
    box.replaceChildren(drawing);
  }

  /* angles in steps of pi/24, so that the arrow keys reach pi/2 and pi exactly */
  function circuit(root, data) {
    const steps = data.steps.map((row) => [...row]);
    const [maxBlocks, maxQubits] = [steps.length, steps[0].length];
    const unit = Math.PI / data.steps_in_pi;
    const shown = {
      circuit: make("div", { class: "live-drawing" }),
      sliders: make("div", { class: "live-sliders" }),
      probabilities: make("div", { class: "live-chart" }),
      weights: make("div", { class: "live-chart" }),
      says: make("p", { class: "live-says", role: "status" }),
    };
    const qubits = choice(upTo(maxQubits), data.n_qubits, rebuild);
    const blocks = choice(upTo(maxBlocks), data.n_blocks, rebuild);
    const shots = choice(
      [["", "exact"], ...[10, 100, 1000, 10000].map((n) => [n, number(n)])], "", update);
    const entangled = make("input", { type: "checkbox", checked: "", onchange: update });
    const set = (value) => () => {
      steps.forEach((row) => row.forEach((_, qubit) => (row[qubit] = value())));
      rebuild();
    };
    const range = data.steps_in_pi;
    root.append(
      make("div", { class: "live-controls" },
        labelled("qubits", qubits), labelled("blocks", blocks), labelled("CNOTs", entangled),
        labelled("shots", shots),
        make("button", { type: "button", onclick: set(() => 0) }, "all angles 0"),
        make("button", {
          type: "button",
          onclick: set(() => Math.round((2 * Math.random() - 1) * range)),
        }, "random angles")),
      shown.circuit, shown.sliders,
      make("div", { class: "live-pair" }, shown.probabilities, shown.weights), shown.says);

    const angles = () =>
      steps.slice(0, +blocks.value).map((row) => row.slice(0, +qubits.value).map((k) => k * unit));

    function slider(block, qubit) {
      const output = make("output", {});
      const input = make("input", {
        type: "range", min: -range, max: range, step: 1, value: steps[block][qubit],
        "aria-label": `angle of qubit ${qubit} in block ${block + 1}`, oninput: move,
        onfocus: () => mark(true), onblur: () => mark(false),
      });
      function mark(on) {
        const gate = shown.circuit.querySelector(`[data-angle="${block}-${qubit}"]`);
        if (gate) gate.classList.toggle("live-marked", on);
      }
      function name() {
        output.value = `${fixed(steps[block][qubit] * unit, 2)} rad`;
        input.setAttribute("aria-valuetext", output.value);
      }
      function move() {
        steps[block][qubit] = +input.value;
        name();
        update();
        mark(document.activeElement === input);
      }
      name();
      const head = make("span", {}, `block ${block + 1}, q${qubit}`);
      return make("div", { class: "live-slider" }, head, input, output);
    }

    function rebuild() {
      shown.sliders.style.setProperty("--live-columns", blocks.value);
      const all = [];
      for (let qubit = 0; qubit < +qubits.value; qubit++) {
        for (let block = 0; block < +blocks.value; block++) all.push(slider(block, qubit));
      }
      shown.sliders.replaceChildren(...all);
      update();
    }

    function update() {
      const exact = method.probabilities(+qubits.value, angles(), entangled.checked);
      const sampled = shots.value ? method.sample(exact, +shots.value) : null;
      const weights = method.weights(sampled || exact, data.nets[qubits.value - 1]);
      drawCircuit(shown.circuit, angles(), entangled.checked);
      drawBars(shown.probabilities, {
        values: exact, sampled, colour: "live-circuit", yLabel: "probability",
        ceilings: [0.25, 0.5, 1],
      });
      drawBars(shown.weights, {
        values: weights, colour: "live-mapping", yLabel: "generated weight",
        ceilings: [1, 2, 4, 8, 16], signed: true,
      });
      const top = exact.indexOf(Math.max(...exact));
      const state = top.toString(2).padStart(+qubits.value, "0");
      shown.says.textContent =
        `${qubits.value * blocks.value} angles make ${exact.length} probabilities and ` +
        `${weights.length} weights. Most likely: ${state}, with p = ${exact[top].toFixed(3)}` +
        (sampled ? `; seen in ${number(Math.round(sampled[top] * shots.value))} of ` +
          `${number(+shots.value)} shots (dark lines: shares; the weights follow them).` : ".");
    }

    rebuild();
    onWidth(shown.probabilities, update);
  }

  /* ---- points and curves over an axis ----------------------------------------------------- */

  /* One tab stop; the arrow keys walk from point to point; hover and focus tell a point's values. */
  function drawPoints(box, says, { series, lines, x, y, xLabel, yLabel }) {
    const [width, height, left, bottom, top, right] = [box.clientWidth, 330, 62, 46, 14, 12];
    const place = (axis, from, to) => (value) => {
      const f = axis.scale || ((v) => v);
      return from + ((f(value) - f(axis.min)) / (f(axis.max) - f(axis.min))) * (to - from);
    };
    const [px, py] = [place(x, left, width - right), place(y, height - bottom, top)];
    const chart = svg("svg", { width, height, role: "group", "aria-label": `${yLabel} over ${xLabel}` });
    const few = width < 420 ? 2 : 1;
    x.ticks.forEach((tick, i) => {
      if (i % few) return;
      chart.append(text(px(tick), height - bottom + 18, x.format(tick), { "text-anchor": "middle" }));
    });
    for (const tick of y.ticks) {
      const ends = { x1: left, x2: width - right, y1: py(tick), y2: py(tick) };
      chart.append(svg("line", { class: "live-grid", ...ends }));
      chart.append(text(left - 6, py(tick) + 4, y.format(tick), { "text-anchor": "end" }));
    }
    chart.append(
      text((left + width - right) / 2, height - 6, xLabel, { "text-anchor": "middle" }),
      text(12, (height - bottom) / 2, yLabel, {
        transform: `rotate(-90 12 ${(height - bottom) / 2})`, "text-anchor": "middle",
      }));
    for (const { points, style } of lines) {
      const path = points.map(([a, b]) => `${px(a).toFixed(1)},${py(b).toFixed(1)}`).join(" ");
      chart.append(svg("polyline", { class: `live-line ${style}`, points: path }));
    }
    const dots = [];
    for (const { points, style, shape } of series) {
      for (const point of points) {
        const [cx, cy] = [px(point.x), py(point.y)];
        const group = svg("g", { class: `live-point ${style}`, role: "img", tabindex: -1 });
        group.setAttribute("aria-label", point.text);
        if (point.spread) {
          const [low, high] = point.spread.map(py);
          group.append(svg("line", { class: "live-spread", x1: cx, x2: cx, y1: low, y2: high }));
        }
        group.append(shape === "square"
          ? svg("rect", { x: cx - 4.5, y: cy - 4.5, width: 9, height: 9 })
          : svg("circle", { cx, cy, r: shape === "large" ? 7.5 : 5 }));
        const index = dots.push(group) - 1;
        const tell = () => (says.textContent = point.text);
        group.addEventListener("mouseenter", tell);
        group.addEventListener("focus", tell);
        group.addEventListener("click", tell);
        group.addEventListener("keydown", (event) => {
          const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
          if (!by) return;
          event.preventDefault();
          const next = dots[(index + by + dots.length) % dots.length];
          group.setAttribute("tabindex", -1);
          next.setAttribute("tabindex", 0);
          next.focus();
        });
        chart.append(group);
      }
    }
    if (dots.length) dots[0].setAttribute("tabindex", 0);
    box.replaceChildren(chart);
  }

  function legend(entries) {
    const items = entries.map(([style, shape, label]) => {
      const mark = shape === "line"
        ? svg("line", { class: `live-line ${style}`, x1: 0, x2: 22, y1: 7, y2: 7 })
        : shape === "square"
          ? svg("rect", { x: 6, y: 2, width: 10, height: 10 })
          : svg("circle", { cx: 11, cy: 7, r: 5 });
      const group = svg("g", { class: `live-point ${style}` }, mark);
      return make("li", {}, svg("svg", { width: 22, height: 14, "aria-hidden": "true" }, group), label);
    });
    return make("ul", { class: "live-legend" }, ...items);
  }

  /* ---- how many parameters are trained ---------------------------------------------------- */

  function counts(root, data) {
    const field = (value, max) =>
      make("input", { type: "number", min: 1, max, step: 1, value, oninput: update });
    const [weights, blocks] = [field(data.n_weights, 1e12), field(data.n_blocks, 1e6)];
    const hidden = choice(data.hidden.map((h, i) => [i, h.join("-")]), 0, update);
    const chart = make("div", { class: "live-chart" });
    const says = make("p", { class: "live-says", role: "status" });
    const detail = make("p", { class: "live-says" });
    root.append(
      make("div", { class: "live-controls" },
        labelled("weights of your network, M", weights), labelled("blocks, L", blocks),
        labelled("mapping net", hidden)),
      says, chart,
      legend([["live-circuit", "large", "your network"], ["live-mapping", "square", "the paper's rows, each with its own L and mapping net"],
        ["live-circuit", "line", "Quantum-Train, L blocks"], ["live-muted live-dashed", "line", "baseline: all M"]]),
      detail);

    function update() {
      const [nWeights, nBlocks] = [Math.round(+weights.value), Math.round(+blocks.value)];
      if (!(nWeights >= 1 && nWeights <= 1e12 && nBlocks >= 1 && nBlocks <= 1e6)) {
        says.textContent = "M must be between 1 and 10¹², L between 1 and 10⁶.";
        return;
      }
      const widths = data.hidden[hidden.value];
      const n = method.counts(nWeights, nBlocks, widths);
      const share = n.total / nWeights;
      says.textContent =
        `N = ${n.nQubits} qubits. Trained: ${number(n.mapping)} (mapping net) + ${n.nQubits} · ` +
        `${number(nBlocks)} = ${number(n.angles)} (angles) = ${number(n.total)}, ` +
        (share < 1 ? `${(100 * share).toPrecision(2)} % of ${number(nWeights)}.`
          : `no fewer than the ${number(nWeights)} themselves.`);
      const sizes = Array.from({ length: 111 }, (_, i) => 10 ** (1 + i / 10));
      const powers = [2, 4, 6, 8, 10, 12].map((k) => 10 ** k);
      const format = (v) => `10${[..."" + Math.round(Math.log10(v))].map((d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]).join("")}`;
      const axis = { scale: Math.log10, min: 10, max: 1e12, ticks: powers, format };
      drawPoints(chart, detail, {
        series: [
          {
            style: "live-mapping", shape: "square",
            points: data.paper.map((row) => ({
              x: row.n_weights, y: row.n_trainable,
              text: `${row.name}: ${number(row.n_trainable)} trained for ` +
                `${number(row.n_weights)} weights; the paper reports ${row.accuracy.toFixed(2)} %.`,
            })),
          },
          {
            style: "live-circuit", shape: "large",
            points: [{ x: Math.max(nWeights, 10), y: Math.max(n.total, 10), text: says.textContent }],
          },
        ],
        lines: [
          { style: "live-muted live-dashed", points: sizes.map((m) => [m, m]) },
          {
            style: "live-circuit",
            points: sizes.map((m) => [m, method.counts(m, nBlocks, widths).total]),
          },
        ],
        x: axis, y: axis, xLabel: "weights of the network, M", yLabel: "trained parameters",
      });
    }

    onWidth(chart, update);
  }

  /* ---- accuracy against the number of blocks, from the records ---------------------------- */

  function accuracy(root, data) {
    const chart = make("div", { class: "live-chart" });
    const says = make("p", { class: "live-says", role: "status" },
      "Point at a mark, or tab to the figure and use the arrow keys.");
    const styles = ["live-circuit", "live-network", "live-ink", "live-muted"];
    const paper = data.paper.map((row) => ({
      x: row.n_blocks, y: row.accuracy,
      text: `Paper, ${row.n_blocks} blocks (${number(row.n_trainable)} parameters): ` +
        `${row.accuracy.toFixed(2)} %, one seed.`,
    }));
    const series = data.recipes.map((recipe, i) => ({
      style: styles[i % styles.length], shape: "circle",
      points: recipe.points.map((point) => ({
        x: point.n_blocks, y: point.mean,
        spread: [Math.min(...point.seeds.map(([, a]) => a)), Math.max(...point.seeds.map(([, a]) => a))],
        text: `${recipe.name}, ${point.n_blocks} blocks (${number(point.n_trainable)} parameters): ` +
          `${point.mean.toFixed(2)} %` + (point.sd === null ? "" : ` ± ${point.sd.toFixed(2)}`) +
          `; ${point.seeds.map(([seed, a]) => `seed ${seed}: ${a.toFixed(2)}`).join(", ")}.`,
      })),
    }));
    const all = [paper, ...series.map((s) => s.points)].flat();
    // logarithmic in the errors: from 98 to 99 % is as far as from 80 to 90
    const scale = (accuracy) => -Math.log10(Math.max(100 - accuracy, 0.01));
    const errors = [
      ...all.flatMap((p) => [p.y, ...(p.spread || [])]), ...data.classical.map((c) => c.accuracy),
    ].map((y) => 100 - y);
    const [min, max] = [100 - 1.15 * Math.max(...errors), 100 - Math.min(...errors) / 1.15];
    const ticks = [10, 30, 50, 60, 70, 80, 90, 95, 98, 99, 99.5].filter((t) => min <= t && t <= max);
    const most = Math.max(...all.map((p) => p.x));
    const blocks = [...new Set(all.map((p) => p.x))].sort((a, b) => a - b);
    const curve = ({ style, points }) => ({ style, points: points.map((p) => [p.x, p.y]) });
    const usual = ["live-ink", "live-muted", "live-circuit", "live-network"];
    const draw = () => drawPoints(chart, says, {
      series: [{ style: "live-mapping", shape: "square", points: paper }, ...series],
      lines: [
        ...data.classical.map((c, i) => ({
          style: `${usual[i % usual.length]} live-dashed`,
          points: [[0, c.accuracy], [1.06 * most, c.accuracy]],
        })),
        curve({ style: "live-mapping", points: paper }), ...series.map(curve),
      ],
      x: { min: 0, max: 1.06 * most, ticks: blocks, format: String },
      y: { min, max, ticks, format: String, scale },
      xLabel: "blocks of the circuit, L", yLabel: "test accuracy / %",
    });
    root.append(chart, legend([
      ["live-mapping", "square", "paper"],
      ...data.recipes.map((r, i) => [styles[i % styles.length], "circle", `recipe ${r.name}`]),
      ...data.classical.map((c, i) => [`${usual[i % usual.length]} live-dashed`, "line",
        `${c.name}: ${c.accuracy.toFixed(2)} %`]),
    ]), says);
    onWidth(chart, draw);
  }

  const figures = { circuit, counts, accuracy };

  for (const root of document.querySelectorAll("div.live[data-figure]")) {
    const draw = figures[root.dataset.figure];
    if (!draw) continue;
    const drawn = make("div", { class: "live-drawn" });
    root.append(drawn); // first, so that it has a width
    draw(drawn, JSON.parse(root.querySelector("script").textContent));
    root.classList.add("live-on"); // hides the still image, except in print
  }
})();
