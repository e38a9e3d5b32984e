"use strict";
// Shows the rows of comparison.csv as a sortable table and as charts. What is chosen stands in the
// address after `#`. Without this script the page keeps every table and sentence that it has.
(() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const COLOURS = 7;
  const SYMBOLS = ["circle", "square", "triangle", "diamond", "star", "cross", "wye"];
  const NONE = "–";
  const byId = (id) => document.getElementById(id);
  const form = byId("choices");
  const looks = new Map(
    DATA.arms.map((arm, i) => [
      arm.name,
      { colour: `var(--arm-${i % COLOURS})`, symbol: SYMBOLS[i % SYMBOLS.length] },
    ]),
  );

  // -- texts -----------------------------------------------------------------------------------

  const isNumber = (value) => typeof value === "number";
  const number = (value, digits, sign = "") =>
    isNumber(value)
      ? value.toLocaleString("en", {
          minimumFractionDigits: digits, maximumFractionDigits: digits,
          signDisplay: sign || "auto",
        })
      : NONE;

  function withInterval(value, low, high, digits, sign = "") {
    if (!isNumber(value)) return NONE;
    const interval = isNumber(low)
      ? ` [${number(low, digits, sign)}, ${number(high, digits, sign)}]`
      : "";
    return number(value, digits, sign) + interval;
  }

  const scoreText = (score, measure) =>
    withInterval(score.value, score.low, score.high, measure.digits);

  const differenceText = (score, measure) =>
    withInterval(
      score.difference, score.difference_low, score.difference_high, measure.digits,
      "exceptZero",
    );

  const capital = (text) => text.slice(0, 1).toUpperCase() + text.slice(1);

  function describe(arm, state) {
    const { measure, cost } = state;
    const score = arm.scores[measure.name];
    const lines = [arm.name, `${measure.title}: ${scoreText(score, measure)}`];
    if (isNumber(score.difference))
      lines.push(`difference to ${DATA.reference}: ${differenceText(score, measure)}`);
    if (score.verdict) lines.push(`verdict: ${score.verdict}`);
    if (cost) lines.push(`${cost.title}: ${number(arm.costs[cost.name], cost.digits)}`);
    lines.push(`${arm.seeds} ${arm.seeds === 1 ? "seed" : "seeds"}`);
    return lines.join("\n");
  }

  // -- what is chosen ----------------------------------------------------------------------------

  const costs = DATA.costs;
  const columns = [...new Set(DATA.groups.map((row) => row.column))];

  function readState() {
    const said = new URLSearchParams(location.hash.slice(1));
    const named = (list, name, otherwise) =>
      list.find((one) => one.name === name) || otherwise;
    const wanted = said.has("arms") ? said.get("arms").split(",").map(decodeURIComponent) : null;
    const chosen = DATA.arms.filter((arm) => !wanted || wanted.includes(arm.name));
    const [sort, direction] = (said.get("sort") || "").split(":");
    return {
      measure: named(DATA.measures, said.get("measure"), DATA.measures[0]),
      cost: named(costs, said.get("cost"), costs[0]),
      arms: new Set(chosen.map((arm) => arm.name)),
      column: columns.includes(said.get("column")) ? said.get("column") : columns[0],
      sort: sort || null,
      descending: direction === "desc",
    };
  }

  function writeState(state) {
    const said = new URLSearchParams();
    said.set("measure", state.measure.name);
    if (state.cost) said.set("cost", state.cost.name);
    if (state.arms.size < DATA.arms.length)
      said.set("arms", [...state.arms].map(encodeURIComponent).join(","));
    if (state.column) said.set("column", state.column);
    if (state.sort) said.set("sort", `${state.sort}:${state.descending ? "desc" : "asc"}`);
    // A page inside another (a report) may have no address of its own to change.
    try {
      history.replaceState(null, "", `#${said}`);
    } catch {
      return;
    }
  }

  // -- tables --------------------------------------------------------------------------------------

  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  // Numbers by size, texts by alphabet; cells without a value come last either way.
  function compare(a, b, descending) {
    if (a === null || b === null) return (a === null) - (b === null);
    const order =
      isNumber(a) && isNumber(b) ? a - b : String(a).localeCompare(String(b), "en");
    return descending ? -order : order;
  }

  function tableColumns(state) {
    const { measure } = state;
    const of = (arm) => arm.scores[measure.name];
    const known = (key) => DATA.arms.some((arm) => isNumber(of(arm)[key]));
    const found = [
      { key: "arm", title: "arm", value: (arm) => arm.name, text: (arm) => arm.name },
      {
        key: "score", title: measure.title, value: (arm) => of(arm).value,
        text: (arm) => scoreText(of(arm), measure),
      },
    ];
    if (known("difference"))
      found.push({
        key: "difference", title: `difference to ${DATA.reference}`,
        value: (arm) => of(arm).difference, text: (arm) => differenceText(of(arm), measure),
      });
    if (DATA.arms.some((arm) => of(arm).verdict))
      found.push({
        key: "verdict", title: "verdict", value: (arm) => of(arm).verdict,
        text: (arm) => of(arm).verdict || NONE,
      });
    found.push({
      key: "seeds", title: "single seeds, with their histories", value: (arm) => arm.seeds,
      node: (arm) => seeds(arm, measure),
    });
    if (known("shuffled"))
      found.push({
        key: "shuffled", title: "inputs shuffled", value: (arm) => of(arm).shuffled,
        text: (arm) => number(of(arm).shuffled, measure.digits),
      });
    for (const cost of costs)
      found.push({
        key: cost.name, title: cost.title, value: (arm) => arm.costs[cost.name],
        text: (arm) => number(arm.costs[cost.name], cost.digits),
      });
    return found;
  }

  function seeds(arm, measure) {
    const values = arm.scores[measure.name].by_seed;
    const nodes = [];
    arm.runs.forEach((run, i) => {
      const text = `${run.seed}: ${number(values[i], measure.digits)}`;
      if (i) nodes.push(", ");
      nodes.push(
        run.history
          ? element("a", { href: run.history, title: `history of ${arm.name}, seed ${run.seed}` }, text)
          : text,
      );
    });
    return element("span", {}, ...nodes);
  }

  function heading(title, key, sorted, onSort) {
    const cell = element("th", { scope: "col" });
    cell.setAttribute("aria-sort", sorted);
    const button = element("button", { type: "button" }, title);
    if (key) button.dataset.key = key;
    button.addEventListener("click", onSort);
    cell.append(button);
    return cell;
  }

  const sortedBy = (active, descending) =>
    active ? (descending ? "descending" : "ascending") : "none";

  function drawTable(state) {
    const shown = tableColumns(state);
    const by = shown.find((column) => column.key === state.sort);
    const arms = DATA.arms.filter((arm) => state.arms.has(arm.name));
    const valueOf = (arm) => by.value(arm) ?? null;
    if (by) arms.sort((a, b) => compare(valueOf(a), valueOf(b), state.descending));
    const table = byId("chosen");
    const focused = document.activeElement?.dataset?.key;
    table.tHead.replaceChildren(
      element(
        "tr", {},
        ...shown.map((column) =>
          heading(column.title, column.key, sortedBy(column === by, state.descending), () => {
            const again = state.sort === column.key;
            change({ sort: column.key, descending: again && !state.descending });
          }),
        ),
      ),
    );
    table.tBodies[0].replaceChildren(
      ...arms.map((arm) =>
        element(
          "tr", {},
          ...shown.map((column) =>
            element("td", {}, column.node ? column.node(arm) : column.text(arm)),
          ),
        ),
      ),
    );
    if (focused) table.querySelector(`button[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  // The tables of the text sort, too: by the first number of a cell, or by its text.
  function makeSortable(table) {
    const body = table.tBodies[0];
    if (!table.tHead || !body || body.rows.length < 2) return;
    const cellValue = (row, place) => {
      const text = row.cells[place].textContent.trim();
      if (text === NONE || text === "") return null;
      const found = text.match(/^[<+]? ?[+-]?[\d,]*\.?\d+(e[+-]?\d+)?/i);
      return found ? Number(found[0].replace(/[<+, ]/g, "")) : text;
    };
    const titles = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
    let active = -1;
    let descending = false;
    const head = () =>
      table.tHead.rows[0].replaceChildren(
        ...titles.map((title, place) =>
          heading(title, "", sortedBy(place === active, descending), () => {
            descending = place === active && !descending;
            active = place;
            const rows = [...body.rows];
            rows.sort((a, b) => compare(cellValue(a, place), cellValue(b, place), descending));
            body.replaceChildren(...rows);
            head();
            table.tHead.rows[0].cells[place].firstChild.focus();
          }),
        ),
      );
    head();
  }

  // -- charts --------------------------------------------------------------------------------------

  const TEXT = { fontSize: "12px", background: "transparent", overflow: "visible" };
  const scored = (state) =>
    DATA.arms.filter(
      (arm) => state.arms.has(arm.name) && isNumber(arm.scores[state.measure.name].value),
    );
  // Names on an axis take two fifths of a narrow screen at most.
  const LETTER = 6.6;
  const letters = (width) => Math.min(28, Math.floor((0.4 * width) / LETTER));
  const short = (name, most) => (name.length > most ? `${name.slice(0, most - 1)}…` : name);
  const margin = (names, most) =>
    12 + LETTER * Math.min(most, Math.max(4, ...names.map((name) => name.length)));
  const symbolOf = (name) => looks.get(name).symbol;
  const colourOf = (name) => looks.get(name).colour;

  // Arms as points with an interval each, seeds beside them.
  function points(arms, state) {
    const { measure } = state;
    return arms.map((arm) => ({ arm: arm.name, text: describe(arm, state), ...arm.scores[measure.name],
      cost: state.cost ? arm.costs[state.cost.name] : null }));
  }

  const single = (shown) =>
    shown.flatMap((point) =>
      point.by_seed.filter(isNumber).map((value) => ({ ...point, value })),
    );

  const filled = { fill: (d) => colourOf(d.arm), symbol: (d) => symbolOf(d.arm) };
  const line = { stroke: (d) => colourOf(d.arm), strokeWidth: 2 };
  const scales = { color: { type: "identity" }, symbol: { type: "identity" } };

  // From the least to the largest of all that is drawn; where these are one, about it.
  function domain(values) {
    const [least, most] = d3.extent(values.filter(isNumber));
    const about = Math.abs(least) / 2 || 0.5;
    return least === most ? [least - about, most + about] : [least, most];
  }

  const scoreDomain = (shown, measure) =>
    domain([
      ...shown.flatMap((point) => [point.value, point.low, point.high, ...point.by_seed]),
      ...measure.baselines.map((line) => line.value),
    ]);

  function place(into, plot, label) {
    plot.setAttribute("role", "group");
    plot.setAttribute("aria-label", label);
    // What pointing at a mark tells, going to it with the keyboard tells too.
    for (const mark of plot.querySelectorAll('g[aria-label="means"] > *')) {
      mark.setAttribute("tabindex", "0");
      mark.setAttribute("role", "img");
      const tell = (kind) => {
        const box = mark.getBoundingClientRect();
        const at = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2 };
        plot.dispatchEvent(new PointerEvent(kind, { ...at, pointerType: "mouse", bubbles: true }));
      };
      mark.addEventListener("focus", () => tell("pointermove"));
      mark.addEventListener("blur", () => tell("pointerleave"));
    }
    into.replaceChildren(plot);
  }

  const said = { ariaLabel: (d) => d.text.replaceAll("\n", "; "), title: "text" };
  const tip = { fill: "var(--paper)", stroke: "var(--strong)" };

  function drawByArm(state, arms) {
    const { measure } = state;
    const shown = points(arms, state);
    const names = arms.map((arm) => arm.name);
    const width = byId("by-arm").clientWidth;
    const most = letters(width);
    byId("by-arm-title").textContent = `${capital(measure.title)} by arm`;
    const plot = Plot.plot({
      ...scales,
      width,
      height: 85 + 32 * Math.max(1, names.length),
      marginBottom: 42,
      marginLeft: margin(names, most),
      style: TEXT,
      x: { label: capital(measure.axis), grid: true, nice: true, domain: scoreDomain(shown, measure) },
      y: { domain: names, label: null, tickFormat: (name) => short(name, most), type: "band" },
      marks: [
        Plot.ruleX(measure.baselines, {
          x: "value", stroke: "var(--faint)", strokeDasharray: "4 3", title: "title",
        }),
        Plot.ruleY(shown, { x1: "low", x2: "high", y: "arm", ...line }),
        Plot.dot(single(shown), { x: "value", y: "arm", dy: 8, r: 2.5, fillOpacity: 0.7, ...filled }),
        Plot.dot(shown, {
          x: "value", y: "arm", r: 5.5, tip, ...filled, ...said,
          render: named("means"),
        }),
      ],
    });
    place(byId("by-arm"), plot, `${measure.title} by arm`);
  }

  // Gives the group of a mark's elements a name by which `place` finds it.
  function named(label) {
    return (index, scale, values, dimensions, context, next) => {
      const group = next(index, scale, values, dimensions, context);
      group.setAttribute("aria-label", label);
      return group;
    };
  }

  function costScale(shown, cost) {
    const values = shown.map((point) => point.cost);
    const positive = values.filter((value) => value > 0);
    const label = capital(cost.title);
    const [least, most] = [Math.min(...positive), Math.max(...positive)];
    if (!positive.length || most < 20 * least)
      return { label, grid: true, nice: true, domain: domain(values), tickFormat: "~s", ticks: 5 };
    const powers = d3.range(Math.floor(Math.log10(least)), Math.ceil(Math.log10(most)) + 1);
    const ticks = powers.map((power) => 10 ** power);
    const log = { label: `${label} (logarithmic)`, grid: true, ticks, tickFormat: "~s" };
    if (positive.length === values.length) return { ...log, type: "log", domain: [least / 1.5, most * 1.5] };
    // A logarithm has no 0: what is not trained at all stands left of all others.
    return { ...log, type: "symlog", constant: least / 3, ticks: [0, ...ticks], domain: [0, most * 1.5] };
  }

  function drawByCost(state, arms) {
    const { measure, cost } = state;
    byId("by-cost").parentNode.hidden = !cost;
    if (!cost) return;
    const shown = points(arms, state).filter((point) => isNumber(point.cost));
    byId("by-cost-title").textContent = `${capital(measure.title)} against ${cost.title}`;
    const plot = Plot.plot({
      ...scales,
      width: byId("by-cost").clientWidth,
      height: 340,
      marginLeft: 56,
      marginBottom: 42,
      style: TEXT,
      x: costScale(shown, cost),
      y: { label: capital(measure.axis), grid: true, nice: true, domain: scoreDomain(shown, measure) },
      marks: [
        Plot.ruleY(measure.baselines, {
          y: "value", stroke: "var(--faint)", strokeDasharray: "4 3", title: "title",
        }),
        Plot.ruleX(shown, { x: "cost", y1: "low", y2: "high", ...line }),
        Plot.dot(single(shown), { x: "cost", y: "value", dx: 8, r: 2.5, fillOpacity: 0.7, ...filled }),
        Plot.dot(shown, {
          x: "cost", y: "value", r: 5.5, tip, ...filled, ...said, render: named("means"),
        }),
      ],
    });
    place(byId("by-cost"), plot, `${measure.title} against ${cost.title}`);
  }

  // Subgroups have the chosen measure, or scores of their own: then the first of these is shown.
  function drawByGroup(state, arms) {
    const figure = byId("groups");
    figure.hidden = !DATA.groups.length;
    if (figure.hidden) return;
    const names = arms.map((arm) => arm.name);
    const inColumn = DATA.groups.filter((row) => row.column === state.column);
    const metrics = inColumn.map((row) => row.metric);
    const metric = metrics.includes(state.measure.name) ? state.measure.name : metrics[0];
    const measure = inColumn.find((row) => row.metric === metric);
    const rows = inColumn
      .filter((row) => row.metric === metric)
      .filter((row) => names.includes(row.arm) && isNumber(row.score));
    const title = `${capital(measure.title)} by ${state.column.replaceAll("_", " ")}`;
    byId("by-group-title").textContent = title;
    if (!rows.length) return byId("by-group").replaceChildren();
    const counts = new Map(rows.map((row) => [row.value, row.groups]));
    const width = byId("by-group").clientWidth;
    const most = letters(width);
    const label = (value) => {
      const count = ` (${number(counts.get(value), 0)})`;
      return short(String(value), most - count.length) + count;
    };
    const step = 11;
    const shown = rows.map((row) => ({
      ...row,
      text: [
        `${row.value}, ${row.arm}`,
        `${measure.title}: ${withInterval(row.score, row.score_low, row.score_high, measure.digits)}`,
        `${number(row.examples, 0)} ${DATA.example}s of ${number(row.groups, 0)} ${DATA.group}s`,
      ].join("\n"),
    }));
    const values = [...counts.keys()];
    const marks = names.flatMap((name, i) => {
      const own = shown.filter((row) => row.arm === name);
      const dy = step * (i - (names.length - 1) / 2);
      return [
        Plot.ruleY(own, { x1: "score_low", x2: "score_high", y: "value", dy, ...line, strokeWidth: 1.5 }),
        Plot.dot(own, {
          x: "score", y: "value", dy, r: 4, tip, ...filled, ...said, render: named("means"),
        }),
      ];
    });
    const plot = Plot.plot({
      ...scales,
      width,
      height: 75 + values.length * (step * names.length + 12),
      marginBottom: 42,
      marginLeft: margin(values.map(label), most),
      style: TEXT,
      x: {
        label: `${capital(measure.title)} (${measure.unit})`, grid: true, nice: true,
        domain: domain(rows.flatMap((row) => [row.score, row.score_low, row.score_high])),
      },
      y: { domain: values, label: null, type: "band", tickFormat: label },
      marks,
    });
    place(byId("by-group"), plot, title);
  }

  // -- the page ------------------------------------------------------------------------------------

  function drawCharts(state) {
    const arms = scored(state);
    drawByArm(state, arms);
    drawByCost(state, arms);
    drawByGroup(state, arms);
  }

  function draw() {
    const state = readState();
    form.measure.value = state.measure.name;
    if (state.cost) form.cost.value = state.cost.name;
    if (state.column) form.elements.column.value = state.column;
    for (const box of form.querySelectorAll("#arms input")) box.checked = state.arms.has(box.value);
    const better = { true: " Higher is better.", false: " Lower is better." };
    const lines = state.measure.baselines.map(
      ({ title, value }) => `${title} ${number(value, state.measure.digits)}`,
    );
    byId("meaning").textContent =
      `${capital(state.measure.title)}: ${state.measure.definition}.` +
      (better[state.measure.higher_is_better] || "") +
      (lines.length ? ` Without training: ${lines.join("; ")}.` : "");
    byId("status").textContent =
      `${state.arms.size} of ${DATA.arms.length} arms; brackets: ${DATA.level} intervals.`;
    drawTable(state);
    drawCharts(state);
  }

  function change(what) {
    writeState({ ...readState(), ...what });
    draw();
  }

  function option(name, title) {
    return element("option", { value: name }, title);
  }

  function symbol(name) {
    const path = d3.symbol(d3[`symbol${capital(symbolOf(name))}`], 60)();
    const svg = d3.create("svg").attr("width", 14).attr("height", 14).attr("viewBox", "-7 -7 14 14");
    svg.attr("aria-hidden", "true").append("path").attr("d", path).attr("fill", colourOf(name));
    return svg.node();
  }

  form.measure.append(...DATA.measures.map(({ name, title }) => option(name, title)));
  form.cost.append(...costs.map(({ name, title }) => option(name, title)));
  form.cost.closest("label").hidden = !costs.length;
  form.elements.column.append(...columns.map((name) => option(name, name)));
  byId("arms").append(
    ...DATA.arms.map(({ name }) =>
      element("label", {}, element("input", { type: "checkbox", value: name, name: "arm" }), " ", symbol(name), ` ${name}`),
    ),
  );
  form.addEventListener("submit", (event) => event.preventDefault());
  // The choice of a column belongs to the form and stands beside its chart, outside it.
  byId("explore").addEventListener("change", () =>
    change({
      measure: DATA.measures.find(({ name }) => name === form.measure.value),
      cost: costs.find(({ name }) => name === form.cost.value),
      column: form.elements.column.value || null,
      arms: new Set([...form.querySelectorAll("#arms input:checked")].map((box) => box.value)),
    }),
  );
  for (const wide of document.querySelectorAll("main > .wide")) {
    makeSortable(wide.querySelector("table"));
    // What scrolls sideways does so by the arrow keys, too.
    const title = wide.previousElementSibling?.closest("h2, h3, p")?.textContent ?? "table";
    Object.assign(wide, { tabIndex: 0, role: "region", ariaLabel: title });
  }
  byId("explore").hidden = false;
  addEventListener("hashchange", draw);
  let width = 0;
  new ResizeObserver(() => {
    const now = byId("by-arm").clientWidth;
    if (now !== width) drawCharts(readState());
    width = now;
  }).observe(byId("by-arm"));
  draw();
})();
