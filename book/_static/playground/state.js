/* The page's choices: their limits, their words, and their form in an address. No page: Node runs it. */
"use strict";

function qtlitePlaygroundState({ DEFAULTS, HIDDEN, N_QUBITS, counts, recipeRate }) {
  const CHOICES = {
    source: {
      circuit: "trained circuit", frozen_circuit: "frozen circuit",
      hypernetwork: "hypernetwork", random_subspace: "random subspace",
    },
    entanglement: { linear: "CNOT chain", ring: "CNOT ring", none: "no CNOTs" },
    feature: { scaled: "2ᴺ p", raw: "p", root: "√(2ᴺ p)" },
    bits: { minus_plus: "−1 and +1", zero_one: "0 and 1" },
    normalisation: { row: "each row", tensor: "scale only", none: "none" },
    shots: {
      0: "exact", 1000: "1,000", 10000: "10,000", 100000: "100,000", 1000000: "1,000,000",
    },
  };
  const RANGES = { blocks: [1, 32], seed: [0, 9999], rate: [0.0001, 1] };

  /* Which choices change anything, for each source of weights. */
  const USED = {
    circuit: Object.keys(DEFAULTS),
    frozen_circuit: Object.keys(DEFAULTS).filter((key) => key !== "shots"),
    hypernetwork: ["source", "blocks", "normalisation", "rate", "seed"],
    random_subspace: ["source", "blocks", "normalisation", "rate", "seed"],
  };

  function read(key, text) {
    if (key in CHOICES) {
      if (!Object.hasOwn(CHOICES[key], text)) return undefined;
      return key === "shots" ? Number(text) : text;
    }
    const [least, most] = RANGES[key];
    const value = text.trim() === "" ? NaN : Number(text);
    const isValid = value >= least && value <= most && (key === "rate" || Number.isInteger(value));
    return isValid ? value : undefined;
  }

  /* A state from an address's query, and what in it could not be used. */
  function fromQuery(query) {
    const state = { ...DEFAULTS };
    const refused = [];
    for (const [key, text] of new URLSearchParams(query)) {
      if (!(key in DEFAULTS)) continue; // of others
      const value = read(key, text);
      if (value === undefined) refused.push(`${key}=${text}`);
      else state[key] = value;
    }
    return { state, refused };
  }

  /* The shortest query of a state: what differs from the default. */
  function toQuery(state) {
    const different = Object.keys(DEFAULTS).filter((key) => state[key] !== DEFAULTS[key]);
    const query = new URLSearchParams(different.map((key) => [key, state[key]])).toString();
    return query && `?${query}`;
  }

  /* A run's name: its source and depth, and what is not the recipe's. */
  function nameOf(state) {
    const used = (key) => USED[state.source].includes(key) && state[key] !== DEFAULTS[key];
    const words = [CHOICES.source[state.source], `L = ${state.blocks}`];
    if (used("entanglement")) words.push(CHOICES.entanglement[state.entanglement]);
    if (used("feature")) words.push(`sees ${CHOICES.feature[state.feature]}`);
    if (used("bits")) words.push(`bits ${CHOICES.bits[state.bits]}`);
    if (used("normalisation")) {
      words.push(state.normalisation === "none" ? "not normalised" : "scaled only");
    }
    if (used("shots")) words.push(`${CHOICES.shots[state.shots]} shots`);
    if (used("rate")) words.push(`rate ${state.rate}`);
    if (used("seed")) words.push(`seed ${state.seed}`);
    return words.join(", ");
  }

  /* Lines of Python that train the same model with qtlite. */
  function toPython(state) {
    const { source, blocks, entanglement, feature, bits, normalisation, shots, seed } = state;
    const rate = state.rate ?? recipeRate(state);
    const hasCircuit = ["circuit", "frozen_circuit"].includes(source);
    const block = { linear: "ry_linear_cnot", ring: "ry_ring_cnot", none: "ry_only" }[entanglement];
    const hidden = source === "circuit" ? HIDDEN : counts(state).widths?.slice(1, -1);
    const lines = ["import torch"];
    if (hasCircuit) {
      lines.push("from qtlite import QNN, MappingNet, QuantumTrain", `from qtlite.${block === "ry_ring_cnot" ? "experiments.ansaetze" : "circuit"} import ${block}`);
    }
    lines.push("from qtlite.experiments.data.loading import load_dataset, to_float");
    if (!hasCircuit) lines.push("from qtlite.experiments.models.controls import build_control");
    lines.push("from qtlite.experiments.models.targets import paper_cnn");
    if (source === "circuit" && shots) lines.push("from qtlite.experiments.studies.sampling import SampledQNN");
    lines.push("from qtlite.experiments.train.fitting import fit", "");
    lines.push('digits = load_dataset("digits")', `start = torch.Generator().manual_seed(${seed})`);
    if (hasCircuit) {
      const values = bits === "minus_plus" ? "(-1, 1)" : "(0, 1)";
      const frozen = source === "frozen_circuit" ? ".requires_grad_(False)" : "";
      lines.push(
        `qnn = QNN(${N_QUBITS}, ${blocks}, block=${block}, generator=start)${frozen}`,
        `mapping = MappingNet(${N_QUBITS}, (${hidden.join(", ")}), bit_values=${values}, generator=start)`);
      if (source === "circuit" && shots) {
        lines.push(`qnn = SampledQNN(qnn, ${shots}, gradient="straight_through")`);
      }
      lines.push(
        "model = QuantumTrain(",
        '    paper_cnn("digits"), qnn=qnn, mapping=mapping,',
        `    feature="${feature}", normalisation="${normalisation}",`, ")");
    } else {
      lines.push(
        "model = build_control(",
        `    "${source}", paper_cnn("digits"), ${blocks}, normalisation="${normalisation}", generator=start,`,
        ")");
    }
    lines.push(
      "", "def pixels(images):", "    return to_float(images, mean=0.3051, std=0.3233)", "",
      "fit(", "    model, digits.train_images, digits.train_labels, prepare=pixels,",
      `    epochs=20, batch_size=128, learning_rate=${rate}, seed=${seed},`, ")",
      "with torch.no_grad():", "    answers = model(pixels(digits.test_images)).argmax(dim=1)",
      "accuracy = (answers == digits.test_labels).double().mean().item()",
      'print(f"{model.n_trainable} trained numbers, accuracy {accuracy:.3f}")', "");
    return lines.join("\n");
  }

  return { CHOICES, RANGES, USED, fromQuery, nameOf, read, toPython, toQuery };
}

if (typeof module !== "undefined") module.exports = qtlitePlaygroundState(require("./model.js"));
