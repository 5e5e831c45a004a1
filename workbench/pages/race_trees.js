// Trees that grow during a race, side by side: play, scrub by step, choose a prompt. Data come as
// plain numbers; the same picture serves a race under way and a recorded one.
const SVG = "http://www.w3.org/2000/svg";
const TARGET = "#008A61";
const OTHER = "#797979";
const FRAME = 420; // milliseconds from one evaluation to the next while it plays

function node(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const percent = (p) => (p >= 0.0995 ? `${(100 * p).toFixed(0)}%` : `${(100 * p).toPrecision(2)}%`);

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector("#growing");
  const find = (name) => parentElement.querySelector(`#growing-${name}`);
  const state = (root.state ??= { at: 0, prompt: 1, playing: false, follow: true, told: null });
  const steps = [...new Set(Object.values(data.trees).flatMap((list) => list.map((one) => one.step)))]
    .sort((a, b) => a - b);
  const last = Math.max(steps.length - 1, 0);
  if (state.race !== data.race) {
    Object.assign(state, { race: data.race, at: 0, prompt: 1, follow: true, playing: false });
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (data.plays && !still) state.playing = true;
    if (data.plays && still) state.at = last;
  }
  if (!data.plays && state.follow) state.at = last;
  state.at = Math.min(state.at, last);

  // Probabilities of a strategy at a place between two evaluations, drawn out linearly.
  function between(name, at) {
    const list = data.trees[name] ?? [];
    const known = (index) => {
      const step = steps[Math.min(index, last)];
      let found = list[0];
      for (const one of list) if (one.step <= step) found = one;
      return found?.prompts[state.prompt];
    };
    const low = Math.floor(at);
    const a = known(low);
    const b = known(low + 1);
    const part = at - low;
    return a && a.map((level, l) => level.map((p, c) => p + part * (b[l][c] - p)));
  }

  const chance = (name, at) => {
    const levels = between(name, at);
    const prompt = data.forest[state.prompt];
    return levels ? levels[levels.length - 1][prompt.place[prompt.place.length - 1]] : null;
  };

  function ceiling() {
    let most = 1e-6;
    for (let index = 0; index <= last; index += 1) {
      for (const name of data.strategies) most = Math.max(most, chance(name, index) ?? 0);
    }
    return [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1].find((top) => top >= most) ?? 1;
  }

  function tree(name, width, height, top) {
    const prompt = data.forest[state.prompt];
    const depth = prompt.codes.length;
    const levels = between(name, state.at);
    const p = chance(name, state.at);
    const svg = node("svg", { width, height: height + 92, role: "img",
      "aria-label": levels ? `${name}: one rollout finds the target with probability ${percent(p)}` : name });
    svg.append(node("text", { x: 4, y: 15, class: "title", fill: data.colours[name] }, name));
    if (!levels) {
      svg.append(node("text", { x: 4, y: 40, class: "small" }, "not yet evaluated"));
      return svg;
    }
    const x = (level) => 8 + (level / depth) * (width - 74);
    const y = (level, child) => 26 + ((child + 0.5) / prompt.codes[level].length) * (height - 8);
    let from = 26 + (height - 8) / 2;
    levels.forEach((masses, level) => {
      const half = (x(level + 1) - x(level)) / 2;
      masses.forEach((mass, child) => {
        const own = child === prompt.place[level];
        const end = y(level, child);
        svg.append(node("path", {
          d: `M${x(level)},${from}C${x(level) + half},${from} ${x(level) + half},${end} ${x(level + 1)},${end}`,
          fill: "none", stroke: own ? TARGET : OTHER, "stroke-opacity": own ? 1 : 0.75,
          "stroke-width": Math.max(0.5, 18 * Math.sqrt(mass)), "stroke-linecap": "round",
        }));
      });
      from = y(level, prompt.place[level]);
    });
    const dead = (1 - p) ** data.group;
    svg.append(node("circle", { cx: x(depth), cy: from, r: 4, fill: TARGET }));
    if (data.repairs[name] && dead > 0.01) {
      svg.append(node("circle", { cx: x(depth), cy: from, r: 9, class: "ring", "stroke-width": 0.5 + 3 * dead }));
    }
    svg.append(node("text", { x: x(depth) + 14, y: from + 5, class: "strong" }, percent(p)));
    const hits = p * data.group;
    svg.append(node("text", { x: 4, y: height + 40, class: "small" },
      `${hits < 9.95 ? hits.toFixed(2) : hits.toFixed(0)} hits in ${data.group}; ${percent(dead)} of groups all-zero`));
    // The target's probability over the steps, on one axis for all strategies.
    const base = height + 84;
    const px = (index) => 4 + (last ? (index / last) * (width - 58) : 0);
    const py = (value) => base - 32 * Math.min(1, value / top);
    const line = [];
    for (let index = 0; index <= last; index += 1) {
      if ((data.trees[name] ?? []).some((one) => one.step === steps[index])) {
        line.push(`${px(index)},${py(chance(name, index))}`);
      }
    }
    svg.append(node("line", { x1: 4, x2: width - 54, y1: base, y2: base, class: "axis" }));
    if (line.length) svg.append(node("polyline", { points: line.join(" "), fill: "none", stroke: data.colours[name], "stroke-width": 2 }));
    svg.append(node("circle", { cx: px(state.at), cy: py(p), r: 4, fill: data.colours[name] }));
    svg.append(node("text", { x: width - 38, y: base - 26, class: "small" }, percent(top)));
    svg.append(node("text", { x: width - 38, y: base, class: "small" }, "0"));
    return svg;
  }

  function draw() {
    if (!steps.length || !data.forest.length) { root.replaceChildren(); return; }
    const wide = root.clientWidth || 700;
    const across = Math.max(1, Math.min(data.strategies.length, Math.floor(wide / 170)));
    const width = Math.floor(wide / across) - 8;
    const top = ceiling();
    root.replaceChildren(...data.strategies.map((name) => tree(name, width, 150, top)));
    const step = steps[Math.round(state.at)];
    root.dataset.step = String(step);
    find("step").textContent = `step ${step} of ${data.steps}`;
    const slider = find("scrub");
    slider.max = String(last);
    slider.value = String(state.at);
    slider.setAttribute("aria-valuetext", `step ${step}`);
    find("play").textContent = state.playing ? "Pause" : "Play";
    find("play").disabled = last < 1;
    for (const [place, button] of [...find("prompts").children].entries()) {
      button.setAttribute("aria-pressed", String(place === state.prompt));
    }
  }

  function play() {
    let before = null;
    const tick = (now) => {
      if (!state.playing || !root.isConnected || state.ticking !== tick) return;
      if (before !== null) state.at = Math.min(last, state.at + (now - before) / FRAME);
      before = now;
      if (state.at >= last) state.playing = false;
      draw();
      if (state.playing) requestAnimationFrame(tick);
    };
    state.ticking = tick;
    requestAnimationFrame(tick);
  }

  find("prompts").replaceChildren(...data.forest.map((prompt, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = prompt.name;
    button.onclick = () => { state.prompt = place; draw(); };
    return button;
  }));
  find("play").onclick = () => {
    state.playing = !state.playing;
    state.follow = false;
    if (state.playing && state.at >= last) state.at = 0;
    if (state.playing) play(); else draw();
  };
  find("scrub").oninput = (event) => {
    state.playing = false;
    state.at = Number(event.target.value);
    state.follow = state.at >= last;
    draw();
  };
  draw();
  if (state.playing) play();
  const watch = new ResizeObserver(() => {
    if (root.clientWidth !== state.width) { state.width = root.clientWidth; draw(); }
  });
  watch.observe(root);
  return () => watch.disconnect();
}
