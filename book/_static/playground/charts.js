/* Pictures of a run, each drawn on a canvas in about a millisecond. Colours are the page's, so that they
   follow its light and dark mode. */
"use strict";

const qtlitePlaygroundCharts = (() => {
  const FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
  let colours = null;

  /* The page's colours, read again after a change of mode. */
  function readColours(element) {
    const style = getComputedStyle(element);
    const read = (name) => style.getPropertyValue(`--play-${name}`).trim();
    const names = ["circuit", "mapping", "network", "ink", "muted", "grid", "paper"];
    colours = Object.fromEntries(names.map((name) => [name, read(name)]));
  }

  /* A canvas's pen, for a drawing of the canvas's width and a height in CSS pixels. */
  function begin(canvas, height) {
    const width = Math.max(1, canvas.clientWidth); // 0 while nothing is laid out
    const scale = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = FONT;
    pen.lineJoin = "round";
    return { pen, width, height };
  }

  function write(pen, text, x, y, { colour = colours.muted, align = "left" } = {}) {
    pen.fillStyle = colour;
    pen.textAlign = align;
    pen.fillText(text, x, y);
  }

  function line(pen, points, { colour, width = 1.8, dash = [], alpha = 1 }) {
    pen.save();
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.globalAlpha = alpha;
    pen.setLineDash(dash);
    pen.beginPath();
    points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.stroke();
    pen.restore();
  }

  function nothing(canvas, height, words) {
    const { pen, width } = begin(canvas, height);
    words.forEach((text, i) => write(pen, text, width / 2, height / 2 + 18 * i, { align: "center" }));
  }

  /* A dial for each angle: a wire for a qubit, a column for a block. The hand points at the angle; the
     sector is how far training has turned it. */
  function dials(canvas, height, { angles, start, nBlocks }) {
    const { pen, width } = begin(canvas, height);
    const nQubits = angles.length / nBlocks;
    const step = Math.min(height / nQubits, width / nBlocks, 34);
    const [stepX, stepY] = [Math.min(width / nBlocks, 1.6 * step), height / nQubits];
    const left = (width - stepX * nBlocks) / 2;
    const radius = Math.min(0.42 * step, 0.42 * stepY);
    const place = (i) => [
      left + (Math.floor(i / nQubits) + 0.5) * stepX,
      ((i % nQubits) + 0.5) * stepY,
    ];
    // one path for all parts of a kind: a path of its own for each dial would take ten times as long
    const path = (each) => {
      pen.beginPath();
      angles.forEach((angle, i) => each(...place(i), start[i] - Math.PI / 2, angle - Math.PI / 2)); // 0 is up
    };
    pen.strokeStyle = colours.grid;
    pen.lineWidth = 1;
    pen.beginPath();
    for (let qubit = 0; qubit < nQubits; qubit++) {
      pen.moveTo(0, (qubit + 0.5) * stepY);
      pen.lineTo(width, (qubit + 0.5) * stepY);
    }
    pen.stroke();
    path((x, y) => {
      pen.moveTo(x + radius, y);
      pen.arc(x, y, radius, 0, 2 * Math.PI);
    });
    pen.fillStyle = colours.paper;
    pen.strokeStyle = colours.muted;
    pen.lineWidth = 0.8;
    pen.fill();
    pen.stroke();
    path((x, y, from, to) => {
      pen.moveTo(x, y);
      pen.arc(x, y, radius, Math.min(from, to), Math.max(from, to));
      pen.closePath();
    });
    pen.fillStyle = colours.circuit;
    pen.globalAlpha = 0.35;
    pen.fill();
    pen.globalAlpha = 1;
    path((x, y, from, to) => {
      pen.moveTo(x, y);
      pen.lineTo(x + radius * Math.cos(to), y + radius * Math.sin(to));
    });
    pen.strokeStyle = colours.circuit;
    pen.lineWidth = Math.max(1.2, radius / 5);
    pen.stroke();
  }

  /* The x with P(X > x) = share for X the square of a standard normal number, that is 2^N p of a random
     real state (Porter and Thomas 1956); by bisection, with the error function of Abramowitz and Stegun
     7.1.26. */
  function porterThomas(share) {
    const above = (root) => {
      const t = 1 / (1 + (0.3275911 * root) / Math.SQRT2);
      const c = [0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429];
      return c.reduceRight((sum, a) => (sum + a) * t, 0) * Math.exp((-root * root) / 2);
    };
    let [low, high] = [0, 8];
    for (let i = 0; i < 40; i++) {
      const middle = (low + high) / 2;
      if (above(middle) > share) low = middle;
      else high = middle;
    }
    return low * low;
  }

  let theory = null;

  /* 2^N p over its rank, on a logarithmic scale, and what random states have. */
  function probabilities(canvas, height, sorted) {
    const { pen, width } = begin(canvas, height);
    const [left, right, top, bottom] = [38, 4, 8, 34];
    const [least, most] = [-4, 2.2]; // powers of ten
    const x = (i) => left + (i / (sorted.length - 1)) * (width - left - right);
    const y = (value) => {
      const power = Math.max(least, Math.min(most, Math.log10(Math.max(value, 1e-9))));
      return top + ((most - power) / (most - least)) * (height - top - bottom);
    };
    for (const [power, label] of [[-4, "10⁻⁴"], [-2, "10⁻²"], [0, "1"], [2, "100"]]) {
      line(pen, [[left, y(10 ** power)], [width - right, y(10 ** power)]], { colour: colours.grid, width: 1 });
      write(pen, label, left - 5, y(10 ** power) + 4, { align: "right" });
    }
    theory ??= Array.from({ length: sorted.length }, (_, i) =>
      porterThomas((i + 0.5 / 32) / (sorted.length - 1 + 1 / 32)));
    line(pen, Array.from(sorted, (value, i) => [x(i), y(value)]), { colour: colours.circuit, width: 2.2 });
    line(pen, theory.map((value, i) => [x(i), y(value)]), { colour: colours.ink, width: 1.4, dash: [5, 4] });
    write(pen, "1", left, height - bottom + 15);
    write(pen, "8,192", width - right, height - bottom + 15, { align: "right" });
    write(pen, "rank of the basis state", (left + width) / 2, height - 5, { align: "center" });
  }

  /* Weights as coloured pixels, in tiles; what is negative is of another colour than what is positive. */
  const stamp = typeof document === "undefined" ? null : document.createElement("canvas");

  function tiles(pen, values, start, { rows, columns, nTiles, perRow, largest }, box) {
    const gap = nTiles > 1 ? 1 : 0;
    const [w, h] = [perRow * (columns + gap) - gap, Math.ceil(nTiles / perRow) * (rows + gap) - gap];
    [stamp.width, stamp.height] = [w, h];
    const stampPen = stamp.getContext("2d");
    const image = stampPen.createImageData(w, h);
    for (let tile = 0; tile < nTiles; tile++) {
      const corner = Math.floor(tile / perRow) * (rows + gap) * w + (tile % perRow) * (columns + gap);
      for (let i = 0; i < rows * columns; i++) {
        const value = values[start + tile * rows * columns + i] / largest;
        const at = 4 * (corner + Math.floor(i / columns) * w + (i % columns));
        const [r, g, b] = value < 0 ? [0, 114, 178] : [213, 94, 0]; // the book's blue and vermilion
        image.data[at] = r;
        image.data[at + 1] = g;
        image.data[at + 2] = b;
        image.data[at + 3] = 255 * Math.min(1, Math.abs(value));
      }
    }
    stampPen.putImageData(image, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(stamp, ...box);
  }

  function weights(canvas, height, values) {
    const { pen, width } = begin(canvas, height);
    const layers = [
      ["8 filters of 5 × 5", 0, { rows: 5, columns: 5, nTiles: 8, perRow: 8, largest: 0.6 }, 1],
      ["12 × 8 filters of 5 × 5", 208, { rows: 5, columns: 5, nTiles: 96, perRow: 16, largest: 0.22 }, 1],
      ["192 inputs to 20", 2620, { rows: 20, columns: 192, nTiles: 1, perRow: 1, largest: 0.22 }, 1.4],
      ["20 inputs to 10", 6480, { rows: 10, columns: 20, nTiles: 1, perRow: 1, largest: 0.7 }, 0.4],
    ];
    // pixels of a tile are as high as wide, but for the last two layers; all that if there is room
    const natural = layers.map(([, , { rows, columns, nTiles, perRow }, stretch]) =>
      (stretch * width * Math.ceil(nTiles / perRow) * (rows + 1)) / (perRow * (columns + 1)));
    const shrink = Math.min(1, (height - 4 * 20) / natural.reduce((a, b) => a + b));
    let top = 12;
    layers.forEach(([label, start, layer], i) => {
      write(pen, label, 0, top);
      tiles(pen, values, start, layer, [0, top + 6, width, shrink * natural[i]]);
      top += shrink * natural[i] + 21;
    });
  }

  /* As many test digits as fit, with the network's answers; wrong ones are framed. Returns how many. */
  function digits(canvas, height, { images, labels, answers }) {
    const { pen, width } = begin(canvas, height);
    const columns = Math.max(5, Math.floor(width / 46));
    const size = width / columns;
    const rows = Math.max(1, Math.floor(height / size));
    const [w, h] = [columns * 28, rows * 28];
    [stamp.width, stamp.height] = [w, h];
    const stampPen = stamp.getContext("2d");
    const image = stampPen.createImageData(w, h);
    for (let n = 0; n < rows * columns; n++) {
      for (let i = 0; i < 784; i++) {
        const y = Math.floor(n / columns) * 28 + Math.floor(i / 28);
        const at = 4 * (y * w + (n % columns) * 28 + (i % 28));
        image.data.fill(images[n * 784 + i], at, at + 3);
        image.data[at + 3] = 255;
      }
    }
    stampPen.putImageData(image, 0, 0);
    pen.imageSmoothingEnabled = true;
    pen.drawImage(stamp, 0, 0, width, rows * size);
    pen.font = `bold ${FONT}`;
    for (let n = 0; n < rows * columns; n++) {
      const [x, y] = [(n % columns) * size, Math.floor(n / columns) * size];
      const isRight = answers[n] === labels[n];
      pen.strokeStyle = colours.paper;
      pen.lineWidth = 2;
      pen.strokeRect(x, y, size, size);
      pen.fillStyle = isRight ? "#007a59" : "#b04a00";
      pen.fillRect(x + 1, y + 1, 16, 17);
      write(pen, String(answers[n]), x + 9, y + 14, { colour: "#fff", align: "center" });
      if (isRight) continue;
      pen.strokeStyle = "#ff9550";
      pen.strokeRect(x + 2, y + 2, size - 4, size - 4);
    }
    return rows * columns;
  }

  /* Rows: what a digit is. Columns: what the network says. */
  function confusion(canvas, height, { labels, answers }) {
    const { pen, width } = begin(canvas, height);
    const counts = Array.from({ length: 10 }, () => new Array(10).fill(0));
    answers.forEach((answer, i) => (counts[labels[i]][answer] += 1));
    const [left, top] = [30, 4];
    const size = Math.min((width - left - 4) / 10, (height - top - 34) / 10);
    for (let row = 0; row < 10; row++) {
      write(pen, String(row), left - 6, top + (row + 0.5) * size + 4, { align: "right" });
      write(pen, String(row), left + (row + 0.5) * size, top + 10 * size + 14, { align: "center" });
      const all = counts[row].reduce((a, b) => a + b, 0);
      for (let column = 0; column < 10; column++) {
        const count = counts[row][column];
        const [x, y] = [left + column * size, top + row * size];
        pen.globalAlpha = count ? 0.18 + (0.82 * count) / all : 1;
        pen.fillStyle = count ? (row === column ? colours.network : colours.mapping) : colours.grid;
        pen.fillRect(x + 1, y + 1, size - 2, size - 2);
        pen.globalAlpha = 1;
        const colour = count > 0.6 * all ? colours.paper : colours.ink;
        if (count) write(pen, String(count), x + size / 2, y + size / 2 + 4, { colour, align: "center" });
      }
    }
    write(pen, "the network's answer", left + 5 * size, top + 10 * size + 29, { align: "center" });
    pen.save();
    pen.translate(10, top + 5 * size);
    pen.rotate(-Math.PI / 2);
    write(pen, "true digit", 0, 0, { align: "center" });
    pen.restore();
  }

  const DASHES = [[6, 4], [2, 3], [9, 3, 2, 3]];

  /* Curves of one run and of those kept, over epochs. points: [epoch, value]. */
  function curves(canvas, height, { runs, nEpochs, ticks, format, faint }) {
    const { pen, width } = begin(canvas, height);
    const [left, right, top, bottom] = [38, 8, 8, 34];
    const [least, most] = [ticks[0], ticks.at(-1)];
    const x = (epoch) => left + (epoch / nEpochs) * (width - left - right);
    const y = (value) =>
      top + ((most - Math.max(least, Math.min(most, value))) / (most - least)) * (height - top - bottom);
    for (const tick of ticks) {
      line(pen, [[left, y(tick)], [width - right, y(tick)]], { colour: colours.grid, width: 1 });
      write(pen, format(tick), left - 5, y(tick) + 4, { align: "right" });
    }
    for (let epoch = 0; epoch <= nEpochs; epoch += 5) {
      write(pen, String(epoch), x(epoch), height - bottom + 15, { align: "center" });
    }
    write(pen, "epoch", (left + width) / 2, height - 5, { align: "center" });
    const place = (points) => points.map(([epoch, value]) => [x(epoch), y(value)]);
    if (faint) line(pen, place(faint), { colour: colours.network, width: 1, alpha: 0.35 });
    runs.forEach((points, i) => {
      const isNow = i === 0;
      const look = isNow
        ? { colour: colours.network, width: 2.4 }
        : { colour: colours.ink, width: 1.5, dash: DASHES[(i - 1) % DASHES.length], alpha: 0.75 };
      const placed = place(points);
      line(pen, placed, look);
      if (isNow && placed.length) {
        pen.fillStyle = colours.network;
        pen.beginPath();
        pen.arc(...placed.at(-1), 4, 0, 2 * Math.PI);
        pen.fill();
      }
    });
  }

  return { confusion, curves, dials, digits, nothing, porterThomas, probabilities, readColours, weights };
})();

if (typeof module !== "undefined") module.exports = qtlitePlaygroundCharts;
