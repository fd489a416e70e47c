// Charts: the pointer shows values; a drag zooms all charts with the same x axis, a double click
// shows everything again; buttons choose the x axis and logarithmic values. The page is complete
// without this script, except for the map of expert load.
'use strict';
const kWidth = 1000, kHeight = 300;
const at = (selector, root = document) => [...root.querySelectorAll(selector)];
const add = (parent, name, properties = {}) =>
  parent.appendChild(Object.assign(document.createElement(name), properties));

// ---- what is shown, kept when the page reloads -------------------------------------------------
const key = 'smoe ' + location.pathname;
const view = {axis: 'step', from: null, to: null, logs: {}, open: []};
try { Object.assign(view, JSON.parse(sessionStorage.getItem(key))); } catch { /* not available */ }
const keep = () => { try { sessionStorage.setItem(key, JSON.stringify(view)); } catch { /* nor here */ } };

// ---- numbers -----------------------------------------------------------------------------------
const kDecimal = [[1e12, 'T'], [1e9, 'B'], [1e6, 'M'], [1e3, 'k'], [0, '']];
const kBinary = [[2 ** 40, ' TiB'], [2 ** 30, ' GiB'], [2 ** 20, ' MiB'], [2 ** 10, ' KiB'], [0, ' B']];
// Three or four digits, in the unit that suits `size`.
const short = (value, unit, digits = 4, size = Math.abs(value)) => {
  if (size !== 0 && size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, 'e').replace('e+', 'e');
  const [scale, name] = (unit === 'bytes' ? kBinary : kDecimal).find(([least]) => size >= (least === 1e3 ? 1e4 : least));
  return Number((value / (scale || 1)).toPrecision(digits)) + name;
};
const roundStep = (least, unit) => {
  if (unit === 'bytes') return 2 ** Math.ceil(Math.log2(Math.max(least, 1)));
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map(digit => digit * power).find(step => step >= least * (1 - 1e-9));
};
const multiples = (low, high, step) => {
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i <= Math.floor(high / step + 1e-9); ++i) values.push(i * step);
  return values;
};
const linearAxis = (low, high, unit) => {
  if (high - low <= 1e-9 * Math.abs(high)) {
    const margin = high === 0 ? 1 : .05 * Math.abs(high);
    [low, high] = [low >= 0 ? Math.max(0, low - margin) : low - margin, high + margin];
  }
  const step = roundStep((high - low) / 5, unit);
  const first = step * Math.floor(low / step + 1e-9), last = step * Math.ceil(high / step - 1e-9);
  return {ticks: multiples(first, last, step), place: value => (value - first) / (last - first)};
};
const logAxis = (low, high) => {
  const digits = high / low < 300 ? [1, 2, 5] : [1];
  let ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); ++power)
    for (const digit of digits) ticks.push(digit * 10 ** power);
  const first = ticks.filter(tick => tick <= low * (1 + 1e-9)).pop();
  const last = ticks.find(tick => tick >= high * (1 - 1e-9) && tick > first);
  ticks = ticks.filter(tick => tick >= first && tick <= last);
  const every = Math.ceil(ticks.length / 8);
  return {ticks: ticks.filter((_, i) => i % every === 0),
    place: value => Math.log(Math.max(value, first) / first) / Math.log(last / first)};
};

// ---- the x axis: steps, or what has been reached at a step -------------------------------------
const reached = JSON.parse(document.getElementById('reached')?.textContent ?? '{}');
const interpolate = (from, to, value) => {
  const i = from.findIndex(other => other >= value);
  if (i <= 0) return i === 0 ? to[0] * (from[0] > 0 ? value / from[0] : 1) : to[to.length - 1];
  return to[i - 1] + (to[i] - to[i - 1]) * (value - from[i - 1]) / (from[i] - from[i - 1]);
};
const hasAxes = reached.step?.length > 1;
if (!hasAxes) view.axis = 'step';
const toAxis = step => view.axis === 'step' ? step : interpolate(reached.step, reached[view.axis], step);
const toStep = x => view.axis === 'step' ? x : interpolate(reached[view.axis], reached.step, x);
// The range of a plot whose own x axis ends at `last`.
const rangeOf = (plot, last) => {
  const zooms = plot.group === 'step' && view.from !== null;
  const from = zooms ? Math.min(view.from, last) : 0, to = zooms ? Math.min(view.to, last) : last;
  const axis = plot.group === 'step' ? toAxis : step => step;
  const low = axis(from), high = axis(to);
  return {from, to, low, high, place: step => (axis(step) - low) / (high - low || 1),
    step: share => plot.group === 'step' ? toStep(low + share * (high - low)) : low + share * (high - low)};
};
const nameOfX = plot => plot.group === 'step' ? view.axis : plot.group;

function placeLabels(plot, range, ticks = []) {
  at('.x, .y', plot.element).forEach(label => label.remove());
  let step = roundStep((range.high - range.low) / 5 || 1);
  if (nameOfX(plot) === 'step') step = Math.max(step, 1);
  for (const x of multiples(range.low, range.high, step)) {
    const label = add(plot.element, 'span', {className: 'x', textContent: short(x)});
    label.style.left = 100 * (x - range.low) / (range.high - range.low || 1) + '%';
  }
  for (const [share, text] of ticks)
    add(plot.element, 'span', {className: 'y', textContent: text}).style.top = 100 * share + '%';
}

// ---- line charts and stacked charts ------------------------------------------------------------
// Sums of the curves below and with each one, for stacked charts.
function stack(curves) {
  const sums = curves[0].points.map(() => 0);
  return curves.map(curve => ({...curve, points: curve.points.map(([x, value], i) => {
    const below = sums[i];
    sums[i] += value;
    return [x, sums[i], below, sums[i], value];
  })}));
}

function draw(plot) {
  const {chart, svg} = plot;
  const range = rangeOf(plot, chart.last);
  // The points in range and their neighbors, so that lines reach the edges.
  const visible = plot.curves.map(curve => {
    const points = curve.points;
    let first = points.findIndex(p => p[0] >= range.from), last = points.length - 1;
    if (first < 0) first = points.length;
    while (last > 0 && points[last][0] > range.to) --last;
    return {...curve, points: points.slice(Math.max(0, first - 1), last + 2)};
  });
  const inside = visible.flatMap(curve => curve.points.filter(p => p[0] >= range.from && p[0] <= range.to));
  let low = Math.min(...inside.map(p => p[2] ?? p[1])), high = Math.max(...inside.map(p => p[3] ?? p[1]));
  if (!(low <= high)) [low, high] = [0, 1];
  for (const [value] of chart.levels) if (view.from === null && value <= 2.5 * high) high = Math.max(high, value);
  const isLog = plot.isLog && low > 0;
  const y = isLog ? logAxis(low, high) : linearAxis(chart.zero ? Math.min(low, 0) : low, high, chart.unit);
  const left = x => (kWidth * range.place(x)).toFixed(1);
  const top = value => (kHeight * (1 - y.place(value))).toFixed(1);
  const line = (points, get) => 'M' + points.map(p => left(p[0]) + ' ' + top(get(p))).join('L');
  const area = points => line(points, p => p[3] ?? p[1]) + 'L' + line(points.slice().reverse(), p => p[2] ?? p[1]).slice(1) + 'Z';
  svg.replaceChildren();
  svg.classList.toggle('zoomed', range.to - range.from < chart.last);
  const path = (className, d, style = '', title = '') => {
    const element = svg.appendChild(document.createElementNS(svg.namespaceURI, 'path'));
    element.setAttribute('class', className);
    element.setAttribute('d', d);
    element.setAttribute('style', style);
    if (title) element.appendChild(document.createElementNS(svg.namespaceURI, 'title')).textContent = title;
  };
  for (const tick of y.ticks) path('grid', `M0 ${top(tick)}h${kWidth}`);
  const isInside = step => step >= range.from && step <= range.to;
  for (const step of chart.marks) if (isInside(step)) path('mark', `M${left(step)} 0v${kHeight}`);
  for (const [step, label] of chart.changes) if (isInside(step)) path('mark change', `M${left(step)} 0v${kHeight}`, '', label);
  for (const {points, color, dots} of visible) {
    if (!points.length) continue;
    if (chart.stacked) { path('area', area(points), `fill:var(${color})`); continue; }
    if (points.some(p => p[3] > p[2])) path('band', area(points), `fill:var(${color})`);
    path('line', line(points, p => p[1]), `stroke:var(${color})`);
    if (dots || points.length === 1) path('dots', points.map(p => `M${left(p[0])} ${top(p[1])}h0`).join(''), `stroke:var(${color})`);
  }
  at('span.level', plot.element).forEach(label => label.remove());
  for (const [value, label] of chart.levels) {
    const share = 1 - y.place(value);
    if (share < 0 || share > 1) continue;
    path('level', `M0 ${top(value)}h${kWidth}`);
    add(plot.element, 'span', {className: 'level', textContent: label}).style.top = 100 * share + '%';
  }
  placeLabels(plot, range, y.ticks.map(tick => [1 - y.place(tick), tick === 0 && chart.unit !== 'bytes' ? 0 : short(tick, chart.unit, 4, isLog ? Math.abs(tick) : high)]));
}

// What the pointer shows at a share of the plot's width: the place of the line, and texts.
function readChart(plot, share) {
  const range = rangeOf(plot, plot.chart.last), step = range.step(share);
  const steps = [...new Set(plot.curves.flatMap(curve => curve.points.map(p => p[0])))].filter(x => x >= range.from && x <= range.to);
  if (!steps.length) return null;
  const best = steps.reduce((a, b) => Math.abs(b - step) < Math.abs(a - step) ? b : a);
  const texts = plot.curves.flatMap(curve => {
    const point = curve.points.find(p => p[0] === best);
    return point ? [curve.name + ' ' + short(point[4] ?? point[1], plot.chart.unit)] : [];
  });
  return {share: range.place(best), texts: [headOf(plot, best), ...texts]};
}
const headOf = (plot, step) => {
  const text = plot.group + ' ' + short(step, '', 7);
  return nameOfX(plot) === plot.group ? text : text + ', ' + short(toAxis(step)) + ' ' + view.axis;
};

// ---- the map of expert load --------------------------------------------------------------------
// A cell is two digits of base 64: 0 for no rows, otherwise 1 + 256 log2(load) + 1792, where a load
// of 1 is an expert's even share of its layer's rows.
const kDigits = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_';
const digitOf = Object.fromEntries([...kDigits].map((digit, i) => [digit, i]));
const loadOf = (map, column, row) => {
  const i = 2 * (column * map.rows + row);
  const level = 64 * digitOf[map.cells[i]] + digitOf[map.cells[i + 1]];
  return level === 0 ? 0 : 2 ** ((level - 1793) / 256);
};

function drawMap(plot) {
  const {map, canvas} = plot, range = rangeOf(plot, map.last);
  const style = getComputedStyle(document.documentElement);
  const colors = map.bounds.concat(0, 0).map((_, level) => {
    const [r, g, b] = style.getPropertyValue('--load-' + level).trim().slice(1).match(/../g).map(hex => parseInt(hex, 16));
    return 0xff000000 | b << 16 | g << 8 | r;
  });
  canvas.width = kWidth;
  canvas.height = map.rows;
  const context = canvas.getContext('2d'), image = context.createImageData(kWidth, map.rows);
  const pixels = new Uint32Array(image.data.buffer);
  map.edges.slice(0, -1).forEach((edge, column) => {
    const begin = Math.max(0, Math.round(kWidth * range.place(edge)));
    const end = Math.min(kWidth, Math.round(kWidth * range.place(map.edges[column + 1])));
    if (begin >= end) return;
    for (let row = 0; row < map.rows; ++row) {
      const load = loadOf(map, column, row);
      const level = load === 0 ? 0 : 1 + map.bounds.filter(bound => bound <= load).length;
      pixels.fill(colors[level], row * kWidth + begin, row * kWidth + end);
    }
  });
  context.putImageData(image, 0, 0);
  const every = Math.ceil(16 / (canvas.clientHeight / map.layers || 16));
  const labels = [];
  for (let router = 0; router < map.layers; router += every) {
    const layer = map.names[router].split('.')[0];  // of "3.self_attn.gate", whose whole name is read by the pointer
    if (labels.at(-1)?.[1] !== layer) labels.push([(router + .5) / map.layers, layer]);
  }
  placeLabels(plot, range, labels);
}

function readMap(plot, share, height) {
  const {map} = plot, range = rangeOf(plot, map.last), step = range.step(share);
  let column = map.edges.findLastIndex(edge => edge <= step);
  column = Math.min(Math.max(column, 0), map.edges.length - 2);
  const row = Math.min(map.rows - 1, Math.max(0, Math.floor(height * map.rows)));
  const perLayer = map.rows / map.layers, layer = Math.floor(row / perLayer), first = row % perLayer * map.group;
  const experts = map.sizes[layer], last = Math.min(first + map.group, experts) - 1;
  const load = loadOf(map, column, row), [begin, end] = map.steps[column];
  if (first >= experts) return {share, texts: ['layer ' + map.names[layer] + ' has fewer experts']};
  return {share, texts: [
    'layer ' + map.names[layer] + ', ' + (first === last ? 'expert ' + first : `experts ${first} to ${last}, the worst`),
    begin === end ? 'step ' + begin : `steps ${begin} to ${end}`,
    load === 0 ? 'no rows' : short(100 * load / experts, '', 3) + ' % of the rows, ' + short(load, '', 3) + ' × the even share',
  ]};
}

// ---- pointer -----------------------------------------------------------------------------------
const plots = at('.plot[data-chart]').map(element => {
  const chart = JSON.parse(element.dataset.chart);
  const plot = {element, chart, svg: element.querySelector('svg'), group: chart.x,
    curves: chart.stacked ? stack(chart.curves) : chart.curves,
    name: element.parentElement.querySelector('b').textContent};
  plot.isLog = view.logs[plot.name] ?? Boolean(chart.log);
  return Object.assign(plot, {draw: () => draw(plot), read: share => readChart(plot, share)});
}).concat(at('.plot[data-map]').map(element => {
  const plot = {element, map: JSON.parse(element.dataset.map), canvas: element.querySelector('canvas'), group: 'step'};
  return Object.assign(plot, {draw: () => drawMap(plot), read: (share, height) => readMap(plot, share, height)});
}));
const drawAll = () => { plots.forEach(plot => plot.draw()); keep(); };
let isReading = false;

for (const plot of plots) {
  const {element} = plot;
  const mark = add(element, 'div', {className: 'at', hidden: true});
  const tip = add(element, 'div', {className: 'tip', hidden: true});
  const band = add(element, 'div', {className: 'zoom', hidden: true});
  let begin = null;
  const sharesOf = event => {
    const box = element.getBoundingClientRect();
    return [Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)), (event.clientY - box.top) / box.height];
  };
  const hide = () => { mark.hidden = tip.hidden = band.hidden = true; begin = null; isReading = false; };
  element.addEventListener('pointerleave', hide);
  element.addEventListener('pointercancel', hide);
  element.addEventListener('pointermove', event => {
    const [share, height] = sharesOf(event), found = plot.read(share, height);
    if (!found) return hide();
    isReading = true;
    tip.replaceChildren(...found.texts.map(text => Object.assign(document.createElement('div'), {textContent: text})));
    mark.style.left = 100 * found.share + '%';
    tip.style.left = found.share < .5 ? `calc(${100 * found.share}% + 8px)` : 'auto';
    tip.style.right = found.share < .5 ? 'auto' : `calc(${100 * (1 - found.share)}% + 8px)`;
    mark.hidden = tip.hidden = false;
    band.hidden = begin === null;
    if (begin === null) return;
    band.style.left = 100 * Math.min(begin, share) + '%';
    band.style.width = 100 * Math.abs(share - begin) + '%';
  });
  element.addEventListener('pointerdown', event => {
    if (event.pointerType === 'mouse' && event.button === 0 && plot.group === 'step') begin = sharesOf(event)[0];
  });
  element.addEventListener('pointerup', event => {
    const [share] = sharesOf(event), start = begin;
    begin = null;
    band.hidden = true;
    if (start === null || Math.abs(share - start) < .02) return;
    const range = rangeOf(plot, plot.chart?.last ?? plot.map.last);
    [view.from, view.to] = [range.step(Math.min(start, share)), range.step(Math.max(start, share))];
    drawAll();
  });
  element.addEventListener('dblclick', () => { view.from = view.to = null; drawAll(); });
}

// ---- buttons -----------------------------------------------------------------------------------
for (const plot of plots.filter(plot => plot.chart && !plot.chart.stacked)) {
  const caption = plot.element.parentElement.querySelector('figcaption');
  const button = add(caption, 'button', {type: 'button', textContent: 'log', title: 'logarithmic values'});
  const show = () => button.setAttribute('aria-pressed', plot.isLog);
  button.addEventListener('click', () => {
    view.logs[plot.name] = plot.isLog = !plot.isLog;
    show();
    plot.draw();
    keep();
  });
  show();
}
const choices = document.querySelector('.choices');
if (choices) {
  const buttons = (hasAxes ? ['step', ...Object.keys(reached).filter(name => name !== 'step')] : []).map(axis => {
    const button = add(choices, 'button', {type: 'button', textContent: axis === 'step' ? 'steps' : axis});
    button.addEventListener('click', () => { view.axis = axis; press(); drawAll(); });
    return [axis, button];
  });
  const press = () => buttons.forEach(([axis, button]) => button.setAttribute('aria-pressed', axis === view.axis));
  press();
  const all = add(choices, 'button', {type: 'button', textContent: 'whole run', title: 'also: double click'});
  all.addEventListener('click', () => { view.from = view.to = null; drawAll(); });
  add(choices, 'small', {textContent: 'drag over a chart to zoom'});
}
// Charts arrive drawn, in the default view.
const isDefault = plot => plot.chart && view.axis === 'step' && view.from === null && plot.isLog === Boolean(plot.chart.log);
plots.filter(plot => !isDefault(plot)).forEach(plot => plot.draw());
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);

// ---- a run that is being trained ---------------------------------------------------------------
const details = at('details');
details.forEach((element, i) => {
  element.open = Boolean(view.open[i]);
  element.addEventListener('toggle', () => { view.open = details.map(other => other.open); keep(); });
});
const status = document.querySelector('.status[data-state="running"]');
if (status) {
  const running = status.textContent, updated = Date.parse(status.dataset.updated);
  const check = () => {
    const silent = (Date.now() - updated) / 1000, isSilent = silent > Number(status.dataset.silence);
    status.classList.toggle('trouble', isSilent);
const message = `no update for ${short(Math.round(silent / 60), '', 3)} min: the process may have died`;
    status.textContent = isSilent ? running.replace('running', message) : running;
  };
  check();
  setInterval(check, 1000);
  setInterval(() => { if (!document.hidden && !isReading) location.reload(); }, 5000);
}
