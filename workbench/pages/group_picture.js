// One group as a tree with every strategy's bars beside its leaves: hover a rollout, drag it to
// another level, choose whose weights colour the branches. It draws what it is given and computes
// no signal: the weights after each single move came with the data.
const SVG = "http://www.w3.org/2000/svg";
const COLOURS = { up: "#0079CA", down: "#D24D00", none: "#797979", target: "#008A61" };
const MINUS = "\u2212";

function node(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const number = (value) =>
  (value < 0 ? MINUS : "") + String(Number(Math.abs(value).toPrecision(3)));
const tone = (value) => (value > 0 ? "up" : value < 0 ? "down" : "none");

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector("#linked");
  const said = parentElement.querySelector("#linked-said");
  const key = JSON.stringify([data.levels, data.rewards, data.strategies]);
  const state = (root.state = root.state && root.state.key === key ? root.state : { key });
  state.lit = data.strategies.includes(data.lit) ? data.lit : data.strategies[0];
  state.levels = [...data.levels];
  state.move = null;
  state.hover = state.hover ?? null;
  let dragged = null;

  const depth = data.depth;
  const order = data.levels
    .map((level, place) => ({ level, place }))
    .sort((a, b) => b.level - a.level || a.place - b.place)
    .map((one) => one.place);

  const entry = (name) =>
    data.moves[name][state.move === null ? 0 : 1 + state.move * (depth + 1) + state.levels[state.move]];

  function geometry() {
    const width = Math.max(root.clientWidth || 700, 480);
    const count = order.length;
    const row = count > 40 ? 11 : count > 20 ? 15 : count > 10 ? 20 : 26;
    const names = data.strategies.length;
    const column = Math.min(110, (width * 0.58) / names);
    const tree = width - column * names - 8;
    return { width, row, column, tree, top: 62, height: 62 + row * (count + 1) + 30 };
  }

  function draw() {
    const began = performance.now();
    const g = geometry();
    const label = 46;
    const x = (level) => 14 + (level / (depth + 0.6)) * (g.tree - label - 14);
    const y = (place) => g.top + g.row * (place + 1.5);
    const trunk = g.top + g.row * 0.5;
    const svg = node("svg", {
      width: g.width, height: g.height, role: "group",
      "aria-label": "Rollouts of one group on the tree of semantic IDs, and their weights",
    });
    const lit = entry(state.lit);
    for (let level = 0; level <= depth; level += 1) {
      svg.append(node("line", { x1: x(level), x2: x(level), y1: g.top - 4, y2: g.height - 26, class: "grid" }));
      svg.append(node("text", { x: x(level), y: g.height - 10, class: "small", "text-anchor": "middle" },
        level === 0 ? "root" : `level ${level}`));
    }
    // The branch of the target, whole.
    svg.append(node("path", { d: `M${x(0)},${trunk}H${x(depth) + 10}`, class: "trunk" }));
    svg.append(node("text", { x: x(depth) + 14, y: trunk - 7, class: "name strong" }, "target"));
    svg.append(node("rect", { x: x(depth) + 5, y: trunk - 6, width: 12, height: 12, fill: COLOURS.target,
      transform: `rotate(45 ${x(depth) + 11} ${trunk})` }));
    if (lit.target !== null) {
      svg.append(node("path", { d: `M${x(0)},${trunk}H${x(depth)}`, stroke: COLOURS[tone(lit.target)],
        "stroke-width": 2, fill: "none" }));
    }
    const rows = [];
    order.forEach((place, at) => {
      const level = state.levels[place];
      const weight = lit.weights[place] ?? 0;
      const isAnchor = lit.anchor.includes(place + 1);
      const colour = COLOURS[tone(weight)];
      const thick = weight === 0 ? 1 : 2 + Math.min(3, Math.abs(weight));
      const bend = Math.min(24, x(1) - x(0)) * 0.7;
      const end = x(depth) + 14;
      const start = x(level);
      const away = isAnchor
        ? `M${start},${trunk}H${x(depth)}` // the slot is the ground truth's now
        : "";
      const line = `M${start - 0.01},${trunk}V${y(at) - 6}Q${start},${y(at)} ${Math.min(start + bend, end)},${y(at)}H${end}`;
      const group = node("g", {
        class: `row${state.hover === place ? " lit" : ""}`, tabindex: 0, role: "slider",
        "aria-label": `Rollout ${place + 1}, levels matched`, "aria-valuemin": 0, "aria-valuemax": depth,
        "aria-valuenow": level, "aria-valuetext": `${level} of ${depth} levels`, "data-rollout": place + 1,
      });
      group.append(node("rect", { x: 0, y: y(at) - g.row / 2, width: g.width, height: g.row, class: "band" }));
      group.append(node("path", { d: line, stroke: colour, "stroke-width": thick, class: "branch",
        "stroke-dasharray": isAnchor ? "2 4" : "none" }));
      if (away) group.append(node("path", { d: away, class: "anchor" }));
      group.append(node("circle", { cx: Math.min(start + bend, end), cy: y(at), r: Math.min(5.5, g.row / 2.4),
        class: "handle", fill: level === depth ? COLOURS.target : colour }));
      if (isAnchor) {
        group.append(node("circle", { cx: Math.min(start + bend, end), cy: y(at), r: 9, class: "ring" }));
      }
      if (g.row > 12 || state.hover === place) {
        group.append(node("text", { x: end + 9, y: y(at) + 4, class: "name" }, `R${place + 1}`));
      }
      rows.push(group);
      svg.append(group);
      wire(group, place, x);
    });
    bars(svg, rows, g, trunk, y);
    root.replaceChildren(svg);
    if (state.focus !== undefined && state.focus !== null) {
      root.querySelector(`[data-rollout="${state.focus + 1}"]`)?.focus({ preventScroll: true });
    }
    tell();
    root.dataset.milliseconds = String(performance.now() - began);
  }

  function bars(svg, rows, g, trunk, y) {
    const all = data.strategies.flatMap((name) => [...entry(name).weights, entry(name).target ?? 0]);
    const most = Math.max(...all.map(Math.abs), 1e-9);
    data.strategies.forEach((name, column) => {
      const left = g.tree + 8 + column * g.column;
      const middle = left + g.column / 2;
      const scale = (g.column / 2 - 7) / most;
      const found = entry(name);
      const head = node("g", { role: "button", tabindex: 0, class: `head${state.lit === name ? " lit" : ""}`,
        "aria-pressed": String(state.lit === name) });
      head.append(node("rect", { x: left + 2, y: 4, width: g.column - 4, height: 50, rx: 4 }));
      const words = name.split("_").map((word, at, all) => (at < all.length - 1 ? `${word}_` : word));
      const lines = words.length > 3 ? [words.slice(0, 2).join(""), words.slice(2).join("")] : words;
      lines.forEach((word, line) => head.append(node("text", {
        x: middle, y: 34 + 13 * (line - (lines.length - 1) / 2), "text-anchor": "middle", class: "name",
      }, word)));
      const choose = () => {
        state.lit = name;
        draw();
        setTriggerValue("lit", name);
      };
      head.onclick = choose;
      head.onkeydown = (press) => {
        if (press.key === "Enter" || press.key === " ") { press.preventDefault(); choose(); }
      };
      svg.append(head);
      svg.append(node("line", { x1: middle, x2: middle, y1: g.top, y2: g.height - 26, class: "zero" }));
      const bar = (parent, weight, at, words) => {
        if (!weight) return;
        const size = Math.max(1.5, Math.abs(weight) * scale);
        const tall = Math.max(4, g.row * 0.6);
        const mark = node("rect", { x: weight > 0 ? middle : middle - size, y: at - tall / 2, width: size,
          height: tall, fill: COLOURS[tone(weight)], class: "bar", "data-bar": name });
        mark.append(node("title", {}, `${name}, ${words}: ${number(weight)}`));
        parent.append(mark);
      };
      bar(svg, found.target, trunk, "target");
      order.forEach((place, at) => {
        const isAnchor = found.anchor.includes(place + 1);
        bar(rows[at], found.weights[place], y(at), isAnchor ? `anchor in the slot of R${place + 1}` : `R${place + 1}`);
        if (isAnchor) {
          rows[at].append(node("circle", { cx: middle, cy: y(at), r: 3.5, class: "ring" }));
        }
      });
    });
    svg.append(node("text", { x: g.width - 4, y: g.height - 10, class: "small", "text-anchor": "end" },
      `one scale for all bars: the longest is ${number(most)}`));
  }

  function tell() {
    const place = state.hover;
    if (place === null) {
      said.textContent = "Hover or focus a rollout to read every strategy's weight; drag it, or press left and right, to change how much of the target it matched.";
      return;
    }
    const level = state.levels[place];
    const where = level === depth ? "finds the target" : `matches ${level} of ${depth} levels`;
    const each = data.strategies.map((name) => {
      const found = entry(name);
      const what = found.anchor.includes(place + 1) ? " (its slot holds the anchor)" : "";
      return `${name} ${number(found.weights[place] ?? 0)}${what}`;
    });
    said.textContent = `R${place + 1} ${where}: ${each.join(", ")}.`;
  }

  function to(place, level) {
    const fit = Math.max(0, Math.min(depth, level));
    if (state.levels[place] === fit) return;
    state.levels = [...data.levels];
    state.levels[place] = fit;
    state.move = fit === data.levels[place] ? null : place;
    draw();
  }

  function settle(place) {
    if (state.move === place) setTriggerValue("moved", { rollout: place, level: state.levels[place] });
  }

  function wire(group, place, x) {
    group.onpointerenter = () => {
      if (dragged !== null || state.hover === place) return;
      state.hover = place;
      for (const other of root.querySelectorAll(".row")) {
        other.classList.toggle("lit", other.dataset.rollout === String(place + 1));
      }
      tell();
    };
    group.onfocus = () => group.onpointerenter();
    group.onpointerdown = (press) => {
      if (press.button !== 0) return;
      press.preventDefault();
      dragged = place;
      state.focus = place;
      const level = (at) => {
        const left = root.getBoundingClientRect().left;
        let best = 0;
        for (let one = 1; one <= depth; one += 1) {
          if (Math.abs(at - left - x(one)) < Math.abs(at - left - x(best))) best = one;
        }
        return best;
      };
      const move = (event) => to(place, level(event.clientX));
      const end = () => {
        window.removeEventListener("pointermove", move);
        window.removeEventListener("pointerup", end);
        window.removeEventListener("pointercancel", end);
        dragged = null;
        settle(place);
      };
      window.addEventListener("pointermove", move);
      window.addEventListener("pointerup", end);
      window.addEventListener("pointercancel", end);
    };
    group.onkeydown = (press) => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[press.key];
      if (step === undefined) return;
      press.preventDefault();
      state.focus = place;
      to(place, state.levels[place] + step);
      settle(place);
    };
  }

  draw();
  const watch = new ResizeObserver(() => {
    if (root.clientWidth !== state.width) { state.width = root.clientWidth; draw(); }
  });
  watch.observe(root);
  return () => watch.disconnect();
}
