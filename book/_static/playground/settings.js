/* The choices of a run as the browser's own controls. */
"use strict";

function qtlitePlaygroundSettings(make, button, { counts, recipeRate }, { CHOICES, RANGES, USED, read }, set) {
  const number = (value) => value.toLocaleString("en");

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

  const sources = make("fieldset", { class: "play-sources" },
    make("legend", {}, "What makes the 6,690 weights"),
    ...Object.entries(CHOICES.source).map(([value, words]) => {
      const onchange = () => set({ source: value });
      const radio = make("input", { type: "radio", name: "play-source", value, onchange });
      return make("label", {}, radio, make("span", {}, words));
    }));

  const blocks = make("input", {
    type: "range", min: RANGES.blocks[0], max: RANGES.blocks[1], step: 1,
    oninput: () => set({ blocks: Number(blocks.value) }),
  });
  const rate = make("input", {
    type: "range", min: -4, max: 0, step: 0.05, // powers of ten
    oninput: () => set({ rate: Number((10 ** Number(rate.value)).toPrecision(2)) }),
  });
  const [blocksSay, rateSay] = [make("output", { for: "play-blocks" }), make("output", { for: "play-rate" })];
  const recipe = button("recipe's", () => set({ rate: null }),
    { class: "play-small", "aria-label": "the recipe's learning rate" });
  const seed = make("input", {
    type: "number", min: RANGES.seed[0], max: RANGES.seed[1], step: 1, inputmode: "numeric",
    onchange: () => {
      const value = read("seed", seed.value);
      if (value === undefined) seed.value = seed.dataset.last;
      else set({ seed: value });
    },
  });
  const budget = make("p", { class: "play-budget" });

  const element = make("div", { class: "play-settings" }, sources,
    make("div", { class: "play-fields" },
      labelled("blocks", "Blocks L", blocks, blocksSay), choice("entanglement", "Entanglement"),
      choice("shots", "Shots"), choice("feature", "The net sees"), choice("bits", "Bits as"),
      choice("normalisation", "Normalisation"), labelled("rate", "Learning rate", rate, rateSay, recipe),
      labelled("seed", "Seed", seed), budget));

  /* Bring every control to a state; those that change nothing are disabled. */
  function show(state) {
    sources.querySelector(`[value="${state.source}"]`).checked = true;
    for (const control of element.querySelectorAll("[data-key]")) {
      control.disabled = !USED[state.source].includes(control.dataset.key);
      if (control.tagName === "SELECT") control.value = state[control.dataset.key];
    }
    blocksSay.value = blocks.value = state.blocks;
    seed.value = seed.dataset.last = state.seed;
    const used = state.rate ?? recipeRate(state);
    rate.value = Math.log10(used);
    rateSay.value = used;
    rate.setAttribute("aria-valuetext", String(used));
    recipe.hidden = state.rate === null;
    const { angles, mapping, total } = counts(state);
    const what = state.source === "random_subspace" ? "coordinates" : "in the mapping net";
    budget.replaceChildren(
      make("strong", {}, `${number(total)} numbers are trained`),
      `: ${angles ? `${number(angles)} angles and ` : ""}${number(mapping)} ${what}.`);
  }

  return { element, show };
}
