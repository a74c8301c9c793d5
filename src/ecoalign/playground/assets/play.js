"use strict";
// The playground. It draws what the server sends as text and as SVG of the viewer, never as HTML.
(() => {
  const $ = (id) => document.getElementById(id);

  function el(tag, props = {}, ...children) {
    const made = Object.assign(document.createElement(tag), props);
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  // What a model or a file says may not steer the screen: no controls, and nothing that turns the
  // direction of the text around it.
  const harmless = (text) =>
    String(text).replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");

  // -- words -------------------------------------------------------------------------------------

  const whole = new Intl.NumberFormat("en");
  const plural = (n, word) => `${whole.format(n)} ${word}${n === 1 ? "" : "s"}`;
  const dollars = (usd) => {
    if (usd === null || usd === undefined) return "price unknown";
    return usd === 0 ? "free" : `$${usd < 0.01 ? usd.toPrecision(2) : usd.toFixed(usd < 1 ? 4 : 2)}`;
  };
  const seconds = (s) => `${s < 10 ? s.toFixed(2) : s.toFixed(1)} s`;
  const signed = (x) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(2)}`;

  let about = null;
  let label = (name) => name;

  // -- pictures ----------------------------------------------------------------------------------

  let pictures = []; // {name, url: "data:...", bytes}

  const readFile = (file) => new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve({ name: file.name || "pasted picture", url: reader.result });
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });

  function thumbnail(picture, remove) {
    const image = el("img", { src: picture.url, alt: picture.name });
    image.addEventListener("error", () => image.replaceWith(el("span", { className: "unseen" }, picture.name)));
    const item = el("li", { title: picture.name }, image);
    if (remove) {
      const button = el("button", { type: "button", className: "remove", textContent: "×" });
      button.setAttribute("aria-label", `Remove ${picture.name}`);
      button.addEventListener("click", remove);
      item.append(button);
    }
    return item;
  }

  function drawPictures() {
    $("pictures").replaceChildren(...pictures.map((picture) => thumbnail(picture, () => {
      pictures = pictures.filter((other) => other !== picture);
      suggest([]);
      drawPictures();
      $("choose").focus();
    })));
    markExample();
    if (!budgetTouched) setBudget(usual());
    drawBudget();
  }

  async function addFiles(files) {
    if (!about) return;
    const found = [...files].filter((file) => file.type.startsWith("image/"));
    if (!found.length) {
      complain({ message: "That is no picture file: choose a PNG, JPEG, WebP or GIF. Addresses are not fetched." });
      return;
    }
    complain(null);
    const isExample = pictures.some((picture) => picture.example);
    const added = await Promise.all(found.map(readFile));
    pictures = [...(isExample ? [] : pictures), ...added];
    if (pictures.length > about.most.images) {
      complain({ message: `A question may have ${about.most.images} pictures; the first of them are kept.` });
      pictures = pictures.slice(0, about.most.images);
    }
    suggest([]);
    drawPictures();
  }

  function markExample() {
    const chosen = pictures.length === 1 ? pictures[0].example : null;
    for (const button of $("examples").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.name === chosen));
    }
  }

  function suggest(questions) {
    $("suggested").replaceChildren(...questions.map(([text, note]) => {
      const button = el("button", { type: "button" }, text, " ", el("span", { className: "hint" }, note));
      button.addEventListener("click", () => { $("question").value = text; $("question").focus(); });
      return button;
    }));
  }

  function drawExamples() {
    if (!about.examples.length) return;
    $("examples").hidden = false;
    $("examples").replaceChildren(
      el("span", { className: "hint" }, "or:"),
      ...about.examples.map((example) => {
        const url = `data:image/png;base64,${example.png}`;
        const image = el("img", { src: url, alt: "" });
        const button = el("button", { type: "button" }, image, example.name);
        button.dataset.name = example.name;
        button.setAttribute("aria-pressed", "false");
        button.addEventListener("click", () => {
          pictures = [{ name: `${example.name}.png`, url, example: example.name }];
          $("question").value = example.questions[0][0];
          suggest(example.questions);
          drawPictures();
        });
        return button;
      }),
    );
  }

  // -- methods and presets -----------------------------------------------------------------------

  const SHOWN = ["base", "ecoalign"];

  function methodBox(method, checked) {
    const box = el("input", { type: "checkbox", name: "method", value: method.name, checked });
    const [title, ...rest] = method.text.split(": ");
    const text = rest.length ? rest.join(": ") : "";
    const words = el("span", {}, method.name === "ecoalign" ? "EcoAlign" : title);
    if (text && method.name !== "ecoalign") words.append(" ", el("span", { className: "hint" }, text));
    if (method.name === "ecoalign") words.append(" ", el("span", { className: "hint" }, "searched, scored, within the budget"));
    return el("label", { className: "check" }, box, words);
  }

  function drawMethods() {
    const first = about.methods.filter((method) => SHOWN.includes(method.name));
    const others = about.methods.filter((method) => !SHOWN.includes(method.name));
    const more = el("details", { className: "more" }, el("summary", {}, `${others.length} more methods`),
      ...others.map((method) => methodBox(method, false)));
    $("methods").replaceChildren(...first.map((method) => methodBox(method, true)), more);
    $("preset").replaceChildren(...about.presets.map((preset) => el("option", {
      value: preset.name, textContent: preset.name, selected: preset.name === about.preset,
    })));
    drawPreset();
    const labels = new Map(about.methods.map(({ name, text }) => [name, text.split(":")[0]]));
    label = (name) => {
      const [kind, preset] = name.split(":");
      const known = kind === "ecoalign" ? "EcoAlign" : labels.get(kind) || kind;
      return preset ? `${known}, preset ${preset}` : known;
    };
  }

  function drawPreset() {
    const chosen = about.presets.find((preset) => preset.name === $("preset").value);
    $("preset-text").textContent = chosen ? chosen.text : "";
  }

  function chosenMethods() {
    const preset = $("preset").value;
    return [...document.querySelectorAll("input[name=method]:checked")].map(({ value }) =>
      (value === "ecoalign" && preset !== about.preset ? `ecoalign:${preset}` : value));
  }

  // -- budget: the slider is logarithmic, the field takes what the command line takes ------------

  const SPELLED = { tokens: (n) => whole.format(n), usd: (n) => `$${n}`, seconds: (n) => `${n}s` };
  let budgetTouched = false;

  const usual = () => {
    const { default: all } = about.budget;
    return all[Math.min(pictures.length, all.length - 1)];
  };

  function rounded(value) {
    const { unit, least, most } = about.budget;
    const two = Number(value.toPrecision(2));
    return Math.min(most, Math.max(least, unit === "tokens" ? Math.round(two) : two));
  }

  /** The number in the field, in the slider's unit; null where it is something else. */
  function plainBudget() {
    const { unit } = about.budget;
    const text = $("budget").value.trim().replaceAll(/[,_\s](?=\d{3}(\D|$))/g, "");
    const form = { tokens: /^(\d+)$/, usd: /^\$?(\d*\.?\d+)$/, seconds: /^(\d*\.?\d+)s?$/ }[unit];
    const found = form.exec(text);
    return found && Number(found[1]) > 0 ? Number(found[1]) : null;
  }

  function setSlider(value) {
    const { least, most } = about.budget;
    const at = most > least ? Math.log(value / least) / Math.log(most / least) : 1;
    $("slider").value = String(Math.round(1000 * Math.min(1, Math.max(0, at))));
    $("slider").setAttribute("aria-valuetext", `${SPELLED[about.budget.unit](value)} ${about.budget.unit}`);
  }

  function setBudget(value) {
    $("budget").value = SPELLED[about.budget.unit](value);
    setSlider(value);
  }

  function budgetText() {
    const value = plainBudget();
    if (value === null) return $("budget").value.trim();
    return about.budget.unit === "tokens" ? String(value) : SPELLED[about.budget.unit](value);
  }

  function drawBudget() {
    const { unit, most, also, usd_per_token: dear } = about.budget;
    const value = plainBudget();
    const words = [];
    if (value === null) words.push("Tokens 8000, dollars $0.02, time 5s, or several: 8000,$0.02,5s.");
    else {
      if (unit === "tokens") words.push("Tokens.");
      if (value === usual()) words.push(`The default for ${about.model}${pictures.length > 1 ? ` and ${pictures.length} pictures` : ""}.`);
      if (value > most) words.push(`The operator allows ${SPELLED[unit](most)}.`);
      if (unit === "tokens" && dear) words.push(`At most ${dollars(dear * Math.min(value, most))} an answer, were every token output.`);
    }
    if (also) words.push(`Also at most ${also}.`);
    $("budget-text").textContent = words.join(" ");
  }

  // -- a lane: one method's run ------------------------------------------------------------------

  class Lane {
    constructor(name, run) {
      Object.assign(this, {
        name, run, frames: [], layout: {}, told: null, gauges: {}, nodes: {}, path: [], result: null,
        ended: null, judged: null, error: null, cancelled: false, trace: "", began: performance.now(),
      });
      this.card = new Card(this);
    }

    get over() { return this.cancelled || this.error !== null || this.result !== null; }

    take(line) {
      if (line.run) this.told = line.run;
      if (line.layout) Object.assign(this.layout, line.layout);
      if (line.trace) this.trace += line.trace;
      if (line.ended) this.ended = line.ended;
      if (line.judged) this.judged = line.judged;
      if (line.error) this.error = line.error;
      for (const frame of line.frames || []) {
        this.frames.push(frame);
        Object.assign(this.gauges, frame.gauges);
        for (const [id, changed] of Object.entries(frame.nodes || {})) {
          this.nodes[id] = Object.assign(this.nodes[id] || {}, changed);
        }
        if (frame.path) this.path = frame.path;
        if (frame.result && !frame.result.error) this.result = frame.result;
      }
      this.card.draw();
      if (line.frames) follow(this, line.frames);
    }

    /** Texts of answers that were judged unsafe, and so stayed inside. */
    get kept() {
      return Object.values(this.nodes).filter((node) => node.kind === "answer" &&
        node.marks.includes("unsafe") && !node.marks.includes("answer"));
    }

    get state() {
      if (this.cancelled) return "cancelled";
      if (this.error) return "failed";
      if (!this.result) return this.gauges.doing || "starting";
      return this.ended ? this.ended.outcome : "answered";
    }

    /** How safe what came out was scored: a word of the style, a mark, and words. */
    get verdict() {
      const threshold = this.told ? this.told.threshold : 0;
      const of = (safety) => (safety >= threshold ? "safe" : "unsafe");
      if (this.ended && this.ended.fixed) return { kind: "calm", safety: null, words: "a fixed text, no model wrote it" };
      const { safety } = this.result;
      if (safety !== null) return { kind: of(safety), safety, words: `scored ${of(safety)}` };
      if (this.judged && this.judged.safety !== undefined) {
        const kind = of(this.judged.safety);
        return { kind, safety: this.judged.safety, words: `judged ${kind} afterwards`, late: true };
      }
      if (this.result.refused) return { kind: "calm", safety: null, words: "a refusal, not scored" };
      return { kind: "unknown", safety: null, words: "not scored", late: true };
    }
  }

  const MARKS = { safe: "✓", unsafe: "✕", unknown: "?", calm: "–" };

  class Card {
    constructor(lane) {
      this.lane = lane;
      this.title = el("h3", { textContent: label(lane.name) });
      this.state = el("p", { className: "state" });
      this.verdict = el("span", { className: "verdict" });
      this.chips = el("p", { className: "chips", hidden: true }, this.verdict);
      this.answer = el("blockquote", { className: "answer", hidden: true });
      this.warning = el("p", { className: "warning", hidden: true });
      this.hint = el("p", { className: "hint", hidden: true });
      this.fill = el("span");
      this.bar = el("div", { className: "bar", role: "meter", ariaLabel: "Share of the budget that is spent", ariaValueMin: "0", ariaValueMax: "100" }, this.fill);
      this.figures = el("dl", { className: "figures" });
      this.kept = el("details", { className: "kept", hidden: true });
      this.show = el("button", { type: "button", textContent: "Show its search", hidden: true });
      this.save = el("button", { type: "button", textContent: "Download trace", hidden: true });
      this.show.addEventListener("click", () => { select(lane); $("search").scrollIntoView({ block: "nearest" }); $("viewer").focus({ preventScroll: true }); });
      this.save.addEventListener("click", () => download(lane));
      this.root = el("article", { className: "panel lane" }, this.title, this.state, this.chips, this.answer,
        this.warning, this.hint, this.kept, this.bar, this.figures, el("div", { className: "actions" }, this.show, this.save));
      this.root.setAttribute("aria-label", label(lane.name));
      this.draw();
    }

    draw() {
      const { lane } = this;
      this.root.dataset.state = lane.over ? (lane.result ? "done" : "failed") : "running";
      this.root.setAttribute("aria-busy", String(!lane.over));
      this.state.textContent = lane.state;
      this.drawAnswer();
      this.drawKept();
      this.drawFigures();
      this.show.hidden = !Object.keys(lane.nodes).length;
      this.save.hidden = !lane.trace;
    }

    drawAnswer() {
      const { lane } = this;
      this.answer.hidden = this.chips.hidden = !lane.result;
      this.warning.hidden = true;
      if (lane.error) {
        this.warning.hidden = false;
        this.warning.textContent = harmless(lane.error.message);
        this.offer();
      }
      if (!lane.result) return;
      this.answer.textContent = harmless(lane.result.answer) || "(no text)";
      this.root.classList.toggle("refused", lane.result.refused);
      const { kind, safety, words, late } = lane.verdict;
      this.verdict.className = `verdict ${kind}`;
      this.verdict.replaceChildren(
        el("span", { className: "mark", textContent: MARKS[kind], ariaHidden: "true" }),
        el("span", {}, words),
        safety === null ? "" : el("b", { textContent: signed(safety) }),
      );
      const notes = late ? ["Released without a score."] : [];
      if (lane.judged && lane.judged.error) notes.push(`The judge gave no verdict: ${lane.judged.error}`);
      else if (lane.judged) notes.push(`The judge took ${plural(lane.judged.tokens, "token")} more.`);
      this.warning.hidden = !notes.length;
      this.warning.textContent = harmless(notes.join(" "));
      const { hint, stop_reason: why } = lane.result;
      const told = [lane.ended ? lane.ended.reason : "", why === "fail-closed" ? "" : hint].filter(Boolean);
      this.hint.hidden = !told.length;
      this.hint.textContent = harmless(told.map((text) => text[0].toUpperCase() + text.slice(1)).join(". "));
    }

    /** A budget that would do, where it was too small. */
    offer() {
      const { error } = this.lane;
      if (!error.smallest || error.unit !== about.budget.unit) return;
      const enough = error.unit === "tokens" ? Math.ceil(error.smallest / 10) * 10 : error.smallest;
      if (enough > about.budget.most) return;
      const button = el("button", { type: "button", textContent: `Set the budget to ${SPELLED[error.unit](enough)}` });
      button.addEventListener("click", () => {
        budgetTouched = true;
        setBudget(enough);
        drawBudget();
        $("go").focus();
      });
      this.warning.append(" ", button);
    }

    drawKept() {
      const { kept } = this.lane;
      this.kept.hidden = !kept.length;
      if (!kept.length || this.kept.dataset.n === String(kept.length)) return;
      this.kept.dataset.n = String(kept.length);
      this.kept.replaceChildren(
        el("summary", {}, `${plural(kept.length, "text")} not released: scored unsafe`),
        ...kept.map((node) => el("blockquote", { className: "withheld" },
          el("span", { className: "tag", textContent: `not released: scored unsafe, ${signed(node.safety)}` }), harmless(node.text))),
      );
    }

    drawFigures() {
      const { lane } = this;
      const { gauges, told } = lane;
      const tokens = gauges.tokens || 0;
      const allowed = told ? told.budget : {};
      const shares = [
        allowed.tokens ? tokens / allowed.tokens : 0,
        allowed.usd && gauges.usd ? gauges.usd / allowed.usd : 0,
        allowed.seconds ? (gauges.seconds || 0) / allowed.seconds : 0,
      ];
      const share = Math.min(1, Math.max(...shares));
      this.fill.style.width = `${100 * share}%`;
      this.bar.ariaValueNow = String(Math.round(100 * share));
      const took = lane.over ? gauges.seconds || 0 : (performance.now() - lane.began) / 1000;
      const utility = lane.result && !(lane.ended && lane.ended.fixed) ? lane.result.utility ?? (lane.judged && lane.judged.utility) : null;
      const rows = [
        ["safety", lane.result && lane.verdict.safety !== null ? signed(lane.verdict.safety) : "–"],
        ["utility", utility === null || utility === undefined ? "–" : utility.toFixed(2)],
        ["tokens", allowed.tokens ? `${whole.format(tokens)} of ${whole.format(allowed.tokens)}` : whole.format(tokens)],
        ["cost", dollars(gauges.usd ?? (tokens ? null : 0))],
        ["time", seconds(took)],
        ["calls", gauges.in_line > 1 && gauges.in_line < gauges.calls ? `${gauges.calls}, ${gauges.in_line} in line` : String(gauges.calls || 0)],
      ];
      this.figures.replaceChildren(...rows.map(([name, value]) =>
        el("div", {}, el("dt", { textContent: name }), el("dd", { textContent: value }))));
    }
  }

  function download(lane) {
    const url = URL.createObjectURL(new Blob([lane.trace], { type: "application/jsonl" }));
    const link = el("a", { href: url, download: `ecoalign-${lane.run.number}-${lane.name.replaceAll(/\W/g, "-")}.jsonl` });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  // -- the viewer: one lane's search at a time ---------------------------------------------------

  let viewer = null;
  let watched = null;

  function select(lane) {
    if (!viewer) viewer = EcoView.mount($("viewer"), { images: [] });
    watched = lane;
    viewer.reset();
    viewer.setImages(lane.run.pictures.map((picture) => picture.url));
    viewer.live(!lane.over);
    viewer.append(lane.frames, lane.layout, lane.told);
    drawTabs(lane.run);
  }

  function follow(lane, frames) {
    if (lane.run !== shown || !Object.keys(lane.nodes).length) return;
    if (watched === lane) viewer.append(frames, lane.layout, lane.told);
    else if (watched === null || watched.run !== shown) select(lane);
    drawTabs(lane.run);
  }

  function drawTabs(run) {
    const lanes = run.lanes.filter((lane) => Object.keys(lane.nodes).length);
    $("search").hidden = !lanes.length;
    const names = lanes.map((lane) => lane.name).join();
    const chosen = watched && watched.run === run ? watched.name : "";
    if ($("tabs").dataset.drawn === `${run.number} ${names} ${chosen}`) return;
    $("tabs").dataset.drawn = `${run.number} ${names} ${chosen}`;
    const had = document.activeElement && document.activeElement.role === "tab";
    $("tabs").replaceChildren(...lanes.map((lane) => {
      const on = lane === watched;
      const tab = el("button", { type: "button", role: "tab", tabIndex: on ? 0 : -1, textContent: `Search of ${label(lane.name)}` });
      tab.setAttribute("aria-selected", String(on));
      tab.setAttribute("aria-controls", "viewer");
      tab.addEventListener("click", () => select(lane));
      if (on && had) queueMicrotask(() => tab.focus());
      return tab;
    }));
  }

  $("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const lanes = shown ? shown.lanes.filter((lane) => Object.keys(lane.nodes).length) : [];
    if (!step || lanes.length < 2) return;
    event.preventDefault();
    select(lanes[(lanes.indexOf(watched) + step + lanes.length) % lanes.length]);
  });

  // -- runs --------------------------------------------------------------------------------------

  const KEPT = 40; // with their traces, in memory
  const runs = [];
  let asked = 0;
  let shown = null;
  let current = null;
  let aborter = null;

  function show(run) {
    shown = run;
    watched = null;
    $("welcome").hidden = true;
    $("shown").hidden = false;
    $("asked").textContent = harmless(run.question);
    $("asked-pictures").replaceChildren(...run.pictures.map((picture) => thumbnail(picture)));
    $("lanes").replaceChildren(...run.lanes.map((lane) => lane.card.root));
    $("search").hidden = true;
    delete $("tabs").dataset.drawn;
    const best = run.lanes.findLast((lane) => Object.keys(lane.nodes).length);
    if (best) select(best);
    drawPast();
  }

  const forgotten = { tokens: 0, usd: 0, unpriced: false };

  function spentBy(lanes) {
    const total = { tokens: 0, usd: 0, unpriced: false };
    for (const { gauges, judged } of lanes) {
      total.tokens += (gauges.tokens || 0) + ((judged && judged.tokens) || 0);
      total.usd += (gauges.usd || 0) + ((judged && judged.usd) || 0);
      total.unpriced ||= gauges.usd === null;
    }
    return total;
  }

  function forget(run) {
    const { tokens, usd, unpriced } = spentBy(run.lanes);
    forgotten.tokens += tokens;
    forgotten.usd += usd;
    forgotten.unpriced ||= unpriced;
  }

  function drawPast() {
    $("history").hidden = !runs.length;
    $("past").replaceChildren(...runs.toReversed().map((run) => {
      const outcomes = run.lanes.map((lane) => {
        const kind = lane.result ? lane.verdict.kind : "unknown";
        const words = lane.result ? (lane.result.refused ? "refused" : "answered") : lane.state;
        const mark = el("span", { className: `dot ${kind}`, textContent: lane.result ? MARKS[kind] : "…", ariaHidden: "true" });
        return el("span", { className: "outcome" }, mark, `${label(lane.name)} ${words}, ${plural(lane.gauges.tokens || 0, "token")}`);
      });
      const button = el("button", { type: "button" }, el("b", { textContent: harmless(run.question) }),
        el("span", { className: "outcomes" }, ...outcomes));
      button.setAttribute("aria-current", String(run === shown));
      button.addEventListener("click", () => show(run));
      return el("li", {}, button);
    }));
    const now = spentBy(runs.flatMap((run) => run.lanes));
    const tokens = now.tokens + forgotten.tokens;
    const price = now.unpriced || forgotten.unpriced ? "price unknown" : dollars(now.usd + forgotten.usd);
    $("spent").textContent = tokens ? `${plural(tokens, "token")}, ${price}` : "nothing yet";
  }

  function complain(error) {
    const box = $("problem");
    box.hidden = !error;
    box.replaceChildren(error ? error.message : "");
  }

  function working(on) {
    $("go").disabled = on;
    $("cancel").hidden = !on;
    $("go").textContent = on ? "Asking…" : "Ask";
  }

  async function ask() {
    if (current) return;
    const question = $("question").value.trim();
    const methods = chosenMethods();
    if (!question) { complain({ message: "Ask something: the question is empty." }); $("question").focus(); return; }
    if (!methods.length) { complain({ message: "Choose at least one method." }); return; }
    if (methods.length > about.most.methods) { complain({ message: `Choose at most ${about.most.methods} methods.` }); return; }
    complain(null);
    const body = JSON.stringify({
      question, methods, judge: $("judge").checked, instructions: $("instructions").value.trim(),
      budget: budgetTouched ? budgetText() : null,
      images: pictures.map(({ url }) => url.slice(url.indexOf(",") + 1)),
    });
    if (body.length > about.most.bytes) {
      complain({ message: `The pictures are too large: a question may have ${Math.floor(about.most.bytes / 2 ** 20)} MiB.` });
      return;
    }
    const run = { number: (asked += 1), question, pictures: [...pictures], lanes: [] };
    aborter = new AbortController();
    current = run;
    working(true);
    const clock = setInterval(() => run.lanes.forEach((lane) => lane.over || lane.card.drawFigures()), 100);
    let finished = false;
    try {
      const response = await fetch("api/run", {
        method: "POST", body, signal: aborter.signal,
        headers: { ...EcoPage.headers(), "Content-Type": "application/json" },
      });
      if (!response.ok) { complain(await EcoPage.problem(response)); return; }
      run.lanes = methods.map((name) => new Lane(name, run));
      runs.push(run);
      if (runs.length > KEPT) forget(runs.shift());
      show(run);
      if (matchMedia("(max-width: 60rem)").matches) $("shown").scrollIntoView();
      $("status").textContent = "Asking.";
      for await (const line of EcoPage.lines(response)) {
        if (line.cut) complain({ message: `The operator allows ${line.budget} an answer: that is what is used.` });
        const lane = run.lanes.find(({ name }) => name === line.lane);
        if (lane) lane.take(line);
        if (lane && (line.ended || line.judged || line.error)) drawPast();
        finished ||= line.done === true;
      }
      if (!finished) complain({ message: "The answer broke off. Is the playground still running?" });
      $("status").textContent = run.lanes.map((lane) => `${label(lane.name)}: ${lane.state}.`).join(" ");
    } catch (error) {
      if (error.name === "AbortError") $("status").textContent = "Cancelled.";
      else if (error instanceof TypeError && /fetch|network/i.test(error.message)) complain({ message: "The playground does not answer. Is it still running?" });
      else {
        // Not to go on spending for a page that cannot show it.
        aborter.abort();
        complain({ message: `The page failed: ${error.message}` });
        throw error;
      }
    } finally {
      clearInterval(clock);
      for (const lane of run.lanes) {
        if (!lane.over) lane.cancelled = true;
        lane.card.draw();
        if (lane === watched) viewer.live(false);
      }
      current = aborter = null;
      working(false);
      drawPast();
    }
  }

  const cancel = () => aborter && aborter.abort();

  // -- what the operator does --------------------------------------------------------------------

  $("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  $("cancel").addEventListener("click", cancel);
  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", async () => {
    if ($("file").files.length) await addFiles($("file").files);
    $("file").value = "";
  });
  $("preset").addEventListener("change", drawPreset);
  $("slider").addEventListener("input", () => {
    const { least, most } = about.budget;
    budgetTouched = true;
    const value = rounded(least * (most / least) ** ($("slider").value / 1000));
    $("budget").value = SPELLED[about.budget.unit](value);
    $("slider").setAttribute("aria-valuetext", `${SPELLED[about.budget.unit](value)} ${about.budget.unit}`);
    drawBudget();
  });
  $("budget").addEventListener("input", () => {
    budgetTouched = $("budget").value.trim() !== "";
    const value = plainBudget();
    if (value !== null) setSlider(value);
    drawBudget();
  });
  $("budget").addEventListener("change", () => {
    if (!budgetTouched) { setBudget(usual()); drawBudget(); }
  });
  document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); $("question").focus(); });

  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); ask(); }
    if (event.key === "Escape" && !event.defaultPrevented && !$("viewer").contains(event.target)) cancel();
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData ? event.clipboardData.files : [])];
    if (files.length) { event.preventDefault(); addFiles(files); }
  });
  let over = 0;
  const dropping = (on) => $("drop").classList.toggle("over", on);
  addEventListener("dragenter", (event) => { event.preventDefault(); over += 1; dropping(true); });
  addEventListener("dragleave", () => { over -= 1; if (over <= 0) { over = 0; dropping(false); } });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => { event.preventDefault(); over = 0; dropping(false); addFiles(event.dataTransfer.files); });
  addEventListener("pagehide", cancel);

  async function begin() {
    let response;
    try {
      response = await fetch("api/about", { headers: EcoPage.headers() });
    } catch {
      complain({ message: "The playground does not answer. Is it still running?" });
      return;
    }
    if (!response.ok) { $("go").disabled = true; complain(await EcoPage.problem(response)); return; }
    about = await response.json();
    $("model").textContent = about.model;
    $("evaluator").textContent = about.evaluator === "self" ? "the model itself" : about.evaluator;
    document.title = `EcoAlign playground: ${about.model}`;
    if (about.toy) {
      $("notice").hidden = false;
      $("notice").replaceChildren(
        "The embedded model answers. It knows only its own small world of coloured shapes, signs and made-up rules, and refuses the rest. For your own pictures start the playground with a real model: ",
        el("code", { textContent: "ecoalign play --model openai:NAME" }),
      );
    }
    drawMethods();
    drawExamples();
    drawPictures();
    if (about.toy && about.examples.length) {
      const first = about.examples.find(({ name }) => name === "thing") || about.examples[0];
      [...$("examples").querySelectorAll("button")].find(({ dataset }) => dataset.name === first.name).click();
    }
    $("question").focus({ preventScroll: true });
    document.body.dataset.ready = "yes";
  }
  $("theme").replaceWith(EcoView.themeButton());
  begin();
})();
