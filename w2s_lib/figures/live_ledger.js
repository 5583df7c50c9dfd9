// The live ledger: teacher, student and truth as points to drag on the dual curve z = phi'(f) of a generator.
//
// The divergence D(a, b) is the area between the curve and the level line through b, from b to a. Hence
//   misfit    D(s, w), the area between the curve and the teacher's level
//   residual  (z_w - z_s)(g - s), the rectangle between both levels, from the student to the truth
//   gain      D(g, w) - D(g, s), the one area less the other
// An ES module after anywidget's contract, `render({model, el})`; in a page without a kernel live_ledger.py has a model
// for it. The picture is built once; a move of a point changes attributes.

const CURVES = {
  "binary logistic": {
    phi: (f) => f * Math.log(f) + (1 - f) * Math.log(1 - f), z: (f) => Math.log(f / (1 - f)),
    dual: "log-odds of f", loss: "cross-entropy",
  },
  "squared norm": { phi: (f) => f * f, z: (f) => 2 * f, dual: "2f", loss: "squared error" },
  "Itakura-Saito": { phi: (f) => -Math.log(f), z: (f) => -1 / f, dual: "−1/f", loss: "Itakura-Saito" },
  "generalised KL": { phi: (f) => f * Math.log(f), z: (f) => 1 + Math.log(f), dual: "1 + log f", loss: "generalised KL" },
};
const POINTS = ["teacher", "truth", "student"]; // the last lies on top
const ENTRIES = ["misfit", "residual", "gain"];
const STEP = 0.01, LEAP = 0.1, GRID = 1000; // of the arrow keys, with shift; points lie on multiples of 1/GRID
const GLIDE = 350; // ms of a jump to other points
const REST = 800; // ms without a change until the verdict is read out
const PIECES = 48; // of a stretch of the curve
const NARROW = 480; // px

/** The three entries for one input, each by its own formula. */
export function ledger(generator, { teacher: w, student: s, truth: g }) {
  const { phi, z } = CURVES[generator];
  const divergence = (a, b) => phi(a) - phi(b) - z(b) * (a - b);
  return { misfit: divergence(s, w), residual: (z(w) - z(s)) * (g - s), gain: divergence(g, w) - divergence(g, s) };
}

/** To three decimals, and such that the numbers on show balance as well. */
function rounded({ misfit, gain }) {
  const [m, g] = [misfit, gain].map((x) => Math.round(1000 * x));
  const text = (x) => (x / 1000).toFixed(3).replace("-", "−");
  return { misfit: text(m), residual: text(m - g), gain: text(g) };
}

/** What the account says: a headline, and the sum behind it. */
function verdict({ teacher: w, student: s, truth: g }, { gain, residual }, { misfit, ...numbers }) {
  const loss = `The residual is larger than the misfit: a loss of ${numbers.gain.replace("−", "")}.`;
  if (s === w) return ["The student copies its teacher.", "No misfit, no residual, no gain."];
  if (w === g) return ["The teacher was right, and the student left it.", loss];
  if (s === g) return ["The student found the truth.", `Of its misfit of ${misfit} nothing is lost: all of it is gain.`];
  if ((s - w) * (g - w) < 0) return ["The student left its teacher in the wrong direction.", loss];
  if (residual < 0)
    return ["The student moved towards the truth, and beats its teacher.", "The residual is below zero: the gain is larger than the misfit."];
  if (gain > 0)
    return ["The student went past the truth, and still beats its teacher.", `Of its misfit of ${misfit} the residual takes ${numbers.residual}.`];
  if (gain < 0) return ["The student went too far past the truth, and loses to its teacher.", loss];
  return ["The student went past the truth, and is as good as its teacher.", `The residual takes all of its misfit of ${misfit}.`];
}

// ------------------------------------------------------------------------------------------------------ the picture

function adder(create) {
  return (parent, tag, attributes = {}, text = "") => {
    const node = parent.appendChild(create(tag));
    set(node, attributes);
    if (text) node.append(text);
    return node;
  };
}
const html = adder((tag) => document.createElement(tag));
const svg = adder((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));

/** Change what differs: an attribute or a text that is set anew costs a frame's work even if it is the same. */
function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes))
    if (node.getAttribute(name) !== `${value}`) node.setAttribute(name, value);
}
function write(node, text) {
  const { data } = node.firstChild ?? node.appendChild(new Text());
  if (data !== text) node.firstChild.data = text;
}

/** One node for each name, by name. */
const each = (names, make) => Object.fromEntries(names.map((name) => [name, make(name)]));

/** All parts of the picture, without a place yet. */
function build(el, colors) {
  // JupyterLab's shortcuts would take the arrow keys
  const root = html(el, "div", { class: "live-ledger is-fresh", "data-lm-suppress-shortcuts": "true" });
  for (const [concept, color] of Object.entries(colors)) root.style.setProperty(`--${concept}`, color);
  const words = html(root, "p", { class: "live-ledger-words" });
  const headline = html(words, "strong"), sum = html(words, "span");
  const picture = svg(root, "svg", { role: "group", "aria-label": "Teacher, student and truth on a curve" });

  const id = `live-ledger-${Math.random().toString(36).slice(2)}`;
  const hatch = svg(svg(picture, "defs"), "pattern", {
    id, width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(-45)",
  });
  svg(hatch, "rect", { class: "paper", width: 7, height: 7 }); // a residual covers the misfit that it takes
  svg(hatch, "rect", { class: "tint residual", width: 7, height: 7 });
  svg(hatch, "rect", { class: "line residual", width: 2.4, height: 7 });

  const plot = svg(picture, "g", { "aria-hidden": "true" });
  const frame = svg(plot, "path", { class: "axis" });
  const areas = {
    misfit: svg(plot, "path", { class: "area tint misfit" }),
    residual: svg(plot, "path", { class: "area residual", fill: `url(#${id})` }),
    covered: svg(plot, "path", { class: "area misfit", fill: "none" }),
  };
  const levels = each(["teacher", "student"], (name) => svg(plot, "path", { class: `level ${name}` }));
  const curve = svg(plot, "path", { class: "curve" });
  const outlines = each(["gain", "lost"], (name) => svg(plot, "path", { class: `outline ${name}` }));
  const leaders = each(POINTS, (name) => svg(plot, "path", { class: `leader ${name}` }));
  const labels = each(POINTS, (name) => {
    const label = svg(plot, "text", { class: "label" });
    svg(label, "tspan", { x: 0 }, name);
    return { label, value: svg(label, "tspan", { class: "number", x: 0, dy: 17 }) };
  });
  const ticks = each(["0", "1", "prediction f", "z"], (text) => svg(plot, "text", { class: "tick", "text-anchor": "middle" }, text));
  const names = each([...ENTRIES, "lost"], (name) => svg(plot, "text", { class: "name" }, name));

  const shapes = { teacher: "M-12,0A12,12 0 1 1 12,0A12,12 0 1 1 -12,0Z", student: "M-12,-12H12V12H-12Z", truth: "M0,-16L16,0L0,16L-16,0Z" };
  const handles = each(POINTS, (name) => {
    const handle = svg(picture, "g", { class: `handle ${name}`, role: "slider", tabindex: 0, "aria-label": name });
    svg(handle, "circle", { class: "target", r: 22 });
    svg(handle, "circle", { class: "ring", r: 20 });
    svg(handle, "path", { class: "symbol", d: shapes[name] });
    return handle;
  });

  const balance = svg(picture, "g", { role: "img" });
  const rule = svg(balance, "path", { class: "axis" });
  const rows = each(ENTRIES, (entry) => ({
    bar: svg(balance, "rect", { class: `bar ${entry}`, fill: `url(#${id})` }),
    name: svg(balance, "text", { class: "row" }, { misfit: "misfit", residual: "− residual", gain: "= gain" }[entry]),
    number: svg(balance, "text", { class: "number" }),
  }));
  const scale = {
    zero: svg(balance, "text", { class: "tick", "text-anchor": "middle" }, "0"),
    unit: svg(balance, "text", { class: "tick", "text-anchor": "end" }),
  };

  const controls = html(root, "div", { class: "live-ledger-controls" });
  const label = html(controls, "label");
  html(label, "span", {}, "Loss ");
  const menu = html(label, "select");
  for (const [generator, { loss }] of Object.entries(CURVES)) html(menu, "option", { value: generator }, loss);
  const buttons = each(["Random pair", "Reset"], (text) => html(controls, "button", { type: "button" }, text));
  const spoken = html(root, "p", { class: "live-ledger-spoken", "aria-live": "polite" });
  return {
    root, headline, sum, picture, frame, areas, levels, curve, outlines, leaders, labels, ticks, names, handles, balance,
    rule, rows, scale, menu, buttons, spoken,
  };
}

/** Where things stand in a picture that is so many pixels wide. */
function measure(width) {
  const narrow = width < NARROW, top = 24, bottom = top + (narrow ? 230 : 250), row = narrow ? 30 : 34;
  return {
    width, top, bottom, row, left: 24, right: width - 24,
    account: bottom + 80, // top of the balance
    number: narrow ? 140 : 170, // right end of its numbers
    bars: [narrow ? 152 : 200, width - 4],
    height: bottom + 80 + 3 * row + 26,
  };
}

/** Draw what the three points say. */
function draw(parts, place, bounds, at) {
  const { teacher: w, student: s, truth: g } = at, { z, dual } = CURVES[at.generator];
  const entries = ledger(at.generator, at), numbers = rounded(entries);
  const [floor, roof] = bounds.map(z), { left, right, top, bottom } = place;
  const X = (f) => left + f * (right - left);
  const Y = (v) => bottom - ((v - floor) / (roof - floor)) * (bottom - top);
  const xy = (f, v) => `${X(f).toFixed(1)},${Y(v).toFixed(1)}`;
  const along = (a, b, steps = PIECES) =>
    Array.from({ length: steps + 1 }, (_, i) => a + ((b - a) * i) / steps).map((f) => xy(f, z(f))).join("L");
  const area = (a, b) => `M${along(b, a)}L${xy(a, z(b))}Z`; // D(a, b)

  set(parts.curve, { d: `M${along(...bounds, 2 * PIECES)}` });
  const misfit = area(s, w);
  for (const part of [parts.areas.misfit, parts.areas.covered]) set(part, { d: misfit });
  set(parts.areas.residual, { d: `M${xy(s, z(s))}L${xy(g, z(s))}L${xy(g, z(w))}L${xy(s, z(w))}Z` });
  // D(g, w) and D(g, s) lie apart, on both sides of the truth, or one holds the other: then the rest is gain, or lost
  const [far, near] = Math.abs(w - g) > Math.abs(s - g) ? [w, s] : [s, w];
  const rest = `M${along(far, near)}L${xy(g, z(near))}L${xy(g, z(far))}Z`;
  const apart = (w - g) * (s - g) <= 0;
  set(parts.outlines.gain, { d: apart ? area(g, w) : far === w ? rest : "" });
  set(parts.outlines.lost, { d: apart ? area(g, s) : far === s ? rest : "" });

  for (const name of ["teacher", "student"]) set(parts.levels[name], { d: `M${left},${Y(z(at[name])).toFixed(1)}H${right}` });
  for (const name of POINTS)
    set(parts.handles[name], {
      transform: `translate(${xy(at[name], z(at[name]))})`,
      "aria-valuemin": bounds[0], "aria-valuemax": bounds[1], "aria-valuenow": at[name],
      "aria-valuetext": `${at[name].toFixed(2)}, ${dual}: ${z(at[name]).toFixed(2)}`,
    });
  write(parts.ticks.z, `z = ${dual}`);
  nameAreas(parts.names, at, X, (f) => Y(z(f)));
  namePoints(parts, place, at, X, (f) => Y(z(f)));
  weigh(parts, place, entries, numbers);

  const [headline, sum] = verdict(at, entries, numbers);
  write(parts.headline, headline);
  write(parts.sum, sum);
  if (parts.menu.value !== at.generator) parts.menu.value = at.generator;
}

/** The names of the areas, where there is room; `Y` of the curve at f. */
function nameAreas(names, { teacher: w, student: s, truth: g }, X, Y) {
  const show = (name, fits, x, y, anchor = "middle", angle = 0) =>
    set(names[name], {
      transform: `translate(${x.toFixed(1)},${y.toFixed(1)}) rotate(${angle})`, "text-anchor": anchor,
      visibility: fits ? "visible" : "hidden",
    });
  const width = (a, b) => Math.abs(X(a) - X(b)), below = s > w; // the misfit lies below the curve, or above
  const strayed = (s - w) * (g - w) < 0, past = (s - g) * (w - g) < 0;

  const end = past ? g : s, inner = w + 0.7 * (end - w), height = Math.abs(Y(inner) - Y(w));
  show("misfit", width(end, w) > 90 && height > 30, X(inner), Y(w) + 0.42 * (Y(inner) - Y(w)) + 5);

  const edge = strayed ? w : s, tall = Math.abs(Y(s) - Y(w)), wide = width(edge, g);
  const x = (X(edge) + X(g)) / 2, y = (Y(s) + Y(w)) / 2;
  if (wide > 70) show("residual", tall > 22, x, y + 5);
  else show("residual", wide > 36 && tall > 76, x + 5, y, "middle", -90);

  const half = (w + end) / 2, side = below ? -1 : 1;
  const gained = !strayed && Math.abs(g - w) > Math.abs(s - g) * (past ? 0 : 1);
  show("gain", gained && width(end, w) > 60, X(half) + 9 * side, Y(half) + (below ? -9 : 19), below ? "end" : "start");
  show("lost", (strayed || past) && width(s, g) > 36 && tall > 10, (X(s) + X(g)) / 2, Y(s) + (s > g ? -8 : 19));
}

/** The names of the points below the axis, pushed apart where they are close; `Y` of the curve at f. */
function namePoints({ labels, leaders }, { width, bottom }, at, X, Y) {
  const half = 34, order = [...POINTS].sort((a, b) => at[a] - at[b]), spots = order.map((name) => X(at[name]));
  spots.forEach((spot, i) => (spots[i] = Math.max(spot, i ? spots[i - 1] + 2 * half : half)));
  for (let i = 2, limit = width - half; i >= 0; i--, limit = spots[i + 1] - 2 * half) spots[i] = Math.min(spots[i], limit);
  order.forEach((name, i) => {
    set(labels[name].label, { transform: `translate(${spots[i].toFixed(1)},${bottom + 44})` });
    write(labels[name].value, at[name].toFixed(2));
    const [x, y, spot] = [X(at[name]), Y(at[name]), spots[i]].map((pixels) => pixels.toFixed(1));
    set(leaders[name], { d: `M${x},${y}V${bottom + 8}L${spot},${bottom + 30}` });
  });
}

/** The balance: misfit from zero, the residual from there back to the gain, the gain from zero. */
function weigh({ balance, rule, rows, scale }, { account, row, number, bars: [first, last] }, { misfit, gain }, numbers) {
  const zero = first + 0.3 * (last - first);
  const perPixel = Math.max(misfit / (last - zero), gain / (last - zero), -gain / (zero - first), 1e-4 / (last - zero));
  const need = perPixel * (last - zero), ten = 10 ** Math.floor(Math.log10(need));
  const unit = ten * [1, 2, 5, 10].find((k) => k * ten > need * 0.999), pixels = (last - zero) / unit;
  const spans = { misfit: [0, misfit], residual: [misfit, gain], gain: [0, gain] };
  ENTRIES.forEach((entry, i) => {
    const [a, b] = spans[entry].map((x) => zero + x * pixels), top = account + i * row, line = top + row / 2 + 5;
    set(rows[entry].bar, { x: Math.min(a, b), y: top + 5, width: Math.abs(b - a), height: row - 10 });
    set(rows[entry].name, { x: 2, y: line });
    set(rows[entry].number, { x: number, y: line });
    write(rows[entry].number, numbers[entry]);
  });
  rows.gain.bar.classList.toggle("lost", gain < 0);
  const end = account + 3 * row;
  set(rule, { d: `M2,${end - row}H${number}M${zero},${account}V${end + 5}M${last - 0.5},${end}v5` });
  set(scale.zero, { x: zero, y: end + 19 });
  set(scale.unit, { x: last, y: end + 19 });
  write(scale.unit, `${+unit.toPrecision(1)}`);
  set(balance, { "aria-label": `misfit ${numbers.misfit}, minus residual ${numbers.residual}, is gain ${numbers.gain}` });
}

// ------------------------------------------------------------------------------------------------------- its reader

function render({ model, el }) {
  const parts = build(el, model.get("colors")), start = state();
  let place = null, frame = 0, held = null, gliding = 0, resting = 0;

  function state() {
    return each([...POINTS, "generator"], (name) => model.get(name));
  }
  function bounds(generator = model.get("generator")) {
    return model.get("bounds")[generator];
  }
  /** Set points, each within the bounds of the curve, and perhaps the generator. */
  function move({ generator = model.get("generator"), ...points }) {
    const [low, high] = bounds(generator);
    model.set("generator", generator);
    for (const [name, f] of Object.entries(points))
      model.set(name, Math.min(high, Math.max(low, Math.round(f * GRID) / GRID)));
    model.save_changes();
  }

  function schedule() {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      if (!place) return; // not laid out yet
      draw(parts, place, bounds(), state());
      clearTimeout(resting);
      resting = setTimeout(() => write(parts.spoken, `${parts.headline.textContent} ${parts.sum.textContent}`), REST);
    });
  }
  function lay(width) {
    if (!width || width === place?.width) return;
    place = measure(width);
    const { left, right, bottom, top, height } = place, { ticks } = parts;
    set(parts.picture, { width, height, viewBox: `0 0 ${width} ${height}` });
    set(parts.frame, { d: `M${left},${bottom + 8}H${right}` });
    set(ticks["0"], { x: left, y: bottom + 24 });
    set(ticks["1"], { x: right, y: bottom + 24 });
    set(ticks["prediction f"], { x: right, y: bottom + 2, "text-anchor": "end" });
    set(ticks.z, { x: 2, y: top - 10, "text-anchor": "start" });
    schedule();
  }

  // by mouse and touch: the point nearest to the pointer, however the points overlap
  function under(event) {
    const { left } = parts.picture.getBoundingClientRect();
    return (event.clientX - left - place.left) / (place.right - place.left);
  }
  function grab(event) {
    if (event.button) return;
    const distance = (name) => {
      const { left, top, width, height } = parts.handles[name].firstChild.getBoundingClientRect();
      return Math.hypot(left + width / 2 - event.clientX, top + height / 2 - event.clientY);
    };
    const name = POINTS.reduce((a, b) => (distance(b) <= distance(a) ? b : a));
    cancelAnimationFrame(gliding);
    held = { name, offset: model.get(name) - under(event) };
    event.currentTarget.setPointerCapture(event.pointerId);
    parts.handles[name].focus({ preventScroll: true });
    event.preventDefault();
  }
  function drag(event) {
    if (held) move({ [held.name]: under(event) + held.offset });
  }
  function release() {
    held = null;
  }

  function press(event, name) {
    const value = model.get(name), [low, high] = bounds(), step = event.shiftKey ? LEAP : STEP;
    const to = {
      ArrowRight: value + step, ArrowUp: value + step, ArrowLeft: value - step, ArrowDown: value - step,
      PageUp: value + LEAP, PageDown: value - LEAP, Home: low, End: high,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    move({ [name]: to });
  }

  /** Let points glide to where they shall be; at once for a reader who wants no motion. */
  function glide(points) {
    cancelAnimationFrame(gliding);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return move(points);
    const from = state(), began = performance.now();
    const step = (now) => {
      const t = Math.min(1, Math.max(0, (now - began) / GLIDE)), share = 1 - (1 - t) ** 3;
      move(each(Object.keys(points), (name) => from[name] + share * (points[name] - from[name])));
      if (t < 1) gliding = requestAnimationFrame(step);
    };
    gliding = requestAnimationFrame(step);
  }
  function randomPair() {
    const [low, high] = bounds(), anywhere = () => low + Math.random() * (high - low);
    glide({ teacher: anywhere(), student: anywhere() });
  }
  function reset() {
    const { generator, ...points } = start;
    move({ ...state(), generator });
    glide(points);
  }

  for (const name of POINTS) {
    const handle = parts.handles[name];
    handle.addEventListener("pointerdown", grab);
    handle.addEventListener("pointermove", drag);
    // for browsers that heed no touch-action inside an svg
    handle.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    for (const end of ["pointerup", "pointercancel"]) handle.addEventListener(end, release);
    handle.addEventListener("keydown", (event) => press(event, name));
    handle.addEventListener("focus", () => parts.root.classList.remove("is-fresh"));
  }
  parts.buttons["Random pair"].addEventListener("click", randomPair);
  parts.buttons.Reset.addEventListener("click", reset);
  parts.menu.addEventListener("change", () => move({ ...state(), generator: parts.menu.value }));
  const changes = Object.keys(start).map((name) => `change:${name}`);
  for (const change of changes) model.on(change, schedule);
  const observer = new ResizeObserver(([entry]) => lay(Math.floor(entry.contentRect.width)));
  observer.observe(parts.root);
  return () => {
    observer.disconnect();
    clearTimeout(resting);
    for (const request of [frame, gliding]) cancelAnimationFrame(request);
    for (const change of changes) model.off(change, schedule);
  };
}

export default { render };
