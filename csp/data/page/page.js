"use strict";
/* The page of a prediction: crystals in 3D, powder patterns, two crystals side by side.
   All that it shows is in the page; nothing is loaded. */
(() => {
  const DATA = JSON.parse(document.getElementById("crystals").textContent);
  const VIEWS = 4; // WebGL contexts at once; browsers allow 8 to 16
  const EDGE = 1e-3; // fractional; an atom that is so near to a face is on it
  const LARGEST = 4000; // atoms of a supercell, at most
  const cards = [...document.querySelectorAll(".card")];

  // -- geometry -----------------------------------------------------------------------------------

  const dot = (u, v) => u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
  const cross = (u, v) => [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
  const minus = (u, v) => [u[0] - v[0], u[1] - v[1], u[2] - v[2]];
  const unit = (u) => u.map((x) => x / Math.hypot(...u));
  const cartesian = (cell, f) => [0, 1, 2].map((k) => f[0] * cell[0][k] + f[1] * cell[1][k] + f[2] * cell[2][k]);
  const point = (p) => ({ x: p[0], y: p[1], z: p[2] });

  /** The quaternion that turns `toward` to the eye, and `up` upwards as far as it can be. */
  function facing(toward, up) {
    const z = unit(toward), x = unit(cross(up, z)), y = cross(z, x);
    const [m, n, o] = [x, y, z]; // rows of the rotation
    const w = Math.sqrt(Math.max(0, 1 + m[0] + n[1] + o[2])) / 2;
    if (w > 1e-4) return [(o[1] - n[2]) / (4 * w), (m[2] - o[0]) / (4 * w), (n[0] - m[1]) / (4 * w), w];
    const k = [m[0], n[1], o[2]].indexOf(Math.max(m[0], n[1], o[2]));
    const half = [m, n, o].map((row, i) => (row[k] + (i === k ? 1 : 0)) / 2);
    const length = Math.hypot(...half);
    return [...half.map((q) => q / length), 0];
  }

  // -- a crystal in 3D ----------------------------------------------------------------------------

  /** Atoms of n × n × n cells with all on their faces, the corners of polyhedra, bonds between what is there. */
  function assemble(scene, n, polyhedra) {
    const atoms = new Map(), faces = [];
    const key = (k, t) => `${k},${t}`;
    const add = (k, t) => {
      if (!atoms.has(key(k, t))) {
        const [element, ...f] = scene.atoms[k];
        atoms.set(key(k, t), { k, t, element, place: cartesian(scene.cell, f.map((x, i) => x + t[i])) });
      }
      return atoms.get(key(k, t));
    };
    const images = (f) => {
      const found = [];
      for (let t = 0; f + t <= n + EDGE; t++) found.push(t);
      if (f >= 1 - EDGE) found.unshift(-1);
      return found;
    };
    scene.atoms.forEach(([, x, y, z], k) => {
      for (const a of images(x)) for (const b of images(y)) for (const c of images(z)) add(k, [a, b, c]);
    });
    if (polyhedra) {
      const inside = [...atoms.values()];
      for (const [centre, corners, triangles] of scene.polyhedra) {
        for (const atom of inside.filter((one) => one.k === centre)) {
          const places = corners.map(([j, ...shift]) => add(j, shift.map((s, i) => s + atom.t[i])).place);
          faces.push({ atom, centre: atom.place, triangles: triangles.map((t) => t.map((c) => places[c])) });
        }
      }
    }
    const list = [...atoms.values()];
    list.forEach((atom, index) => Object.assign(atom, { index, bonds: [] }));
    for (const [i, j, ...shift] of scene.bonds) {
      for (const atom of list) {
        if (atom.k !== i) continue;
        const other = atoms.get(key(j, shift.map((s, x) => s + atom.t[x])));
        if (other) { atom.bonds.push(other.index); other.bonds.push(atom.index); }
      }
    }
    return { atoms: list, faces };
  }

  function drawCell(viewer, cell) {
    const corner = (f) => point(cartesian(cell, f));
    for (let axis = 0; axis < 3; axis++) {
      for (const [u, v] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
        const from = [0, 0, 0], to = [0, 0, 0];
        from[(axis + 1) % 3] = to[(axis + 1) % 3] = u;
        from[(axis + 2) % 3] = to[(axis + 2) % 3] = v;
        to[axis] = 1;
        viewer.addCylinder({ start: corner(from), end: corner(to), radius: 0.025, color: "#555c66" });
      }
      const tip = [0, 0, 0];
      tip[axis] = 1.06;
      viewer.addLabel("abc"[axis], {
        position: corner(tip), fontColor: "#1d2129", backgroundOpacity: 0, fontSize: 15, inFront: true, alignment: "center",
      });
    }
  }

  function drawFaces(viewer, faces, colourOf) {
    for (const colour of new Set(faces.map((face) => colourOf(face.atom)))) {
      const vertexArr = [], normalArr = [], faceArr = [];
      for (const face of faces.filter((one) => colourOf(one.atom) === colour)) {
        for (let [p, q, r] of face.triangles) {
          let normal = unit(cross(minus(q, p), minus(r, p)));
          if (dot(normal, minus(p, face.centre)) < 0) [q, r, normal] = [r, q, normal.map((x) => -x)];
          for (const [corners, side] of [[[p, q, r], 1], [[r, q, p], -1]]) { // both sides are lit
            for (const corner of corners) {
              faceArr.push(vertexArr.length);
              vertexArr.push(point(corner));
              normalArr.push(point(normal.map((n) => side * n)));
            }
          }
        }
      }
      viewer.addCustom({ vertexArr, normalArr, faceArr, color: colour, alpha: 0.5, side: 0 });
    }
  }

  function draw(viewer, { scene, colours }, shown) {
    viewer.removeAllModels();
    viewer.removeAllShapes();
    viewer.removeAllLabels();
    const { atoms, faces } = assemble(scene, shown.cells, shown.polyhedra);
    const bonded = shown.bonds && scene.bonds.length > 0;
    const colourOf = ({ element, k }) => shown.colour ? colours[shown.colour][k] : scene.elements[element][1];
    const model = viewer.addModel();
    model.addAtoms(atoms.map((atom) => ({
      elem: scene.elements[atom.element][0], ...point(atom.place), properties: { colour: colourOf(atom) },
      bonds: bonded ? atom.bonds : [], bondOrder: bonded ? atom.bonds.map(() => 1) : [],
    })));
    const colorfunc = (atom) => atom.properties.colour;
    for (const [elem, , radius] of scene.elements) {
      const style = { sphere: { radius: bonded ? radius : 1.6 * radius, colorfunc } };
      if (bonded) style.stick = { radius: 0.09, colorfunc };
      model.setStyle({ elem }, style);
    }
    drawFaces(viewer, faces, colourOf);
    drawCell(viewer, scene.cell);
    viewer.zoomTo();
    viewer.render();
  }

  /** As large as the view has room for, all atoms and the whole cell in it. */
  function fill(viewer, cell) {
    const box = viewer.getCanvas().getBoundingClientRect();
    const places = viewer.selectedAtoms({}).map(({ x, y, z }) => ({ x, y, z }));
    const mean = (name) => places.reduce((sum, place) => sum + place[name], 0) / places.length;
    const centre = { x: mean("x"), y: mean("y"), z: mean("z") }; // which the view turns about
    const corners = [0, 1, 2, 3, 4, 5, 6, 7].map((k) => point(cartesian(cell, [k & 1, (k >> 1) & 1, k >> 2])));
    const [middle, ...spots] = viewer.modelToScreen([centre, ...places, ...corners]);
    const reach = (name) => Math.max(...spots.map((spot) => Math.abs(spot[name] - middle[name])));
    const factor = Math.min((box.width / 2 - 30) / (reach("x") + 10), (box.height / 2 - 30) / (reach("y") + 10));
    if (Number.isFinite(factor) && factor > 0) viewer.zoom(Math.min(factor, 3));
  }

  /** Along a direction in the cell; from a little beside and above where none is named. */
  function look(viewer, cell, along) {
    const axis = { a: 0, b: 1, c: 2 }[along];
    const normal = cross(cell[0], cell[1]); // along c of all but oblique cells
    const toward = axis === undefined ? cross(cell[1], normal) : cell[axis];
    const up = axis === 2 ? cell[1] : axis === undefined ? normal : cell[2];
    viewer.setView([...viewer.getView().slice(0, 4), ...facing(toward, up)]);
    if (axis === undefined) viewer.rotate(-18, "y").rotate(14, "x");
    fill(viewer, cell);
    viewer.render();
  }

  // -- few WebGL views for many cards ---------------------------------------------------------------

  const pool = []; // {viewer, holder, card}, used last at the end
  let webgl = hasWebGL();

  function hasWebGL() {
    const canvas = document.createElement("canvas");
    const context = canvas.getContext("webgl2") || canvas.getContext("webgl");
    context?.getExtension("WEBGL_lose_context")?.loseContext();
    return Boolean(context);
  }

  function newView(card) {
    const holder = document.createElement("div");
    holder.className = "holder";
    card.querySelector(".view").append(holder); // it has to have a size
    try {
      const viewer = $3Dmol.createViewer(holder, { backgroundColor: "#f6f7f9", orthographic: true, disableFog: true });
      if (!viewer || !viewer.getCanvas()) throw new Error("no canvas");
      return { viewer, holder, card: null };
    } catch (error) {
      holder.remove();
      return null;
    }
  }

  /** Leaves a picture in the card of a view that is taken away. */
  function release(view) {
    if (!view.card) return;
    const state = view.card.state;
    state.view = view.viewer.getView();
    state.live = null;
    const picture = view.card.querySelector(".still");
    picture.src = view.viewer.pngURI();
    picture.hidden = false;
    view.card = null;
  }

  function visible(card) {
    const box = card.querySelector(".view").getBoundingClientRect();
    return box.bottom > 0 && box.top < window.innerHeight && box.width > 0;
  }

  function show(card) {
    if (!webgl || card.state.live) return;
    let view = pool.length < VIEWS ? newView(card) : pool.find((one) => !one.card || !visible(one.card)) || pool[0];
    if (!view) {
      webgl = pool.length > 0;
      if (!webgl) cards.forEach(noWebGL);
      return;
    }
    release(view);
    if (pool.includes(view)) pool.splice(pool.indexOf(view), 1);
    pool.push(view);
    card.querySelector(".view").append(view.holder);
    card.querySelector(".still").hidden = true;
    view.card = card;
    card.state.live = view.viewer;
    view.viewer.resize();
    draw(view.viewer, DATA[card.dataset.place], card.state);
    if (card.state.view) view.viewer.setView(card.state.view);
    else look(view.viewer, DATA[card.dataset.place].scene.cell);
    card.querySelector(".view").dataset.drawn = "yes";
  }

  function noWebGL(card) {
    card.querySelector(".view").textContent = "This browser has no WebGL to draw with. The CIF opens in VESTA and others.";
    card.querySelector(".tools").hidden = true;
    card.querySelectorAll(".shares").forEach((words) => { words.hidden = false; });
  }

  function redraw(card) {
    card.state.view = null;
    if (!card.state.live) return show(card);
    draw(card.state.live, DATA[card.dataset.place], card.state);
    look(card.state.live, DATA[card.dataset.place].scene.cell);
  }

  /** By elements, or by what the sites add to a property; the crystal stays as it is turned. */
  function recolour(card, choice) {
    card.state.colour = choice;
    card.querySelector(".legend").hidden = choice !== "";
    card.querySelectorAll(".shares").forEach((words, k) => { words.hidden = String(k) !== choice; });
    show(card);
    const { live } = card.state;
    if (!live) return;
    const view = live.getView();
    draw(live, DATA[card.dataset.place], card.state);
    live.setView(view);
  }

  function prepareView(card) {
    const { scene } = DATA[card.dataset.place];
    card.state = { cells: 1, bonds: true, polyhedra: scene.polyhedra.length > 0, colour: "", view: null, live: null };
    const box = card.querySelector(".view");
    card.querySelectorAll(".tools [data-along]").forEach((button) => button.addEventListener("click", () => {
      show(card);
      if (card.state.live) look(card.state.live, scene.cell, button.dataset.along);
    }));
    card.querySelectorAll(".tools input").forEach((input) => {
      if (input.name === "polyhedra" && !scene.polyhedra.length) input.parentElement.hidden = true;
      if (input.name === "bonds" && !scene.bonds.length) input.parentElement.hidden = true;
      input.checked = card.state[input.name];
      input.addEventListener("change", () => { card.state[input.name] = input.checked; redraw(card); });
    });
    const colour = card.querySelector("select[name=colour]");
    colour?.addEventListener("change", () => recolour(card, colour.value));
    const cells = card.querySelector("select[name=cells]");
    for (const option of cells.options) option.disabled = option.value ** 3 * scene.atoms.length > LARGEST;
    cells.value = "1";
    cells.addEventListener("change", () => { card.state.cells = Number(cells.value); redraw(card); });
    // The wheel scrolls the page and a finger moves it until the view is chosen.
    const chosen = () => document.activeElement === box;
    box.addEventListener("wheel", (event) => { if (!chosen()) event.stopPropagation(); }, { capture: true });
    for (const name of ["touchstart", "touchmove"]) {
      box.addEventListener(name, (event) => { if (!chosen()) event.stopPropagation(); }, { capture: true, passive: true });
    }
    box.addEventListener("click", () => box.focus({ preventScroll: true }));
    box.addEventListener("keydown", (event) => {
      const turn = { ArrowLeft: [-10, "y"], ArrowRight: [10, "y"], ArrowUp: [-10, "x"], ArrowDown: [10, "x"] }[event.key];
      const zoom = { "+": 1.15, "=": 1.15, "-": 1 / 1.15 }[event.key];
      if (!(turn || zoom) || event.target !== box) return;
      show(card);
      if (!card.state.live) return;
      event.preventDefault();
      if (turn) card.state.live.rotate(...turn); else card.state.live.zoom(zoom);
      card.state.live.render();
    });
  }

  // -- powder patterns -------------------------------------------------------------------------------

  const svg = (name, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  let wavelength = 1.54184;
  const MARGIN = { left: 12, right: 12, top: 22, bottom: 58 };
  const POINTS = 1800; // of a curve
  const printed = (planes) => planes.replace(/-(\d+)/g, (_, digits) => [...digits].map((d) => `${d}\u0305`).join(""));

  /** [2θ in degrees, intensity with 100 for the strongest, spacing, planes] of what reflects below 2θ = `most`. */
  function angles(reflections, most) {
    const found = [];
    for (const [spacing, strength, planes] of reflections) {
      const sine = wavelength / (2 * spacing);
      if (sine >= Math.sin((most / 2) * Math.PI / 180)) continue;
      const theta = Math.asin(sine);
      const factor = (1 + Math.cos(2 * theta) ** 2) / (sine ** 2 * Math.cos(theta));
      found.push([2 * theta * 180 / Math.PI, strength * factor, spacing, planes]);
    }
    return found;
  }

  function drawPattern(card) {
    const { pattern, shortest } = DATA[card.dataset.place];
    const box = card.querySelector(".pattern");
    if (!box || !pattern.length) return;
    const most = Math.min(90, Math.floor(2 * Math.asin(Math.min(1, wavelength / (2 * shortest))) * 180 / Math.PI));
    const least = Math.max(1, Math.floor(most / 18));
    const peaks = angles(pattern, most).filter(([angle]) => angle >= least);
    const strongest = Math.max(...peaks.map((peak) => peak[1]), 1e-9);
    peaks.forEach((peak) => { peak[1] *= 100 / strongest; });
    const width = Math.max(240, box.clientWidth), height = 224;
    const x = (angle) => MARGIN.left + (angle - least) / (most - least) * (width - MARGIN.left - MARGIN.right);
    const y = (intensity) => height - MARGIN.bottom - intensity / 100 * (height - MARGIN.top - MARGIN.bottom);
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
      "aria-label": `Powder pattern at ${wavelength} Å; the table below it lists the strongest reflections.` });
    picture.append(svg("line", { x1: x(least), x2: x(most), y1: y(0), y2: y(0), class: "axis" }));
    const step = [1, 2, 5, 10, 20].find((s) => (most - least) / s <= width / 48);
    for (let angle = Math.ceil(least / step) * step; angle <= most; angle += step) {
      picture.append(svg("line", { x1: x(angle), x2: x(angle), y1: y(0), y2: y(0) + 5, class: "axis" }));
      picture.append(svg("text", { x: x(angle), y: y(0) + 18, "text-anchor": "middle" }, angle));
    }
    picture.append(svg("text", { x: width / 2, y: height - 6, "text-anchor": "middle" }, "2θ (°)"));
    const curve = profile(peaks, least, most);
    const path = Array.from(curve, (value, k) => `${x(least + k / POINTS * (most - least)).toFixed(1)},${y(value).toFixed(1)}`);
    picture.append(svg("path", { d: `M${path.join("L")}`, class: "profile" }));
    for (const [angle, intensity, spacing, planes] of peaks) {
      const mark = svg("line", { x1: x(angle), x2: x(angle), y1: y(0) + 24, y2: y(0) + 34, class: "peak" });
      mark.append(svg("title", {}, `${printed(planes)}: 2θ ${angle.toFixed(2)}°, d ${spacing.toFixed(3)} Å, I ${intensity.toFixed(1)}`));
      picture.append(mark);
    }
    const heightAt = (angle) => curve[Math.round((angle - least) / (most - least) * POINTS)];
    const labelled = [];
    for (const [angle, , , planes] of [...peaks].sort((p, q) => heightAt(q[0]) - heightAt(p[0]) || q[1] - p[1])) {
      const name = printed(planes).split(",")[0];
      const half = Math.max(16, 3.5 * name.length); // of its width, so that none is cut off at an edge
      const at = Math.min(Math.max(x(angle), half), width - half);
      if (labelled.length === 12 || labelled.some((other) => Math.abs(other - at) < 36)) continue;
      labelled.push(at);
      picture.append(svg("text", { x: at, y: y(heightAt(angle)) - 5, "text-anchor": "middle" }, name));
    }
    box.replaceChildren(picture);
    const rows = [...peaks].sort((p, q) => q[1] - p[1]).slice(0, 12).sort((p, q) => p[0] - q[0]);
    card.querySelector(".reflections").replaceChildren(...rows.map(([angle, intensity, spacing, planes]) => {
      const row = document.createElement("tr");
      for (const text of [printed(planes), angle.toFixed(2), spacing.toFixed(3), intensity.toFixed(0)]) {
        const cell = row.insertCell();
        cell.textContent = text;
        cell.className = row.cells.length > 1 ? "n" : "";
      }
      return row;
    }));
  }

  /** At `POINTS` + 1 angles, 100 for the highest: each peak half Gauss, half Lorentz, as wide as usual. */
  function profile(peaks, least, most) {
    const half = POINTS / 900; // of the width at half the height, in steps
    const values = new Float64Array(POINTS + 1);
    for (const [angle, intensity] of peaks) {
      const centre = (angle - least) / (most - least) * POINTS, reach = 20 * half;
      for (let k = Math.max(0, Math.ceil(centre - reach)); k <= Math.min(POINTS, centre + reach); k++) {
        const u = ((k - centre) / half) ** 2;
        values[k] += intensity * (0.5 / (1 + u) + 0.5 * Math.exp(-Math.LN2 * u));
      }
    }
    const top = Math.max(...values, 1e-9);
    return values.map((value) => value / top * 100);
  }

  function preparePattern(card) {
    const choice = card.querySelector("select[name=wavelength]");
    const own = card.querySelector("input[name=angstrom]");
    if (!choice) return;
    const use = (value) => {
      if (!(value >= 0.1 && value <= 5)) return;
      wavelength = value;
      for (const other of cards) {
        const select = other.querySelector("select[name=wavelength]");
        if (!select) continue;
        select.value = [...select.options].some((option) => Number(option.value) === value) ? String(value) : "";
        other.querySelector("input[name=angstrom]").value = value;
        if (other.querySelector(".pattern svg")) drawPattern(other);
      }
    };
    choice.addEventListener("change", () => { if (choice.value) use(Number(choice.value)); else own.focus(); });
    own.addEventListener("change", () => use(Number(own.value)));
    new ResizeObserver(() => { if (card.querySelector(".pattern svg")) drawPattern(card); }).observe(card.querySelector(".pattern"));
  }

  // -- two side by side -------------------------------------------------------------------------------

  const list = document.querySelector(".cards");
  const bar = document.querySelector(".comparison");

  function compare() {
    const chosen = cards.filter((card) => card.querySelector(".compare").getAttribute("aria-pressed") === "true");
    const two = chosen.length === 2;
    list.classList.toggle("two", two);
    cards.forEach((card) => { card.hidden = two && !chosen.includes(card); });
    bar.hidden = chosen.length === 0;
    const ranks = chosen.map((card) => card.dataset.rank);
    bar.querySelector("span").textContent = two ? `Ranks ${ranks[0]} and ${ranks[1]} side by side` : `Rank ${ranks[0]} and …: choose another`;
    if (two) list.scrollIntoView();
    chosen.forEach((card) => { if (two) { show(card); drawPattern(card); } });
  }

  function prepareComparison(card) {
    const button = card.querySelector(".compare");
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      const pressed = cards.filter((one) => one.querySelector(".compare").getAttribute("aria-pressed") === "true");
      if (on && pressed.length === 2) return;
      button.setAttribute("aria-pressed", String(on));
      compare();
    });
  }

  // -- all together -------------------------------------------------------------------------------------

  if (!cards.length) return;
  for (const card of cards) { prepareView(card); preparePattern(card); prepareComparison(card); }
  bar.querySelector("button").addEventListener("click", () => {
    cards.forEach((card) => card.querySelector(".compare").setAttribute("aria-pressed", "false"));
    compare();
  });
  if (!webgl) cards.forEach(noWebGL);
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      const card = entry.target.closest(".card");
      if (entry.target.classList.contains("view")) show(card);
      else if (!entry.target.firstChild) drawPattern(card);
    }
  }, { rootMargin: "100px" });
  document.querySelectorAll(".view, .pattern").forEach((box) => watcher.observe(box));
})();
