"use strict";
// Switches the theme of page and figures, sorts tables, and draws the chart of the clicked candidate.
(() => {
  const root = document.documentElement;
  const figures = () => [...document.querySelectorAll(".js-plotly-plot")];
  const BLUE = "#0072B2", ORANGE = "#E69F00", TRACK = "rgba(128,128,128,.16)";

  // -- figures ----------------------------------------------------------------------------------------------------
  // Listed one by one: plotly's default buttons include one that sends the figure to a server.
  const CONFIG = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": "<br>" };

  // Plotly renders some HTML in all texts, so they are escaped, except the page's own templates.
  function plain(value, name) {
    if (typeof value === "string") return name === "hovertemplate" ? value : value.replace(/[&<>\n]/g, (c) => ESCAPES[c]);
    if (Array.isArray(value)) return value.map((each) => plain(each, name));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each, key)]));
  }

  for (const block of document.querySelectorAll("script.figure")) {
    const figure = plain(JSON.parse(block.textContent));
    Plotly.newPlot(block.previousElementSibling, figure.data, figure.layout, CONFIG);
  }

  // -- theme ------------------------------------------------------------------------------------------------------
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

  function paint(figure) {
    const style = getComputedStyle(document.body);
    const [ink, line, card] = [style.color, style.borderTopColor, style.outlineColor];
    const update = {
      "font.color": ink, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      "hoverlabel.bgcolor": card, "hoverlabel.font.color": ink, "hoverlabel.bordercolor": line,
      "hoverlabel.font.family": "system-ui, sans-serif",
      "modebar.color": line, "modebar.activecolor": ink, "modebar.bgcolor": "rgba(0,0,0,0)",
    };
    for (const name of Object.keys(figure.layout).filter((key) => /^[xy]axis\d*$/.test(key)))
      for (const part of ["gridcolor", "zerolinecolor", "linecolor"]) update[`${name}.${part}`] = line;
    (figure.layout.annotations || []).forEach((_, i) => {
      update[`annotations[${i}].arrowcolor`] = ink;
    });
    return Plotly.relayout(figure, update);
  }

  function applyTheme() {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Change to ${button.textContent.toLowerCase()} colours`);
    figures().forEach(paint);
  }

  const button = document.querySelector("button.theme");
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    applyTheme();
  });
  system.addEventListener("change", applyTheme);

  // -- tables -----------------------------------------------------------------------------------------------------
  const text = (row, column) => (row.cells[column] ? row.cells[column].textContent.trim() : "");
  // The sort value of a cell: its data-sort, or the number that its text begins with; Infinity if it is empty.
  function sortValue(row, column) {
    const cell = row.cells[column], words = text(row, column);
    if (cell && cell.dataset.sort !== undefined) return Number(cell.dataset.sort);
    if (words === "" || words === "-") return Infinity;
    const number = words.replace(/,/g, "").match(/^[+-]?\d*\.?\d+(e[+-]?\d+)?(?=$|[\s%x(])/);
    return number ? Number(number[0]) : NaN;
  }
  function sort(head) {
    const column = head.cellIndex, body = head.closest("table").tBodies[0];
    const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    const values = new Map([...body.rows].map((row) => [row, sortValue(row, column)]));
    const numbers = ![...values.values()].some(Number.isNaN);
    const order = (a, b) =>
      numbers ? Math.sign(values.get(a) - values.get(b)) || 0 : text(a, column).localeCompare(text(b, column));
    body.append(...[...body.rows].sort((a, b) => direction * order(a, b)));
  }
  for (const head of document.querySelectorAll("th")) {
    head.tabIndex = 0;
    head.title = "Sort by this column";
    head.addEventListener("click", () => sort(head));
    head.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        sort(head);
      }
    });
  }

  // -- the clicked candidate --------------------------------------------------------------------------------------
  const panel = document.getElementById("candidate");
  const dataBlock = document.getElementById("candidates");
  const data = dataBlock ? JSON.parse(dataBlock.textContent) : { spaces: [], candidates: {} };

  // The share that a candidate keeps and its hover texts, for each row of the chart and each block.
  function layers(candidate) {
    const space = data.spaces[candidate.space];
    const kept = space.rows.map(() => space.blocks.map(() => 0));
    const total = space.rows.map(() => space.blocks.map(() => 0));
    const words = space.rows.map(() => space.blocks.map(() => []));
    space.units.forEach((unit, i) => {
      const count = unit.levels[candidate.levels[i]], block = space.blocks.indexOf(unit.block);
      kept[unit.row][block] += count;
      total[unit.row][block] += unit.levels[0];
      words[unit.row][block].push(`${unit.name}: ${count.toLocaleString("en")} of ${unit.levels[0].toLocaleString("en")}`);
    });
    const share = kept.map((row, r) => row.map((count, b) => (total[r][b] ? count / total[r][b] : null)));
    return { rows: space.rows, blocks: space.blocks.map(String), share, words };
  }

  function chart(candidate) {
    const kept = layers(candidate), other = data.candidates[candidate.beside];
    const beside = other && other !== candidate ? layers(other) : null;
    const count = kept.rows.length, traces = [], layout = {
      barmode: "overlay", bargap: 0.15, height: 70 + Math.max(120, 240 / count) * count, margin: { l: 45, r: 10, t: 26, b: 40 },
      font: { family: "system-ui, sans-serif", size: 12 }, annotations: [], hovermode: "closest",
      legend: { orientation: "h", x: 1, xanchor: "right", y: 1, yanchor: "bottom" },
    };
    kept.rows.forEach((name, r) => {
      const number = r ? String(r + 1) : "", top = 1 - r / count, bottom = 1 - (r + 1) / count;
      const axes = { xaxis: "x" + number, yaxis: "y" + number };
      const present = kept.share[r].map((share) => (share === null ? null : 1));
      traces.push({ ...axes, type: "bar", x: kept.blocks, y: present, marker: { color: TRACK }, hoverinfo: "skip", showlegend: false });
      traces.push({
        ...axes, type: "bar", x: kept.blocks, y: kept.share[r], marker: { color: BLUE }, name: "kept", showlegend: !r,
        legendgroup: "kept", hoverinfo: "text", hovertext: kept.words[r].map((words, b) =>
          `block ${kept.blocks[b]}: ${((kept.share[r][b] || 0) * 100).toFixed(1)} % kept\n${words.slice(0, 12).join("\n")}`),
      });
      if (beside) traces.push({
        ...axes, type: "scatter", mode: "markers", x: beside.blocks, y: beside.share[r], name: other.title, showlegend: !r,
        legendgroup: "beside", marker: { symbol: "line-ew-open", size: 12, color: ORANGE, line: { width: 3 } },
        hovertemplate: "%{y:.1%} kept<extra></extra>",
      });
      layout["yaxis" + number] = { domain: [bottom + 0.05 / count, top - 0.2 / count], range: [0, 1.04], tickformat: ".0%", nticks: 3, fixedrange: true };
      layout["xaxis" + number] = { type: "category", anchor: "y" + number, showticklabels: r === count - 1, matches: r ? "x" : undefined, nticks: 16 };
      layout.annotations.push({ text: name, showarrow: false, xref: "paper", yref: "paper", x: 0, y: top - 0.2 / count, xanchor: "left", yanchor: "bottom" });
    });
    layout["xaxis" + (count > 1 ? count : "")].title = { text: "block" };
    const place = document.getElementById("layers");
    return Plotly.react(place, plain(traces), plain(layout), { displayModeBar: false, responsive: true }).then(() => paint(place));
  }

  // Draws a ring around a candidate in every figure that has it.
  function ring(key) {
    for (const figure of figures()) {
      const at = figure.data.findLastIndex((trace) => trace.customdata && trace.customdata.includes(key) && trace.meta !== "ring");
      const previous = figure.data.findIndex((trace) => trace.meta === "ring");
      if (previous >= 0) Plotly.deleteTraces(figure, previous);
      if (at < 0) continue;
      const trace = figure.data[at], i = trace.customdata.indexOf(key);
      Plotly.addTraces(figure, {
        x: [trace.x[i]], y: [trace.y[i]], mode: "markers", hoverinfo: "skip", showlegend: false, meta: "ring",
        marker: { symbol: "circle-open", size: 18, color: "#D55E00", line: { width: 3 } },
      });
    }
  }

  function addText(tag, words, parent) {
    parent.append(Object.assign(document.createElement(tag), { textContent: words }));
  }

  function show(key) {
    const candidate = data.candidates[key], title = panel.querySelector("h3"), facts = panel.querySelector("dl");
    panel.dataset.shown = key;
    facts.replaceChildren();
    if (!candidate) {
      title.textContent = key;
      addText("dd", "Measured on search samples only, and left out of this page to keep it small. See: sparsesearch show RUN ID", facts);
      Plotly.purge("layers");
    } else {
      title.textContent = candidate.title;
      for (const [name, value] of candidate.facts) {
        addText("dt", name, facts);
        addText("dd", value, facts);
      }
      chart(candidate);
    }
    ring(key);
    for (const row of document.querySelectorAll("tr[data-key]")) row.classList.toggle("shown", row.dataset.key === key);
  }

  if (panel) {
    for (const figure of figures())
      figure.on("plotly_click", (event) => {
        const point = event.points.find((each) => typeof each.customdata === "string");
        if (point) show(point.customdata);
      });
    for (const keyed of document.querySelectorAll("button[data-key]"))
      keyed.addEventListener("click", () => {
        show(keyed.dataset.key);
        if (panel.getBoundingClientRect().top > innerHeight || panel.getBoundingClientRect().bottom < 0)
          panel.scrollIntoView({ behavior: "smooth", block: "nearest" });
      });
    if (data.first) show(data.first);
  }
  applyTheme();
})();
