// Style and script of report.html. Without the script nothing is missing but the values at the
// pointer.
#pragma once

namespace smoe {

inline constexpr const char* kPageStyle = R"css(
:root {
  color-scheme: light dark;
  --page: #f6f6f4; --card: #ffffff; --text: #1c1c1a; --dim: #6b6b66; --rule: #e4e4df;
  --series-1: #2f6fde; --series-2: #d9632a; --series-3: #1d9a74; --series-4: #8a63d2;
  --series-5: #b98a00; --trouble: #c62b2b;
  --load-0: #c4167a; --load-1: #1f5fb8; --load-2: #5b8fd4; --load-3: #9dbde6; --load-4: #d0deee;
  --load-5: #f0efea; --load-6: #f6dcc2; --load-7: #eeb27a; --load-8: #de8138; --load-9: #b4500c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #141415; --card: #1d1d1f; --text: #ececea; --dim: #9c9c97; --rule: #333336;
    --series-1: #6ea2ff; --series-2: #f28a50; --series-3: #3fc39a; --series-4: #b393f0;
    --series-5: #dcb13c; --trouble: #ff6b6b;
    --load-0: #ff4fb0; --load-1: #6fa8ff; --load-2: #4b7fcb; --load-3: #365b90; --load-4: #2c3f5b;
    --load-5: #2a2a2c; --load-6: #54402c; --load-7: #85592c; --load-8: #c07a33; --load-9: #ffa757;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 84rem; padding: 1.5rem clamp(.8rem, 3vw, 2rem) 3rem;
  background: var(--page); color: var(--text);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
h1 { margin: 0; font-size: 1.6rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2rem 0 .7rem; font-size: 1.05rem; }
p { margin: .25rem 0 0; color: var(--dim); overflow-wrap: anywhere; }
progress { display: block; width: 100%; height: 6px; margin: 1rem 0; accent-color: var(--series-1); }
.tiles { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(9.4rem, 1fr)); }
.tile, .card {
  margin: 0; background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
}
.tile { padding: .6rem .8rem; }
.tile small { display: block; color: var(--dim); font-size: .8rem; }
.tile b { display: block; font-size: 1.3rem; font-weight: 600; line-height: 1.3; white-space: nowrap; }
.tile b.trouble { color: var(--trouble); }
.charts { display: flex; flex-wrap: wrap; gap: .8rem; }
.card { display: flex; flex-direction: column; padding: .8rem 1rem .6rem; min-width: 0; }
.charts > .card { flex: 1 1 min(100%, 23rem); }
.charts > .wide { flex-basis: 100%; }
figcaption b { font-weight: 600; }
figcaption small { color: var(--dim); font-size: .8rem; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem .9rem; margin-top: .3rem; font-size: .8rem;
  color: var(--dim); }
.legend span { white-space: nowrap; }
.legend i { display: inline-block; width: .7rem; height: .7rem; border-radius: 2px;
  margin-right: .35rem; vertical-align: -.05rem; }
.legend .scale i { width: 1.2rem; border-radius: 0; margin: 0; }
.legend .scale i:first-child { margin-left: .4rem; }
.legend .scale i:last-child { margin-right: .4rem; }
.plot { position: relative; flex: 1 0 190px; margin: .9rem .4rem 1.5rem 3.6rem; }
.plot svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.plot path { fill: none; vector-effect: non-scaling-stroke; }
.plot .grid { stroke: var(--rule); stroke-width: 1; }
.plot .mark { stroke: var(--dim); stroke-width: 1; stroke-dasharray: 3 3; }
.plot .line { stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.plot .dots { stroke-width: 6; stroke-linecap: round; }
.plot .band { opacity: .2; }
.plot .area { opacity: .85; }
.plot svg.loads path { stroke-width: 1; vector-effect: none; shape-rendering: crispEdges; }
.plot svg.loads .between { stroke: var(--card); stroke-width: 2; vector-effect: non-scaling-stroke; }
.plot .x, .plot .y { position: absolute; color: var(--dim); font-size: 12px; line-height: 1;
  white-space: nowrap; }
.plot .x { top: calc(100% + 8px); transform: translateX(-50%); }
.plot .y { right: calc(100% + 8px); transform: translateY(-50%); }
.plot .at { position: absolute; top: 0; bottom: 0; width: 1px; background: var(--dim);
  pointer-events: none; }
.plot .tip { position: absolute; top: 4px; padding: .3rem .5rem; border-radius: 6px; z-index: 1;
  background: var(--text); color: var(--page); font-size: 12px; line-height: 1.5;
  white-space: nowrap; pointer-events: none; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; }
th { font-weight: 500; color: var(--dim); }
th, td { padding: .28rem .6rem; text-align: right; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td.trouble { color: var(--trouble); font-weight: 600; }
details.card { margin-top: .8rem; }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; margin: .6rem 0 0; font: 12.5px/1.5 ui-monospace, Menlo, Consolas,
  "Liberation Mono", monospace; }
)css";

inline constexpr const char* kPageScript = R"js(
for (const plot of document.querySelectorAll('.plot[data-points]')) {
  const names = plot.dataset.names.split('|');
  const points = plot.dataset.points.split(';').slice(0, -1).map(p => p.split('|'));
  const last = Number(plot.dataset.last);
  const at = plot.appendChild(document.createElement('div'));
  const tip = plot.appendChild(document.createElement('div'));
  at.className = 'at';
  tip.className = 'tip';
  const show = is => { at.hidden = tip.hidden = !is; };
  show(false);
  plot.addEventListener('pointerleave', () => show(false));
  plot.addEventListener('pointermove', event => {
    const box = plot.getBoundingClientRect();
    const step = (event.clientX - box.left) / box.width * last;
    let best = points[0];
    for (const p of points) if (Math.abs(p[0] - step) < Math.abs(best[0] - step)) best = p;
    const share = best[0] / last;
    tip.replaceChildren(...['step ' + best[0], ...best.slice(1).map((v, i) => v && (names[i] + ' ' + v))]
      .filter(Boolean).map(text => Object.assign(document.createElement('div'), {textContent: text})));
    at.style.left = 100 * share + '%';
    tip.style.left = share < .5 ? 'calc(' + 100 * share + '% + 8px)' : 'auto';
    tip.style.right = share < .5 ? 'auto' : 'calc(' + 100 * (1 - share) + '% + 8px)';
    show(true);
  });
}
)js";

}  // namespace smoe
