// Filters of the page of answers. Without script all requests are there, in the same order.
(() => {
  const form = document.getElementById("answers-filter");
  if (!form) return;
  const requests = [...document.querySelectorAll("details.answer")];
  const filter = () => {
    for (const one of requests) {
      const asked = !form.kind.value || one.dataset.kinds.split("|").includes(form.kind.value);
      one.hidden = !asked || (form.flips.checked && one.dataset.flips === "0");
    }
    const shown = requests.filter((one) => !one.hidden).length;
    document.getElementById("answers-said").textContent = `${shown} of ${requests.length} requests`;
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", filter);
  requests[0].open = true;
  filter();
})();
