// The explorer's chart, rows and link, all of one choice. The choice is the form's, and stands in the address.
(() => {
  const find = (id) => document.getElementById(id);
  const form = find("explorer-form");
  if (!form) return;
  const data = JSON.parse(find("explorer-data").textContent);
  const AXES = { pct: "Neurons removed (%)", ratio: "Expansion ratio (d_ff / d_model)" };
  const HEAD = ["Line", "Neurons removed (%)", "Expansion ratio", "Score", "Standard error", "Items", "From"];
  const COLOURS = ["#0173b2", "#d55e00", "#029e73", "#cc78bc", "#de8f05", "#ca9161", "#949494", "#56b4e9"];
  let view = null;

  const choice = () => new URLSearchParams(new FormData(form));

  // Metrics are those of the benchmark; the one that the paper quotes comes first.
  const offerMetrics = (wanted) => {
    const [, headline] = data.tasks[form.task.value];
    const names = Object.keys(data.points[form.task.value]);
    names.sort((a, b) => (b === headline) - (a === headline));
    form.metric.replaceChildren(...names.map((name) => new Option(data.metrics[name], name)));
    form.metric.value = names.includes(wanted) ? wanted : names[0];
  };

  // An address may hold anything: what is no choice of the form is passed over.
  const take = (params) => {
    for (const box of form.querySelectorAll("input")) box.checked = params.getAll(box.name).includes(box.value);
    if (Object.hasOwn(data.tasks, params.get("task") ?? "")) form.task.value = params.get("task");
    if (![...form.querySelectorAll("[name=x]")].some((box) => box.checked)) form.querySelector("[name=x]").checked = true;
    offerMetrics(params.get("metric"));
  };

  const selected = () => {
    const chosen = choice();
    const wanted = data.lines.map((line) =>
      ["model", "source", "criterion", "prompts"].every((key) => chosen.getAll(key).includes(line[key])),
    );
    const rows = data.points[form.task.value][form.metric.value].filter(([line]) => wanted[line]);
    // One point for the unpruned model of several lines: each keeps its own.
    return rows
      .map(([line, pct, ratio, value, stderr, items, origin]) => {
        const { name, source } = data.lines[line];
        return { name, source, pct, ratio, value, stderr, items, origin: data.origins[origin] };
      })
      .sort((a, b) => a.name.localeCompare(b.name) || a.pct - b.pct);
  };

  const number = (value) => (typeof value === "number" ? String(Number(value.toPrecision(4))) : (value ?? ""));
  const cellsOf = (row) => [row.name, row.pct, row.ratio, row.value, row.stderr, row.items, row.origin];

  const showRows = (rows) => {
    const table = document.createElement("table");
    table.className = "table explorer-table";
    const head = table.createTHead().insertRow();
    for (const name of HEAD) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = name;
      head.append(cell);
    }
    const body = table.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      for (const cell of cellsOf(row)) line.insertCell().textContent = number(cell);
    }
    find("explorer-rows").replaceChildren(table);
  };

  const spec = (rows, ink) => {
    const key = form.x.value;
    const title = `${data.tasks[form.task.value][0]}: ${data.metrics[form.metric.value]}`;
    const drawn = rows
      .filter((row) => Number.isFinite(row.value) && Number.isFinite(row[key]))
      .map((row) => ({ ...row, low: row.value - (row.stderr ?? 0), high: row.value + (row.stderr ?? 0) }));
    const perplexity = form.metric.value.includes("perplexity");
    // Ticks stand at whole tens of the neurons removed; where only less was removed, at what was.
    const pcts = [...new Set(drawn.map((row) => row.pct))].sort((a, b) => a - b);
    const tens = Array.from({ length: 10 }, (_, i) => 10 * i).filter((pct) => pct <= pcts.at(-1));
    const axis = key === "pct" ? { values: tens.length > 1 ? tens : pcts } : {};
    const x = { field: key, type: "quantitative", title: AXES[key], axis, scale: { zero: false, reverse: key === "ratio" } };
    const scale = perplexity ? { type: "log" } : { zero: false };
    const y = { field: "value", type: "quantitative", title: null, scale };
    const names = [...new Set(drawn.map((row) => row.name))];
    const legend = { orient: "bottom", columns: 1, title: null, labelLimit: 600, symbolSize: 90 };
    const color = { field: "name", type: "nominal", scale: { domain: names, range: COLOURS }, legend };
    const shape = { field: "name", type: "nominal", scale: { domain: names }, legend };
    const dash = { condition: { test: "datum.source == 'published'", value: [6, 4] }, value: [1, 0] };
    const tooltip = [
      { field: "name", title: "line" },
      { field: "pct", title: "neurons removed, %" },
      { field: "ratio", title: "expansion ratio" },
      { field: "value", title: "score", format: ".4~g" },
      { field: "stderr", title: "standard error", format: ".2~g" },
      { field: "items", title: "items" },
    ];
    const layer = [
      { mark: { type: "rule", strokeWidth: 1.5 }, encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" }, color } },
      { mark: { type: "line", strokeWidth: 2 }, encoding: { x, y, color, strokeDash: dash, detail: { field: "name" } } },
      { mark: { type: "point", filled: true, size: 80, opacity: 1 }, encoding: { x, y, color, shape, tooltip } },
    ];
    const floors = form.querySelector("[name=floors]").checked && form.metric.value === data.tasks[form.task.value][1];
    for (const [name, value] of Object.entries((floors && data.floors[form.task.value]) || {})) {
      const at = { data: { values: [{ value, name }] } };
      const place = { type: "text", align: "right", x: "width", baseline: "bottom", dy: -2, color: ink, fontSize: 11 };
      layer.push({ ...at, mark: { type: "rule", strokeDash: [2, 3], color: ink }, encoding: { y } });
      layer.push({ ...at, mark: place, encoding: { y, text: { field: "name" } } });
    }
    const text = { labelColor: ink, titleColor: ink, labelFontSize: 12, titleFontSize: 13 };
    const config = { axis: { ...text, gridColor: "#8884", domainColor: ink, tickColor: ink }, legend: text, title: { color: ink }, view: { stroke: null } };
    return {
      $schema: "https://vega.github.io/schema/vega-lite/v6.json",
      description: `${title}, ${names.length} lines over ${AXES[key].toLowerCase()}; the table below has the numbers.`,
      title: { text: title, anchor: "start" },
      width: "container", height: 380, background: "transparent", autosize: { type: "fit-x", contains: "padding" },
      data: { values: drawn }, layer, config,
    };
  };

  // One chart at a time: an older choice that takes longer must not end beside newer rows.
  let busy = false;
  let again = false;
  const draw = async () => {
    const rows = selected();
    const lines = new Set(rows.map((row) => row.name)).size;
    const many = lines > COLOURS.length ? " More than eight lines share colours: choose fewer to tell them apart." : "";
    find("explorer-said").textContent = rows.length ? `${lines} lines, ${rows.length} rows.${many}` : "No row of the book is of this choice.";
    const link = `${location.href.split("#")[0]}#${choice()}`;
    find("explorer-link").value = link;
    history.replaceState(null, "", `#${choice()}`);
    showRows(rows);
    const ink = getComputedStyle(find("explorer-said")).color;
    again = true;
    if (busy) return;
    busy = true;
    while (again) {
      again = false;
      const shown = selected();
      find("explorer-svg").disabled = !shown.length;
      if (!shown.length) {
        // An axis without a number would have no end.
        view?.finalize();
        find("explorer-chart").replaceChildren();
        continue;
      }
      view = (await window.vegaEmbed("#explorer-chart", spec(shown, ink), { renderer: "svg", actions: false })).view;
    }
    busy = false;
  };

  const save = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  const quoted = (cell) => `"${String(cell ?? "").replaceAll('"', '""')}"`;

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    if (event.target === form.task) offerMetrics(null);
    draw();
  });
  find("explorer-copy").addEventListener("click", async () => {
    find("explorer-link").select();
    // Where the browser lets no page write there, the link is selected, to be copied by hand.
    await navigator.clipboard?.writeText(find("explorer-link").value).catch(() => {});
    find("explorer-said").textContent = "The link is copied, or selected to be copied.";
  });
  find("explorer-svg").addEventListener("click", async () => save("figure.svg", "image/svg+xml", await view.toSVG()));
  find("explorer-csv").addEventListener("click", () =>
    save("rows.csv", "text/csv", [HEAD, ...selected().map(cellsOf)].map((row) => row.map(quoted).join(",")).join("\n") + "\n"),
  );
  window.addEventListener("hashchange", () => {
    take(new URLSearchParams(location.hash.slice(1)));
    draw();
  });
  new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });

  const first = new URLSearchParams();
  for (const [key, values] of Object.entries(data.first)) for (const value of [values].flat()) first.append(key, value);
  take(location.hash.length > 1 ? new URLSearchParams(location.hash.slice(1)) : first);
  draw();
})();
