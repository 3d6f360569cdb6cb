/* Quick checks: says whether an answer is right. The page holds the answer; nothing is sent. */
"use strict";

function quickCheckVerdict(form) {
  const field = form.querySelector("input[data-answer]");
  if (field) {
    const typed = field.value.replace(/[\s,]/g, "").replace("\u2212", "-");
    if (typed === "" || Number.isNaN(Number(typed))) return "Type a number, such as 1,234 or 0.5.";
    const answer = Number(field.dataset.answer);
    const allowed = Math.abs(answer) * Number(field.dataset.tolerance) + 1e-9;
    return Math.abs(Number(typed) - answer) <= allowed;
  }
  const chosen = form.querySelector("input:checked");
  return chosen ? "right" in chosen.dataset : "Choose one of the answers.";
}

for (const form of document.querySelectorAll("form.quick-check")) {
  const says = form.querySelector("output");
  form.classList.add("quick-check-on");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const verdict = quickCheckVerdict(form);
    form.dataset.verdict = verdict;
    if (verdict === true) form.querySelector("details").open = true;
    const words = { true: "Right.", false: "Not right. Try again, or open the answer." };
    says.textContent = words[verdict] || verdict;
  });
}
