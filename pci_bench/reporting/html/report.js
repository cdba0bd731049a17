"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const redraws = new Set(); // what to draw again when the theme changes

  // ---- small things -------------------------------------------------------------------------------------------------
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...children.filter((c) => c != null));
    return element;
  }
  const percent = (value) => value.toFixed(1);
  const isDark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  function crop(index, hidden = false) {
    const [name, label] = data.cells[index];
    const span = make("span", hidden ? { class: "crop", "aria-hidden": "true" } : { class: "crop", role: "img", "aria-label": `Cell ${name}${label ? `, ${label}` : ""}`, title: name });
    span.style.setProperty("--column", index % data.columns);
    span.style.setProperty("--row", Math.floor(index / data.columns));
    return span;
  }
  function chooser(text, options, change, id) {
    const select = make("select", { id, onchange: () => change(select.selectedIndex) }, ...options.map((o) => make("option", {}, o)));
    return make("div", { class: "field" }, make("label", { for: id }, text), select);
  }

  // ---- theme --------------------------------------------------------------------------------------------------------
  const theme = document.getElementById("theme");
  function remembered(value) {
    try {
      if (value === undefined) return localStorage.getItem("pci-bench-theme");
      localStorage.setItem("pci-bench-theme", value);
    } catch { /* a file that is opened from disk may have no storage */ }
    return null;
  }
  function themed() {
    theme.setAttribute("aria-pressed", String(isDark()));
    for (const redraw of redraws) redraw();
  }
  const before = remembered();
  if (before === "dark" || before === "light") document.documentElement.dataset.theme = before;
  theme.addEventListener("click", () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    remembered(next);
    themed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", themed);

  // ---- numbers as files ---------------------------------------------------------------------------------------------
  const guarded = (text) => (/^[=+\-@\t]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text); // or a spreadsheet runs it
  const field = (value) => {
    const text = guarded(String(value ?? ""));
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  function save(name, what, lines) { // a button that saves lines, which are made when it is pressed, as a CSV file
    return make("button", { type: "button", class: "save", "aria-label": `Data of ${what} (CSV)`, onclick: () => {
      const text = lines().map((line) => line.map(field).join(",")).join("\n") + "\n";
      const link = make("a", { download: `${name.replace(/[^\w.-]+/g, "-")}.csv`, href: URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" })) });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    } }, "Data (CSV)");
  }

  // ---- tables -------------------------------------------------------------------------------------------------------
  const natural = new Intl.Collator("en", { numeric: true });
  for (const table of document.querySelectorAll(".table")) {
    const body = table.querySelector("tbody");
    const rows = [...(body?.rows ?? [])]; // none where a table could not be made
    const headers = [...table.querySelectorAll("thead th")];
    headers.forEach((header, column) => {
      header.firstElementChild.addEventListener("click", () => {
        const numeric = rows.some((row) => row.cells[column]?.dataset.value !== undefined);
        const was = header.getAttribute("aria-sort");
        const up = was === "none" ? !numeric : was === "descending"; // numbers: the largest first
        headers.forEach((h) => h.setAttribute("aria-sort", "none"));
        header.setAttribute("aria-sort", up ? "ascending" : "descending");
        const sign = up ? 1 : -1;
        const key = (row) => row.cells[column]?.dataset.value;
        rows.sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          if (numeric) return x === undefined || y === undefined ? (x === undefined) - (y === undefined) : sign * (x - y);
          return sign * natural.compare(a.cells[column]?.textContent ?? "", b.cells[column]?.textContent ?? "");
        });
        body.append(...rows);
      });
    });
    const texts = (row) => [...row.cells].map((cell) => cell.innerText.replace(/\s*[↕↑↓]$/, "").trim());
    if (headers.length) {
      const name = table.querySelector("h3, h4")?.textContent ?? "table";
      table.append(save(name.slice(0, 60), `the table ${name}`, () => [...table.querySelectorAll("thead tr"), ...rows].map(texts)));
    }
    const filter = table.querySelector("input");
    filter?.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      for (const row of rows) {
        row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
        left += !row.hidden;
      }
      table.querySelector(".count").textContent = left === rows.length ? `${left} rows` : `${left} of ${rows.length} rows`;
    });
  }

  // ---- charts -------------------------------------------------------------------------------------------------------
  const colours = () => data.palette[isDark() ? "dark" : "light"];
  const colourOf = (place) => (place === null ? data.palette.grey : colours()[place]); // null: grey
  const isNarrow = () => innerWidth < 640;
  function configuration() {
    const [ink, quiet, line] = ["ink", "quiet", "line"].map(colour);
    const words = { labelColor: ink, titleColor: ink, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" };
    return {
      background: "transparent", font: "system-ui, sans-serif", view: { stroke: null },
      axis: { ...words, gridColor: line, domainColor: quiet, tickColor: quiet, labelLimit: 150 }, axisY: { labelLimit: isNarrow() ? 110 : 170 },
      legend: { ...words, labelLimit: 260 }, title: { color: ink }, mark: { color: colours()[0] }, tick: { color: ink },
      rule: { color: ink }, text: { color: ink, fontSize: 12 }, range: { category: colours(), pair: [colours()[0], colours()[4]] },
    };
  }
  function paint(part) { // places in the palette become colours
    if (Array.isArray(part)) part.forEach(paint);
    else if (part && typeof part === "object") {
      const range = part.color?.scale?.range;
      if (Array.isArray(range)) part.color.scale.range = range.map(colourOf);
      for (const [name, value] of Object.entries(part)) if (name !== "data") paint(value);
    }
  }
  async function draw(place, given, tooltip = false) {
    const spec = structuredClone(given);
    paint(spec);
    place.view?.finalize();
    const { view } = await vegaEmbed(place, spec, { actions: false, renderer: "svg", config: configuration(), tooltip, logLevel: 1 });
    place.view = view;
  }
  function drawBars(place, spec) {
    const fitting = structuredClone(spec);
    const { x, color } = fitting.layer[0].encoding;
    if (isNarrow()) [x.title, color.legend.direction] = ["recall (%)", "vertical"];
    draw(place, fitting);
  }

  function keyOf(entries) { // symbols with their names
    const list = make("ul", { class: "key" });
    const fill = () => list.replaceChildren(...entries.map(([letter, place, ...words]) => make("li", {}, make("span", { class: "glyph", "aria-hidden": "true", style: `color:${colourOf(place)}` }, letter), words.join(": "))));
    fill();
    redraws.add(fill);
    return list;
  }
  const answerAt = (place) => data.datasets[place.dataset.dataset].answers[place.dataset.answer];
  function rankedView(place) {
    const { chart, title, reading, families, columns, rows } = answerAt(place);
    const canvas = make("div", { class: "chart" });
    place.append(canvas, keyOf(families.map(([colour, words]) => ["■", colour, words])),
      make("figcaption", {}, `${reading} `, save(`ranking-${title}`, `the ranking, ${title}`, () => [columns, ...rows])));
    const show = () => {
      const spec = structuredClone(chart);
      if (isNarrow()) { // names stand above their bars, which need the width
        const { axis, scale } = spec.encoding.y;
        Object.assign(axis, { labelAlign: "left", labelOffset: -13, labelPadding: 0, labelLimit: innerWidth - 30 });
        spec.height = 42 * scale.domain.length;
        spec.layer.forEach((layer) => { layer.mark.yOffset = 7; });
        spec.layer[0].mark.height = 14;
      }
      draw(canvas, spec);
    };
    show();
    redraws.add(show);
    onResize(show);
  }
  function ladderView(place) {
    const { title, ladder } = answerAt(place);
    const canvas = make("div", { class: "chart" });
    place.append(make("h4", {}, "The ladder: from the loosest comparison to the strictest"), canvas, keyOf(ladder.key),
      make("figcaption", {}, `${ladder.reading} `, save(`ladder-${title}`, `the ladder, ${title}`, () => [ladder.columns, ...ladder.rows])));
    const show = () => draw(canvas, ladder.chart);
    show();
    redraws.add(show);
  }
  let width = innerWidth;
  const resized = new Set();
  const onResize = (redraw) => resized.add(redraw);
  addEventListener("resize", () => {
    if (innerWidth < 640 === width < 640) return;
    width = innerWidth;
    for (const redraw of resized) redraw();
  });

  function chartView(place) { // one chart whose marks say what they are
    const chart = make("div", { class: "chart" });
    place.append(chart);
    const show = () => {
      const spec = structuredClone(data.charts[place.dataset.chart]);
      const legend = spec.encoding?.color?.legend;
      if (legend && isNarrow()) legend.columns = 1;
      draw(chart, spec, { theme: isDark() ? "dark" : "light" });
    };
    const { values } = data.charts[place.dataset.chart].data ?? {};
    if (values?.length) {
      const columns = [...new Set(values.flatMap(Object.keys))];
      place.append(save(`chart-${place.dataset.chart}`, place.closest("figure")?.querySelector("figcaption")?.textContent ?? "this chart", () => [columns, ...values.map((row) => columns.map((c) => row[c]))]));
    }
    show();
    redraws.add(show);
  }

  function numbers(summary, name, columns, rows, names = 1) { // a table that is folded away; its first columns are names
    return make("details", {}, make("summary", {}, summary),
      make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name },
        make("table", {},
          make("thead", {}, make("tr", {}, ...columns.map((c) => make("th", { scope: "col" }, c)))),
          make("tbody", {}, ...rows.map((row) => make("tr", {}, make("th", { scope: "row" }, row[0]),
            ...row.slice(1).map((text, i) => make("td", { class: i + 1 < names ? null : "number" }, text))))))));
  }

  function shade(share) { // of the page's colour to the full colour, and the ink that can be read on it
    const [full, page] = [colour("heat"), colour("page")].map((c) => c.split(",").map(Number));
    const mixed = full.map((v, i) => Math.round(page[i] + (0.05 + 0.95 * share) * (v - page[i])));
    const [r, g, b] = mixed.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return `background:rgb(${mixed});color:${0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff"}`;
  }

  function matrix(run, name, button) {
    const table = make("table", {},
      make("caption", { class: "unseen" }, `Confusion matrix of ${name}, ${run.said}: true classes in rows, predicted classes in columns, numbers of cells`),
      make("thead", {}, make("tr", {}, make("td", {}, "true \\ predicted"), ...run.labels.map((l) => make("th", { scope: "col", title: l }, make("span", {}, l))))),
      make("tbody", {}, ...run.counts.map((row, t) => {
        const total = row.reduce((a, b) => a + b, 0) || 1;
        return make("tr", {}, make("th", { scope: "row", title: run.labels[t] }, run.labels[t]), ...row.map((count, p) => make("td", {
          class: t === p ? "diagonal" : null, style: shade(count / total),
          title: `${run.labels[t]} predicted as ${run.labels[p]}: ${count} cells, ${percent((100 * count) / total)} %`,
        }, count ? String(count) : "")));
      })));
    return make("div", { class: "matrix" }, make("h5", {}, run.title), make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Confusion matrix, ${run.said}` }, table), make("p", {}, button));
  }

  function pairs(run) {
    if (!run.pairs.length) return make("p", {}, `${run.said}: no cell is confused.`);
    return make("div", {}, make("h5", {}, run.said), make("ul", { class: "pairs-list" }, ...run.pairs.map(([t, p, count, share, cells]) => {
      const seen = cells.filter((c) => c < data.tiles);
      const words = `${count} ${count === 1 ? "cell" : "cells"}, ${percent(share)} % of the class`;
      return make("li", {}, make("strong", {}, run.labels[t]), " predicted as ", make("strong", {}, run.labels[p]), `: ${words}`,
        seen.length ? make("ul", { class: "crops" }, ...seen.map((c) => make("li", {}, crop(c))))
          : make("p", { class: "quiet" }, cells.length ? `For example ${cells.map((c) => data.cells[c][0]).join(", ")}` : "No example: the predictions are missing."));
    })));
  }

  function classView(place) {
    const views = data.datasets[place.dataset.dataset].classes;
    const id = place.dataset.id;
    let [view, features] = [views[0], 0];
    const which = chooser("Feature set", [], (i) => { features = i; show(); }, `${id}-features`);
    const how = chooser("Evaluation", views.map((v) => v.title), (i) => {
      const name = view.features[features].name;
      view = views[i];
      features = Math.max(0, view.features.findIndex((f) => f.name === name));
      fill();
      show();
    }, `${id}-setting`);
    const fill = () => {
      which.lastChild.replaceChildren(...view.features.map((f) => make("option", {}, f.name)));
      which.lastChild.selectedIndex = features;
    };
    const chart = make("div", { class: "chart" });
    const below = make("div", {});
    place.append(make("div", { class: "controls" }, how, which), make("h4", {}, "Recall of every class"), chart, below);
    function show() {
      const { name, bars, said, runs } = view.features[features];
      const results = bars.data.values;
      drawBars(chart, bars);
      const about = (run) => [`confusion-${name}-${run.said}`, `the confusion matrix of ${name}, ${run.said}`, () => [["true \\ predicted", ...run.labels], ...run.counts.map((row, t) => [run.labels[t], ...row])]];
      below.replaceChildren(
        make("p", { class: "caption" }, `How many of a class's cells are found; the best class is on top. ${said} `,
          save(`recall-${name}`, `recall of every class, ${name}`, () => [["class", "compared with", "recall (%)", "low", "high"], ...results.flatMap((r) => r.class.map((label, c) => [label, r.neighbours, r.value[c], r.low[c], r.high[c]]))])),
        numbers("The bars as a table", "Recall of every class", ["class", "cells", ...results.map((r) => `recall (%), ${r.neighbours}`)],
          results[0].class.map((label, c) => [label, String(runs[0].counts[c].reduce((a, b) => a + b, 0)), ...results.map((r) => r.text[c] ?? "–")])),
        make("h4", {}, `Confusion matrix of ${name}`), make("p", { class: "caption" }, "A row holds the cells of a true class, by the class they are taken for; the shade is the share of the row, and what is right lies on the diagonal."),
        make("div", { class: "matrices" }, ...runs.map((r) => matrix(r, name, save(...about(r))))),
        make("h4", {}, `Most confused pairs of ${name}`), ...runs.map(pairs));
    }
    fill();
    show();
    redraws.add(show);
  }

  function layerView(place) {
    const views = data.datasets[place.dataset.dataset].layers;
    let view = views[0];
    const chart = make("div", { class: "chart" });
    const names = make("ul", { class: "key", "aria-label": "Networks" });
    const lines = make("p", { class: "caption" });
    const below = make("div", {});
    const redraw = () => {
      draw(chart, view.chart);
      names.replaceChildren(...view.networks.map(([symbol, place, name]) => make("li", {}, make("span", { class: "glyph", "aria-hidden": "true", style: `color:${colourOf(place)}` }, symbol), name)));
    };
    const show = () => {
      redraw();
      lines.replaceChildren(`From the first layer on the left to the last. ${view.said} `, save(`layers-${view.title}`, `the layers, ${view.title}`, () => [view.columns, ...view.rows]));
      below.replaceChildren(numbers("The curves as a table", "Balanced accuracy by layer", view.columns, view.rows, 2));
    };
    if (views.length > 1) {
      place.append(make("div", { class: "controls" }, chooser("Evaluation", views.map((v) => v.title), (i) => { view = views[i]; show(); }, `${place.dataset.id}-setting`)));
    }
    place.append(chart, names, lines, below);
    show();
    redraws.add(redraw);
  }

  // ---- UMAP ---------------------------------------------------------------------------------------------------------
  function unpacked(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Array.from({ length: bytes.length / 2 }, (_, i) => view.getUint16(2 * i, true));
  }
  const NOBODY = 65535;

  function umapView(place) {
    const views = data.datasets[place.dataset.dataset].umaps;
    const id = place.dataset.id;
    let [view, points, focus, group, current, vega] = [null, [], -1, 0, null, null];
    let [centre, extent, span] = [[0, 0], [1, 1], 1]; // what is seen: around which point, of how much, what share of it
    const canvasPlace = make("div", {});
    const ring = make("div", { class: "ring", hidden: true });
    const card = make("div", { class: "card", hidden: true });
    const said = make("p", { class: "unseen", "aria-live": "polite" });
    const plot = make("div", { class: "plot", tabindex: 0, role: "application", "aria-describedby": `${id}-keys` }, canvasPlace, ring, card);
    const legend = make("ul", { class: "legend", "aria-label": "Classes: press to highlight one" });
    const about = make("p", { class: "caption" });
    const size = () => {
      const w = plot.clientWidth;
      return [w, Math.round(Math.min(620, Math.max(300, (0.94 * w * extent[1]) / extent[0])))];
    };
    const scaleOf = () => { const [w, h] = size(); return (0.92 * Math.min(w / extent[0], h / extent[1])) / span; };
    const projection = () => { // asked for once and used for all points, since it measures the page
      const [w, h] = size();
      const s = scaleOf();
      return (p) => [w / 2 + (p.x - centre[0]) * s, h / 2 - (p.y - centre[1]) * s];
    };
    const domains = () => size().map((length, k) => [centre[k] - length / 2 / scaleOf(), centre[k] + length / 2 / scaleOf()]);
    const zoom = (factor) => { span = Math.min(1.2, Math.max(0.01, span * factor)); moved(); };
    const reset = () => { centre = view.centre; span = 1; moved(); };
    const signalsOf = (xs, ys) => {
      const [, first, end] = view.groups[group] ?? ["", 0, 0];
      return { xs, ys, focus, first, end, grey: data.palette.grey };
    };
    function moved() {
      if (!vega) return;
      const [x, y] = domains();
      for (const [name, value] of Object.entries(signalsOf(x, y))) vega.signal(name, value);
      vega.runAsync();
      mark(current, false);
    }
    function mark(point, speak = true) {
      current = point;
      ring.hidden = card.hidden = !point;
      if (!point) return;
      const [x, y] = projection()(point);
      const [w, h] = size();
      ring.hidden = card.hidden = x < 0 || y < 0 || x > w || y > h;
      ring.style.left = `${x}px`;
      ring.style.top = `${y}px`;
      const name = point.name ?? (point.cell === NOBODY ? "" : data.cells[point.cell][0]);
      const label = view.labels[point.code] ?? "";
      card.replaceChildren(...[point.cell === NOBODY ? null : crop(point.cell, true), make("strong", {}, label || "no label"), make("br"), name || "not in the sample of crops"].filter(Boolean));
      const height = card.offsetHeight || 180;
      card.style.left = `${Math.max(4, Math.min(w - card.offsetWidth - 4, x + 14 + card.offsetWidth > w ? x - card.offsetWidth - 14 : x + 14))}px`;
      card.style.top = `${Math.max(4, Math.min(h - height - 4, y - height / 2))}px`;
      if (speak) said.textContent = `${label || "no label"}${name ? `, ${view.what} ${name}` : ""}`;
    }
    function near(x, y, reach) {
      const toScreen = projection();
      let [best, distance] = [null, Infinity];
      for (const point of points) {
        if (focus >= 0 && point.code !== focus) continue;
        const [px, py] = toScreen(point);
        const d = Math.hypot(px - x, py - y) + (point.cell === NOBODY ? 5 : 0); // rather one with a crop
        if (d < distance) [best, distance] = [point, d];
      }
      return distance <= reach ? best : null;
    }
    const at = (event) => { const box = plot.getBoundingClientRect(); return [event.clientX - box.left - plot.clientLeft, event.clientY - box.top - plot.clientTop]; };
    let drag = null;
    plot.addEventListener("pointerdown", (event) => { drag = { at: at(event), centre, moved: false }; });
    plot.addEventListener("pointermove", (event) => {
      const [x, y] = at(event);
      if (drag && event.pointerType === "mouse" && event.buttons & 1) {
        const [dx, dy] = [x - drag.at[0], y - drag.at[1]];
        drag.moved ||= Math.hypot(dx, dy) > 3;
        if (!drag.moved) return;
        centre = [drag.centre[0] - dx / scaleOf(), drag.centre[1] + dy / scaleOf()];
        moved();
      } else if (event.pointerType === "mouse") mark(near(x, y, 12), false);
    });
    plot.addEventListener("pointerup", (event) => { if (!drag?.moved) mark(near(...at(event), event.pointerType === "mouse" ? 12 : 28)); drag = null; });
    plot.addEventListener("pointerleave", (event) => { drag = null; if (event.pointerType === "mouse" && !plot.matches(":focus-visible")) mark(null); });
    plot.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (way) move(way);
      else if (event.key === "+" || event.key === "=") zoom(0.7);
      else if (event.key === "-") zoom(1 / 0.7);
      else if (event.key === "0") reset();
      else if (event.key === "Escape") mark(null);
      else return;
      event.preventDefault();
    });
    function move([dx, dy]) {
      const [w, h] = size();
      const toScreen = projection();
      const from = current ? toScreen(current) : [w / 2, h / 2];
      let [best, cost] = [null, Infinity];
      for (const point of points) {
        if (point === current || (focus >= 0 && point.code !== focus) || (data.tiles && point.cell === NOBODY && view.hasCrops)) continue;
        const [x, y] = toScreen(point);
        const along = (x - from[0]) * dx + (y - from[1]) * dy;
        const across = Math.abs((x - from[0]) * dy) + Math.abs((y - from[1]) * dx);
        if (x < 0 || y < 0 || x > w || y > h || along <= (current ? 0.5 : -Infinity) || across > 2 * Math.abs(along) + (current ? 0 : 1e9)) continue;
        const c = Math.abs(along) + 2 * across;
        if (c < cost) [best, cost] = [point, c];
      }
      if (best) mark(best);
      else said.textContent = "There is no further point that way.";
    }
    const classColours = () => (isDark() ? view.dark : view.light);
    async function redraw() {
      if (!plot.clientWidth) return;
      const [width, height] = size();
      vega?.finalize();
      const signals = Object.entries(signalsOf(...domains())).map(([name, value]) => ({ name, value }));
      const spec = { ...view.chart, width, height, signals, data: [{ name: "points", values: points }] };
      ({ view: vega } = await vegaEmbed(canvasPlace, spec, { mode: "vega", actions: false, renderer: "canvas", tooltip: false, config: { range: { category: classColours() } } }));
      legend.querySelectorAll(".glyph").forEach((glyph, code) => { glyph.style.color = classColours()[code]; });
      mark(current, false);
    }
    function show(index) {
      view = views[index];
      const [xy, codes, cells] = [unpacked(view.xy), unpacked(view.codes), unpacked(view.cells)];
      points = codes.map((code, i) => ({ x: xy[2 * i] / 65535, y: xy[2 * i + 1] / 65535, code, cell: cells[i], name: view.names[i] }));
      view.hasCrops = cells.some((c) => c !== NOBODY);
      extent = [0, 1].map((k) => points.reduce((most, p) => Math.max(most, k ? p.y : p.x), 0.02)); // both start at 0
      view.centre = extent.map((e) => e / 2);
      [focus, group, current, centre, span] = [-1, 0, null, view.centre, 1];
      const several = view.groups.length > 1;
      inColour.hidden = !several;
      inColour.lastChild.replaceChildren(...view.groups.map(([words]) => make("option", {}, words)));
      legend.replaceChildren(...view.labels.map((label, code) => make("li", {}, make("button", { type: "button", "aria-pressed": "false", onclick: (event) => {
        focus = focus === code ? -1 : code;
        legend.querySelectorAll("button").forEach((b, c) => b.setAttribute("aria-pressed", String(c === focus)));
        mark(null);
        moved();
        event.stopPropagation();
      } }, make("span", { class: "glyph", "aria-hidden": "true" }, view.symbols[code]), label))));
      plot.setAttribute("aria-label", view.name);
      const nameOf = (p) => p.name ?? (p.cell === NOBODY ? "" : data.cells[p.cell][0]);
      about.replaceChildren(`${view.said} `, save(`umap-${view.title}`, `the UMAP, ${view.title}`, () => [[view.what, "label", "umap_1", "umap_2"], ...points.map((p) => [nameOf(p), view.labels[p.code] ?? "", ...[p.x, p.y].map((v, k) => (view.low[k] + view.span * v).toPrecision(6))])]));
      mark(null);
      redraw();
    }
    const inColour = chooser("Classes in colour", [], (i) => { group = i; moved(); }, `${id}-group`);
    const controls = make("div", { class: "controls" }, views.length > 1 ? chooser("Embedding", views.map((v) => v.title), show, `${id}-view`) : make("strong", {}, views[0].title), inColour,
      make("fieldset", {}, make("legend", {}, "Zoom"), make("button", { type: "button", "aria-label": "Zoom in", onclick: () => zoom(0.7) }, "+"),
        make("button", { type: "button", "aria-label": "Zoom out", onclick: () => zoom(1 / 0.7) }, "−"), make("button", { type: "button", onclick: reset }, "All")));
    const keys = make("p", { class: "quiet", id: `${id}-keys` }, "Point at a cell, or tap it, to see its crop. With the keyboard: arrow keys go from cell to cell, + and − zoom, 0 shows all. With a mouse, drag to move.");
    place.append(controls, keys, make("div", { class: "stage" }, make("div", {}, plot, said), make("div", {}, make("p", { class: "quiet" }, "Press a class to see it alone:"), legend)), about);
    show(0);
    redraws.add(redraw);
    let width = plot.clientWidth;
    addEventListener("resize", () => { if (plot.clientWidth !== width) { width = plot.clientWidth; redraw(); } });
  }

  // ---- nearest neighbours -------------------------------------------------------------------------------------------
  function galleryView(place) {
    const views = data.datasets[place.dataset.dataset].gallery;
    const id = place.dataset.id;
    const state = { view: 0, label: "", outcome: 0, all: false };
    const QUERIES_SHOWN = 10;
    const more = make("button", { type: "button", onclick: () => { const seen = list.children.length; state.all = true; show(); list.children[seen].tabIndex = -1; list.children[seen].focus(); } });
    const outcomes = ["right and wrong", "right only", "wrong only"];
    const list = make("ul", { class: "queries" });
    const count = make("span", { class: "count", role: "status", "aria-live": "polite" });
    const labels = [...new Set(views.flatMap((v) => v.queries.map((q) => q.label)))].sort(natural.compare);
    const verdict = (right, text) => make("span", { class: right ? "right" : "wrong" }, `${right ? "✓" : "✗"} ${text}`);
    function show() {
      const view = views[state.view];
      const queries = view.queries.filter((q) => (!state.label || q.label === state.label) && (!state.outcome || (q.label === q.predicted) === (state.outcome === 1)));
      count.textContent = `${queries.length} ${queries.length === 1 ? "query cell" : "query cells"}`;
      more.hidden = state.all || queries.length <= QUERIES_SHOWN;
      more.textContent = `Show all ${queries.length}`;
      list.replaceChildren(...(state.all ? queries : queries.slice(0, QUERIES_SHOWN)).map((q) => {
        const right = q.label === q.predicted;
        return make("li", {}, make("div", { class: "query" },
          make("figure", {}, crop(q.cell), make("figcaption", {}, make("strong", {}, q.label), make("br"), verdict(right, right ? "found" : `taken for ${q.predicted}`))),
          make("ol", { class: "crops", "aria-label": "Its nearest neighbours, nearest first" }, ...q.neighbours.map((n) => {
            const same = data.cells[n][1] === q.label;
            return make("li", {}, make("figure", {}, crop(n), make("figcaption", {}, verdict(same, data.cells[n][1]))));
          }))));
      }));
    }
    place.append(
      make("p", { class: "quiet" }, `Of every class one cell that the ${views[0].k} nearest neighbours classify right and one that they do not, where there are. Beside it the first ${Math.max(0, ...views.flatMap((v) => v.queries.map((q) => q.neighbours.length)))} neighbours, nearest first; ✓ has the query's class, ✗ another.`),
      make("div", { class: "controls" },
        chooser("Feature set and neighbours", views.map((v) => v.title), (i) => { state.view = i; show(); }, `${id}-view`),
        chooser("Class", ["all classes", ...labels], (i) => { state.label = i ? labels[i - 1] : ""; show(); }, `${id}-class`),
        chooser("Outcome", outcomes, (i) => { state.outcome = i; show(); }, `${id}-outcome`), count),
      list, more);
    show();
  }

  const kinds = { ranked: rankedView, ladder: ladderView, classes: classView, layers: layerView, umap: umapView, gallery: galleryView, "chart-view": chartView };
  for (const place of document.querySelectorAll(".view")) kinds[place.classList[1]](place);
  theme.setAttribute("aria-pressed", String(isDark()));
  document.getElementById("no-script").remove();
  document.documentElement.dataset.ready = "true";
})();
