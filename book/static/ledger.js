// Filters for the table of claims. Without script the table is whole, and there are no controls.
document.addEventListener("DOMContentLoaded", () => {
  const table = document.querySelector("table.ledger");
  if (!table) return;
  const rows = [...table.tBodies[0].rows];
  const bar = document.createElement("p");
  bar.className = "ledger-filter";
  const count = document.createElement("span");
  count.setAttribute("aria-live", "polite");

  const select = (label, key) => {
    const box = document.createElement("select");
    box.setAttribute("aria-label", label);
    box.add(new Option(`${label}: all`, ""));
    for (const value of new Set(rows.map((row) => row.dataset[key]))) box.add(new Option(value, value));
    return box;
  };
  const outcome = select("Verdict", "outcome");
  const group = select("About", "group");
  const words = document.createElement("input");
  words.type = "search";
  words.placeholder = "Words";
  words.setAttribute("aria-label", "Words");

  const filter = () => {
    for (const row of rows) {
      row.hidden =
        (outcome.value && row.dataset.outcome !== outcome.value) ||
        (group.value && row.dataset.group !== group.value) ||
        !row.textContent.toLowerCase().includes(words.value.toLowerCase());
    }
    count.textContent = ` ${rows.filter((row) => !row.hidden).length} of ${rows.length} claims`;
  };
  for (const control of [outcome, group, words]) {
    control.addEventListener("input", filter);
    bar.append(control, " ");
  }
  bar.append(count);
  table.before(bar);
  filter();
});
