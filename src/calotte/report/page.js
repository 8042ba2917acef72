"use strict";
(() => {
  const { columns, rows, sheets } = JSON.parse(document.getElementById("data").textContent);
  const PROVED = 1, SAMPLED = 2, RISK = 4, WRONG = 8, AT_ONCE = 50, CELLS = 2;
  const at = (id) => document.getElementById(id);
  const make = (name, text, parent) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };
  const state = { column: null, down: false, page: 0 };

  const kinds = [
    ["all inputs", () => true],
    ["at risk", (flags) => flags & RISK],
    ["proved", (flags) => flags & PROVED],
    ["sampled only", (flags) => flags & SAMPLED && !(flags & PROVED)],
    ["answered wrongly", (flags) => flags & WRONG],
  ];
  kinds.forEach(([name], k) => { make("option", name, at("status")).value = k; });
  make("option", "all", at("class")).value = "";
  [...new Set(rows.map((row) => row[1]))].sort((a, b) => a - b)
    .forEach((name) => { make("option", name, at("class")).value = name; });

  const head = make("tr", undefined, at("table").tHead);
  if (sheets) Object.assign(make("th", "pictures", head), { scope: "col", className: "plain" });
  columns.forEach((name, k) => {
    const cell = make("th", undefined, head);
    cell.scope = "col";
    const button = make("button", name, cell);
    button.type = "button";
    button.addEventListener("click", () => {
      state.down = state.column === k ? !state.down : false;
      state.column = k;
      state.page = 0;
      show();
    });
  });

  const addresses = new Map();
  const address = (sheet) => {
    if (!addresses.has(sheet)) {
      const bytes = Uint8Array.from(atob(sheets.images[sheet]), (c) => c.charCodeAt(0));
      addresses.set(sheet, URL.createObjectURL(new Blob([bytes], { type: "image/webp" })));
    }
    return addresses.get(sheet);
  };
  const thumbnail = (place, parent) => {
    if (place >= sheets.count) { parent.textContent = "-"; return; }
    const zoom = Math.max(1, Math.round(40 / Math.max(sheets.width, sheets.height)));
    const width = zoom * sheets.width, height = zoom * sheets.height;
    const sheet = Math.floor(place / sheets.rows);
    const inSheet = Math.min(sheets.rows, sheets.count - sheet * sheets.rows);
    const both = make("span", undefined, parent);
    both.className = "thumbs";
    both.setAttribute("role", "img");
    both.setAttribute("aria-label", `input ${rows[place][CELLS][0]}, its nearest misclassified point, the difference`);
    for (let view = 0; view < 3; view++) {
      Object.assign(make("span", undefined, both).style, {
        width: `${width}px`, height: `${height}px`, backgroundImage: `url(${address(sheet)})`,
        backgroundSize: `${3 * width}px ${height * inSheet}px`,
        backgroundPosition: `-${view * width}px -${height * (place % sheets.rows)}px`,
      });
    }
  };

  const chosen = () => {
    const holds = kinds[at("status").value || 0][1], wanted = at("class").value, number = at("search").value.trim();
    const places = rows.map((_, place) => place).filter((place) => {
      const row = rows[place];
      return holds(row[0]) && (wanted === "" || String(row[1]) === wanted)
        && (number === "" || row[CELLS][0].startsWith(number));
    });
    if (state.column !== null) {
      const key = (place) => rows[place][CELLS + state.column][1], sign = state.down ? -1 : 1;
      places.sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === null || y === null) return (x === null) - (y === null) || a - b;
        return sign * (x - y) || a - b;
      });
    }
    return places;
  };

  const show = () => {
    const places = chosen(), pages = Math.max(1, Math.ceil(places.length / AT_ONCE));
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const begin = state.page * AT_ONCE, shown = places.slice(begin, begin + AT_ONCE);
    const body = at("table").tBodies[0];
    body.replaceChildren();
    for (const place of shown) {
      const row = rows[place], line = make("tr", undefined, body);
      if (row[0] & RISK) line.className = "risk";
      if (sheets) {
        const cell = make("td", undefined, line);
        cell.className = "long";
        thumbnail(place, cell);
      }
      columns.forEach((name, k) => {
        const cell = make("td", row[CELLS + k][0], line);
        if (name === "answer" && row[0] & WRONG) cell.className = "wrong";
        if (name === "what moves most") cell.className = "long";
      });
    }
    [...head.cells].slice(sheets ? 1 : 0).forEach((cell, k) => {
      if (k === state.column) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    const end = begin + shown.length, all = places.length === rows.length ? "" : ` (of ${rows.length} in all)`;
    at("state").textContent = shown.length ? `${begin + 1} to ${end} of ${places.length}${all}` : "no such input";
    at("place").textContent = `page ${state.page + 1} of ${pages}`;
    at("previous").disabled = state.page === 0;
    at("next").disabled = state.page === pages - 1;
  };

  const turn = (step) => () => { state.page += step; show(); };
  at("previous").addEventListener("click", turn(-1));
  at("next").addEventListener("click", turn(1));
  for (const kind of ["input", "change"]) at("filters").addEventListener(kind, () => { state.page = 0; show(); });
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  at("filters").addEventListener("reset", (event) => {
    event.preventDefault();  // it would empty the fields only after this
    for (const name of ["status", "class"]) at(name).selectedIndex = 0;
    at("search").value = "";
    state.column = null;
    state.page = 0;
    show();
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
  show();
})();
