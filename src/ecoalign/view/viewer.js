// The drawing of a run: one component, no dependencies. EcoView.mount(element) makes one.
//
// What a model wrote is only ever set as text. Style goes through classes and the CSSOM, so that
// the page's policy can forbid everything else. LOOK is the table of shapes and words that
// assets() puts before this file.
const EcoView = (() => {
  "use strict";

  const SVG = "http://www.w3.org/2000/svg";
  const CARD = {w: 184, h: 60, text: 50};
  const ACROSS = {layer: 228, row: 84}; // px between cards where layers go to the right
  const DOWN = {layer: 108, row: 202}; // and where they go down
  const FAR = 0.42; // below this scale words are too small to read and are left out
  const LARGEST = 1.25;
  const ROOM = 84; // px above and below the graph, where the buttons are

  // ---- small helpers

  const UNSAFE_TEXT = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]/gu;
  const harmless = (text) => String(text ?? "").replace(UNSAFE_TEXT, "\ufffd");
  const short = (text, most) => {
    const line = harmless(text).split(/\s+/).filter(Boolean).join(" ");
    return line.length <= most ? line : `${line.slice(0, most - 1)}…`;
  };

  function put(node, text) {
    const said = harmless(text);
    if (node.textContent !== said) node.textContent = said;
    return node;
  }

  function el(tag, cls, ...inside) {
    const node = document.createElement(tag);
    if (cls) node.className = cls;
    for (const one of inside) {
      if (one == null) continue;
      node.append(one instanceof Node ? one : harmless(one));
    }
    return node;
  }

  function svg(tag, attributes, ...inside) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
    node.append(...inside);
    return node;
  }

  function button(label, text, act, cls) {
    const node = el("button", cls || "eco-button", text);
    node.type = "button";
    if (label) node.setAttribute("aria-label", label);
    node.addEventListener("click", act);
    return node;
  }

  const known = (value) => typeof value === "number" && Number.isFinite(value);
  const signed = (value) => (known(value) ? `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}` : "–");
  const plain = (value, digits = 2) => (known(value) ? value.toFixed(digits) : "–");
  const NUMBERS = new Intl.NumberFormat("en-US", {maximumFractionDigits: 0});
  const whole = (value) => (known(value) ? NUMBERS.format(value) : "–");
  const count = (n, one, many) => `${whole(n)} ${n === 1 ? one : many || `${one}s`}`;
  const seconds = (value) => (!known(value) ? "–" : value < 10 ? `${value.toFixed(2)} s` : `${value.toFixed(0)} s`);
  const dollars = (value) => (known(value) ? `$${value.toFixed(value && value < 0.01 ? 5 : 4)}` : "unknown");
  const percent = (value) => (known(value) ? `${(100 * value).toFixed(0)}\u00a0%` : "–");
  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

  const shade = (safety) => (known(safety) ? LOOK.bounds.filter((bound) => safety >= bound).length : 3);
  const scaled = (path, by) => path.replace(/-?(?:\d+\.?\d*|\.\d+)/g, (one) => (one * by).toFixed(1));
  const radius = (node, most) =>
    node.kind === "root" ? 13 : 7 + 9 * Math.sqrt(Math.min(1, Math.max(0, node.utility || 0) / Math.max(1, most)));

  const ruler = document.createElement("canvas").getContext("2d");
  const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';

  // `text` in at most `lines` lines of `width` px at 12 px.
  function wrapped(text, width, lines) {
    ruler.font = `600 12px ${FONT}`; // as on the winning path, where they are widest
    const fits = (part) => ruler.measureText(part).width <= width;
    const out = [];
    let rest = short(text, 120);
    while (rest && out.length < lines) {
      if (fits(rest)) {
        out.push(rest);
        return out;
      }
      const last = out.length === lines - 1;
      let end = rest.length;
      while (end > 1 && !fits(rest.slice(0, end) + (last ? "…" : ""))) end -= 1;
      const space = rest.lastIndexOf(" ", end);
      if (!last && space > end / 3) end = space;
      out.push(rest.slice(0, end).trimEnd() + (last ? "…" : ""));
      rest = rest.slice(end).trimStart();
    }
    return out;
  }

  function marksOf(node) {
    const marks = new Set(node.marks || []);
    return Object.keys(LOOK.marks).filter((mark) => marks.has(mark));
  }

  function markWord(node, mark) {
    if (mark === "confirmed" && (node.verdicts || []).length > 1) return `confirmed ×${node.verdicts.length}`;
    if (mark === "merged" && node.into) return `merged into ${node.into}`;
    return LOOK.marks[mark];
  }

  // What a screen reader says of a thought.
  function spoken(node) {
    const parts = [`${capital(LOOK.kinds[node.kind] || node.kind)} ${node.id}: ${short(node.text, 160) || "no text"}.`];
    if (known(node.safety)) parts.push(`Safety ${signed(node.safety)}.`);
    if (node.kind !== "root" && known(node.utility)) parts.push(`Utility ${plain(node.utility)}.`);
    parts.push(`Cost ${count(node.cost, "token")}.`);
    const marks = marksOf(node).map((mark) => markWord(node, mark));
    if (marks.length) parts.push(`${capital(marks.join(", "))}.`);
    return harmless(parts.join(" "));
  }

  // ---- words

  const SAMPLES = {
    path: ["winning path", "on the winning path"],
    pruned: ["pruned", "pruned: unsafe, or a dead end; nothing may grow from it"],
    merged: ["merged", "merged: said the same as the one that the dotted arrow points to"],
    draft: ["draft", "draft: tried before the search"],
    confirmed: ["confirmed", "confirmed: judged again, independently"],
    fused: ["fused", "fused: made from several thoughts"],
  };

  const STATES = {open: "left open", chosen: "under way", failed: "failed", done: "done"};

  const STATUS = {
    answer: ["Answered", "eco-good"],
    unchecked: ["Answered, unchecked", "eco-calm"],
    refused: ["Refused", "eco-calm"],
    error: ["Failed", "eco-bad"],
    running: ["Searching", "eco-busy"],
    stopped: ["Stopped early", "eco-bad"],
  };

  const STOPS = {
    satisfied: "It stopped as there was too little left to gain.",
    "no-positive-action": "It stopped as no safe step left was worth its cost.",
    budget: "It stopped as the budget allowed no further step.",
    limits: "It stopped at a limit on thoughts, depth or unsafe answers.",
    "unsafe-request": "The request itself was judged unsafe.",
    "fail-closed": "", // the hint says more
  };

  const STAGES = {
    scan: "look at the image and the request",
    draft: "draft an answer",
    propose: "propose next steps",
    simulate: "look ahead",
    execute: "carry steps out",
    score: "score for safety and use",
    confirm: "judge again",
    write: "write the answer",
    speculate: "begun ahead, in vain",
    answer: "ask for the answer",
  };

  const PLOT = {w: 320, h: 84, left: 4, right: 316, top: 6, bottom: 78};

  // ---- the component

  let mounted = 0;

  function mount(root, options = {}) {
    mounted += 1;
    const which = mounted > 1 ? ` ${mounted}` : ""; // landmarks have names of their own
    let images = options.images || [];
    let live = Boolean(options.live);
    let run = {};
    let frames = [];
    let undo = []; // of each frame that was applied once: what it replaced
    let layout = {};
    let places = 0; // counts up when the layout changes
    let cursor = 0; // how many frames are applied
    let atEnd = true;
    let now = fresh(); // the state at the cursor
    let final = fresh(); // the state at the end, for the result
    let views = new Map(); // id -> what is drawn of it
    let most = 1;
    let selected = null;
    let roving = null;
    let turned = false; // layers go down instead of to the right
    let view = {x: 0, y: 0, k: 1};
    let stage = {w: 800, h: 480}; // px of what the drawing is seen through
    let moved = false; // whether the user has moved the drawing
    let playing = null;
    let asked = 0; // an animation frame that is to come
    const dirty = new Set();
    let series = null;
    const times = []; // of each frame; calls that ran at once are in the order of their actions

    function fresh() {
      return {nodes: {}, gauges: {}, values: {}, path: [], frontier: [], result: null};
    }

    // -- the skeleton

    const ui = {};
    root.classList.add("eco");
    root.replaceChildren();

    ui.question = el("h2", "eco-question");
    ui.thumbs = el("div", "eco-thumbs");
    ui.status = el("span", "eco-status");
    ui.method = el("span", "eco-method");
    ui.answer = el("div", "eco-answer");
    ui.answer.dir = "auto";
    ui.how = el("p", "eco-how");
    ui.facts = el("dl", "eco-facts");
    ui.result = el(
      "section",
      "eco-result",
      el("div", "eco-ask", ui.thumbs, el("div", "eco-asked", el("div", "eco-line", ui.method, ui.status), ui.question)),
      ui.answer,
      ui.how,
      ui.facts,
    );
    ui.result.setAttribute("aria-label", `Result${which}`);

    ui.edges = svg("g", {class: "eco-edges", "aria-hidden": "true"});
    ui.nodes = svg("g", {class: "eco-nodes"});
    ui.world = svg("g", {class: "eco-world"}, ui.edges, ui.nodes);
    ui.svg = svg("svg", {class: "eco-svg", role: "group", "aria-roledescription": "graph"}, ui.world);
    ui.hint = el("div", "eco-hint", "Hold Ctrl (or ⌘) and turn the wheel to zoom");
    ui.zoom = el("span", "eco-scale");
    ui.tools = el(
      "div",
      "eco-tools",
      button("Zoom in", "+", () => zoomBy(1.25)),
      button("Zoom out", "−", () => zoomBy(0.8)),
      button("Fit the whole graph", "Fit", () => fit(true)),
    );
    ui.tools.setAttribute("role", "group");
    ui.tools.setAttribute("aria-label", "Zoom");
    ui.panel = el("aside", "eco-panel");
    ui.panel.hidden = true;
    ui.panel.setAttribute("aria-label", `The thought that was chosen${which}`);
    ui.legend = legend();
    ui.stage = el("div", "eco-stage", ui.svg, ui.tools, ui.hint);
    ui.body = el("div", "eco-body", ui.stage, ui.panel);

    ui.play = button("Play the run event by event", "", togglePlay, "eco-button eco-play");
    ui.back = button("One event back", "", () => step(-1), "eco-button eco-icon-back");
    ui.forth = button("One event on", "", () => step(1), "eco-button eco-icon-forth");
    ui.slider = el("input", "eco-slider");
    Object.assign(ui.slider, {type: "range", min: "0", max: "0", value: "0", step: "1"});
    ui.slider.setAttribute("aria-label", "Moment of the run, event by event");
    ui.slider.addEventListener("input", () => {
      stop();
      seek(Number(ui.slider.value));
    });
    ui.moment = el("span", "eco-moment");
    ui.said = el("p", "eco-said");
    ui.said.dir = "auto";
    ui.replay = el(
      "section",
      "eco-replay",
      el("div", "eco-controls", ui.back, ui.play, ui.forth, ui.slider, ui.moment),
      ui.said,
    );
    ui.replay.setAttribute("aria-label", `Replay${which}`);

    ui.plots = el("div", "eco-plots");
    ui.plots.setAttribute("role", "group");
    ui.plots.setAttribute("aria-label", "Budget, price and horizon over time");
    ui.frontier = el("section", "eco-frontier");
    ui.stages = el("section", "eco-stages");
    ui.more = el("div", "eco-more", ui.frontier, ui.stages);
    ui.about = el("details", "eco-about");
    ui.key = el("ul", "eco-key");
    ui.graph = el("section", "eco-graph", ui.key, ui.legend, ui.body, ui.replay, ui.plots);
    ui.graph.setAttribute("aria-label", `How it was found${which}`);
    root.append(ui.result, ui.graph, ui.more, ui.about);

    // -- applying frames

    // Change `state` by a frame; returns what it replaced. What a frame makes of a thought is made
    // once, so that one that comes again is known to be drawn already.
    function apply(frame, state, touched, earlier) {
      const before = {nodes: {}, after: {}, gauges: {}, values: {}};
      for (const [id, fields] of Object.entries(frame.nodes || {})) {
        const old = state.nodes[id];
        before.nodes[id] = old;
        before.after[id] = earlier
          ? earlier.after[id]
          : {...(old || {id, marks: [], parents: [], options: [], why: []}), ...fields};
        state.nodes[id] = before.after[id];
        if (touched) touched.add(id);
      }
      for (const part of ["gauges", "values"]) {
        for (const [name, value] of Object.entries(frame[part] || {})) {
          before[part][name] = state[part][name];
          state[part][name] = value;
        }
      }
      if (frame.values && touched && selected) touched.add(selected);
      for (const name of ["path", "frontier", "result"]) {
        if (frame[name] !== undefined) {
          before[name] = state[name];
          state[name] = frame[name];
        }
      }
      return before;
    }

    function unapply(before, state, touched) {
      for (const [id, old] of Object.entries(before.nodes)) {
        if (old === undefined) delete state.nodes[id];
        else state.nodes[id] = old;
        touched.add(id);
      }
      for (const part of ["gauges", "values"]) {
        for (const [name, old] of Object.entries(before[part])) {
          if (old === undefined) delete state[part][name];
          else state[part][name] = old;
        }
      }
      for (const name of ["path", "frontier", "result"]) if (name in before) state[name] = before[name];
    }

    // Show the run after `k` frames; -1 is the end.
    function seek(k) {
      const to = k < 0 ? frames.length : Math.max(0, Math.min(frames.length, Math.round(k)));
      const path = now.path;
      while (cursor < to) {
        undo[cursor] = apply(frames[cursor], now, dirty, undo[cursor]);
        cursor += 1;
      }
      while (cursor > to) {
        cursor -= 1;
        unapply(undo[cursor], now, dirty);
      }
      if (now.path !== path) for (const id of [...path, ...now.path]) dirty.add(id);
      atEnd = cursor === frames.length;
      later();
    }

    function later() {
      if (!asked) asked = requestAnimationFrame(redraw);
    }

    // What is drawn from all frames: once for all that came since the last time.
    let stale = false;
    function drawWhole() {
      stale = false;
      drawResult();
      drawPlots();
      drawStages();
    }

    function redraw() {
      asked = 0;
      if (stale) drawWhole();
      drawNodes();
      if (views.size > 100) cull();
      drawMoment();
      if (selected && dirty.has(selected)) drawPanel();
      dirty.clear();
    }

    // -- the graph

    function place(id) {
      const [layer, row] = layout[id] || [0, 0];
      return turned
        ? {x: row * DOWN.row, y: layer * DOWN.layer}
        : {x: layer * ACROSS.layer, y: row * ACROSS.row};
    }

    function makeNode(id, data) {
      const focus = svg("rect", {class: "eco-focus", x: -6, y: -6, width: CARD.w + 12, height: CARD.h + 12, rx: 12});
      const ring = svg("rect", {class: "eco-ring", x: -4, y: -4, width: CARD.w + 8, height: CARD.h + 8, rx: 11});
      const card = svg("rect", {class: "eco-card", width: CARD.w, height: CARD.h, rx: 8});
      const shape = svg("path", {class: "eco-shape"});
      const icon = svg("path", {class: "eco-icon"});
      const cross = svg("path", {class: "eco-cross"});
      const glyph = svg("g", {transform: "translate(25 30)"}, shape, icon, cross);
      const lines = [0, 1].map((i) => svg("text", {class: "eco-text", x: CARD.text, y: 20 + 15 * i}));
      const cost = svg("text", {class: "eco-cost", x: CARD.text, y: 52});
      const tag = svg("text", {class: "eco-tag", x: 2, y: -8});
      const group = svg("g", {role: "button", tabindex: "-1"}, focus, ring, card, glyph, ...lines, cost, tag);
      group.dataset.id = id;
      ui.nodes.append(group);
      return {group, shape, icon, cross, lines, cost, tag, edges: new Map(), key: "", text: null, label: "", at: null};
    }

    function onPath(parent, id) {
      const i = now.path.indexOf(id);
      return i > 0 && now.path[i - 1] === parent;
    }

    function drawNodes() {
      for (const id of dirty) {
        const node = now.nodes[id];
        let drawn = views.get(id);
        if (!node) {
          if (drawn && !drawn.gone) {
            drawn.gone = true;
            for (const one of [drawn.group, ...drawn.edges.values()]) one.classList.add("eco-gone");
          }
          continue;
        }
        if (!drawn) {
          drawn = makeNode(id, node);
          views.set(id, drawn);
        }
        const state = `${turned} ${most} ${id === selected} ${now.path.includes(id)}`;
        if (drawn.gone) {
          drawn.gone = false;
          for (const one of [drawn.group, ...drawn.edges.values()]) one.classList.remove("eco-gone");
        }
        if (drawn.node === node && drawn.state === state && drawn.places === places) continue;
        drawn.node = node;
        drawn.state = state;
        drawn.places = places;
        const marks = marksOf(node);
        const key = `eco-node k-${node.kind} s${shade(node.safety)} ${marks.map((m) => `m-${m}`).join(" ")}${id === selected ? " eco-chosen" : ""}`;
        if (drawn.key !== key) {
          drawn.group.setAttribute("class", drawn.group.off ? `${key} eco-off` : key);
          drawn.key = key;
        }
        const size = radius(node, most).toFixed(1);
        if (drawn.size !== `${node.kind} ${size}`) {
          drawn.size = `${node.kind} ${size}`;
          drawn.shape.setAttribute("d", scaled(LOOK.shapes[node.kind] || LOOK.shapes.think, size));
          drawn.icon.setAttribute("d", scaled(LOOK.icons[node.kind] || "M0 0", size));
          drawn.cross.setAttribute("d", scaled(LOOK.cross, Number(size) + 1));
        }
        if (drawn.text !== node.text) {
          drawn.text = node.text;
          const found = wrapped(node.text || LOOK.kinds[node.kind] || node.kind, CARD.w - CARD.text - 8, 2);
          drawn.lines.forEach((line, i) => put(line, found[i] || ""));
        }
        put(drawn.cost, `${whole(node.cost)} tok${known(node.safety) ? ` · safety ${signed(node.safety)}` : ""}`);
        const tags = marks.filter((m) => m !== "path" && !(m === "unsafe" && marks.includes("pruned")));
        put(drawn.tag, tags.map((mark) => markWord(node, mark)).join(" · "));
        const label = spoken(node);
        if (drawn.label !== label) {
          drawn.label = label;
          drawn.group.setAttribute("aria-label", label);
        }
        const wanted = new Set(node.parents || []);
        if (node.into) wanted.add(`>${node.into}`);
        for (const [name, edge] of drawn.edges) {
          if (!wanted.has(name)) {
            edge.remove();
            drawn.edges.delete(name);
          }
        }
        for (const name of wanted) {
          if (!drawn.edges.has(name)) {
            const edge = svg("path", {class: "eco-edge"});
            ui.edges.append(edge);
            drawn.edges.set(name, edge);
            drawn.at = null;
          }
        }
        position(id, drawn, node);
        for (const [name, edge] of drawn.edges) {
          const merged = name.startsWith(">");
          const cls = merged ? "eco-edge m-into" : onPath(name, id) ? "eco-edge m-path" : marks.includes("pruned") ? "eco-edge m-pruned" : "eco-edge";
          if (edge.kind !== cls) {
            edge.kind = cls;
            edge.setAttribute("class", edge.off ? `${cls} eco-off` : cls);
          }
        }
      }
      if (!roving || !now.nodes[roving]) rove(now.nodes.t0 ? "t0" : Object.keys(now.nodes)[0] || null);
    }

    function position(id, drawn, node) {
      const at = place(id);
      const ends = [...drawn.edges.keys()].map((name) => place(name.replace(">", "")));
      const key = `${turned} ${at.x} ${at.y} ${ends.map((e) => `${e.x} ${e.y}`).join(" ")}`;
      if (drawn.at === key) return;
      drawn.at = key;
      drawn.group.setAttribute("transform", `translate(${at.x} ${at.y})`);
      drawn.box = {x0: at.x, y0: at.y, x1: at.x + CARD.w, y1: at.y + CARD.h};
      for (const [name, edge] of drawn.edges) {
        const merged = name.startsWith(">");
        const other = place(merged ? name.slice(1) : name);
        edge.setAttribute("d", merged ? mergeLine(at, other) : line(other, at));
        edge.box = {
          x0: Math.min(at.x, other.x),
          y0: Math.min(at.y, other.y),
          x1: Math.max(at.x, other.x) + CARD.w,
          y1: Math.max(at.y, other.y) + CARD.h,
        };
      }
    }

    function line(from, to) {
      if (turned) {
        const [x0, y0, x1, y1] = [from.x + CARD.w / 2, from.y + CARD.h, to.x + CARD.w / 2, to.y];
        const bend = Math.max(18, (y1 - y0) / 2);
        return `M${x0} ${y0}C${x0} ${y0 + bend} ${x1} ${y1 - bend} ${x1} ${y1}`;
      }
      const [x0, y0, x1, y1] = [from.x + CARD.w, from.y + CARD.h / 2, to.x, to.y + CARD.h / 2];
      const bend = Math.max(18, (x1 - x0) / 2);
      return `M${x0} ${y0}C${x0 + bend} ${y0} ${x1 - bend} ${y1} ${x1} ${y1}`;
    }

    // From a merged thought to the one that stands for it, with a small arrow head.
    function mergeLine(from, to) {
      const up = to.y < from.y ? -1 : 1;
      if (turned && to.y === from.y) {
        const right = to.x > from.x;
        const [x0, x1, y] = [from.x + CARD.w / 2, to.x + CARD.w / 2, from.y + CARD.h];
        const d = right ? -5 : 5;
        return `M${x0} ${y}C${x0} ${y + 30} ${x1} ${y + 30} ${x1} ${y}M${x1 + d} ${y + 7}L${x1} ${y}L${x1 - d} ${y + 7}`;
      }
      if (!turned && Math.abs(to.x - from.x) < 1) {
        const x = from.x + CARD.w;
        const [y0, y1] = [from.y + CARD.h / 2, to.y + CARD.h / 2 - up * 14];
        return `M${x} ${y0}C${x + 34} ${y0} ${x + 34} ${y1} ${x} ${y1}M${x + 7} ${y1 - 5}L${x} ${y1}L${x + 7} ${y1 + 5}`;
      }
      const [x0, y0] = [from.x + CARD.w / 2, up > 0 ? from.y + CARD.h : from.y];
      const [x1, y1] = [to.x + CARD.w / 2, up > 0 ? to.y : to.y + CARD.h];
      return `M${x0} ${y0}C${x0} ${y0 + up * 26} ${x1} ${y1 - up * 26} ${x1} ${y1}M${x1 - 5} ${y1 - up * 7}L${x1} ${y1}L${x1 + 5} ${y1 - up * 7}`;
    }

    function bounds() {
      let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
      for (const id of Object.keys(layout)) {
        const {x, y} = place(id);
        x0 = Math.min(x0, x);
        y0 = Math.min(y0, y - 16);
        x1 = Math.max(x1, x + CARD.w);
        y1 = Math.max(y1, y + CARD.h);
      }
      return x0 > x1 ? {x: 0, y: 0, w: CARD.w, h: CARD.h} : {x: x0, y: y0, w: x1 - x0, h: y1 - y0};
    }

    function fitting(box, size) {
      return Math.min((size.w - 36) / box.w, (size.h - ROOM) / box.h);
    }

    // Choose the direction in which the graph is the larger, and show all of it; a graph that would
    // be too small to read starts at its beginning instead, unless `all` is wanted.
    function fit(all, keep) {
      const width = ui.stage.clientWidth || 800;
      const tallest = Math.round(Math.max(320, Math.min(608, 0.56 * innerHeight)));
      const size = {w: width - overlaid(), h: all ? ui.stage.clientHeight : tallest};
      const before = turned;
      turned = false;
      const across = fitting(bounds(), size);
      turned = true;
      const down = fitting(bounds(), size);
      turned = keep ? before : down > across * 1.15;
      if (turned !== before) for (const id of views.keys()) dirty.add(id);
      const box = bounds();
      const whole = Math.min(LARGEST, fitting(box, size));
      const k = all ? Math.max(0.02, whole) : Math.max(size.w < 480 ? 0.7 : 0.5, whole);
      if (!all) {
        // A small graph needs no large window; one that grows, or that the panel is on, keeps it.
        if (!live && !overlaid()) size.h = Math.min(tallest, Math.max(230, Math.round(k * box.h) + ROOM));
        ui.stage.style.height = `${size.h}px`;
      }
      stage = {w: width, h: size.h};
      const inside = k <= whole + 1e-6;
      view = {k, x: (size.w - k * box.w) / 2 - k * box.x, y: (size.h - ROOM - k * box.h) / 2 + 24 - k * box.y};
      if (!inside) {
        const at = place("t0");
        if (k * box.w > size.w - 36) view.x = turned ? size.w / 2 - k * (at.x + CARD.w / 2) : 24 - k * box.x;
        if (k * box.h > size.h - ROOM + 1) view.y = turned ? 30 - k * box.y : size.h / 2 - k * (at.y + CARD.h / 2);
      }
      moved = Boolean(all);
      if (dirty.size) later();
      pan();
    }

    // Leave out what is not in sight: all of a drawing is painted anew for any change in it. The
    // thoughts stay where keys and screen readers find them.
    function cull() {
      const many = views.size > 100;
      const margin = 120;
      const x0 = (-view.x - margin) / view.k;
      const y0 = (-view.y - margin) / view.k;
      const x1 = (stage.w - view.x + margin) / view.k;
      const y1 = (stage.h - view.y + margin) / view.k;
      const check = (one, box) => {
        const off = many && Boolean(box) && (box.x1 < x0 || box.x0 > x1 || box.y1 < y0 || box.y0 > y1);
        if (one.off !== off) {
          one.off = off;
          one.classList.toggle("eco-off", off);
        }
      };
      for (const drawn of views.values()) {
        check(drawn.group, drawn.box);
        for (const edge of drawn.edges.values()) check(edge, edge.box);
      }
    }

    let panAsked = 0;
    function pan() {
      if (panAsked) return;
      panAsked = requestAnimationFrame(() => {
        panAsked = 0;
        ui.world.setAttribute("transform", `translate(${view.x.toFixed(1)} ${view.y.toFixed(1)}) scale(${view.k.toFixed(4)})`);
        ui.svg.classList.toggle("eco-far", view.k < FAR);
        cull();
      });
    }

    function zoomBy(factor, x, y) {
      const rect = ui.stage.getBoundingClientRect();
      const [cx, cy] = [x === undefined ? rect.width / 2 : x - rect.left, y === undefined ? rect.height / 2 : y - rect.top];
      const k = Math.max(0.02, Math.min(3, view.k * factor));
      view = {k, x: cx - ((cx - view.x) * k) / view.k, y: cy - ((cy - view.y) * k) / view.k};
      moved = true;
      pan();
    }

    // The width that the panel takes from the drawing, in px.
    function overlaid() {
      const over = !ui.panel.hidden && getComputedStyle(ui.panel).position === "absolute";
      return over ? ui.panel.offsetWidth : 0;
    }

    function reveal(id) {
      const rect = ui.stage.getBoundingClientRect();
      const {x, y} = place(id);
      const room = rect.width - overlaid();
      const [left, top] = [view.k * x + view.x, view.k * y + view.y];
      const [w, h] = [view.k * CARD.w, view.k * CARD.h];
      if (left < 12) view.x += 12 - left;
      else if (left + w > room - 12) view.x -= left + w - room + 12;
      if (top < 16) view.y += 16 - top;
      else if (top + h > rect.height - 12) view.y -= top + h - rect.height + 12;
      pan();
    }

    // -- pointers and keys

    const pointers = new Map();
    let dragged = 0;
    ui.svg.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      pointers.set(event.pointerId, {x: event.clientX, y: event.clientY});
      dragged = pointers.size > 1 ? 10 : 0;
    });
    ui.svg.addEventListener("pointermove", (event) => {
      const last = pointers.get(event.pointerId);
      if (!last) return;
      const [dx, dy] = [event.clientX - last.x, event.clientY - last.y];
      if (pointers.size === 2) {
        const [a, b] = [...pointers.values()];
        const before = Math.hypot(a.x - b.x, a.y - b.y);
        pointers.set(event.pointerId, {x: event.clientX, y: event.clientY});
        const [c, d] = [...pointers.values()];
        const after = Math.hypot(c.x - d.x, c.y - d.y);
        if (before > 0) zoomBy(after / before, (c.x + d.x) / 2, (c.y + d.y) / 2);
        return;
      }
      dragged += Math.abs(dx) + Math.abs(dy);
      if (dragged < 5) return;
      if (!ui.svg.hasPointerCapture(event.pointerId)) ui.svg.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, {x: event.clientX, y: event.clientY});
      view = {...view, x: view.x + dx, y: view.y + dy};
      moved = true;
      ui.stage.classList.add("eco-grabbing");
      pan();
    });
    const released = (event) => {
      pointers.delete(event.pointerId);
      ui.stage.classList.remove("eco-grabbing");
    };
    ui.svg.addEventListener("pointerup", released);
    ui.svg.addEventListener("pointercancel", released);
    ui.svg.addEventListener("click", (event) => {
      if (dragged >= 5) return;
      const group = event.target.closest(".eco-node");
      if (group) open(group.dataset.id);
    });
    ui.svg.addEventListener("dblclick", (event) => {
      if (!event.target.closest(".eco-node")) zoomBy(1.5, event.clientX, event.clientY);
    });
    let hinting = 0;
    ui.stage.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey) {
          ui.hint.classList.add("eco-shown");
          clearTimeout(hinting);
          hinting = setTimeout(() => ui.hint.classList.remove("eco-shown"), 1500);
          return;
        }
        event.preventDefault();
        zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0022)), event.clientX, event.clientY);
      },
      {passive: false},
    );

    function rove(id) {
      if (roving && views.has(roving)) views.get(roving).group.setAttribute("tabindex", "-1");
      roving = id;
      if (id && views.has(id)) views.get(id).group.setAttribute("tabindex", "0");
    }

    function focusNode(id) {
      if (!id || !views.has(id) || !now.nodes[id]) return;
      rove(id);
      views.get(id).group.focus({preventScroll: true});
      reveal(id);
    }

    const childrenOf = (id) =>
      Object.values(now.nodes)
        .filter((node) => (node.parents || []).includes(id))
        .map((node) => node.id);

    // The nearest thought in a direction of the picture.
    function towards(id, dx, dy) {
      const from = place(id);
      const along = (node) => {
        const to = place(node);
        return {ahead: (to.x - from.x) * dx + (to.y - from.y) * dy, aside: Math.abs((to.x - from.x) * dy) + Math.abs((to.y - from.y) * dx)};
      };
      let candidates = Object.keys(now.nodes).filter((one) => one !== id && along(one).ahead > 1);
      const layered = turned ? dy !== 0 : dx !== 0;
      if (layered) {
        const kin = dx + dy > 0 ? childrenOf(id) : now.nodes[id].parents || [];
        const near = candidates.filter((one) => kin.includes(one));
        if (near.length) candidates = near;
      }
      const weigh = (one) => {
        const {ahead, aside} = along(one);
        return ahead + 3 * aside;
      };
      return candidates.sort((a, b) => weigh(a) - weigh(b))[0];
    }

    ui.svg.addEventListener("keydown", (event) => {
      const id = event.target.closest(".eco-node")?.dataset.id;
      const arrows = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
      const arrow = arrows[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (arrow && event.shiftKey) {
        view = {...view, x: view.x - 60 * arrow[0], y: view.y - 60 * arrow[1]};
        moved = true;
        pan();
      } else if (arrow && id) focusNode(towards(id, ...arrow));
      else if (event.key === "Home") focusNode("t0");
      else if (event.key === "End") focusNode(now.path[now.path.length - 1] || Object.keys(now.nodes).pop());
      else if ((event.key === "Enter" || event.key === " ") && id) open(id);
      else if (event.key === "Escape" && selected) shut();
      else if (event.key === "+" || event.key === "=") zoomBy(1.25);
      else if (event.key === "-") zoomBy(0.8);
      else if (event.key === "0") fit(true);
      else return;
      event.preventDefault();
    });
    ui.panel.addEventListener("keydown", (event) => {
      if (event.key === "Escape") shut();
    });

    // -- the panel of a thought

    function open(id) {
      if (!now.nodes[id]) return;
      const old = selected;
      selected = id;
      for (const one of [old, id]) if (one) dirty.add(one);
      rove(id);
      drawNodes();
      drawPanel();
      ui.panel.hidden = false;
      ui.body.classList.add("eco-open");
      if (!old && !moved && overlaid()) fit(false, true);
      reveal(id);
      ui.panel.querySelector("h3").focus({preventScroll: true});
      if (getComputedStyle(ui.panel).position !== "absolute") ui.panel.scrollIntoView({block: "nearest"});
      later();
    }

    function shut() {
      const id = selected;
      selected = null;
      ui.panel.hidden = true;
      ui.body.classList.remove("eco-open");
      if (id) {
        if (!moved) fit(false, true);
        dirty.add(id);
        later();
        views.get(id)?.group.focus({preventScroll: true});
      }
    }

    function link(id) {
      const node = now.nodes[id] || final.nodes[id];
      const words = node ? `${id} · ${LOOK.kinds[node.kind] || node.kind}: ${short(node.text, 44)}` : id;
      const made = button("", words, () => open(id), "eco-link");
      if (!now.nodes[id]) made.disabled = true;
      return made;
    }

    const section = (title, ...inside) => el("section", "", el("h4", "", title), ...inside);

    function drawPanel() {
      const node = now.nodes[selected];
      if (!node) {
        shut();
        return;
      }
      const held = ui.panel.contains(document.activeElement);
      const scroll = ui.panel.scrollTop;
      const title = el("h3", "", glyph(node, 11), `${capital(LOOK.kinds[node.kind] || node.kind)} `, el("span", "eco-id", node.id));
      title.tabIndex = -1;
      const close = button("Close", "×", shut, "eco-button eco-close");
      const tags = el("p", "eco-tags");
      for (const mark of marksOf(node)) tags.append(el("span", `eco-chip m-${mark}`, markWord(node, mark)));
      const text = el("div", "eco-words", node.text || "(no text)");
      text.dir = "auto";
      ui.panel.replaceChildren(el("header", "", title, close), tags, text);
      if (node.region) ui.panel.append(section("Where it looked", picture(node.region)));
      ui.panel.append(section("Scores", scores(node), ...scorer(node)));
      if ((node.why || []).length) {
        ui.panel.append(section("Why", el("ul", "eco-why", ...node.why.map((one) => el("li", "", one)))));
      }
      const from = (node.parents || []).map(link);
      const to = childrenOf(node.id).map(link);
      if (node.into) ui.panel.append(section("Merged into", link(node.into)));
      if (from.length) ui.panel.append(section(from.length > 1 ? "Comes from all of" : "Comes from", ...from));
      if (to.length) ui.panel.append(section("Led to", ...to));
      if ((node.options || []).length) ui.panel.append(section("What could be done next", optionList(node.options)));
      const made = [node.kind === "root" ? "Seen" : node.step ? `Made in round ${node.step}` : "Made before the first round"];
      if (known(node.at)) made.push(`after ${seconds(node.at)}`);
      ui.panel.append(el("p", "eco-quiet", made.join(", "), "."));
      ui.panel.scrollTop = scroll;
      if (held) title.focus({preventScroll: true});
    }

    function scores(node) {
      const forecast = (node.forecast || [])[0];
      const table = el("table", "eco-table");
      const head = el("tr", "", el("th", "", "score"), el("th", "", "forecast"), el("th", "", "outcome"));
      table.append(el("thead", "", head));
      const body = el("tbody");
      const row = (name, guess, real) => {
        const th = el("th", "", name);
        th.scope = "row";
        body.append(el("tr", "", th, el("td", "", guess), el("td", "", real)));
      };
      const swatch = el("span", "eco-swatched", signed(node.safety));
      swatch.classList.add(`s${shade(node.safety)}`);
      const safety = el("th", "", "Safety, −1 to 1");
      safety.scope = "row";
      body.append(el("tr", "", safety, el("td", "", forecast ? signed(forecast.safety) : "–"), el("td", "", swatch)));
      row("Utility, from 0", forecast ? plain(forecast.utility) : "–", node.kind === "root" ? "–" : plain(node.utility));
      row("Cost, tokens", forecast && forecast.cost ? whole(forecast.cost) : "–", whole(node.cost));
      table.append(body);
      return table;
    }

    function scorer(node) {
      const out = [];
      const how = {verdict: "the grade that it wrote", logprobs: "the mean of its grades over log-probabilities"}[node.method];
      if (node.scorer) out.push(el("p", "eco-quiet", `Scored by ${node.scorer}${how ? `: ${how}` : ""}.`));
      if ((node.verdicts || []).length > 1) {
        out.push(el("p", "", `Judged ${node.verdicts.length} times, independently: ${node.verdicts.map(signed).join(", ")}. The least counts.`));
      }
      if (known(node.value)) out.push(el("p", "", `Valued at V = ${plain(node.value, 3)} when it was chosen.`));
      const then = (node.forecast || []).slice(1);
      if (then.length) {
        out.push(
          el("p", "eco-quiet", `Expected to follow: ${then.map((f) => `safety ${signed(f.safety)}, utility ${plain(f.utility)}`).join("; then ")}.`),
        );
      }
      return out;
    }

    function optionList(options) {
      const list = el("ul", "eco-options");
      for (const one of options) {
        const first = (one.forecast || [])[0];
        const numbers = [];
        if (first) numbers.push(`forecast: safety ${signed(first.safety)}, utility ${plain(first.utility)}`);
        const value = one.action in now.values ? now.values[one.action] : one.value;
        if (known(value)) numbers.push(`V = ${plain(value, 3)}`);
        const item = el(
          "li",
          `o-${one.state}`,
          el("div", "", el("strong", "", capital(LOOK.kinds[one.kind] || one.kind)), one.text ? ` ${short(one.text, 160)}` : "", " ", el("span", "eco-chip", STATES[one.state] || one.state)),
        );
        if (numbers.length) item.append(el("div", "eco-quiet", numbers.join(" · ")));
        if (one.note) item.append(el("div", "eco-quiet", one.note));
        if (one.thought) item.append(link(one.thought));
        list.append(item);
      }
      return list;
    }

    function imageOf(index) {
      const info = (run.images || [])[index] || {};
      const uri = Array.isArray(images) ? images[index] : images[info.sha256];
      return {info, uri: typeof uri === "string" && uri.startsWith("data:image/") ? uri : null};
    }

    function picture(region) {
      const index = region.image || 0;
      const {info, uri} = imageOf(index);
      const [w, h] = [info.width || 400, info.height || 300];
      const unit = Math.max(w, h) / 100;
      const frame = svg("svg", {class: "eco-picture", viewBox: `0 0 ${w} ${h}`, role: "img"});
      const [x, y, rw, rh] = [region.x0 * w, region.y0 * h, (region.x1 - region.x0) * w, (region.y1 - region.y0) * h];
      const where = [region.x0, region.y0, region.x1, region.y1].map((v) => (100 * v).toFixed(0));
      frame.setAttribute("aria-label", `Image ${index + 1}; it looked from ${where[0]} % to ${where[2]} % across and from ${where[1]} % to ${where[3]} % down`);
      frame.append(svg("rect", {class: "eco-blank", width: w, height: h}));
      if (uri) frame.append(svg("image", {href: uri, width: w, height: h, preserveAspectRatio: "none"}));
      frame.append(
        svg("path", {class: "eco-shadow", "fill-rule": "evenodd", d: `M0 0H${w}V${h}H0ZM${x} ${y}V${y + rh}H${x + rw}V${y}Z`}),
        svg("rect", {class: "eco-region-back", x, y, width: rw, height: rh, "stroke-width": 1.8 * unit}),
        svg("rect", {class: "eco-region", x, y, width: rw, height: rh, "stroke-width": unit}),
      );
      const words = `Image ${index + 1}: ${where[0]}–${where[2]} % across, ${where[1]}–${where[3]} % down.`;
      const note = uri ? "" : " The image is not in the trace; give it with --image to see it here.";
      return el("figure", "", frame, el("figcaption", "eco-quiet", words + note));
    }

    function glyph(node, size) {
      const kind = LOOK.shapes[node.kind] ? node.kind : "think";
      const inner = svg(
        "g",
        {class: `s${shade(node.safety)}`, transform: "translate(15 15)"},
        svg("path", {class: "eco-shape", d: scaled(LOOK.shapes[kind], size)}),
        svg("path", {class: "eco-icon", d: scaled(LOOK.icons[kind], size)}),
      );
      return svg("svg", {class: "eco-glyph", viewBox: "0 0 30 30", width: 26, height: 26, "aria-hidden": "true"}, inner);
    }

    // -- the legend

    function sample(mark, words) {
      const kind = mark === "fused" ? "fuse" : "think";
      const group = svg(
        "g",
        {class: `eco-node s${mark === "pruned" ? 1 : 6} m-${mark}`},
        svg("rect", {class: "eco-ring", x: 1, y: 1, width: 44, height: 24, rx: 7}),
        svg("rect", {class: "eco-card", x: 4, y: 4, width: 38, height: 18, rx: 5}),
        svg("g", {transform: "translate(23 13)"}, svg("path", {class: "eco-shape", d: scaled(LOOK.shapes[kind], 5.5)}), svg("path", {class: "eco-cross", d: scaled(LOOK.cross, 6.5)})),
      );
      const picture = svg("svg", {class: "eco-sample", viewBox: "0 0 46 26", width: 46, height: 26, "aria-hidden": "true"}, group);
      return el("li", "", picture, words);
    }

    function ramp(cls) {
      const box = el("span", `eco-ramp ${cls}`);
      for (let i = 0; i < 7; i += 1) box.append(el("span", `s${i}`));
      return box;
    }

    function legend() {
      const box = el("details", "eco-legend", el("summary", "", "How to read it"));
      const kinds = el("ul");
      for (const kind of Object.keys(LOOK.kinds)) kinds.append(el("li", "", glyph({kind, safety: 1}, 10), LOOK.kinds[kind]));
      const marks = el("ul", "", ...Object.entries(SAMPLES).map(([mark, [, words]]) => sample(mark, words)));
      const ends = el("div", "eco-ends", el("span", "", "unsafe −1"), el("span", "", "safe +1"));
      const words = [
        "Colour: safety. Size of a shape: utility, how much it helps to answer. Below each: what it cost, in tokens.",
        "Arrow keys go from thought to thought, Enter opens one, Esc closes it; + − 0 zoom, Shift with arrows moves the drawing.",
      ].map((one) => el("p", "eco-quiet", one));
      box.append(el("div", "eco-legends", kinds, marks, el("div", "", ends, ramp(""), ...words)));
      return box;
    }

    // The part of the legend that is always shown: the scale, and the marks that this run has.
    let keyed = null;
    function drawKey() {
      const there = new Set(Object.values(final.nodes).flatMap((node) => node.marks || []));
      const marks = Object.keys(SAMPLES).filter((mark) => there.has(mark));
      if (keyed === marks.join()) return;
      keyed = marks.join();
      ui.key.replaceChildren(
        el("li", "eco-scaled", "unsafe", ramp("eco-short"), "safe"),
        ...marks.map((mark) => sample(mark, SAMPLES[mark][0])),
      );
    }

    // -- the result

    function outcome() {
      const result = final.result;
      if (!result) return live ? "running" : "stopped";
      if (result.error) return "error";
      return result.refused ? "refused" : "answer";
    }

    function tally() {
      const nodes = Object.values(final.nodes);
      const cut = nodes.filter((node) => (node.marks || []).includes("pruned")).length;
      return {thoughts: nodes.length, cut};
    }

    // How it ended, in a sentence that needs no manual.
    function ending(state) {
      const {thoughts, cut} = tally();
      const result = final.result || {};
      const method = run.method || "";
      const unsafe = cut ? `, of which ${cut} ${cut === 1 ? "was" : "were"} cut` : "";
      if (state === "running") return `${capital(final.gauges.doing || "starting")}… ${count(thoughts, "thought")} so far.`;
      if (state === "stopped") return "The trace ends before the run did: nothing was answered.";
      if (state === "error") return "The run ended with an error, and nothing was answered.";
      const ways = {
        drafted: "The model's first draft was scored, and was good and safe enough: no search was needed.",
        searched: `Found by a search over ${count(thoughts, "thought")}${unsafe}.`,
        refused: `Among ${count(thoughts, "thought")}${unsafe}, no answer was both helpful and safe enough to give.`,
        budget: `The budget ended the search; this is the best safe answer among ${count(thoughts, "thought")}${unsafe}.`,
      };
      if (ways[result.ended]) return ways[result.ended];
      if (method === "base") return "The plain model, asked once. Nothing checked its answer.";
      return thoughts ? `Found among ${count(thoughts, "thought")}${unsafe}.` : `Answered by the method “${method}”, without a search.`;
    }

    function fact(term, value, note, meter) {
      const box = el("div", "eco-fact", el("dt", "", term), el("dd", "", el("strong", "", value), meter || null, note ? el("span", "eco-quiet", note) : null));
      ui.facts.append(box);
    }

    function bar(share, cls) {
      const fill = el("span", cls || "");
      fill.style.width = `${(100 * Math.max(0, Math.min(1, share))).toFixed(1)}%`;
      const box = el("span", "eco-bar", fill);
      box.setAttribute("aria-hidden", "true");
      return box;
    }

    function safetyMeter(safety) {
      const mark = el("span", `eco-needle s${shade(safety)}`);
      mark.style.left = `${(50 * (1 + Math.max(-1, Math.min(1, safety)))).toFixed(1)}%`;
      const box = el("span", "eco-meter", ramp("eco-thin"), mark);
      box.setAttribute("aria-hidden", "true");
      return box;
    }

    function safetyWord(safety) {
      if (safety >= 0.8) return "judged safe";
      if (safety >= 0.2) return "judged mostly safe";
      if (safety >= (run.threshold || 0)) return "judged just safe enough";
      return "judged unsafe";
    }

    function drawResult() {
      const state = outcome();
      const result = final.result || {};
      const gauges = final.gauges;
      put(ui.question, run.question || (live ? "Waiting for the run to begin…" : ""));
      ui.question.dir = "auto";
      ui.thumbs.replaceChildren();
      (run.images || []).forEach((info, index) => {
        const {uri} = imageOf(index);
        if (!uri) return;
        const image = el("img");
        image.src = uri;
        image.alt = `Image ${index + 1} of the question`;
        ui.thumbs.append(image);
      });
      const names = {base: "Plain model", ecoalign: "EcoAlign"};
      put(ui.method, names[run.method] || run.method || "");
      ui.method.hidden = !run.method;
      const [word, tone] = STATUS[state === "answer" && !known(result.safety) ? "unchecked" : state];
      put(ui.status, word);
      ui.status.className = `eco-status ${tone}`;
      const answer = result.error || result.answer;
      ui.answer.className = `eco-answer${state === "error" ? " eco-failed" : (answer || "").length < 80 ? " eco-brief" : ""}`;
      put(ui.answer, answer || "");
      ui.answer.hidden = !answer;
      const stop = STOPS[result.stop_reason] || "";
      const hint = result.hint ? `${capital(result.hint).replace(/\.$/, "")}.` : "";
      put(ui.how, [ending(state), stop, hint].filter(Boolean).join(" "));
      ui.facts.replaceChildren();
      const budget = run.budget || {};
      if (state !== "running") {
        if (known(result.safety)) {
          const fixed = result.refused && result.stop_reason === "fail-closed";
          const note = fixed ? "a fixed text, which no model wrote" : `${safetyWord(result.safety)}; the least safe step to the answer counts`;
          fact("Safety", signed(result.safety), note, safetyMeter(result.safety));
        } else if (state === "answer" || state === "refused") fact("Safety", "not scored", "this method checks nothing");
      }
      if (known(result.utility) && !result.refused) fact("Utility", plain(result.utility), "how helpful the answer was judged");
      const spent = gauges.tokens || 0;
      const share = budget.tokens ? spent / budget.tokens : null;
      fact("Tokens", whole(spent), budget.tokens ? `of a budget of ${whole(budget.tokens)} (${percent(share)})` : "", share === null ? null : bar(share));
      if (budget.usd || gauges.usd) fact("Money", dollars(gauges.usd), budget.usd ? `of at most ${dollars(budget.usd)}` : "by list prices", budget.usd && known(gauges.usd) ? bar(gauges.usd / budget.usd) : null);
      fact("Time", seconds(gauges.seconds), budget.seconds ? `of at most ${seconds(budget.seconds)}` : "", budget.seconds ? bar((gauges.seconds || 0) / budget.seconds) : null);
      fact("Calls of the model", whole(gauges.calls || 0), gauges.calls > 1 && gauges.in_line ? `at most ${gauges.in_line} in line, one after the other` : "");
      root.classList.toggle("eco-running", state === "running");
      const graph = Object.keys(final.nodes).length > 0 || (live && !final.result && String(run.method || "ecoalign").startsWith("ecoalign"));
      ui.graph.hidden = !graph;
      drawKey();
      ui.svg.setAttribute("aria-label", `Graph of ${count(Object.keys(final.nodes).length, "thought")}. Arrow keys go from one to the next, Enter opens one.`);
    }

    // -- the moment of the slider

    function drawMoment() {
      const frame = cursor ? frames[cursor - 1] : null;
      if (ui.slider.max !== String(frames.length)) ui.slider.max = String(frames.length);
      if (ui.slider.value !== String(cursor)) ui.slider.value = String(cursor);
      const said = frame ? frame.text || frame.event : "Nothing has happened yet.";
      put(ui.said, said);
      const time = frame ? times[cursor - 1] : 0;
      put(ui.moment, `${cursor} of ${frames.length} · ${seconds(time)}`);
      ui.slider.setAttribute("aria-valuetext", harmless(`Event ${cursor} of ${frames.length}: ${short(said, 140)}`));
      ui.back.disabled = cursor === 0;
      ui.forth.disabled = cursor === frames.length;
      if (series) for (const plot of series) plot.mark(time, now.gauges);
      drawFrontier();
    }

    function step(by) {
      stop();
      seek(Math.max(0, Math.min(frames.length, cursor + by)));
    }

    function togglePlay() {
      if (playing) {
        stop();
        return;
      }
      if (cursor === frames.length) seek(0);
      const pace = Math.max(16, Math.min(450, 15000 / Math.max(1, frames.length)));
      ui.play.classList.add("eco-playing");
      ui.play.setAttribute("aria-label", "Pause");
      let last = performance.now();
      const tick = (time) => {
        const due = Math.floor((time - last) / pace);
        if (due > 0) {
          last += due * pace;
          seek(Math.min(frames.length, cursor + due));
        }
        if (cursor >= frames.length && !live) stop();
        else playing = requestAnimationFrame(tick);
      };
      playing = requestAnimationFrame(tick);
    }

    function stop() {
      if (playing) cancelAnimationFrame(playing);
      playing = null;
      ui.play.classList.remove("eco-playing");
      ui.play.setAttribute("aria-label", "Play the run event by event");
    }

    // -- plots over time

    function plot(title, name, words, top) {
      const value = el("strong");
      const area = svg("path", {class: "eco-area"});
      const curve = svg("path", {class: "eco-curve"});
      const needle = svg("line", {class: "eco-mark", y1: 0, y2: PLOT.h});
      const dot = svg("circle", {class: "eco-dot", r: 3.5});
      const base = svg("line", {class: "eco-axis", x1: 0, x2: PLOT.w, y1: PLOT.bottom, y2: PLOT.bottom});
      const drawing = svg("svg", {viewBox: `0 0 ${PLOT.w} ${PLOT.h}`, role: "img", class: "eco-plot"}, base, area, curve, needle, dot);
      const ends = el("div", "eco-ends", el("span", "", "0 s"), el("span"));
      const box = el("figure", "eco-chart", el("figcaption", "", title, " ", value), drawing, ends);
      let points = [];
      let until = 1;
      let highest = 1;
      const x = (at) => PLOT.left + ((PLOT.right - PLOT.left) * at) / until;
      const y = (v) => PLOT.bottom - ((PLOT.bottom - PLOT.top) * v) / highest;
      drawing.addEventListener("click", (event) => {
        const rect = drawing.getBoundingClientRect();
        const time = (((event.clientX - rect.left) / rect.width) * PLOT.w - PLOT.left) / (PLOT.right - PLOT.left) * until;
        stop();
        let k = 0;
        while (k < frames.length && times[k] <= time) k += 1;
        seek(k);
      });
      return {
        box,
        draw() {
          points = [];
          until = Math.max(1e-6, times[times.length - 1] || 0);
          frames.forEach((frame, i) => {
            const found = frame.gauges ? frame.gauges[name] : undefined;
            if (known(found)) points.push([times[i], found]);
          });
          highest = top || Math.max(1e-9, ...points.map((point) => point[1])) * 1.08;
          let d = "";
          points.forEach(([time, v], i) => {
            d += i ? `H${x(time).toFixed(1)}V${y(v).toFixed(1)}` : `M${x(time).toFixed(1)} ${y(v).toFixed(1)}`;
          });
          if (points.length) d += `H${PLOT.right}`;
          curve.setAttribute("d", d || "M0 0");
          area.setAttribute("d", points.length ? `${d}V${PLOT.bottom}H${x(points[0][0]).toFixed(1)}Z` : "M0 0");
          put(ends.lastChild, seconds(until));
          box.hidden = !points.length;
          const values = points.map((point) => point[1]);
          drawing.setAttribute("aria-label", harmless(points.length ? `${title} over ${seconds(until)}: from ${words(values[0])} to ${words(values[values.length - 1])}` : `${title}: nothing was recorded`));
        },
        mark(time, gauges) {
          const found = gauges[name];
          const place = x(Math.min(time, until)).toFixed(1);
          needle.setAttribute("x1", place);
          needle.setAttribute("x2", place);
          dot.setAttribute("cx", place);
          dot.setAttribute("cy", known(found) ? y(found).toFixed(1) : PLOT.bottom);
          put(value, known(found) ? words(found) : "–");
        },
      };
    }

    function drawPlots() {
      if (!series) {
        series = [
          plot("Budget left", "left", percent, 1),
          plot("Price of a token", "price", (v) => (v ? v.toPrecision(2) : "0")),
          plot("Horizon, steps ahead", "horizon", (v) => whole(v)),
        ];
        ui.plots.replaceChildren(...series.map((one) => one.box));
      }
      for (const one of series) one.draw();
    }

    // -- the frontier

    let frontierKey = null;
    function drawFrontier() {
      if (now.frontier === frontierKey) return;
      frontierKey = now.frontier;
      const points = now.frontier || [];
      ui.frontier.replaceChildren();
      ui.frontier.hidden = !points.length;
      if (!points.length) return;
      const W = 320;
      const H = 190;
      const highest = Math.max(1e-9, ...points.map((p) => p.utility)) * 1.15;
      const dearest = Math.max(1e-9, ...points.map((p) => p.cost)) * 1.12;
      const x = (v) => 40 + ((W - 52) * v) / dearest;
      const y = (v) => H - 32 - ((H - 46) * v) / highest;
      const drawing = svg("svg", {viewBox: `0 0 ${W} ${H}`, class: "eco-scatter", role: "img"});
      drawing.setAttribute("aria-label", `The paths to choose from: ${count(points.length, "path")}; utility against cost, the colour is the safety`);
      const words = (tx, ty, text, anchor, cls) => put(svg("text", {x: tx, y: ty, "text-anchor": anchor, class: cls || "eco-small"}), text);
      drawing.append(
        svg("line", {class: "eco-axis", x1: 40, x2: W - 8, y1: H - 32, y2: H - 32}),
        svg("line", {class: "eco-axis", x1: 40, x2: 40, y1: 8, y2: H - 32}),
        words((W + 32) / 2, H - 4, "cost C, tokens", "middle"),
        svg("g", {transform: `translate(11 ${(H - 24) / 2}) rotate(-90)`}, words(0, 0, "utility U", "middle")),
        words(36, y(highest / 1.15) + 4, plain(highest / 1.15), "end"),
        words(36, H - 29, "0", "end"),
        words(x(dearest / 1.12), H - 18, whole(dearest / 1.12), "middle"),
      );
      for (const point of points) {
        const group = svg("g", {class: `s${shade(point.safety)}${point.chosen ? " eco-picked" : ""}`, transform: `translate(${x(point.cost).toFixed(1)} ${y(point.utility).toFixed(1)})`});
        if (point.chosen) group.append(svg("circle", {class: "eco-halo", r: 11}));
        group.append(svg("path", {class: "eco-shape", d: scaled(LOOK.shapes.think, 6.5)}));
        drawing.append(group);
        if (point.chosen) {
          const end = point.cost > dearest / 2;
          drawing.append(words(x(point.cost) + (end ? -16 : 16), y(point.utility) + 4, "chosen", end ? "end" : "start", "eco-small eco-strong"));
        }
      }
      const table = el("table", "eco-table");
      table.append(el("thead", "", el("tr", "", ...["path", "S", "U", "C", "Γ"].map((one) => el("th", "", one)))));
      const body = el("tbody");
      for (const point of points.slice(0, 24)) {
        const last = (point.ids || [])[(point.ids || []).length - 1];
        const ends = last ? button("", (point.ids || []).join(" → "), () => open(last), "eco-link") : "–";
        const th = el("th", "", ends);
        th.scope = "row";
        if (point.chosen) th.append(el("span", "eco-chip m-answer", "chosen"));
        body.append(el("tr", point.chosen ? "eco-marked" : "", th, ...[signed(point.safety), plain(point.utility), whole(point.cost), plain(point.gamma)].map((one) => el("td", "", one))));
      }
      table.append(body);
      ui.frontier.append(
        el("h3", "", "Paths to choose from"),
        el("p", "eco-quiet", "No path beats these in safety S, utility U and cost C at once. Γ is what the choice is made by."),
        drawing,
        el("div", "eco-wide", table),
      );
    }

    // -- the stages

    function drawStages() {
      const stages = Object.entries(final.gauges.stages || {});
      ui.stages.replaceChildren();
      ui.stages.hidden = !stages.length;
      if (!stages.length) return;
      const total = stages.reduce((sum, [, one]) => sum + (one.tokens || 0), 0) || 1;
      const priced = stages.some(([, one]) => one.usd);
      const table = el("table", "eco-table");
      const heads = ["stage", "tokens", "calls", "seconds", ...(priced ? ["dollars"] : [])];
      table.append(el("thead", "", el("tr", "", ...heads.map((one) => el("th", "", one)))));
      const body = el("tbody");
      for (const [name, one] of stages) {
        const th = el("th", "", name, STAGES[name] ? el("span", "eco-quiet", STAGES[name]) : null, bar((one.tokens || 0) / total));
        th.scope = "row";
        const cells = [whole(one.tokens), whole(one.calls), plain(one.seconds)];
        if (priced) cells.push(dollars(one.usd));
        body.append(el("tr", "", th, ...cells.map((cell) => el("td", "", cell))));
      }
      table.append(body);
      const calls = final.gauges.calls || 0;
      const line = calls > 1 && final.gauges.in_line ? `${count(calls, "call")}, at most ${final.gauges.in_line} of them in line: each had to wait for the one before. Seconds are the sum over calls, which may run at once.` : count(calls, "call");
      ui.stages.append(el("h3", "", "Where it was spent"), el("p", "eco-quiet", line), el("div", "eco-wide", table));
    }

    function drawAbout() {
      const rows = [
        ["Method", run.method],
        ["Model", run.model],
        ["Scored by", run.evaluator || "nobody"],
        ["Preset", run.preset],
        ["Budget", [run.budget?.tokens && count(run.budget.tokens, "token"), run.budget?.usd && dollars(run.budget.usd), run.budget?.seconds && seconds(run.budget.seconds)].filter(Boolean).join(", ")],
        ["Unsafe below", signed(run.threshold)],
        ["Instructions", run.instructions],
        ...(run.context || []).map((turn, i) => [`Said before (${i + 1})`, turn]),
        ...(run.images || []).map((info, i) => [`Image ${i + 1}`, [`${info.width} × ${info.height} px`, ...(info.notes || [])].join("; ")]),
        ["EcoAlign", run.version],
      ];
      const list = el("dl", "eco-settings");
      for (const [term, value] of rows) {
        if (!value) continue;
        const said = el("dd", "", value);
        said.dir = "auto";
        list.append(el("div", "", el("dt", "", term), said));
      }
      const open = ui.about.open;
      ui.about.replaceChildren(el("summary", "", "About this run"), list);
      ui.about.open = open;
    }

    // -- from outside

    function append(more, where, about) {
      const empty = frames.length === 0;
      if (about) run = about;
      if (where) {
        layout = {...layout, ...where};
        places += 1;
        for (const id of views.keys()) dirty.add(id);
      }
      const follow = atEnd && !playing;
      for (const frame of more || []) {
        frames.push(frame);
        times.push(Math.max(frame.at || 0, times[times.length - 1] || 0));
        apply(frame, final, null);
        for (const fields of Object.values(frame.nodes || {})) {
          if (known(fields.utility) && fields.utility > most) {
            most = fields.utility;
            for (const id of views.keys()) dirty.add(id);
          }
        }
      }
      if (follow) seek(frames.length);
      if (about) drawAbout();
      stale = true;
      if (empty) drawWhole();
      if (frames.length && (empty || (!moved && where))) {
        drawNodes();
        fit(false);
      }
      later();
    }

    function reset() {
      stop();
      run = {};
      frames = [];
      times.length = 0;
      undo = [];
      layout = {};
      cursor = 0;
      atEnd = true;
      now = fresh();
      final = fresh();
      for (const drawn of views.values()) drawn.group.remove();
      ui.edges.replaceChildren();
      views = new Map();
      most = 1;
      moved = false;
      roving = null;
      selected = null;
      frontierKey = null;
      ui.panel.hidden = true;
      ui.body.classList.remove("eco-open");
      dirty.clear();
      drawResult();
      drawPlots();
      drawStages();
      drawAbout();
      later();
    }

    const watcher = new ResizeObserver(() => {
      stage = {w: ui.stage.clientWidth || 800, h: ui.stage.clientHeight || 480};
      if (!moved && frames.length) fit(false, overlaid() > 0);
      else pan();
    });
    watcher.observe(ui.stage);
    drawResult();
    drawPlots();
    later();

    return {
      reset,
      append,
      seek,
      select: open,
      close: shut,
      fit: () => fit(true),
      setImages(found) {
        images = found || [];
        drawResult();
        if (selected) drawPanel();
      },
      live(flag) {
        live = Boolean(flag);
        drawResult();
      },
      get length() {
        return frames.length;
      },
      get cursor() {
        return cursor;
      },
      destroy() {
        stop();
        watcher.disconnect();
        root.replaceChildren();
        root.classList.remove("eco");
      },
    };
  }

  // ---- what pages share

  // A button that goes from the system's theme to light to dark.
  function themeButton() {
    const names = ["auto", "light", "dark"];
    let theme = "auto";
    try {
      theme = localStorage.getItem("ecoalign-theme") || "auto";
    } catch {
      theme = "auto";
    }
    const made = el("button", "eco-button eco-theme");
    made.type = "button";
    const show = () => {
      if (theme === "auto") delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = theme;
      put(made, `Theme: ${theme}`);
    };
    if (!names.includes(theme)) theme = "auto";
    show();
    made.addEventListener("click", () => {
      theme = names[(names.indexOf(theme) + 1) % names.length];
      try {
        localStorage.setItem("ecoalign-theme", theme);
      } catch {
        // A page of a file may have no storage; the theme holds until it is closed.
      }
      show();
    });
    return made;
  }

  return {mount, themeButton};
})();
