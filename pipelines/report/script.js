"use strict";
// Reads the block of JSON in the page and draws what moves: hover, maps, gallery. Words from data only ever
// become text nodes, never markup.
(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const rows = data.rows;
  const tip = document.getElementById("tip");
  const predicted = rows.predicted;
  const colour = (code) => `c${code % 8}`;

  function make(tag, css, text) {
    const element = document.createElement(tag);
    if (css) element.className = css;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function thumb(tile) {
    const place = tile % 256;
    const picture = make("i", `thumb s${Math.floor(tile / 256)}`);
    picture.style.backgroundPosition = `${((place % 16) / 15) * 100}% ${(Math.floor(place / 16) / 15) * 100}%`;
    return picture;
  }

  function card(i) {
    const box = make("article", "card");
    if (rows.tile[i] >= 0) box.append(thumb(rows.tile[i]));
    const words = make("div", "words");
    if (rows.text) words.append(make("p", "text", rows.text[i] || "(empty text)"));
    const verdict = make("p");
    verdict.append(make("b", colour(rows.y[i]), data.classes[rows.y[i]]));
    if (predicted[i] === rows.y[i]) verdict.append(" and predicted so");
    else verdict.append(", predicted ", make("b", colour(predicted[i]), data.classes[predicted[i]]));
    words.append(verdict);
    const order = rows.p[i].map((_, code) => code).sort((a, b) => rows.p[i][b] - rows.p[i][a]);
    for (const code of order.slice(0, 4)) {
      const line = make("div", "chance");
      const bar = make("i", colour(code));
      bar.style.width = `${rows.p[i][code] * 100}%`;
      const track = make("div");
      track.append(bar);
      line.append(make("span", "", data.classes[code]), track, make("em", "", rows.p[i][code].toFixed(2)));
      words.append(line);
    }
    if (rows.doubt[i] > 0) words.append(make("div", "id", `label looks wrong (${rows.doubt[i].toFixed(2)})`));
    for (const k of rows.slices[i]) words.append(make("span", "tag", data.slices[k]));
    if (data.blocks.length) {
      const shares = data.blocks.map((name, b) => `${name} ${rows.weights[b][i].toFixed(2)}`);
      words.append(make("div", "id", `leans on ${shares.join(", ")}`));
    }
    words.append(make("div", "id", `id ${rows.id[i]}, fold ${rows.fold[i]}`));
    box.append(words);
    return box;
  }

  function showTip(content, x, y) {
    tip.replaceChildren(content);
    tip.hidden = false;
    const size = tip.getBoundingClientRect();
    const left = x + 16 + size.width > innerWidth ? x - size.width - 12 : x + 16;
    const top = y + 16 + size.height > innerHeight ? y - size.height - 12 : y + 16;
    tip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
  }

  // --- hover over marks of a chart ---
  const onMark = (event) => {
    const mark = event.target.closest?.("[data-tip]");
    if (mark) showTip(document.createTextNode(mark.dataset.tip), event.clientX, event.clientY);
    else if (event.target.tagName !== "CANVAS") tip.hidden = true;
  };
  document.addEventListener("pointermove", onMark);
  document.addEventListener("pointerdown", onMark);
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  // --- maps ---
  const maps = [...document.querySelectorAll("canvas[data-map]")].map((canvas) => ({
    canvas, ...data.maps[Number(canvas.dataset.map)],
  }));
  const by = document.getElementById("map-colour");
  let lit = -1;
  const EDGE = 12;

  function place(map, k, side) {
    const inner = side - 2 * EDGE;
    return [EDGE + (map.x[k] / 1000) * inner, EDGE + (1 - map.y[k] / 1000) * inner];
  }

  function drawMap(map, palette) {
    const side = map.canvas.clientWidth;
    if (!side) return;
    const scale = Math.max(2, devicePixelRatio);
    map.canvas.width = map.canvas.height = Math.round(side * scale);
    const pen = map.canvas.getContext("2d");
    pen.scale(scale, scale);
    const radius = map.rows.length > 1500 ? 1.7 : map.rows.length > 500 ? 2.3 : 3;
    const group = (i) => {
      if (by.value === "right") return rows.y[i] === predicted[i] ? "soft" : "p1";
      return `p${(by.value === "predicted" ? predicted[i] : rows.y[i]) % 8}`;
    };
    // Errors on top: they are what is looked for.
    const order = map.rows.map((_, k) => k);
    if (by.value === "right") {
      const wrong = (k) => Number(rows.y[map.rows[k]] !== predicted[map.rows[k]]);
      order.sort((a, b) => wrong(a) - wrong(b));
    }
    pen.globalAlpha = 0.75;
    for (const k of order) {
      const [x, y] = place(map, k, side);
      pen.fillStyle = palette[group(map.rows[k])];
      pen.beginPath();
      pen.arc(x, y, radius, 0, 7);
      pen.fill();
    }
    pen.globalAlpha = 1;
    const k = lit < 0 ? -1 : map.rows.indexOf(lit);
    if (k >= 0) {
      const [x, y] = place(map, k, side);
      pen.strokeStyle = palette.ink;
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(x, y, radius + 4, 0, 7);
      pen.stroke();
    }
  }

  function drawMaps() {
    const style = getComputedStyle(document.documentElement);
    const palette = { ink: style.getPropertyValue("--ink"), soft: style.getPropertyValue("--mark") };
    for (let k = 0; k < 8; k++) palette[`p${k}`] = style.getPropertyValue(`--p${k}`);
    for (const map of maps) drawMap(map, palette);
  }

  function nearest(map, x, y) {
    let best = -1;
    let least = 14 * 14;
    for (let k = 0; k < map.rows.length; k++) {
      const [px, py] = place(map, k, map.canvas.clientWidth);
      const d = (px - x) ** 2 + (py - y) ** 2;
      if (d < least) [best, least] = [k, d];
    }
    return best;
  }

  for (const map of maps) {
    const look = (event) => {
      const box = map.canvas.getBoundingClientRect();
      const k = nearest(map, event.clientX - box.left, event.clientY - box.top);
      const row = k < 0 ? -1 : map.rows[k];
      if (row >= 0) showTip(card(row), event.clientX, event.clientY);
      else tip.hidden = true;
      if (row !== lit) {
        lit = row;
        drawMaps();
      }
    };
    // Points in the order in which they lie from left to right, for the arrow keys.
    const walk = map.rows.map((_, k) => k).sort((a, b) => map.x[a] - map.x[b]);
    let step = -1;
    map.canvas.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") tip.hidden = true;
      if (!by) return;
      event.preventDefault();
      step = (step + by + walk.length) % walk.length;
      const box = map.canvas.getBoundingClientRect();
      const [x, y] = place(map, walk[step], map.canvas.clientWidth);
      lit = map.rows[walk[step]];
      showTip(card(lit), box.left + x, box.top + y);
      drawMaps();
    });
    map.canvas.addEventListener("pointermove", look);
    map.canvas.addEventListener("pointerdown", look);
    map.canvas.addEventListener("pointerleave", () => {
      tip.hidden = true;
      lit = -1;
      drawMaps();
    });
  }
  if (maps.length) {
    by.addEventListener("change", drawMaps);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMaps);
    addEventListener("resize", drawMaps);
    addEventListener("beforeprint", drawMaps);
    addEventListener("afterprint", drawMaps);
    drawMaps();
  }

  // --- gallery of errors ---
  const gallery = document.getElementById("gallery");
  if (gallery) {
    const control = Object.fromEntries(
      ["true", "predicted", "slice", "label", "sort", "find"]
        .map((name) => [name, document.getElementById(`gallery-${name}`)])
        .filter(([, element]) => element),
    );
    const chosen = (name) => (control[name] ? control[name].value : "");
    const more = document.getElementById("gallery-more");
    const count = document.getElementById("gallery-count");
    const wrong = rows.y.map((_, i) => i).filter((i) => rows.y[i] !== predicted[i] || rows.doubt[i] > 0);
    const confidence = (i) => Math.max(...rows.p[i]);
    const margin = (i) => rows.p[i][predicted[i]] - rows.p[i][rows.y[i]];
    const orders = {
      sure: (a, b) => confidence(b) - confidence(a),
      unsure: (a, b) => confidence(a) - confidence(b),
      margin: (a, b) => margin(a) - margin(b),
      doubt: (a, b) => rows.doubt[b] - rows.doubt[a] || confidence(b) - confidence(a),
    };
    const STEP = 24;
    let found = [];

    const append = () => {
      const from = gallery.childElementCount;
      gallery.append(...found.slice(from, from + STEP).map(card));
      const n = gallery.childElementCount;
      count.textContent = `${n.toLocaleString("en")} of ${found.length.toLocaleString("en")} shown`;
      more.hidden = n >= found.length;
    };
    const fill = () => {
      const words = control.find.value.trim().toLowerCase();
      found = wrong.filter((i) =>
        (control.true.value === "" || rows.y[i] === Number(control.true.value)) &&
        (control.predicted.value === "" || predicted[i] === Number(control.predicted.value)) &&
        (chosen("slice") === "" || rows.slices[i].includes(Number(chosen("slice")))) &&
        (chosen("label") === "" || rows.doubt[i] > 0) &&
        (words === "" || `${rows.id[i]} ${rows.text ? rows.text[i] : ""}`.toLowerCase().includes(words)));
      found.sort(orders[control.sort.value]);
      gallery.replaceChildren();
      append();
    };
    for (const element of Object.values(control)) element.addEventListener("input", fill);
    more.addEventListener("click", append);
    fill();
  }
  document.documentElement.dataset.ready = "1";
})();
